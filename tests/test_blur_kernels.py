"""Blur kernels against their definitions."""

import cv2
import numpy as np
import pytest

from vsr.data.degrade.kernels import gaussian, plateau, sinc

KERNELS = {
    "iso": gaussian(11, (1.7, 1.7)),
    "aniso": gaussian(11, (0.6, 2.5), 0.7),
    "generalised": gaussian(9, (2, 1), 2.0, 3.5),
    "plateau": plateau(21, (2, 3), -1.0, 1.5),
    "sinc": sinc(13, 1.3),
    "one pixel": gaussian(1, (0.2, 0.2)),
    "sinc of one pixel": sinc(1, 1.3),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_have_sum_1_and_are_symmetric_about_their_centre(name):
    kernel = KERNELS[name]
    assert kernel.dtype == np.float32 and kernel.shape[0] == kernel.shape[1]
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert kernel == pytest.approx(kernel[::-1, ::-1], abs=1e-7)


def test_a_round_gaussian_is_the_product_of_two():
    column = cv2.getGaussianKernel(15, 1.3)
    assert gaussian(15, (1.3, 1.3), 0.4) == pytest.approx(column @ column.T, abs=1e-7)


def test_the_second_moments_of_a_gaussian_are_its_covariance():
    sigma, angle = (3.0, 1.5), 0.6
    kernel = gaussian(41, sigma, angle).astype(np.float64)
    steps = np.arange(41) - 20
    moments = np.array(
        [
            [(kernel * steps**2).sum(), (kernel * steps * steps[:, None]).sum()],
            [(kernel * steps * steps[:, None]).sum(), (kernel * steps[:, None] ** 2).sum()],
        ]
    )
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert moments == pytest.approx(turn @ np.diag(np.square(sigma)) @ turn.T, abs=1e-4)


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_generalised_gaussians_and_plateaus_fall_as_their_exponents_say(beta):
    row = gaussian(9, (2.0, 1.0), beta=beta)[4] / gaussian(9, (2.0, 1.0), beta=beta)[4, 4]
    assert row[4:] == pytest.approx([np.exp(-0.5 * (x / 2) ** (2 * beta)) for x in range(5)], abs=1e-6)
    row = plateau(9, (2.0, 1.0), beta=beta)[4] / plateau(9, (2.0, 1.0), beta=beta)[4, 4]
    assert row[4:] == pytest.approx([1 / (1 + (x / 2) ** (2 * beta)) for x in range(5)], abs=1e-6)
    assert row[6] == pytest.approx(0.5)  # one sigma from the centre, whatever the exponent


def test_a_sinc_passes_frequencies_below_its_cutoff_alone():
    cutoff, size = 1.2, 101
    kernel = np.zeros((256, 256))
    kernel[:size, :size] = sinc(size, cutoff)
    response = np.abs(np.fft.fft2(kernel))
    frequencies = np.abs(np.fft.fftfreq(256) * 2 * np.pi)
    radius = np.hypot(frequencies, frequencies[:, None])
    assert response[radius < 0.8 * cutoff] == pytest.approx(1, abs=0.05)
    assert response[radius > 1.2 * cutoff].max() < 0.05


def test_a_sinc_is_smooth_in_its_centre():
    kernel = sinc(21, 0.3)
    assert kernel[10, 10] > kernel[10, 11] > 0.98 * kernel[10, 10]
