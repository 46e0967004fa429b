"""The steps of a degradation: blur, resizing, noise, JPEG and video compression, each against its definition."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from vsr.data.degrade.compression import Codecs, as_jpeg, as_video, jpeg, to_levels, video_compression
from vsr.data.degrade.draws import BitRate, OddSizes, Quality, Walk, walk
from vsr.data.degrade.filters import Directions, Filters, Kernels, blur, resize, resize_to_lq, unsharp_mask
from vsr.data.degrade.noise import Noises, noise

LQ = (12, 16)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def flat(level, count=3, size=(40, 48)):
    return [np.full((*size, 3), level, np.float32) for _ in range(count)]


def grey(frames):
    """Frames without colours, which 4:2:0 would blur at any quality."""
    return [frame.mean(-1, keepdims=True).repeat(3, -1) for frame in frames]


def texture(count=3, size=(48, 64), seed=0):
    """Smooth random frames that move, (h, w, 3) float32 in [0, 1]."""
    pixels = np.random.default_rng(seed).random((size[0] // 8, size[1] // 8, 3)).astype(np.float32)
    large = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
    return [np.roll(large, 2 * number, 1) for number in range(count)]


def test_a_walk_stays_in_its_range_and_takes_steps_of_at_most_its_size(rng):
    values = Walk(0.2, 0.5, 0.1).values(rng, 2000)
    assert min(values) == 0.2 and max(values) == 0.5  # clipped: it gets to both ends
    changes = np.diff(values)
    assert np.abs(changes).max() <= 0.1 and np.abs(changes).max() > 0.09
    assert len(set(Walk(1, 2).values(rng, 9))) == 1
    assert walk(rng, 0, 1, 0.1, 3, start=0.5)[0] == 0.5
    firsts = [Walk(2, 6, 1).values(rng, 1)[0] for _ in range(2000)]
    assert np.mean(firsts) == pytest.approx(4, abs=0.1) and np.std(firsts) == pytest.approx(4 / 12**0.5, abs=0.1)


def test_choices_come_as_often_as_their_weights_say(rng):
    drawn = [Filters(bilinear=1, area=3).draw(rng) for _ in range(2000)]
    assert set(drawn) == {"bilinear", "area"}
    assert drawn.count("area") == pytest.approx(1500, abs=80)


def test_sides_of_kernels_are_odd_and_all_of_them_come(rng):
    assert {OddSizes(7, 21).draw(rng) for _ in range(500)} == set(range(7, 22, 2))
    assert OddSizes(5, 5).draw(rng) == 5


@pytest.mark.parametrize("kind", ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "sinc"])
def test_a_blur_keeps_a_flat_frame_and_shrinks_differences(rng, kind):
    kernels = Kernels(**{kind: 1})
    for frame in blur(flat(0.4), rng, LQ, kernels):
        assert frame == pytest.approx(0.4, abs=1e-5) and frame.dtype == np.float32
    noisy = [rng.random((40, 40, 3), np.float32) for _ in range(2)]
    for before, after in zip(noisy, blur(noisy, rng, LQ, kernels, sigma=Walk(2, 3)), strict=True):
        assert after.shape == before.shape and after.std() < 0.7 * before.std()


def test_a_round_blur_is_opencvs(rng):
    frames = texture()
    blurred = blur(frames, rng, LQ, Kernels(iso=1), OddSizes(9, 9), Walk(1.4, 1.4))
    for before, after in zip(frames, blurred, strict=True):
        assert after == pytest.approx(cv2.GaussianBlur(before, (9, 9), 1.4), abs=1e-6)


def test_kernels_walk_from_frame_to_frame(rng):
    point = np.zeros((41, 41, 3), np.float32)
    point[20, 20] = 1
    still = blur([point] * 6, rng, LQ, Kernels(aniso=1), sigma=Walk(0.5, 3), angle_step=0)
    assert all(np.array_equal(frame, still[0]) for frame in still)
    moving = blur([point] * 6, rng, LQ, Kernels(aniso=1), sigma=Walk(1.5, 3, 0.02))
    changes = [np.abs(a - b).max() for a, b in zip(moving[1:], moving[:-1], strict=True)]
    assert min(changes) > 0 and max(changes) < 0.3 * moving[0].max()


@pytest.mark.parametrize(("direction", "low", "high"), [("up", 1, 1.5), ("down", 0.15, 1), ("keep", 1, 1)])
def test_resizing_goes_its_way_to_even_sizes(rng, direction, low, high):
    sizes = set()
    for _ in range(40):
        (frame,) = resize(flat(0.3, 1, (100, 140)), rng, LQ, Directions(**{direction: 1}))
        h, w, _ = frame.shape
        assert h % 2 == 0 and w % 2 == 0 and 100 * low - 2 < h <= 100 * high and 140 * low - 2 < w <= 140 * high
        assert np.abs(frame - 0.3).max() < 1e-6
        sizes.add((h, w))
    assert len(sizes) == 1 if direction == "keep" else len(sizes) > 10


def test_the_factor_of_resizing_walks(rng):
    frames = flat(0.3, 200, (40, 40))
    heights = [len(frame) for frame in resize(frames, rng, LQ, factor=Walk(0.5, 1.5, 0.1))]
    assert len(set(heights)) > 5 and min(heights) >= 18 and max(heights) <= 60
    assert np.abs(np.diff(heights)).max() <= 6  # 40 x 0.1, and 2 by rounding
    assert len({len(frame) for frame in resize(frames, rng, LQ, factor=Walk(0.5, 1.5))}) == 1


def test_tiny_frames_keep_two_pixels(rng):
    (frame,) = resize(flat(0.3, 1, (4, 6)), rng, LQ, Directions(down=1), Walk(0.1, 0.2))
    assert frame.shape[0] >= 2 and frame.shape[1] >= 2


@pytest.mark.parametrize("kind", ["bilinear", "area", "bicubic"])
def test_frames_become_as_large_as_lq(rng, kind):
    frames = [*texture(1, (48, 64)), *texture(1, (24, 40)), *texture(1, (8, 16))]
    for frame in resize_to_lq(frames, rng, LQ, Filters(**{kind: 1})):
        assert frame.shape == (*LQ, 3)
    (mean,) = resize_to_lq(texture(1), rng, LQ, Filters(area=1))
    assert mean == pytest.approx(texture(1)[0].reshape(12, 4, 16, 4, 3).mean((1, 3)), abs=1e-6)


def test_gaussian_noise_has_its_strength_and_is_another_in_each_frame(rng):
    frames = flat(0.5, 4, (120, 120))
    noisy = noise(frames, rng, LQ, Noises(gaussian=1), sigma=Walk(12, 12), gray=0)
    for frame in noisy:
        assert (frame - 0.5).std() * 255 == pytest.approx(12, rel=0.02)
        assert frame.mean() == pytest.approx(0.5, abs=1e-3)
        assert np.abs(np.corrcoef(frame.reshape(-1, 3).T)[0, 1]) < 0.05
    assert not np.allclose(noisy[0], noisy[1], atol=0.05)


def test_poisson_noise_grows_with_the_brightness(rng):
    frame = np.full((200, 256, 3), 0.2, np.float32)
    frame[:, 128:] = 0.8
    (noisy,) = noise([frame], rng, LQ, Noises(poisson=1), poisson_scale=Walk(0.5, 0.5), gray=0)
    # two levels, of which the brighter is 204 / 255: 2 photons are white
    for part, level in ((np.s_[:, :128], 0.2), (np.s_[:, 128:], 0.8)):
        error = noisy[part] - frame[part]
        assert error.mean() == pytest.approx(0, abs=0.01)
        assert error.var() == pytest.approx(0.25 * level / 2, rel=0.03)


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_grey_noise_is_equal_in_the_channels_and_comes_in_its_share(rng, kind):
    kinds, num_gray = Noises(**{kind: 1}), 0
    for _ in range(200):
        (frame,) = noise(flat(0.5, 1, (8, 8)), rng, LQ, kinds, gray=0.4)
        num_gray += np.array_equal(frame[..., 0], frame[..., 1]) and np.array_equal(frame[..., 0], frame[..., 2])
    assert num_gray == pytest.approx(80, abs=25)


def test_a_higher_quality_of_jpeg_is_nearer_to_the_frame(rng):
    frames, errors = grey([rng.random((64, 64, 3), np.float32)]), []
    for quality in (5, 20, 50, 80, 100):
        (after,) = jpeg(frames, rng, LQ, Quality(quality, quality))
        errors.append(float(np.square(after - frames[0]).mean()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.3 * errors[0]


def test_jpeg_keeps_the_order_of_the_channels():
    pixels = to_levels(np.random.default_rng(3).random((64, 64, 3)).astype(np.float32))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "jpeg", quality=60)
    expected = np.asarray(Image.open(stream)).astype(int)
    assert np.abs(as_jpeg(pixels, 60).astype(int) - expected).mean() < 1.5
    swapped = as_jpeg(np.ascontiguousarray(pixels[..., ::-1]), 60)[..., ::-1]
    assert np.abs(swapped.astype(int) - expected).mean() > 5


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("size", [(48, 64), (33, 47), (2, 2), (10, 6)])
@pytest.mark.parametrize("count", [1, 9])
def test_video_compression_returns_as_many_frames_of_the_same_size(codec, size, count):
    frames = [to_levels(cv2.resize(frame, size[::-1])) for frame in texture(count)]
    after = as_video(frames, codec, 30_000)
    assert [frame.shape for frame in after] == [(*size, 3)] * count


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_compressed_frames_are_in_order(codec):
    frames = [to_levels(0.6 * frame + 0.05 * number) for number, frame in enumerate(grey(texture(8, (64, 64))))]
    for number, frame in enumerate(as_video(frames, codec, 50_000)):
        distances = [np.abs(frame.astype(float) - other).mean() for other in frames]
        assert int(np.argmin(distances)) == number and distances[number] < 4


def test_compressed_frames_are_better_with_more_bits():
    frames, errors = [to_levels(frame) for frame in grey(texture(8, (64, 64)))], []
    for bits in (1_000, 3_000, 100_000):
        after = as_video(frames, "libx264", bits)
        errors.append(np.mean([np.square(a.astype(float) - b).mean() for a, b in zip(after, frames, strict=True)]))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.5 * errors[0]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_the_same_frames_are_encoded_alike_each_time(codec):
    frames = [np.random.default_rng(1).integers(0, 256, (96, 96, 3), np.uint8)] * 12  # equal frames
    results = {b"".join(frame.tobytes() for frame in as_video(frames, codec, 20_000)) for _ in range(20)}
    assert len(results) == 1


def test_frames_of_several_sizes_become_as_large_as_the_first(rng):
    frames = [*texture(1, (40, 56)), *texture(1, (48, 64)), *texture(1, (32, 48))]
    after = video_compression(frames, rng, LQ, Codecs(mpeg4=1), BitRate(1e5, 1e5))
    assert [frame.shape for frame in after] == [(40, 56, 3)] * 3
    assert np.abs(after[2] - cv2.resize(frames[2], (56, 40))).mean() < 0.05


@pytest.mark.parametrize("step", [jpeg, video_compression])
def test_values_out_of_range_are_clipped_and_do_not_wrap_around(rng, step):
    for level, expected in ((1.3, 1), (-0.3, 0)):
        for frame in step(flat(level), rng, LQ):
            assert frame == pytest.approx(expected, abs=0.02) and frame.dtype == np.float32


def test_an_unsharp_mask_follows_its_definition():
    frame = texture(1, (80, 80))[0]
    frame[30:50, 30:50] = 0.95  # edges

    def blurred(pixels):
        return ndimage.gaussian_filter(pixels.astype(np.float64), (8, 8, 0), mode="mirror", radius=(25, 25, 0))

    difference = frame - blurred(frame)
    mask = blurred(np.abs(difference) * 255 > 10)
    expected = mask * np.clip(frame + 0.5 * difference, 0, 1) + (1 - mask) * frame
    assert unsharp_mask(frame) == pytest.approx(expected, abs=1e-5)
    assert np.abs(unsharp_mask(frame) - frame).max() > 0.05
    assert unsharp_mask(frame, threshold=255) == pytest.approx(frame, abs=1e-6)
    assert unsharp_mask(frame).min() >= 0 and unsharp_mask(frame).max() <= 1


def test_weights_name_their_choices():
    with pytest.raises(ValueError, match="every weight is 0; give one of bilinear, area, bicubic a weight above 0"):
        Filters()
