import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vsr.data import imresize
from vsr.data.degrade import imresize as module

SCALES = (1 / 4, 1 / 3, 1 / 2, 2, 4)


def keys_cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def resize_line(line, scale, antialiasing=True):
    """The formula, one output pixel at a time, in 1-based coordinates as in MATLAB's documentation."""
    n = len(line)
    shrink = scale if antialiasing and scale < 1 else 1
    out = []
    for k in range(1, math.ceil(n * scale) + 1):
        u = k / scale + 0.5 * (1 - 1 / scale)
        reach = math.ceil(2 / shrink) + 1
        total = weights = 0.0
        for i in range(math.floor(u) - reach, math.floor(u) + reach + 1):
            weight = shrink * keys_cubic(shrink * (u - i))
            mirrored = (i - 1) % (2 * n)
            total += weight * line[mirrored if mirrored < n else 2 * n - 1 - mirrored]
            weights += weight
        out.append(total / weights)
    return np.array(out)


def reference(image, scale, antialiasing=True):
    rows = np.apply_along_axis(resize_line, 0, image, scale, antialiasing)
    return np.apply_along_axis(resize_line, 1, rows, scale, antialiasing)


@pytest.mark.parametrize("scale", [*SCALES, 0.3, 0.7, 1.3, 1])
@pytest.mark.parametrize("shape", [(24, 36, 3), (17, 13, 1), (9, 30, 5), (11, 19), (2, 3, 3), (1, 1, 3)])
def test_float_image_equals_the_formula(scale, shape):
    image = np.random.default_rng(0).random(shape)
    expected = reference(image, scale)
    assert imresize(image, scale).shape == expected.shape
    np.testing.assert_allclose(imresize(image, scale), expected, atol=1e-12)
    np.testing.assert_allclose(imresize(image.astype(np.float32), scale), expected, atol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
def test_without_antialiasing_equals_the_formula(scale):
    image = np.random.default_rng(1).random((20, 24, 3))
    np.testing.assert_allclose(imresize(image, scale, antialiasing=False), reference(image, scale, False), atol=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_tensor_and_array_agree_whatever_the_leading_axes_and_strides(scale):
    image = np.random.default_rng(2).random((24, 36, 3)).astype(np.float32)
    expected = torch.from_numpy(imresize(image, scale)).permute(2, 0, 1)
    strided = torch.from_numpy(image).permute(2, 0, 1)  # not contiguous
    torch.testing.assert_close(imresize(strided, scale), expected)
    batch = strided.contiguous().expand(2, 4, 3, 24, 36)
    torch.testing.assert_close(imresize(batch, scale), expected.expand(2, 4, *expected.shape))
    torch.testing.assert_close(imresize(strided[0], scale), expected[0])
    assert imresize(torch.zeros(0, 3, 24, 36), scale).shape == (0, *expected.shape)


@pytest.mark.parametrize("scale", SCALES)
def test_constant_image_stays_constant(scale):
    assert np.all(imresize(np.full((16, 12, 3), 77, np.uint8), scale) == 77)
    np.testing.assert_allclose(imresize(np.full((16, 12), 0.3), scale), 0.3, atol=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_linear_ramp_stays_linear_away_from_the_borders(scale):
    ramp = np.tile(np.arange(48.0), (48, 1))
    centres = (np.arange(math.ceil(48 * scale)) + 0.5) / scale - 0.5
    inside = (centres > 10) & (centres < 37)
    np.testing.assert_allclose(imresize(ramp, scale)[:, inside], np.tile(centres[inside], (len(centres), 1)), atol=1e-9)


def test_quarter_of_an_impulse_is_the_outer_product_of_the_stretched_cubic():
    image = np.zeros((32, 32))
    image[13, 18] = 1
    # Output pixel k sits at input position 4k + 1.5; the cubic is stretched by 4 and its weights sum to 1.
    column = [keys_cubic((4 * k + 1.5 - 13) / 4) / 4 for k in range(8)]
    row = [keys_cubic((4 * k + 1.5 - 18) / 4) / 4 for k in range(8)]
    np.testing.assert_allclose(imresize(image, 0.25), np.outer(column, row), atol=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_uint8_is_rounded_half_up_after_each_pass(scale):
    image = np.random.default_rng(3).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    rows = np.clip(np.floor(np.apply_along_axis(resize_line, 0, image, scale) + 0.5), 0, 255)
    both = np.clip(np.floor(np.apply_along_axis(resize_line, 1, rows, scale) + 0.5), 0, 255)
    resized = imresize(image, scale)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, both)


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_sums_that_miss_a_half_by_rounding_are_rounded_as_matlab_s(kind):
    """Its first pixel is 56.5 exactly, and just below in MATLAB, whose formulas sum the taps from left to right."""
    image = np.tile(np.array([69, 249, 84, 230, 52, 77, 135, 243], np.uint8), (8, 1))
    for upright in (image, np.ascontiguousarray(image.T)):
        resized = imresize(upright if kind == "array" else torch.from_numpy(upright), 1.5)
        line = resized[0] if upright is image else resized[:, 0]
        assert line.tolist() == [56, 169, 238, 97, 158, 217, 74, 50, 84, 122, 193, 250]


@pytest.mark.parametrize("scale", [1.5, 2 / 3, 0.75, 1.25, 1 / 3, 3])
def test_uint8_equals_sums_from_left_to_right(scale):
    image = np.random.default_rng(0).integers(0, 256, (24, 36), np.uint8)

    def resized_rows(rows):
        weights, indices = module._weights_and_indices(len(rows), scale, True)
        total = np.zeros((len(weights), rows.shape[1]))
        for tap in range(weights.shape[1]):
            total += weights[:, tap, None] * rows[indices[:, tap]]
        return np.clip(np.floor(total + 0.5), 0, 255).astype(np.uint8)

    np.testing.assert_array_equal(imresize(image, scale), resized_rows(resized_rows(image).T).T)


def test_exact_halves_round_up_and_overshoot_is_clipped():
    # Two rows resized to one are their mean.
    pair = np.array([[0, 1, 2, 254], [1, 2, 3, 255]], dtype=np.uint8)[:, None].repeat(2, 1)
    assert imresize(pair.reshape(2, 8)[:, ::4].copy(), 0.5)[0, 0] == 1  # 0.5 -> 1, not the even 0
    step = np.zeros((8, 8), np.uint8)
    step[:, 4:] = 255
    assert imresize(step.astype(float), 4).max() > 255
    assert imresize(step, 4).max() == 255
    assert imresize(step, 4).min() == 0


def test_float_images_are_not_clipped_and_gradients_flow():
    image = torch.rand(1, 8, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: imresize(x, 0.5), image)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.08, 5))
def test_any_size_and_scale_gives_a_weighted_mean(h, w, scale):
    image = np.random.default_rng(h * w).random((h, w))
    resized = imresize(image, scale)
    assert resized.shape == (math.ceil(h * scale), math.ceil(w * scale))
    assert np.all(np.isfinite(resized))
    assert np.abs(resized - 0.5).max() < 1.1


def test_a_uint8_tensor_is_resized_as_an_array():
    frames = np.random.default_rng(5).integers(0, 256, (2, 24, 36, 3), dtype=np.uint8)
    resized = imresize(torch.from_numpy(frames.transpose(0, 3, 1, 2)), 0.25)
    expected = np.stack([imresize(frame, 0.25) for frame in frames])
    np.testing.assert_array_equal(resized.numpy(), expected.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("image", "scale", "message"),
    [
        (np.zeros((4, 4)), 0, "scale 0 is not positive"),
        (np.zeros((4, 4)), -1, "scale -1 is not positive"),
        (np.zeros((4, 4)), float("nan"), "scale nan is not positive"),
        (np.zeros(4), 0.5, r"got float64 \(4,\)"),
        (np.zeros((4, 4), np.int32), 0.5, "got int32"),
        (torch.zeros(3, 4, 4, dtype=torch.int16), 0.5, "must be uint8 or float"),
        (torch.zeros(4), 0.5, "must be uint8 or float"),
    ],
)
def test_wrong_input_is_named(image, scale, message):
    with pytest.raises(ValueError, match=message):
        imresize(image, scale)
