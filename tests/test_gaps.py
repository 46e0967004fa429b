"""Gaps in the frame numbers of a clip: found, refused in training, warned of in tests."""

import pytest
from load_script import load_script
from options_files import write
from own_sets import sides, training, warnings
from samples import sample_of
from synthetic import make_clips
from training import predictor_options
from videos import make_humaneva

from vsr import config
from vsr.data import HumanEvaDataset, VideoTestDataset
from vsr.data.sources.base import missing_frames, with_missing
from vsr.utils.errors import UserError

generate_meta_info = load_script("generate_meta_info")


@pytest.fixture
def clips(tmp_path):
    return make_clips(tmp_path / "set", num_clips=2, num_frames=8, gt_size=(48, 64))


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ("0 1 2 4 5 6 7", "3"),
        ("frame_1 frame_2 frame_3 frame_4 frame_5 frame_7", "frame_6"),
        ("008 009 012 013", "010 011"),
        ("8 9 12", "10 11"),
        ("0 2 5", "1 3 4"),
        ("0 1 1000", " ".join(map(str, range(2, 1000)))),
        ("0 10 20 40", "30"),
        ("0 10 20 30", ""),
        ("a_1 a_2 b_5", ""),
        ("first 1 2 4", ""),
        ("1403636579763 1403636579813 1403636579864 1403636579965", ""),  # times in ms
        ("01 1 2", ""),
        ("7", ""),
    ],
)
def test_the_names_that_a_numbering_lacks_are_found(names, missing):
    assert list(missing_frames(names.split())) == missing.split()
    assert with_missing(names.split()) == sorted(with_missing(names.split()), key=with_missing(names.split()).index)
    assert set(with_missing(names.split())) == set(names.split()) | set(missing.split())


@pytest.mark.parametrize("prefix", ["", "frame_"])
@pytest.mark.parametrize("is_counted", [True, False])
def test_a_gap_is_refused_in_training_and_warned_of_in_tests(clips, caplog, prefix, is_counted):
    for side in sides(clips):
        for file in (side / "001").iterdir():
            file.rename(file.with_name(f"{prefix}{file.name}"))
        (side / "001" / f"{prefix}00000003.png").unlink()
    clips.meta.write_text("001 7 (48,64,3)\n" if is_counted else "001\n")
    with pytest.raises(FileNotFoundError, match=rf"lacks 1 of the . frames of clip '001' .*: {prefix}00000003 "):
        training(clips)
    clips.meta.write_text("001 3 (48,64,3)\n001 4 (48,64,3) 4\n")  # the list names the frames
    assert [len(clip.frames) for clip in training(clips).clips] == [3, 4]
    caplog.clear()
    for meta in (None, clips.meta):
        clips.meta.write_text("001 7 (48,64,3)\n")
        test = VideoTestDataset(clips.lq, clips.gt, meta)
        assert len(test[len(test) - 1].frames) == 7
    message = rf"'{clips.lq}' lacks frame {prefix}00000003 of clip '001' (it has {prefix}00000000 … {prefix}00000007)"
    assert [text.partition(":")[0] for text in warnings(caplog)] == [message] * 2


def test_windows_do_not_pass_over_a_gap_that_is_skipped(clips):
    for side in sides(clips):
        for file in (side / "000").iterdir():
            file.rename(file.with_name(f"x{int(file.stem)}.png"))
        (side / "000" / "x3.png").unlink()
    clips.meta.write_text("000\n")
    dataset = training(clips, on_bad_frame="skip")
    keys = {sample_of(dataset, item, epoch)["key"] for item in range(8) for epoch in range(4)}
    assert keys == {"000/x1", "000/x5", "000/x6"}


def test_next_frame_data_has_the_same_rule(tmp_path, caplog):
    root = make_humaneva(tmp_path / "set")
    options = predictor_options(root)
    folder = next((root / "image").iterdir())
    name = folder.name
    (root / "gap.csv").write_text(f'"{name}"\n')
    dropped = sorted(folder.iterdir())[2]
    dropped.unlink()
    with pytest.raises(UserError, match=rf"datasets.train: '.*' lacks frame {dropped.stem} of clip"):
        options["datasets"]["train"]["list_file"] = str(root / "gap.csv")
        config.load(write(tmp_path, options))
    keys = {key: value for key, value in options["datasets"]["val"].items() if key in ("input_size", "frame_interval")}
    caplog.clear()
    assert len(HumanEvaDataset(str(root), str(root / "gap.csv"), **keys))
    assert any(f"lacks frame {dropped.stem} of clip '{name}'" in text for text in warnings(caplog))
    (root / "gap.csv").write_text(f'clip,start\n"{name}",2\n')  # the list names the frames after the gap
    config.load(write(tmp_path, options))


def test_a_list_of_a_folder_with_gaps_is_one_that_training_reads(clips, tmp_path, capsys):
    for side in sides(clips):
        (side / "001" / "00000002.png").unlink()
    generate_meta_info.main(["--from", str(clips.gt), "--to", str(tmp_path / "list.txt")])
    assert (tmp_path / "list.txt").read_text() == "000 8 (48,64,3)\n001 5 (48,64,3) 3\n"
    said = f"'{clips.gt}' lacks frame 00000002 of clip '001' (it has 00000000 … 00000007): its line lists 00000003 to"
    assert said in capsys.readouterr().out
    assert len(training(clips, meta_info_file=tmp_path / "list.txt")) == 13
    assert len(VideoTestDataset(clips.lq, clips.gt, tmp_path / "list.txt")[1].frames) == 5
