import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vsr.metrics import calculate_psnr, calculate_ssim

# metric: (largest difference from skimage, dB or 1)
TOLERANCE = {"psnr": 1e-9, "ssim": 1e-7}


def pair(shape, dtype=np.uint8, noise=12, seed=0):
    rng = np.random.default_rng(seed)
    clean = rng.integers(0, 256, shape)
    noisy = np.clip(clean + rng.normal(0, noise, shape), 0, 255)
    return clean.astype(dtype), noisy.astype(dtype)


def luma(image):
    """BT.601 as MATLAB's rgb2ycbcr: black is 16, white 235."""
    b, g, r = np.moveaxis(image.astype(np.float64) / 255, -1, 0)
    return 16 + 65.481 * r + 128.553 * g + 24.966 * b


def luma_of_basicsr(image):
    """BasicSR 1.4.2's to_y_channel, of a range of 1."""
    image = image.astype(np.float32) / 255
    return ((np.dot(image, [24.966, 128.553, 65.481]) + 16.0) / 255).astype(np.float32)


def ssim_of_skimage(x, y):
    """Wang's settings; skimage's mean leaves out the 5 pixels at each edge where the window leaves the image."""
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    return structural_similarity(x, y, **settings)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("border", [0, 4])
def test_rgb_equals_skimage(dtype, border):
    x, y = pair((48, 64, 3), dtype)
    inside = slice(border, 48 - border), slice(border, 64 - border)
    cut = x[inside].astype(float), y[inside].astype(float)
    expected = peak_signal_noise_ratio(*cut, data_range=255)
    assert calculate_psnr(x, y, border) == pytest.approx(expected, abs=TOLERANCE["psnr"])
    channels = [ssim_of_skimage(cut[0][..., c], cut[1][..., c]) for c in range(3)]
    assert calculate_ssim(x, y, border) == pytest.approx(np.mean(channels), abs=TOLERANCE["ssim"])


def test_y_equals_skimage_on_luma():
    x, y = pair((40, 56, 3))
    expected = peak_signal_noise_ratio(luma(x), luma(y), data_range=255)
    assert calculate_psnr(x, y, 0, test_y_channel=True) == pytest.approx(expected, abs=TOLERANCE["psnr"])
    expected = ssim_of_skimage(luma(x), luma(y))
    assert calculate_ssim(x, y, 0, test_y_channel=True) == pytest.approx(expected, abs=TOLERANCE["ssim"])


@pytest.mark.parametrize(
    ("noise", "size", "least", "most"),
    [(12, (256, 256), 0, 1e-6), (3, (256, 256), 0, 1e-6), (0, (720, 1280), 1e-6, 1e-3)],
)
def test_y_is_basicsr_s_but_for_its_float32(noise, size, least, most):
    x, y = pair((*size, 3), noise=noise)
    if noise == 0:
        y[9, 9, 1] ^= 1
    theirs = [(luma_of_basicsr(image) * 255).astype(np.float64) for image in (x, y)]
    expected = 10 * math.log10(255**2 / np.mean((theirs[0] - theirs[1]) ** 2))
    assert least <= abs(calculate_psnr(x, y, 0, test_y_channel=True) - expected) < most


def test_psnr_of_a_difference_of_one_everywhere():
    x = np.full((20, 20, 3), 100, np.uint8)
    assert calculate_psnr(x, x + 1, 0) == pytest.approx(20 * math.log10(255))


def test_psnr_is_over_channels_jointly():
    x, y = np.zeros((4, 4, 3)), np.zeros((4, 4, 3))
    y[..., 0] = 3  # mean square error 9 / 3
    assert calculate_psnr(x, y, 0) == pytest.approx(10 * math.log10(255**2 / 3))


def test_channels_are_blue_green_red():
    black = np.zeros((12, 12, 3), np.uint8)
    blue, red = black.copy(), black.copy()
    blue[..., 0] = 255
    red[..., 2] = 255
    for image, weight in ((blue, 24.966), (red, 65.481)):
        assert calculate_psnr(image, black, 0, test_y_channel=True) == pytest.approx(20 * math.log10(255 / weight))


def test_equal_images_are_infinitely_good():
    x, _ = pair((16, 16, 3))
    for use_y in (False, True):
        assert calculate_psnr(x, x, 0, test_y_channel=use_y) == math.inf
        assert calculate_ssim(x, x, 0, test_y_channel=use_y) == pytest.approx(1)


def test_ssim_of_two_constant_images():
    """Only the luminance term is left: (2 a b + c1) / (a² + b² + c1)."""
    x, y = np.full((11, 11), 100.0), np.full((11, 11), 120.0)
    c1 = (0.01 * 255) ** 2
    assert calculate_ssim(x, y, 0) == pytest.approx((2 * 100 * 120 + c1) / (100**2 + 120**2 + c1))


def test_border_hides_differences_in_it():
    x, _ = pair((32, 32, 3))
    y = x.copy()
    y[:4] = 0
    y[:, -4:] = 255
    assert calculate_psnr(x, y, 4) == math.inf
    assert calculate_psnr(x, y, 3) < 40


def test_grey_images_with_and_without_channel_axis_agree():
    x, y = pair((24, 24, 1))
    for metric in (calculate_psnr, calculate_ssim):
        assert metric(x, y, 0) == metric(x[..., 0], y[..., 0], 0) == metric(x, y, 0, test_y_channel=True)


def test_keywords_are_those_of_basicsr():
    x, y = pair((16, 16, 3))
    assert calculate_psnr(img=x, img2=y, crop_border=0, test_y_channel=False) == calculate_psnr(x, y, 0)
    assert calculate_ssim(img=x, img2=y, crop_border=0, test_y_channel=False) == calculate_ssim(x, y, 0)


def test_inputs_are_left_as_they_are():
    x, y = pair((16, 16, 3), np.float64)
    before = x.copy(), y.copy()
    calculate_ssim(x, y, 0, test_y_channel=True)
    calculate_psnr(x, y, 0, test_y_channel=True)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


@pytest.mark.parametrize("metric", [calculate_psnr, calculate_ssim])
def test_wrong_input_is_named(metric):
    x = np.zeros((16, 16, 3))
    with pytest.raises(ValueError, match=r"differ in shape: \(16, 16, 3\) and \(16, 12, 3\)"):
        metric(x, x[:, :12], 0)
    with pytest.raises(ValueError, match="crop_border 8 leaves nothing of a 16 x 16 image"):
        metric(x, x, 8)
    with pytest.raises(ValueError, match="crop_border -1"):
        metric(x, x, -1)


def test_ssim_needs_room_for_its_window():
    x = np.zeros((30, 30, 3))
    with pytest.raises(ValueError, match="at least 11 x 11 pixels, got 10 x 10"):
        calculate_ssim(x, x, 10)
