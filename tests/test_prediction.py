"""What is measured of a predicted frame, against values computed by hand."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from vsr.evaluation.draw.next_frame import comparison, flow_image, weight_pictures
from vsr.evaluation.next_frame import compare, measure, standing
from vsr.evaluation.scores import FrameScore, average
from vsr.losses.memory_supervision import weight_divergence
from vsr.utils.errors import UserError

T, H, W = 4, 16, 20


def sample(**changes):
    random = torch.Generator().manual_seed(0)
    made = {
        "sentences": torch.rand(T, 3, H, W, generator=random),
        "query": torch.rand(3, H, W, generator=random),
        "next": torch.rand(3, H, W, generator=random),
        "key": "clip/000007",
        "clip": "clip",
        "action": "Box",
        "camera": "C1",
    }
    made["target"] = made["next"]
    return {**made, **changes}


def scores(made, frame, output=None, test_type="nextframe"):
    found = measure(compare(0, made, frame, frame if output is None else output, [], test_type))
    return {score.method: score.values for score in found}


def psnr(a, b):
    return -10 * math.log10(float((a - b).double().square().mean()))


def test_methods_are_what_they_are_called():
    made = sample()
    made["sentences"][2] = made["next"] * 0.99
    values = scores(made, made["query"])
    assert values["copy-last"] == {k: v for k, v in values["network"].items() if k != "loss"}
    assert values["mean of memory"]["psnr"] == pytest.approx(psnr(made["sentences"].mean(0), made["next"]), abs=1e-4)
    assert values["best memory frame"]["psnr"] == pytest.approx(psnr(made["sentences"][2], made["next"]), abs=1e-4)


def test_values_equal_their_definitions():
    made = sample()
    frame = (made["next"] + 0.3 * torch.rand(3, H, W)).clamp(0, 1)
    values = scores(made, frame)["network"]
    assert values["l1"] == pytest.approx(float((frame - made["next"]).abs().mean()), rel=1e-5)
    assert values["loss"] == values["l1"]
    assert values["psnr"] == pytest.approx(psnr(frame, made["next"]), abs=1e-4)
    images = [np.asarray(x.permute(1, 2, 0).double()) for x in (frame, made["next"])]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
    _, whole = structural_similarity(*images, data_range=1, full=True, **options)
    assert values["ssim"] == pytest.approx(whole[5:-5, 5:-5].mean(), abs=1e-6)


def test_the_prediction_is_clamped_before_it_is_measured_but_not_for_the_loss():
    made = sample(next=torch.ones(3, H, W), target=torch.ones(3, H, W))
    values = scores(made, torch.full((3, H, W), 1.5))["network"]
    assert values["l1"] == 0 and values["psnr"] == 100 and values["loss"] == 0.5


def test_moved_pixels_are_those_that_change():
    made = sample(query=torch.zeros(3, H, W), next=torch.zeros(3, H, W))
    made["next"][1, 3, 5] = 11 / 255  # above the limit, in one channel
    made["next"][0, 8, 8] = 9 / 255  # below it
    made["target"] = made["next"]
    frame = made["next"].clone()
    frame[:, 3, 5] += 0.5
    frame[:, 10] += 0.9  # an error where nothing moves
    expected = -10 * math.log10(0.25)
    assert scores(made, frame)["network"]["psnr_moved"] == pytest.approx(expected, abs=1e-4)


def test_a_change_of_ten_levels_is_no_motion_and_one_of_eleven_is_whatever_the_grey_value():
    levels = torch.arange(H * W) % 245
    query = levels.view(1, H, W).expand(3, H, W) / 255
    for change in (10, 11):
        made = sample(query=query, next=(levels + change).view(1, H, W).expand(3, H, W) / 255)
        made["target"] = made["next"]
        values = scores(made, query)["network"]
        assert values.get("psnr_moved") == (values["psnr"] if change == 11 else None)


def test_without_motion_there_are_no_moved_pixels_and_the_mean_leaves_the_frame_out():
    still = sample(next=sample()["query"])
    still["target"] = still["next"]
    values = scores(still, still["query"] * 0.9)["network"]
    assert "psnr_moved" not in values
    rows = [FrameScore("network", "a", "0", values)]
    rows += [FrameScore("network", clip, "1", values | {"psnr_moved": v}) for clip, v in (("a", 20.0), ("b", 30.0))]
    assert average(rows)["network"]["mean"]["psnr_moved"] == 25


def test_a_value_that_is_no_number_shows_in_the_mean():
    rows = [FrameScore("network", "a", str(n), {"loss": value}) for n, value in enumerate([0.1, math.nan, 0.2])]
    assert math.isnan(average(rows)["network"]["mean"]["loss"])


def test_no_clip_may_be_called_like_the_mean():
    with pytest.raises(UserError, match="a clip is called 'mean'"):
        average([FrameScore("network", "mean", "0", {"psnr": 30.0})])


def test_frames_smaller_than_its_window_have_no_ssim():
    made = sample(**{key: torch.rand(3, 8, 8) for key in ("query", "next", "target")}, sentences=torch.rand(T, 3, 8, 8))
    assert "ssim" not in scores(made, made["query"])["network"]


def test_flows_have_end_point_errors():
    target = torch.zeros(2, H, W)
    target[0], target[1] = 3, 4
    values = scores(
        sample(target=target), sample()["query"], target + torch.tensor([1.0, 0]).view(2, 1, 1), "opticalflow"
    )
    assert values["network"]["epe"] == pytest.approx(1)
    assert values["copy-last"]["epe"] == pytest.approx(5)
    assert "epe" not in values["mean of memory"]


def test_means_are_over_clips_and_labels():
    rows = [
        FrameScore("network", "a", "1", {"psnr": 20.0}, "Box", "C1"),
        FrameScore("network", "a", "2", {"psnr": 30.0}, "Box", "C1"),
        FrameScore("network", "b", "1", {"psnr": 40.0}, "Box", "C2"),
    ]
    assert average(rows)["network"]["mean"]["psnr"] == 32.5
    assert average(rows, "action")["network"]["Box"]["psnr"] == 30
    assert average(rows, "camera")["network"]["C2"]["psnr"] == 40


def test_standing_tells_a_network_that_ignores_its_memory():
    means = {name: {"psnr": value} for name, value in (("copy-last", 20), ("mean of memory", 23), ("network", 23.0))}
    assert standing(means).endswith("the network is not above the mean of its memory")
    means["network"]["psnr"] = 23.1
    assert standing(means) == "copy-last 20.00 dB, mean of memory 23.00 dB, network 23.10 dB"


# supervision of the weights -------------------------------------------------------------------------------------------


def test_divergence_is_zero_at_the_wanted_weights_and_positive_elsewhere():
    torch.manual_seed(0)
    sentences, target = torch.rand(2, T, 3, H, W, dtype=torch.float64) * 0.02, torch.rand(2, 3, H, W).double() * 0.02
    wanted = (-255 * (sentences - target[:, None]).abs().mean((2, 3, 4))).softmax(1)
    assert weight_divergence(wanted, sentences, target).abs() < 1e-12
    even = torch.full_like(wanted, 1 / T)
    expected = (wanted * (wanted / even).log()).sum(1).mean()
    torch.testing.assert_close(weight_divergence(even, sentences, target), expected)
    assert expected > 0


def test_divergence_of_maps_compares_the_pixels_of_each_position():
    sentences, target = torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    sentences[:, 0, :, :, :2] = 1  # the first sentence is wrong on the left, the second on the right
    sentences[:, 1, :, :, 2:] = 1
    right = torch.zeros(1, 2, 2, 2)
    right[:, 1, :, 0] = right[:, 0, :, 1] = 1
    assert weight_divergence(right, sentences, target) < 1e-6
    assert weight_divergence(1 - right, sentences, target) > 5


def test_divergence_has_a_gradient_where_a_weight_is_zero():
    weights = torch.tensor([[0.0, 1.0]], requires_grad=True)
    weight_divergence(weights, torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 3, 4, 4)).backward()
    assert torch.isfinite(weights.grad).all()


# pictures -------------------------------------------------------------------------------------------------------------


def test_pictures_have_a_panel_per_method_and_sentence():
    made = sample()
    shares = [torch.rand(T), torch.rand(T, H // 2, W // 2)]
    predicted = compare(0, made, made["query"], made["query"], shares, "nextframe")
    picture = comparison([predicted, predicted])
    assert picture.shape[0] > 2 * H and picture.shape[1] > 5 * W
    pictures = weight_pictures(predicted)
    assert list(pictures) == ["level_1", "level_2"]
    assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in pictures.values())


def test_the_colour_of_a_flow_is_its_direction():
    flow = torch.zeros(2, 1, 4)
    flow[:, 0, 1] = torch.tensor([2.0, 0])
    flow[:, 0, 2] = torch.tensor([0, 2.0])
    flow[:, 0, 3] = torch.tensor([1.0, 0])
    image = flow_image(flow, 2.0)[0].astype(int)
    assert image[0].tolist() == [0, 0, 0]
    assert image[1].argmax() == 2  # red, as cv2 orders
    assert image[2].argmax() != 2
    assert abs(2 * image[3, 2] - image[1, 2]) <= 2
