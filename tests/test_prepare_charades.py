import csv
import os

import pytest
from load_script import another_preparation, exit_code, load_script
from videos import make_clip, make_video

from vsr.data import CharadesDataset
from vsr.data.lists.clip_lists import read_clip_list
from vsr.utils.errors import UserError

script = load_script("prepare_charades")
COLUMNS = (
    *("id", "subject", "scene", "quality", "relevance", "verified"),
    *("script", "objects", "descriptions", "actions", "length"),
)


def write_annotations(folder, part, rows):
    """Writes an official CSV; ``rows`` are ID, subject, actions."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"Charades_v1_{part}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for clip, subject, actions in rows:
            text = {"script": 'A person says "no",\nand sits.', "objects": "chair;table", "length": "30.5"}
            writer.writerow({"id": clip, "subject": subject, "actions": actions, **text})


def run(root, *arguments):
    return script.main(["--root", str(root), "--threads", "2", *map(str, arguments)])


def lists(root):
    files = {name: root / f"{name}_list.csv" for name in ("train", "val", "test")}
    return {name: read_clip_list(file) for name, file in files.items() if file.exists()}


def a_validating_subject():
    return next(f"P{n}" for n in range(999) if script.hash_of(f"P{n}") % 20 == 0)


def a_training_subject():
    return next(f"P{n}" for n in range(999) if script.hash_of(f"P{n}") % 20)


@pytest.mark.parametrize("folder", [".", "Charades"])
def test_official_lists_are_followed_and_validation_has_people_of_its_own(tmp_path, folder, capsys):
    for clip in ("0A8CF", "46GP8", "N11GT", "ZZZZZ"):
        make_video(tmp_path / "Charades_v1_480" / f"{clip}.mp4", 12, fps=30)
    trains, validates = a_training_subject(), a_validating_subject()
    rows = [("0A8CF", trains, "c092 11.90 21.20;c147 0.00 12.60"), ("46GP8", validates, ""), ("ABSNT", trains, "")]
    write_annotations(tmp_path / folder, "train", rows)
    write_annotations(tmp_path / folder, "test", [("N11GT", validates, "c001 1 2")])
    assert run(tmp_path) == 0
    found = lists(tmp_path)
    assert {name: [entry.clip for entry in entries] for name, entries in found.items()} == {
        "train": ["0A8CF"], "val": ["46GP8"], "test": ["N11GT"]
    }  # fmt: skip
    assert found["train"][0][1:5] == ("Charades_v1_480/0A8CF.mp4", trains, "c147", "")
    assert found["train"][0][6:] == (0, None, 12, 30, 64, 48)
    output = capsys.readouterr().out
    assert "official lists: 4 videos, 1 of them not here" in output
    assert "4 clips extracted, 1 of them in no list" in output
    sample = CharadesDataset(str(tmp_path), str(tmp_path / "train_list.csv"), frame_interval=1)[0]
    assert (sample["key"], sample["action"], sample["camera"]) == ("0A8CF/000010", "c147", "")


def test_without_official_lists_the_split_is_by_hash_and_announced(tmp_path, capsys):
    clips = [f"C{number:04d}" for number in range(60)]
    for clip in clips:
        make_clip(tmp_path / "Charades_v1_480_img" / clip, 1, (4, 4))
    assert run(tmp_path) == 0
    assert "no Charades_v1_train.csv and Charades_v1_test.csv: 8 of 10 videos train" in capsys.readouterr().out
    found = {name: {entry.clip for entry in entries} for name, entries in lists(tmp_path).items()}
    assert set.union(*found.values()) == set(clips)
    assert sum(map(len, found.values())) == 60
    assert len(found["train"]) > 35 and found["val"] and found["test"]
    make_clip(tmp_path / "Charades_v1_480_img" / "D0001", 1, (4, 4))  # one more moves none of the others
    run(tmp_path)
    assert all(found[name] <= {entry.clip for entry in entries} for name, entries in lists(tmp_path).items())


def test_official_frames_are_listed_where_there_are_no_videos(tmp_path):
    make_clip(tmp_path / "Charades_v1_rgb" / "0A8CF", 12, first=1, prefix="0A8CF-")
    assert run(tmp_path) == 0
    ((entry,),) = lists(tmp_path).values()
    assert entry[:6] == ("0A8CF", "", "", "", "", "")
    assert entry.num_frames == 12


def test_annotations_may_lie_elsewhere(tmp_path):
    make_clip(tmp_path / "root" / "Charades_v1_480_img" / "0A8CF", 2)
    write_annotations(tmp_path / "csv", "train", [("0A8CF", a_training_subject(), "")])
    write_annotations(tmp_path / "csv", "test", [("N11GT", "", "")])
    assert run(tmp_path / "root", "--annotations", tmp_path / "csv") == 0
    assert list(lists(tmp_path / "root")) == ["train"]


def test_a_dry_run_writes_nothing_and_smaller_frames_are_smaller(tmp_path):
    make_video(tmp_path / "Charades_v1_480" / "0A8CF.mp4", 3, (48, 64))
    assert run(tmp_path, "--dry-run") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["Charades_v1_480"]
    assert run(tmp_path, "--max-side", "32") == 0
    ((entry,),) = lists(tmp_path).values()
    assert (entry.width, entry.height) == (32, 24)


@pytest.mark.parametrize(
    ("actions", "longest"),
    [("", ""), (" ; ", ""), ("c092 11.90 21.20;c147 0.00 12.60", "c147"), ("c001 0 5;c002 5 10", "c001")],
)
def test_a_video_has_the_action_that_goes_on_longest(actions, longest):
    assert script.longest_action(actions) == longest


def test_wrong_annotations_are_named(tmp_path):
    make_clip(tmp_path / "Charades_v1_480_img" / "0A8CF", 2)
    write_annotations(tmp_path, "train", [("0A8CF", "P1", "c092 1 2")])
    with pytest.raises(UserError, match=r"Charades_v1_test.csv' is missing, but the other official CSV is there"):
        run(tmp_path)
    write_annotations(tmp_path, "test", [("0A8CF", "P1", "")])
    with pytest.raises(UserError, match=r"Charades_v1_test.csv', line \d+: video '0A8CF' is in the CSVs twice"):
        run(tmp_path)
    (tmp_path / "Charades_v1_test.csv").write_text("video,person\nx,y\n")
    with pytest.raises(UserError, match="has no columns id, subject and actions: not the official CSV"):
        run(tmp_path)
    write_annotations(tmp_path, "test", [("N11GT", "P1", "c092 one two")])
    with pytest.raises(UserError, match="'c092 one two' in the official CSV is no list of actions"):
        run(tmp_path)


def test_nothing_to_do_is_told(tmp_path):
    with pytest.raises(UserError, match=r"holds neither Charades_v1_480/0A8CF.mp4, ... nor Charades_v1_rgb/0A8CF/"):
        run(tmp_path)


def test_a_broken_video_is_exit_code_2(tmp_path):
    make_video(tmp_path / "Charades_v1_480" / "0A8CF.mp4", 3)
    (tmp_path / "Charades_v1_480" / "0A8ZT.mp4").write_bytes(b"")
    assert run(tmp_path) == 2
    assert sum(map(len, lists(tmp_path).values())) == 1


def test_a_folder_of_annotations_that_is_named_is_there(tmp_path, capsys):
    make_clip(tmp_path / "Charades_v1_480_img" / "0A8CF", 2)
    assert exit_code(script, "--root", tmp_path, "--annotations", tmp_path / "none") == 2
    assert "argument --annotations: there is no folder" in capsys.readouterr().err
    assert exit_code(script, "--root", tmp_path, "--annotations", tmp_path) == 2
    assert "holds no Charades_v1_train.csv and Charades_v1_test.csv" in capsys.readouterr().err


@pytest.mark.parametrize(("before", "after"), [([], ["--max-side", "16"]), (["--max-side", "16"], [])])
def test_another_size_than_that_of_the_clips_that_are_there_is_refused(tmp_path, before, after):
    make_video(tmp_path / "Charades_v1_480" / "0A8CF.mp4", 3)
    assert run(tmp_path, *before) == 0
    assert run(tmp_path, *before) == 0
    make_video(tmp_path / "Charades_v1_480" / "0A8ZT.mp4", 3)
    sides = (16, 64) if before else (64, 16)
    with pytest.raises(UserError, match=r"0A8CF' is {} pixels, now it would be {}: give the --max-side".format(*sides)):
        run(tmp_path, *after)
    assert not (tmp_path / "Charades_v1_480_img" / "0A8ZT").exists()


def test_two_preparations_at_once_do_not_touch_each_other_s_frames(tmp_path, capsys):
    make_video(tmp_path / "Charades_v1_480" / "0A8CF.mp4")
    begun = tmp_path / "Charades_v1_480_img" / ".0A8CF.partial"
    with another_preparation(tmp_path) as other:
        begun.mkdir(parents=True)
        assert exit_code(script, "--root", tmp_path) == 2
        assert f"{tmp_path} is being prepared by process {other.pid} on " in capsys.readouterr().err
        assert begun.is_dir()
        assert exit_code(script, "--root", tmp_path, "--dry-run") == 0
    assert run(tmp_path) == 0  # the lock died with its owner
    assert not begun.exists()


@pytest.mark.parametrize("content", ["Größe".encode("latin-1"), b"0A8CF," + b"x" * 200_000 + b",\n"])
def test_a_damaged_official_csv_is_told(tmp_path, capsys, content):
    make_clip(tmp_path / "Charades_v1_480_img" / "0A8CF", 2)
    write_annotations(tmp_path, "test", [])
    (tmp_path / "Charades_v1_train.csv").write_bytes(b"id,subject,actions\n" + content)
    assert exit_code(script, "--root", tmp_path) == 2
    assert "Charades_v1_train.csv' is damaged, or no CSV in UTF-8 (" in capsys.readouterr().err


def test_two_videos_of_one_clip_are_refused(tmp_path, capsys):
    for suffix in (".avi", ".mp4"):
        make_video(tmp_path / "Charades_v1_480" / f"0A8ZT{suffix}", 2)
    assert exit_code(script, "--root", tmp_path) == 2
    assert "0A8ZT.avi' and '" in (message := capsys.readouterr().err)
    assert "0A8ZT.mp4' are both clip '0A8ZT'; keep one" in message


@pytest.mark.parametrize("name", [b"bad\xff", b" lead", b"trail "])
def test_a_name_that_no_list_can_hold_is_refused(tmp_path, capsys, name):
    clip = os.fsdecode(name)
    good = make_video(tmp_path / "Charades_v1_480" / "0A8ZT.mp4", 3)
    (good.parent / f"{clip}.mp4").write_bytes(good.read_bytes())
    assert run(tmp_path) == 2
    assert [entry.clip for entries in lists(tmp_path).values() for entry in entries] == ["0A8ZT"]
    assert not (tmp_path / "Charades_v1_480_img" / clip).exists()
    assert "rename" in capsys.readouterr().out
    make_clip(tmp_path / "Charades_v1_480_img" / clip, 2)  # extracted by something else
    assert run(tmp_path) == 2
    assert "not listed: clip" in capsys.readouterr().out


def test_lists_that_few_videos_leave_empty_are_told(tmp_path, capsys):
    make_clip(tmp_path / "Charades_v1_480_img" / "0A8CF", 2)
    assert run(tmp_path) == 0
    (filled,) = lists(tmp_path)
    empty = ", ".join(f"{name}_list.csv" for name in ("train", "val", "test") if name != filled)
    assert f"note: so few videos leave nothing for {empty}: add videos or the official CSVs" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["y4m", "film"])
def test_videos_are_found_whatever_their_suffix(tmp_path, suffix):
    folder = tmp_path / "Charades_v1_480"
    video = make_video(folder / "0A8CF.avi", 3)
    video.rename(folder / f"0A8CF.{suffix}")
    (folder / "notes.txt").write_text("no video")
    assert [job.video.name for job in script.find_jobs(tmp_path)] == [f"0A8CF.{suffix}"]
