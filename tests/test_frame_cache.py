import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
from videos import make_clip, number_of, write_frame

from vsr.data.sources import frame_cache, frame_files
from vsr.data.sources.frame_cache import FrameCache
from vsr.data.sources.frame_files import list_frames
from vsr.utils import files as files_module

CLIPS = ("S1_Box_1_(C1)", "nested/[x]*")
SIZE = (6, 8)


@pytest.fixture
def root(tmp_path):
    for clip in CLIPS:
        make_clip(tmp_path / "image" / clip, 20)
    return tmp_path


def open_cache(root, size=SIZE):
    folders = {clip: root / "image" / clip for clip in CLIPS}
    return FrameCache(root / "cache", size, {c: list_frames(f) for c, f in folders.items()})


def numbers(frames):
    return [number_of(frame.transpose(2, 0, 1)) for frame in frames]


def files(root):
    return {file: file.stat().st_mtime_ns for file in (root / "cache").rglob("*.npy")}


def test_frames_are_those_of_the_clip(root):
    cache = open_cache(root)
    frames = cache.read(CLIPS[0], [3, 0, 19])
    assert frames.shape == (3, *SIZE, 3)
    assert frames.dtype == np.uint8
    assert numbers(frames) == [3, 0, 19]
    assert numbers(cache.read(CLIPS[1], range(20))) == list(range(20))


def test_one_raw_file_per_clip_and_size(root):
    open_cache(root).read(CLIPS[0], [0])
    open_cache(root, (4, 4)).read(CLIPS[0], [0])
    found = files(root)
    assert len(found) == 4
    assert {file.stat().st_size for file in found} == {128 + 20 * 6 * 8 * 3, 128 + 20 * 4 * 4 * 3}
    assert not list((root / "cache").rglob("*.tmp"))


def test_what_is_there_is_not_written_again(root):
    open_cache(root).read(CLIPS[0], [0])
    before = files(root)
    open_cache(root).read(CLIPS[1], [0])
    assert files(root) == before


def test_opening_writes_nothing(root):
    open_cache(root)
    assert not (root / "cache").exists()


@pytest.mark.parametrize("change", ["pixels", "added", "renamed"])
def test_a_clip_whose_files_change_is_written_again(root, change):
    open_cache(root).read(CLIPS[0], [0])
    folder, before = root / "image" / CLIPS[0], files(root)
    time.sleep(0.02)
    if change == "pixels":
        write_frame(folder / "000003.png", 77)  # as many bytes, in place: nothing but the time tells
    elif change == "added":
        write_frame(folder / "000020.png", 20)
    else:
        (folder / "000000.png").rename(folder / "0.png")
    assert numbers(open_cache(root).read(CLIPS[0], [3, -1])) == {
        "pixels": [77, 19], "added": [3, 20], "renamed": [3, 19]
    }[change]  # fmt: skip
    assert len(files(root)) == 2  # the old file is gone, the other clip's was left alone
    assert len(files(root).items() & before.items()) == 1


def damage(content, how):
    return {"empty": b"", "cut": content[:-1], "header": content[:40], "text": b"x" * len(content)}[how]


@pytest.mark.parametrize("how", ["empty", "cut", "header", "text"])
def test_a_damaged_file_is_written_again(root, how):
    open_cache(root).read(CLIPS[0], [0])
    frame_cache._map.cache_clear()
    file = next(file for file in files(root) if file.name.startswith("S1_Box"))
    file.write_bytes(damage(file.read_bytes(), how))
    assert numbers(open_cache(root).read(CLIPS[0], [7])) == [7]


def test_pickled_objects_are_no_arrays(root):
    (root / "cache").mkdir()
    cache = open_cache(root)
    np.save(cache._path(CLIPS[0]), np.array([{"a": 1}], dtype=object))
    assert numbers(cache.read(CLIPS[0], [7])) == [7]


def test_a_frame_that_cannot_be_read_is_named_and_leaves_no_file(root):
    (root / "image" / CLIPS[0] / "000004.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"000004.png' is empty"):
        open_cache(root).read(CLIPS[0], [0])
    assert not files(root)
    assert not list((root / "cache").rglob("*.tmp"))


def test_a_disk_too_small_is_told_before_anything_is_written(root, monkeypatch):
    monkeypatch.setattr(files_module, "free_bytes", lambda _: 5000)
    with pytest.raises(ValueError, match=r"cache' needs 5.8 kB, but 5.0 kB are free: name another folder, or"):
        open_cache(root).read(CLIPS[0], [0])  # 2 * 20 frames of 144 bytes
    assert not files(root)


def test_a_folder_that_cannot_be_made_is_named_with_its_option(root):
    cache = open_cache(root)
    cache.folder = Path("/proc/cache")
    with pytest.raises(ValueError, match=r"frame_cache '/proc/cache' cannot be written: No such file.*; name another"):
        cache.read(CLIPS[0], [0])


def test_frames_of_two_sizes_are_refused(root):
    write_frame(root / "image" / CLIPS[0] / "000004.png", 4, (32, 24))
    with pytest.raises(ValueError, match=r"000004.png' is 32 x 24, but '000000.png' of the same clip is 24 x 32"):
        open_cache(root).read(CLIPS[0], [0])


def read_in_process(root, queue):
    writes = []
    write = FrameCache._write
    FrameCache._write = lambda *arguments: (writes.append(1), write(*arguments))
    frames = open_cache(root).read(CLIPS[0], range(20))
    queue.put((len(writes), numbers(frames)))


def test_of_several_processes_one_writes(root):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=read_in_process, args=(root, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sum(count for count, _ in results) == len(CLIPS)
    assert all(found == list(range(20)) for _, found in results)


def read_slowly(root, started):
    read = frame_files._read

    def slow(*arguments, **options):
        started.set()
        time.sleep(0.02)
        return read(*arguments, **options)

    frame_files._read = slow
    open_cache(root).read(CLIPS[0], [0])


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2, 0.3])
def test_a_killed_writer_leaves_no_half_clip(root, delay):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=read_slowly, args=(root, started))
    process.start()
    started.wait(timeout=60)
    time.sleep(delay)
    process.kill()
    process.join()
    assert all(len(np.load(file)) == 20 for file in files(root))
    cache = open_cache(root)  # the lock died with its holder
    assert all(numbers(cache.read(clip, range(20))) == list(range(20)) for clip in CLIPS)
    assert len(files(root)) == 2
    assert not list((root / "cache").rglob("*.tmp"))


def test_the_remains_of_a_killed_writer_are_removed(root):
    (root / "cache").mkdir()
    (root / "cache" / f".{CLIPS[0]}.8x6.0123456789abcdef.npy.999.tmp").write_bytes(b"half")
    open_cache(root).read(CLIPS[0], [0])
    assert not list((root / "cache").rglob("*.tmp"))
