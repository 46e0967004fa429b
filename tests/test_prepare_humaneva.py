import runpy
import shutil
import sys

import pytest
from load_script import ROOT, another_preparation, exit_code, load_script
from videos import make_clip, make_video

from vsr.data import HumanEvaDataset
from vsr.data.lists.clip_lists import read_clip_list
from vsr.utils.errors import UserError

script = load_script("prepare_humaneva")

VIDEOS = [
    *("S1/Box_1_(C1)", "S1/Box_1_(BW1)", "S2/Jog_1_(C3)", "S3/ThrowCatch_1_(C2)"),
    *("S1/Combo_2_(C1)", "S3/Walking_2_(C3)", "S4/Box_2_(C1)", "S4/Box_1_(C1)"),
]
LISTS = ("train_list.csv", "val_list.csv", "test_list.csv")


def make_videos(folder, between=""):
    for name in VIDEOS:
        subject, stem = name.split("/")
        make_video(folder / subject / between / f"{stem}.avi", 12, (24, 32))


def run(root, *arguments):
    return script.main(["--root", str(root), "--threads", "2", *map(str, arguments)])


def listed(root):
    return {
        name.split("_")[0]: [entry.clip for entry in read_clip_list(root / name)]
        for name in LISTS
        if (root / name).exists()
    }


def test_videos_become_clips_and_lists(tmp_path, capsys):
    make_videos(tmp_path / "video")
    assert run(tmp_path) == 0
    assert listed(tmp_path) == {
        "train": ["S1_Box_1_(C1)", "S2_Jog_1_(C3)"],
        "val": ["S3_ThrowCatch_1_(C2)"],
        "test": ["S1_Combo_2_(C1)", "S3_Walking_2_(C3)"],
    }
    assert (tmp_path / "image" / "S1_Box_1_(C1)" / "000011.jpg").exists()
    assert not (tmp_path / "image" / "S1_Box_1_(BW1)").exists()
    assert "7 clips extracted, 2 of them in no list" in capsys.readouterr().out
    assert (tmp_path / "train_list.csv").read_text().splitlines() == [
        "clip,video,subject,action,trial,camera,start,end,num_frames,fps,width,height",
        "S1_Box_1_(C1),video/S1/Box_1_(C1).avi,S1,Box,1,C1,0,,12,25,32,24",
        "S2_Jog_1_(C3),video/S2/Jog_1_(C3).avi,S2,Jog,1,C3,0,,12,25,32,24",
    ]
    sample = HumanEvaDataset(str(tmp_path), str(tmp_path / "train_list.csv"), frame_interval=1)[1]
    assert (sample["key"], sample["action"], sample["camera"]) == ("S2_Jog_1_(C3)/000010", "Jog", "C3")


def test_the_fourth_subject_and_grey_cameras_on_request(tmp_path):
    make_videos(tmp_path / "video")
    assert run(tmp_path, "--with-s4", "--cameras", "C1", "BW1", "--max-side", "16") == 0
    assert listed(tmp_path) == {
        "train": ["S1_Box_1_(BW1)", "S1_Box_1_(C1)"],
        "test": ["S1_Combo_2_(C1)", "S4_Box_2_(C1)"],
    }
    assert {(e.width, e.height) for e in read_clip_list(tmp_path / "train_list.csv")} == {(16, 12)}


def test_the_official_distribution_is_linked(tmp_path):
    source = tmp_path / "Human Eva (I)"
    make_videos(source, "Image_Data")
    make_video(source / "S1" / "Mocap_Data" / "Box_2_(C1).avi")  # not among the image data
    root = tmp_path / "set"
    assert run(root, "--from", source, "--dry-run") == 0
    assert not root.exists()
    assert run(root, "--from", source) == 0
    link = root / "video" / "S1" / "Box_1_(C1).avi"
    assert link.is_symlink()
    assert link.resolve() == source / "S1" / "Image_Data" / "Box_1_(C1).avi"
    assert len(listed(root)["train"]) == 2
    assert read_clip_list(root / "train_list.csv")[0].video == "video/S1/Box_1_(C1).avi"
    assert run(root) == 0  # the links are enough from now on


def test_a_second_run_does_only_what_is_missing(tmp_path, capsys):
    make_videos(tmp_path / "video")
    (tmp_path / "video" / "S1" / "Box_1_(C1).avi").write_bytes(b"cut")
    assert run(tmp_path) == 2
    assert "Box_1_(C1).avi' cannot be opened" in capsys.readouterr().out
    assert listed(tmp_path)["train"] == ["S2_Jog_1_(C3)"]
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.jpg")}
    make_video(tmp_path / "video" / "S1" / "Box_1_(C1).avi", 12, (24, 32))
    assert run(tmp_path) == 0
    assert before.items() <= {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.jpg")}.items()
    assert listed(tmp_path)["train"] == ["S1_Box_1_(C1)", "S2_Jog_1_(C3)"]


def test_videos_of_other_names_are_told_what_to_do(tmp_path, capsys):
    make_video(tmp_path / "video" / "walks" / "park.avi", 12, (24, 32))
    assert run(tmp_path) == 0
    assert listed(tmp_path) == {}
    text = capsys.readouterr().out
    assert text.splitlines()[-1].endswith("one folder's name per line, such as walks_park")
    (tmp_path / "mine.txt").write_text("walks_park\n")
    assert len(HumanEvaDataset(str(tmp_path), str(tmp_path / "mine.txt"), input_size=2, frame_interval=1)) > 0


def test_frames_without_videos_are_listed(tmp_path):
    make_clip(tmp_path / "image" / "S1_Box_1_(C1)", 5, first=1, digits=7)
    make_clip(tmp_path / "image" / "S3_Box_1_(C1)", 5)
    (tmp_path / "image" / "S3_Box_1_(C1)" / "000002.png").unlink()
    (tmp_path / "image" / ".S2_Box_1_(C1).partial").mkdir()
    assert run(tmp_path) == 2
    assert listed(tmp_path) == {"train": ["S1_Box_1_(C1)"]}


def test_videos_of_one_clip_are_refused(tmp_path):
    make_video(tmp_path / "video" / "S1" / "Box_1_(C1).avi")
    make_video(tmp_path / "video" / "S1" / "Box_1_(C1).mp4")
    with pytest.raises(UserError, match=r"are both clip 'S1_Box_1_\(C1\)'; keep one"):
        run(tmp_path)


def test_nothing_to_do_is_told(tmp_path):
    with pytest.raises(UserError, match=r"holds no videos S1/Box_1_\(C1\).avi, ... of the cameras C1 C2 C3; put them"):
        run(tmp_path)
    with pytest.raises(UserError, match=r"--from '.*none' holds no videos S1/Image_Data"):
        run(tmp_path, "--from", tmp_path / "none")


def test_as_a_program_a_mistake_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["prepare_humaneva.py", "--root", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "scripts" / "prepare_humaneva.py"), run_name="__main__")
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("side", ["0", "-5", "large"])
def test_a_side_has_at_least_one_pixel(tmp_path, capsys, side):
    assert exit_code(script, "--root", tmp_path, f"--max-side={side}") == 2
    assert f"argument --max-side: '{side}' is not a whole number of at least 1" in capsys.readouterr().err


def test_links_whose_files_have_gone_are_replaced(tmp_path):
    make_videos(tmp_path / "before", "Image_Data")
    assert run(tmp_path / "set", "--from", tmp_path / "before") == 0
    shutil.rmtree(tmp_path / "set" / "image")
    (tmp_path / "before").rename(tmp_path / "now")
    assert run(tmp_path / "set", "--from", tmp_path / "now") == 0
    link = tmp_path / "set" / "video" / "S1" / "Box_1_(C1).avi"
    assert link.resolve() == tmp_path / "now" / "S1" / "Image_Data" / "Box_1_(C1).avi"


def test_a_second_preparation_waits_for_the_first(tmp_path, capsys):
    make_videos(tmp_path / "official", "Image_Data")
    with another_preparation(tmp_path / "set"):
        assert exit_code(script, "--root", tmp_path / "set", "--from", tmp_path / "official") == 2
    assert "set is being prepared by process" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
