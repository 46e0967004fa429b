import errno
import multiprocessing
import re
import shutil
import threading
import time

import cv2
import pytest
from tqdm import tqdm
from videos import levels, make_clip, make_video, write_frame

from preparation import extraction
from preparation.extraction import Job, Settings, extract_all, list_entries, write_lists
from vsr.data.lists.clip_lists import ClipEntry, read_clip_list
from vsr.data.sources.frame_files import list_frames, read_frames
from vsr.utils import files
from vsr.utils.errors import UserError


def make_jobs(root, count=3, num_frames=10):
    videos = [make_video(root / "video" / f"clip ({n}).avi", num_frames) for n in range(count)]
    return [Job(video, root / "image" / video.stem) for video in videos]


def times(root):
    return {file: file.stat().st_mtime_ns for file in (root / "image").rglob("*.jpg")}


def test_clips_that_are_there_are_not_extracted_again(tmp_path, capsys):
    jobs = make_jobs(tmp_path)
    assert extract_all(jobs[:2], Settings(threads=2)) == []
    before = times(tmp_path)
    assert len(before) == 20
    assert extract_all(jobs, Settings(threads=2)) == []
    after = times(tmp_path)
    assert len(after) == 30
    assert before.items() <= after.items()
    assert "3 clips, 2 of them extracted before" in capsys.readouterr().out


def test_a_broken_video_is_named_and_the_others_are_extracted(tmp_path, capsys):
    jobs = make_jobs(tmp_path, 4, 30)
    jobs[0].video.write_bytes(b"")
    content = jobs[2].video.read_bytes()
    jobs[2].video.write_bytes(content[: len(content) // 2])
    first, second = extract_all(jobs, Settings(threads=2))
    assert f"video '{jobs[0].video}' cannot be opened: 0 bytes" in first
    assert f"video '{jobs[2].video}' ends after" in second
    assert [job.folder.exists() for job in jobs] == [False, True, False, True]
    output = capsys.readouterr().out
    assert output.count("not extracted: ") == 2
    assert len(extract_all(jobs, Settings(accept_short=True))) == 1
    assert "frames, its header says 30" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    jobs = make_jobs(tmp_path)
    extract_all(jobs, Settings(dry_run=True))
    assert not (tmp_path / "image").exists()
    assert re.search(r"3 videos, 30 frames: about [1-9]\d\.\d kB to write, \d+\.\d GB free", capsys.readouterr().out)


def test_frames_that_would_not_fit_are_not_begun(tmp_path, monkeypatch):
    jobs = make_jobs(tmp_path)
    monkeypatch.setattr(files, "free_bytes", lambda _: 1000)
    with pytest.raises(UserError, match=r"image' needs .* kB, but 1.0 kB are free: make room, .*: --max-side 32 needs"):
        extract_all(jobs, Settings())
    assert not (tmp_path / "image").exists()


def test_an_empty_folder_is_no_finished_clip(tmp_path):
    (job,) = make_jobs(tmp_path, 1)
    job.folder.mkdir(parents=True)
    extract_all([job], Settings())
    assert len(list(job.folder.iterdir())) == 10


def test_a_full_disk_stops_everything(tmp_path, monkeypatch):
    jobs = make_jobs(tmp_path, 6)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", refuse)
    with pytest.raises(OSError, match="No space left on device"):
        extract_all(jobs, Settings(threads=2))
    assert not list((tmp_path / "image").iterdir())


def test_an_interrupt_stops_at_the_next_frame(tmp_path, monkeypatch):
    jobs = make_jobs(tmp_path, 4, 30)

    def interrupt(_):
        time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(extraction, "as_completed", interrupt)
    slow_down(monkeypatch.setattr)
    with pytest.raises(KeyboardInterrupt):
        extract_all(jobs, Settings(threads=2))
    assert not list((tmp_path / "image").iterdir())


def slow_down(setattr):
    encode = extraction.encode_jpeg

    def slow(frame):
        time.sleep(0.01)
        return encode(frame)

    setattr("preparation.extract_clip.encode_jpeg", slow)


def extract_slowly(jobs):
    tqdm.set_lock(threading.RLock())  # the default one is shared with the parent, which would wait for the killed child
    slow_down(pytest.MonkeyPatch().setattr)
    extract_all(jobs, Settings(threads=2))


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.2, 0.35])
def test_a_killed_run_leaves_no_clip_that_looks_finished(tmp_path, delay):
    jobs = make_jobs(tmp_path, 5, 10)
    process = multiprocessing.get_context("fork").Process(target=extract_slowly, args=(jobs,))
    process.start()
    while not (tmp_path / "image").exists() and process.is_alive():
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    process.join()
    for job in jobs:
        assert not job.folder.exists() or len(levels(job.folder)) == 10
    assert extract_all(jobs, Settings(threads=2)) == []
    assert all(len(levels(job.folder)) == 10 for job in jobs)
    assert len(list((tmp_path / "image").iterdir())) == 5


def test_entries_describe_the_frames_that_are_there(tmp_path):
    video = make_video(tmp_path / "video" / "S1" / "Box_1_(C1).avi", 10, (48, 64), fps=30000 / 1001)
    jobs = [
        Job(video, tmp_path / "image" / "S1_Box_1_(C1)"),
        Job(tmp_path / "video" / "none.avi", make_clip(tmp_path / "image" / "S2_Jog_1_(C2)", 5, (24, 32))),
        Job(tmp_path / "video" / "none.avi", tmp_path / "image" / "missing"),
    ]
    extract_all(jobs[:1], Settings(max_side=32))
    entries, failures = list_entries(jobs, tmp_path, 2)
    assert failures == []
    assert entries == [
        ClipEntry(
            *("S1_Box_1_(C1)", "video/S1/Box_1_(C1).avi", "S1", "Box", "1", "C1"),
            num_frames=10, fps=29.97, width=32, height=24,
        ),
        ClipEntry("S2_Jog_1_(C2)", "", "S2", "Jog", "1", "C2", num_frames=5, width=32, height=24),
    ]  # fmt: skip


def test_a_folder_with_frames_that_are_not_right_is_not_listed(tmp_path, capsys):
    jobs = [Job(tmp_path / "x.avi", make_clip(tmp_path / name, 5)) for name in ("gap", "zero", "good")]
    (jobs[0].folder / "000002.png").unlink()
    (jobs[1].folder / "000000.png").write_bytes(b"")
    entries, failures = list_entries(jobs, tmp_path, 2)
    assert [entry.clip for entry in entries] == ["good"]
    assert "lacks frame 000002 of clip 'gap'" in failures[0]
    assert "000000.png' is empty" in failures[1]
    assert capsys.readouterr().out.count("not listed: ") == 2


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "small"])
def test_the_advice_for_a_damaged_clip_can_be_followed(tmp_path, damage):
    (job,) = jobs = make_jobs(tmp_path, 1)
    extract_all(jobs, Settings())
    frame = job.folder / "000004.jpg"
    content = frame.read_bytes()
    if damage == "gone":
        frame.unlink()
    elif damage == "small":
        write_frame(frame, 4, (8, 8))
    else:
        frame.write_bytes(b"" if damage == "empty" else content[:-20])
    assert extract_all(jobs, Settings()) == []  # what is there is left alone
    with pytest.raises(ValueError, match=r"remove (the|its) folder and prepare the clip again"):
        list(read_frames(list_frames(job.folder).files(), (48, 64)))
        raise ValueError(list_entries(jobs, tmp_path, 1)[1])
    shutil.rmtree(job.folder)
    extract_all(jobs, Settings())
    assert len(levels(job.folder)) == 10


def test_lists_that_say_something_else_are_kept(tmp_path, capsys):
    parts = {"train": [ClipEntry("a")], "val": [], "test": [ClipEntry("b")]}
    write_lists(tmp_path, parts)
    assert not (tmp_path / "val_list.csv").exists()
    assert "val_list.csv: no clips for it, not written" in capsys.readouterr().out
    write_lists(tmp_path, parts)
    assert not list(tmp_path.glob("*.old"))
    (tmp_path / "train_list.csv").write_text("mine\n")
    (tmp_path / "val_list.csv").write_text("mine too\n")
    write_lists(tmp_path, parts)
    assert (tmp_path / "train_list.csv.old").read_text() == "mine\n"
    assert (tmp_path / "val_list.csv.old").read_text() == "mine too\n"
    assert not (tmp_path / "val_list.csv").exists()
    assert read_clip_list(tmp_path / "train_list.csv") == [ClipEntry("a")]


def test_no_kept_list_is_ever_overwritten(tmp_path):
    parts = {"train": [ClipEntry("a")], "val": [], "test": []}
    for content in ("first\n", "second\n", "third\n"):
        (tmp_path / "train_list.csv").write_text(content)
        write_lists(tmp_path, parts)
    kept = [(tmp_path / f"train_list.csv.old{number}").read_text() for number in ("", "1", "2")]
    assert kept == ["first\n", "second\n", "third\n"]


def test_a_list_is_kept_before_it_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "train_list.csv").write_text("mine\n")

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for writing in ("write_clip_list", "write_atomically"):
        monkeypatch.setattr(extraction, writing, refuse)
        with pytest.raises(OSError, match="No space left"):
            write_lists(tmp_path, {"train": [ClipEntry("a")], "val": [], "test": []})
        assert (tmp_path / "train_list.csv").read_text() == "mine\n"


def test_a_complete_set_is_not_written_to(tmp_path, monkeypatch):
    parts = {"train": [ClipEntry("a", fps=29.97)], "val": [], "test": [ClipEntry("b")]}
    write_lists(tmp_path, parts)

    def refuse(file, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(file))

    monkeypatch.setattr("preparation.extraction.write_atomically", refuse)
    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    write_lists(tmp_path, parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test_list.csv", "train_list.csv"]


def test_extracted_frames_are_those_of_the_video(tmp_path):
    jobs = make_jobs(tmp_path, 1)
    extract_all(jobs, Settings())
    assert levels(jobs[0].folder) == pytest.approx([8 * number + 20 for number in range(10)], abs=3)
    assert cv2.imread(str(jobs[0].folder / "000009.jpg")).shape == (48, 64, 3)
