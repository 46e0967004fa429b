from functools import partial

import cv2
import numpy as np
import pytest
import torch
from synthetic import make_clips
from training import small_options, write_options

from vsr import test, train
from vsr.archs import EDVR, EDVRMemory
from vsr.data import VideoTestDataset
from vsr.evaluation.draw.memory import (
    MARK,
    PANEL,
    WeightPictures,
    memory_pictures,
    position_maps,
    weight_bars,
    weight_maps,
)
from vsr.evaluation.restore import restore, steps_of
from vsr.memory import PixSentence, PixSim, PixWise
from vsr.utils.errors import UserError

LABELS = ["-1", "0", "+1"]


def frames(size=(20, 30)):
    return torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))


def test_bars_are_as_high_as_their_weights():
    picture = weight_bars(torch.tensor([0.1, 0.6, 0.3]), frames(), LABELS)
    coloured = (picture == np.array([60, 110, 220], np.uint8)).all(2)
    heights = [part.any(1).sum() for part in np.array_split(coloured, 3, axis=1)]
    assert heights[1] == pytest.approx(2 * heights[2], rel=0.05) == pytest.approx(6 * heights[0], rel=0.15)


def test_bars_of_searched_shifts_show_the_shift_below():
    weights = torch.zeros(3, 9)
    weights[1, 5] = 1  # one column to the right, in the middle frame
    with_shifts = weight_bars(weights.flatten(), frames(), LABELS)
    without = weight_bars(weights.sum(1), frames(), LABELS)
    left = 240 + 6 + 12  # of the second column
    grid = with_shifts[without.shape[0] + 6 :, left : left + PANEL // 2]
    orange = grid[..., 2].astype(int) - grid[..., 0]
    cells = [[cell.mean() for cell in np.array_split(row, 3, axis=1)] for row in np.array_split(orange, 3, axis=0)]
    assert np.argmax(cells) == 5


def test_more_than_an_even_share_is_orange_and_less_is_blue():
    weights = torch.full((3, 20, 30), 1 / 3)
    weights[:, 10:] = torch.tensor([0, 0.25, 0.75])[:, None, None]
    picture = weight_maps(weights, frames(), LABELS).astype(int)
    panels = [picture[22:, i * (240 + 6) : i * (240 + 6) + 240] for i in range(3)]
    upper, lower = zip(*((panel[:70], panel[90:]) for panel in panels), strict=True)
    assert all((part.max(2) == part.min(2)).all() for part in upper)  # equal weights: the frame in gray
    orange = [(part[..., 2] - part[..., 0]).mean() for part in lower]
    assert orange[0] < -150 < orange[1] < 0 < 200 < orange[2]
    assert weight_maps(weights.repeat_interleave(9, 0) / 9, frames(), LABELS).shape == picture.shape


def test_position_maps_mark_the_question_and_the_best_answer():
    weights = torch.zeros(2, 3, 20, 30)
    weights[0, 2, 5, 25] = weights[1, 0, 15, 3] = 1
    picture = position_maps(weights, frames(), LABELS, torch.tensor([[0.5, 0.5], [0.25, 0.75]]), 1)
    marked = (np.abs(picture.astype(int) - np.array(MARK)).sum(2) < 40).astype(np.uint8)
    assert cv2.connectedComponents(marked, connectivity=8)[0] - 1 == 4  # a cross and a circle in each row
    heights = [np.unique(np.nonzero(part)[1] // (240 + 6)) for part in np.array_split(marked, 2)]
    assert [list(columns) for columns in heights] == [[1, 2], [0, 1]]


@pytest.mark.parametrize(
    ("memory", "names"),
    [
        (PixSim, {"frames"}),
        (partial(PixSim, crop=3), {"frames"}),
        (partial(PixWise, crop=3), {"maps"}),
        (PixSentence, {"maps", "positions"}),
        (partial(PixWise, embedding="fc"), {"frames"}),
        (partial(PixSentence, embedding="fc"), {"frames"}),
    ],
)
def test_every_memory_has_pictures(memory, names):
    query, sentences = torch.rand(1, 4, 10, 15), torch.rand(1, 3, 4, 10, 15)
    pictures = memory_pictures(memory(4, (10, 15)), query, sentences, frames(), LABELS, 1)
    assert set(pictures) == names
    for picture in pictures.values():
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.std() > 0


@pytest.mark.parametrize(
    "memory", [PixSim, partial(PixSim, crop=3), PixWise, partial(PixWise, crop=3), PixSentence], ids=str
)
@pytest.mark.parametrize("memory_size", [1, 2, 5])
def test_forgotten_frames_have_no_share(memory, memory_size, monkeypatch):
    titles = []

    def note(image, text, bottom, left=None):
        titles.extend([text] if left is None else [])  # not those of the scale
        return image

    monkeypatch.setattr("vsr.evaluation.draw.images.write_text", note)
    monkeypatch.setattr("vsr.evaluation.draw.memory.write_text", note)
    query, sentences = torch.rand(1, 4, 10, 15), torch.rand(1, 3, 4, 10, 15)
    built = partial(memory, memory_size=memory_size)(4, (10, 15))
    memory_pictures(built, query, sentences, frames(), LABELS, 1)
    shares = [float(text.split()[-1]) for text in titles if ": " in text and ": sum" not in text]
    assert len(shares) == 3 and sum(shares) == pytest.approx(1, abs=0.02)
    assert [share > 0 for share in shares] == [index >= 3 - memory_size for index in range(3)]


def test_pictures_of_a_test_set_are_written_per_clip_and_frame(tmp_path):
    clips = make_clips(tmp_path, num_clips=1, num_frames=3, gt_size=(40, 56))  # LQ 10×14: padded to 12×16
    dataset = VideoTestDataset(clips.lq, clips.gt, num_frame=3)
    sizes = {"num_feat": 8, "num_frame": 3, "num_extract_block": 1, "num_reconstruct_block": 1, "deformable_groups": 2}

    def draw(network, folder):
        frames = restore(network.eval(), steps_of(network.spec, dataset), torch.device("cpu"))
        return list(WeightPictures(folder, (), saves=True).of(frames, network))

    drawn = draw(EDVRMemory(PixSentence, map_size=(10, 14), **sizes), tmp_path / "weights")
    assert [frame.index for frame in drawn] == [0, 1, 2]
    written = sorted(str(file.relative_to(tmp_path / "weights")) for file in (tmp_path / "weights").rglob("*.png"))
    assert written == [f"000/{i:08d}_{name}.png" for i in range(3) for name in ("maps", "positions")]
    with pytest.raises(UserError, match="EDVR has no memory"):
        draw(EDVR(**sizes), tmp_path)


def test_save_weights_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clips = make_clips(tmp_path, num_clips=1, num_frames=4, gt_size=(48, 64))
    options = small_options(clips, train__total_iter=1)
    options["network_g"] |= {"type": "EDVRMemory", "memory": {"type": "pixsim", "crop": 3}, "map_size": [8, 8]}
    file = str(write_options(tmp_path, options))
    assert train.main(["-opt", file]) == 0
    assert test.main(["-opt", file, "--save_weights"]) == 0
    pictures = sorted((tmp_path / "results/small/weights/clips/000").iterdir())
    assert [picture.name for picture in pictures] == [f"{index:08d}_frames.png" for index in range(4)]
