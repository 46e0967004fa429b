import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import fresh
from torch.utils.data import DataLoader
from videos import make_clip, make_moving_clip, number_of, warp, write_frame

from vsr.data import CharadesDataset, HumanEvaDataset, SampleKey, TrainSampler
from vsr.data.sets import frame_windows
from vsr.data.sets.frame_windows import count_windows, reach, window_positions
from vsr.data.stream.loader import batches

CLIP = "S1_Box_1_(C1)"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One clip of 40 frames, one of 13; windows of 3 + 2 frames at interval 5 need 21."""
    folder = tmp_path_factory.mktemp("HumanEva")
    make_clip(folder / "image" / CLIP, 40)
    make_clip(folder / "image" / "S2_Jog_2_(C3)", 13)
    (folder / "all.csv").write_text(f"{CLIP}\nS2_Jog_2_(C3)\n")
    (folder / "one.csv").write_text(f"{CLIP}\n")
    return folder


def open_set(root, name="one.csv", **options):
    options = {"input_size": 3, "frame_interval": 5, "width": 16, "height": 12, **options}
    return HumanEvaDataset(str(root), str(root / name), **options)


def frames_of(sample):
    return [number_of(frame) for frame in (*sample["sentences"], sample["query"], sample["next"])]


def test_a_sample_is_past_frames_the_query_and_the_frame_after_it(root):
    dataset = open_set(root)
    assert len(dataset) == 40 - 20
    sample = dataset[0]
    assert list(sample) == ["sentences", "query", "next", "target", "key", "clip", "action", "camera"]
    assert frames_of(sample) == [0, 5, 10, 15, 20]
    assert frames_of(dataset[19]) == [19, 24, 29, 34, 39]
    assert sample["sentences"].shape == (3, 3, 12, 16)
    assert all(sample[name].dtype == torch.uint8 for name in ("sentences", "query", "next", "target"))
    assert torch.equal(sample["target"], sample["next"])
    assert (sample["key"], sample["clip"]) == (f"{CLIP}/000015", CLIP)
    assert (sample["action"], sample["camera"]) == ("Box", "C1")
    assert (dataset.test_type, dataset.input_size) == ("nextframe", 3)


def test_a_plain_number_beyond_the_end_ends_a_loop(root):
    dataset = open_set(root)
    assert len(list(dataset)) == 20
    with pytest.raises(IndexError):
        dataset[-1]


@pytest.mark.parametrize("length", [20, 21, 22])
def test_the_shortest_clip_that_holds_a_window(length):
    assert count_windows(length, 3, 5, 1) == max(length - 20, 0)
    assert reach(10, 50) + 1 == 551  # the default


sizes = st.integers(1, 12)


@settings(deadline=None)
@given(st.integers(0, 300), sizes, sizes, st.integers(1, 40))
def test_windows_fill_a_clip_and_never_leave_it(length, input_size, interval, step):
    count = count_windows(length, input_size, interval, step)
    for window in range(count):
        positions = window_positions(window * step + input_size * interval, input_size, interval)
        assert len(positions) == input_size + 2
        assert np.unique(np.diff(positions)).tolist() == [interval]
        assert (positions[0], positions[-1]) == (window * step, window * step + reach(input_size, interval))
        assert positions[-1] < length
    assert count * step + reach(input_size, interval) >= length  # one window more would leave it


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 13)), min_size=1, max_size=4),
    input_size=st.integers(1, 4),
    interval=st.integers(1, 5),
    step=st.integers(1, 6),
    max_windows=st.none() | st.integers(1, 9),
    short_clip=st.sampled_from(["skip", "shrink"]),
    random_interval=st.booleans(),
    draw=st.integers(0, 999),
)
def test_no_sample_reads_outside_its_part_of_a_clip(
    tmp_path_factory, parts, input_size, interval, step, max_windows, short_clip, random_interval, draw
):
    root = tmp_path_factory.getbasetemp() / "parts"
    if not root.exists():
        make_clip(root / "clip", 52)
    ranges = [(13 * index + start, min(13 * index + start + length, 13 * (index + 1)))
              for index, (start, length) in enumerate(parts)]  # fmt: skip
    (root / "list.csv").write_text("clip,start,end\n" + "".join(f"clip,{s},{e}\n" for s, e in ranges))
    options = {"step": step, "max_windows": max_windows, "short_clip": short_clip, "random_interval": random_interval}
    options["window_step"] = options.pop("step")
    fits = [end - start > (input_size + 1) * (1 if short_clip == "shrink" else interval) for start, end in ranges]
    if not any(fits):
        with pytest.raises(ValueError, match="holds a window"):
            open_set(root, "list.csv", input_size=input_size, frame_interval=interval, **options)
        return
    dataset = open_set(root, "list.csv", input_size=input_size, frame_interval=interval, **options)
    assert 1 <= len(dataset) <= (max_windows or 999)
    for key in (*range(len(dataset)), SampleKey(draw, 1, 2)):
        frames = frames_of(dataset[key] if isinstance(key, int) else dataset.read(key.draw % len(dataset), key))
        (own,) = {(start, end) for start, end in ranges if start <= frames[0] < end}
        assert own[0] <= min(frames) <= max(frames) < own[1]
        (distance,) = set(np.diff(frames).tolist())
        assert 1 <= distance <= interval
        if not random_interval and short_clip == "skip":
            assert distance == interval
    if not random_interval:
        assert len({frames_of(dataset[item])[0] for item in range(len(dataset))}) == len(dataset)


def test_start_and_end_count_from_the_first_frame_whatever_its_number(tmp_path):
    make_clip(tmp_path / "0A8CF", 40, first=1, prefix="0A8CF-")
    (tmp_path / "list.csv").write_text("clip,start,end\n0A8CF,10,31\n")
    dataset = CharadesDataset(str(tmp_path), str(tmp_path / "list.csv"), input_size=3, frame_interval=5)
    assert len(dataset) == 1
    assert frames_of(dataset[0]) == [10, 15, 20, 25, 30]
    assert dataset[0]["key"] == "0A8CF/0A8CF-000026"


def test_a_window_starts_every_step(root):
    dataset = open_set(root, window_step=8)
    assert [frames_of(dataset[item])[0] for item in range(len(dataset))] == [0, 8, 16]


def test_max_windows_are_spread_over_all(root):
    dataset = open_set(root, max_windows=4)
    assert [frames_of(dataset[item])[0] for item in range(4)] == [0, 5, 10, 15]
    assert len(open_set(root, max_windows=999)) == 20


def test_short_clips_are_left_out_and_counted(root):
    dataset = open_set(root, "all.csv")
    assert len(dataset) == 20
    (message,) = dataset.spec.notes
    assert "of 2 clips, 1 are shorter than the 21 frames of a window at interval 5: 1 left out, 0 read at" in message


def test_short_clips_shrink_to_the_largest_interval_that_fits(root):
    dataset = open_set(root, "all.csv", short_clip="shrink")
    assert frames_of(dataset[0]) == [0, 5, 10, 15, 20]  # the long clip is as it was
    assert len(dataset) == 20 + 1
    assert frames_of(dataset[20]) == [0, 3, 6, 9, 12]
    assert dataset[20]["camera"] == "C3"
    assert "0 left out, 1 read at the largest interval that fits (short_clip: shrink)" in dataset.spec.notes[0]


def test_a_clip_too_short_for_interval_1_is_dropped_even_when_shrinking(root):
    dataset = open_set(root, "all.csv", input_size=12, frame_interval=3, short_clip="shrink")
    assert len(dataset) == 1 and "1 left out, 0 read" in dataset.spec.notes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_interval": 50}, r"no clip of '.*all.csv' holds a window: input_size 3 at frame_interval 50 needs 201 "
         rf"frames, the longest of 2, '{CLIP}', has 40; set frame_interval to 9 or less".replace("(C1)", r"\(C1\)")),
        ({"input_size": 50, "short_clip": "shrink"}, "it needs at least 52 frames: set input_size lower"),
        ({"test_type": "opticalflow", "width": 8}, "test_type opticalflow needs width and height of at least 12"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_met_are_told(root, options, message):
    with pytest.raises(ValueError, match=message):
        open_set(root, "all.csv", **options)


def test_missing_things_are_told(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataroot: folder '.*none' does not exist. HumanEva-I is at"):
        open_set(root / "none")
    with pytest.raises(FileNotFoundError, match=r"list_file '.*none.csv' does not exist"):
        open_set(root, "none.csv")
    (tmp_path / "list.csv").write_text("S9_Box_1_(C1)\n")
    with pytest.raises(FileNotFoundError, match=r"list.csv' names clip 'S9_Box_1_\(C1\)', but there is no folder"):
        HumanEvaDataset(str(root), str(tmp_path / "list.csv"))
    (tmp_path / "list.csv").write_text(f"clip,end\n{CLIP},41\n")
    with pytest.raises(ValueError, match=r"uses or counts 41 frames of clip 'S1_Box_1_\(C1\)', but '.*' holds 40"):
        HumanEvaDataset(str(root), str(tmp_path / "list.csv"))
    (tmp_path / "list.csv").write_text(f"clip,num_frames\n{CLIP},827\n")
    with pytest.raises(ValueError, match="uses or counts 827 frames"):
        HumanEvaDataset(str(root), str(tmp_path / "list.csv"))


def test_clips_in_two_lists_are_refused(root, tmp_path):
    for name in ("train_list.csv", "val_list.csv"):
        (tmp_path / name).write_text(f"{CLIP}\n")
    with pytest.raises(ValueError, match=r"is in '.*train_list.csv' and in '.*val_list.csv'"):
        HumanEvaDataset(str(root), str(tmp_path / "val_list.csv"))


@pytest.mark.parametrize("use_cache", [False, True])
def test_a_frame_that_cannot_be_read_is_one_message(tmp_path, use_cache):
    folder = make_clip(tmp_path / CLIP, 21)
    (folder / "000010.png").write_bytes(b"")
    (tmp_path / "list.csv").write_text(f"{CLIP}\n")
    cache = str(tmp_path / "cache") if use_cache else None
    dataset = open_set(tmp_path, "list.csv", frame_cache=cache)
    with pytest.raises(ValueError, match=r"000010.png' is empty \(0 bytes\)"):
        dataset[0]
    write_frame(folder / "000010.png", 10, (8, 8))
    with pytest.raises(ValueError, match=r"000010.png' is 8 x 8, but '000000.png' of the same clip is 24 x 32"):
        open_set(tmp_path, "list.csv", frame_cache=cache)[0]


def test_cached_frames_are_those_of_the_images(root, tmp_path):
    plain, cached = (open_set(root, "all.csv", frame_cache=c, short_clip="shrink") for c in (None, str(tmp_path / "c")))
    for item in range(len(plain)):
        assert_same(plain[item], cached[item])


def assert_same(sample, expected):
    assert sample.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(sample[name], value) if isinstance(value, torch.Tensor) else sample[name] == value


def test_the_difference_is_in_the_unit_range_and_gives_the_next_frame_back(root):
    sample = open_set(root, test_type="subtract")[7]
    assert sample["target"].dtype == torch.float32
    assert sample["target"].abs().max() <= 1
    restored = sample["query"].float() / 255 + sample["target"]
    assert torch.equal((restored * 255).round().to(torch.uint8), sample["next"])


@pytest.mark.parametrize(("before", "after", "expected"), [(0, 255, 1.0), (255, 0, -1.0), (9, 9, 0.0)])
def test_the_difference_reaches_both_ends(root, monkeypatch, before, after, expected):
    frames = [np.full((12, 16, 3), level, np.uint8) for level in (0, 0, 0, before, after)]
    monkeypatch.setattr(frame_windows, "read_frames", lambda *_: frames)
    assert torch.equal(open_set(root, test_type="subtract")[0]["target"], torch.full((3, 12, 16), expected))


def test_the_flow_warps_the_query_to_the_next_frame(tmp_path):
    make_moving_clip(tmp_path / "image" / CLIP, 24)
    (tmp_path / "list.csv").write_text(f"{CLIP}\n")
    options = {"input_size": 3, "frame_interval": 2, "test_type": "opticalflow"}
    sample = HumanEvaDataset(str(tmp_path), str(tmp_path / "list.csv"), **options)[3]
    flow, (query, target) = sample["target"], (sample[n].permute(1, 2, 0).numpy() for n in ("query", "next"))
    assert flow.shape == (2, 64, 64)
    assert flow.dtype == torch.float32
    inner = slice(8, -8), slice(8, -8)
    moved, warped, wrong = (
        np.abs(image.astype(float) - target)[inner].mean()
        for image in (query, warp(query, flow.numpy()), warp(query, -flow.numpy()))
    )
    assert warped < 0.4 * moved < moved < wrong
    (file,) = (tmp_path / "flow").rglob("*.npy")
    assert file.relative_to(tmp_path).as_posix().startswith(f"flow/64x64/{CLIP}/000009-000011.")


def test_flow_of_frames_that_do_not_change_is_zero(tmp_path):
    folder = tmp_path / "still"
    folder.mkdir()
    for number in range(21):
        write_frame(folder / f"{number}.png", 5)
    (tmp_path / "list.csv").write_text("still\n")
    sample = open_set(tmp_path, "list.csv", test_type="opticalflow", flow_cache=str(tmp_path / "flows"))[0]
    assert torch.equal(sample["target"], torch.zeros(2, 12, 16))
    assert (sample["action"], sample["camera"]) == ("", "")
    assert len(list((tmp_path / "flows" / "16x12" / "still").glob("15-20.*.npy"))) == 1
    assert not (tmp_path / "flow").exists()


def test_random_intervals_follow_from_the_key_alone(root):
    dataset = open_set(root, random_interval=True)
    found = {}
    for draw in range(200):
        frames = frames_of(dataset.read(draw % len(dataset), SampleKey(draw, 0, 1)))
        found.setdefault(frames[1] - frames[0], []).append(frames)
        assert frames == frames_of(dataset.read(draw % len(dataset), SampleKey(draw, 0, 1)))
        assert frames[3] == draw % 20 + 15  # the query does not depend on the interval
    assert sorted(found) == [1, 2, 3, 4, 5]
    assert min(map(len, found.values())) > 20
    assert {frames_of(dataset.read(3, SampleKey(3, epoch, 1)))[0] for epoch in range(30)} == {
        18 - 3 * i for i in range(1, 6)
    }
    np.random.seed(0)
    assert {frames_of(dataset[3])[1] - frames_of(dataset[3])[0] for _ in range(60)} > {1, 5}
    assert dataset.spec.phases == ("train",)


def test_keys_without_random_interval_draw_nothing(root):
    dataset = open_set(root)
    assert_same(dataset.read(3, SampleKey(43, 2, 7)), dataset[3])


@pytest.mark.parametrize("test_type", ["nextframe", "opticalflow"])
def test_samples_do_not_depend_on_the_number_of_workers(root, tmp_path, test_type):
    def first_batches(num_workers, cache):
        options = {"random_interval": True, "test_type": test_type, "short_clip": "shrink"}
        dataset = open_set(root, "all.csv", flow_cache=str(tmp_path / f"f{num_workers}"), frame_cache=cache, **options)
        stream = batches(dataset, TrainSampler(len(dataset), seed=3), batch_size=4, num_workers=num_workers)
        return [next(stream) for _ in range(8)]

    alone = first_batches(0, None)
    assert alone[0]["sentences"].shape == (4, 3, 3, 12, 16)
    assert isinstance(alone[0]["key"], list)
    for num_workers, cache in ((2, None), (2, str(tmp_path / "cache")), (0, str(tmp_path / "cache"))):
        for batch, expected in zip(first_batches(num_workers, cache), alone, strict=True):
            assert_same(batch, expected)


def test_fresh_workers_read_too(root, tmp_path):
    dataset = open_set(
        root, frame_cache=str(tmp_path / "cache"), test_type="opticalflow", flow_cache=str(tmp_path / "f")
    )
    first = dataset[0]  # its files are open when it is sent to the worker
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=fresh)
    assert_same(next(iter(loader)), first)
