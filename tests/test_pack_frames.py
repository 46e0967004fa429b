import contextlib
import itertools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import lmdb
import numpy as np
import pytest
import torch
from load_script import ROOT, another_preparation, exit_code, load_script
from samples import sample_of
from synthetic import make_clips

from preparation import pack_writer as writer
from preparation.pack_writer import PackPlan, partial_path, write_pack
from vsr.data import REDSDataset, SampleKey, TrainSampler
from vsr.data.sources import open_store
from vsr.data.sources.base import IOBackend
from vsr.utils import files

script = load_script("pack_frames")
LMDB = IOBackend("lmdb")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("frames"), num_clips=2, num_frames=6, gt_size=(64, 96))


@pytest.fixture
def copy(clips, tmp_path):
    """A set that a test may damage."""
    root = clips.meta.parent
    shutil.copytree(root, tmp_path / "set")
    return clips._replace(
        **{name: tmp_path / "set" / getattr(clips, name).relative_to(root) for name in ("gt", "lq", "meta")}
    )


def run(*arguments):
    return exit_code(script, *arguments)


def pack(source, target, *arguments):
    assert run("--from", source, "--to", target, *arguments) == 0
    return open_store(target, LMDB)


def all_frames(store):
    return {f"{clip}/{name}": store.read(f"{clip}/{name}") for clip in store.clips() for name in store.frames(clip)}


@pytest.mark.parametrize("form", ["raw", "tiles"])
def test_a_pack_holds_the_pixels_of_its_folder(clips, tmp_path, form):
    packed = all_frames(pack(clips.gt, tmp_path / "gt.lmdb", "--form", form))
    folder = all_frames(open_store(clips.gt))
    assert packed.keys() == folder.keys()
    assert all(np.array_equal(packed[key], folder[key]) for key in folder)
    assert (tmp_path / "gt.lmdb" / "meta_info.txt").read_text().startswith("000/00000000.png (64,96,3) 0\n")
    assert not partial_path(tmp_path / "gt.lmdb").exists()


@pytest.mark.parametrize("form", ["raw", "tiles"])
def test_training_samples_from_packs_are_those_from_folders(clips, tmp_path, form):
    options = {"meta_info_file": clips.meta, "val_partition": "none", "gt_size": 32, "use_hflip": True, "use_rot": True}
    folder = REDSDataset(clips.gt, clips.lq, **options)
    for side in ("gt", "lq"):
        pack(getattr(clips, side), tmp_path / f"{side}.lmdb", "--form", form)
    packed = REDSDataset(tmp_path / "gt.lmdb", tmp_path / "lq.lmdb", io_backend=LMDB, **options)
    for _, key in itertools.islice(TrainSampler(len(folder), 3, seed=4), 40):
        expected, sample = sample_of(folder, *key), sample_of(packed, *key)
        assert sample["key"] == expected["key"]
        assert torch.equal(sample["lq"], expected["lq"])
        assert torch.equal(sample["gt"], expected["gt"])


def test_a_pack_of_an_lmdb_of_pngs(clips, tmp_path):
    with lmdb.open(str(tmp_path / "png.lmdb"), map_size=1 << 24) as database, database.begin(write=True) as transaction:
        for file in clips.gt.rglob("*.png"):
            transaction.put(f"{file.parent.name}/{file.stem}".encode(), file.read_bytes())
    store = pack(tmp_path / "png.lmdb", tmp_path / "gt.lmdb", "--form", "tiles")
    np.testing.assert_array_equal(store.read("001/00000003"), open_store(clips.gt).read("001/00000003"))


def test_a_meta_file_chooses_clips_and_frames(clips, tmp_path, capsys):
    (tmp_path / "meta.txt").write_text("001 2\n")
    store = pack(clips.gt, tmp_path / "gt.lmdb", "--meta", tmp_path / "meta.txt")
    assert store.clips() == ["001"]
    assert store.frames("001") == ["00000000", "00000001"]
    with pytest.raises(FileNotFoundError, match="lacks 6 of the 6 frames of clip '000' that the meta file"):
        REDSDataset(tmp_path / "gt.lmdb", tmp_path / "gt.lmdb", clips.meta, io_backend=LMDB, val_partition="none")
    (tmp_path / "meta.txt").write_text("001 7\n")
    assert run("--from", clips.gt, "--to", tmp_path / "x.lmdb", "--meta", tmp_path / "meta.txt") == 2
    error = capsys.readouterr().err
    assert "clip '001' has 6 frames in" in error
    assert "but the meta file lists 7" in error


def test_a_fourth_column_is_packed_from_as_it_is_trained_on(clips, tmp_path, capsys):
    (tmp_path / "meta.txt").write_text("001 3 (64,96,3) 2\n")
    store = pack(clips.gt, tmp_path / "gt.lmdb", "--meta", tmp_path / "meta.txt")
    assert store.frames("001") == ["00000002", "00000003", "00000004"]
    options = {"io_backend": LMDB, "val_partition": "none", "gt_size": 32, "num_frame": 3}
    lq = pack(clips.lq, tmp_path / "lq.lmdb", "--meta", tmp_path / "meta.txt")
    assert REDSDataset(store.root, lq.root, tmp_path / "meta.txt", **options)[0]["key"] == "001/00000003"
    (tmp_path / "meta.txt").write_text("007 3 (64,96,3) 2\n")
    assert run("--from", clips.gt, "--to", tmp_path / "x.lmdb", "--meta", tmp_path / "meta.txt") == 2
    assert "clip '007' has 0 frames in" in capsys.readouterr().err


def test_no_threads_are_refused_before_anything_is_written(clips, tmp_path, capsys):
    assert run("--from", clips.gt, "--to", tmp_path / "gt.lmdb", "--threads", "0") == 2
    assert "argument --threads: '0' is not a whole number of at least 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_map_grows_as_it_must(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("preparation.pack_writer._FIRST_MAP", 1 << 16)  # less than four frames
    assert len(all_frames(pack(clips.gt, tmp_path / "gt.lmdb"))) == 12


def test_an_existing_pack_is_not_touched(clips, tmp_path, capsys):
    pack(clips.gt, tmp_path / "gt.lmdb")
    before = (tmp_path / "gt.lmdb" / "data.mdb").stat().st_mtime_ns
    assert run("--from", clips.gt, "--to", tmp_path / "gt.lmdb") == 2
    assert "gt.lmdb' exists" in capsys.readouterr().err
    assert (tmp_path / "gt.lmdb" / "data.mdb").stat().st_mtime_ns == before


def test_a_dry_run_writes_nothing(clips, tmp_path, capsys):
    assert run("--from", clips.gt, "--to", tmp_path / "gt.lmdb", "--dry-run") == 0
    assert "12 frames as raw: about 223.6 kB to write, " in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


class Stop(BaseException):
    pass


def plan_of(clips, form="raw"):
    return PackPlan("here", form, 32, [f"{clip}/{frame:08d}" for clip in clips.clips for frame in range(6)])


def test_a_stopped_pack_is_not_readable_and_goes_on_where_it_was(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("preparation.pack_writer._BATCH", 2)
    target = tmp_path / "gt.lmdb"
    store = open_store(clips.gt)
    done = []

    def stop_after_seven(count):
        done.append(count)
        if sum(done) >= 7:
            raise Stop

    with pytest.raises(Stop):
        write_pack(store, target, plan_of(clips), progress=stop_after_seven)
    assert not target.exists()
    message = r"gt\.lmdb' does not exist, but '.*partial' does: run pack_frames\.py again"
    with pytest.raises(FileNotFoundError, match=message):
        open_store(target, LMDB)
    report = write_pack(store, target, plan_of(clips))
    assert (report.written, report.already_there, report.bad) == (4, 8, [])
    assert len(all_frames(open_store(target, LMDB))) == 12


def test_a_stopped_pack_is_not_finished_as_another(clips, tmp_path):
    def stop(_):
        raise Stop

    with pytest.raises(Stop):
        write_pack(open_store(clips.gt), tmp_path / "gt.lmdb", plan_of(clips), progress=stop)
    with pytest.raises(ValueError, match="was begun with other options or from other frames; remove it"):
        write_pack(open_store(clips.gt), tmp_path / "gt.lmdb", plan_of(clips, "tiles"))


def test_bad_frames_stop_a_pack_or_are_left_out_and_counted(copy, tmp_path, capsys):
    bad = copy.gt / "000" / "00000003.png"
    bad.write_bytes(bad.read_bytes()[:200])
    (copy.gt / "001" / "00000002.png").write_bytes(b"")
    target = tmp_path / "gt.lmdb"
    assert run("--from", copy.gt, "--to", target) == 2
    assert "00000003.png is truncated" in capsys.readouterr().err
    assert not target.exists()
    store = pack(copy.gt, target, "--on-bad-frame", "skip")
    output = capsys.readouterr().out
    assert "10 frames packed now, 0 before, 2 left out" in output
    assert "00000002.png is empty" in output
    assert not store.has("000/00000003")
    assert len(all_frames(store)) == 10


def test_mixed_sizes_are_packed_as_they_are_and_refused_by_training(copy, tmp_path):
    cv2.imwrite(str(copy.gt / "000" / "00000003.png"), np.zeros((20, 30, 3), np.uint8))
    store = pack(copy.gt, tmp_path / "gt.lmdb")
    assert store.size("000/00000003") == (20, 30)
    pack(copy.lq, tmp_path / "lq.lmdb")
    roots = tmp_path / "gt.lmdb", tmp_path / "lq.lmdb"
    options = {"io_backend": LMDB, "val_partition": "none", "gt_size": 64, "num_frame": 3}
    dataset = REDSDataset(*roots, copy.meta, **options)
    with pytest.raises(ValueError, match="key 000/00000003 is 20 x 30, not 64 x 96 as the others"):
        for epoch in range(20):
            dataset.read(3, SampleKey(3, epoch))


def test_verify_finds_changed_pixels_on_either_side(copy, tmp_path, capsys):
    pack(copy.gt, tmp_path / "gt.lmdb")
    assert run("--verify", tmp_path / "gt.lmdb", "--from", copy.gt) == 0
    assert "12 frames, 0 wrong" in capsys.readouterr().out
    cv2.imwrite(str(copy.gt / "001" / "00000000.png"), np.zeros((64, 96, 3), np.uint8))
    (copy.gt / "001" / "00000001.png").unlink()
    assert run("--verify", tmp_path / "gt.lmdb", "--from", copy.gt) == 1
    output = capsys.readouterr().out
    assert "'001/00000000' is not" in output
    assert "00000001.png' does not exist" in output
    assert "12 frames, 2 wrong" in output


def test_verify_finds_damage_without_the_frames(clips, tmp_path, capsys):
    pack(clips.gt, tmp_path / "gt.lmdb")
    shutil.copytree(tmp_path / "gt.lmdb", tmp_path / "damaged.lmdb")
    data = bytearray((tmp_path / "damaged.lmdb" / "data.mdb").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "damaged.lmdb" / "data.mdb").write_bytes(data)
    assert run("--verify", tmp_path / "damaged.lmdb") == 1
    assert "is damaged: its pixels differ from the packed ones" in capsys.readouterr().out


def test_space_is_checked_first(clips, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(files, "free_bytes", lambda _: 1000)
    assert run("--from", clips.gt, "--to", tmp_path / "gt.lmdb") == 2
    assert "1.0 kB are free: --form tiles needs about half" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [".gt.lmdb.lock"]


COMMAND = [sys.executable, str(ROOT / "scripts" / "pack_frames.py")]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on file sizes")
def test_a_disk_that_fills_up_loses_nothing(clips, tmp_path):
    """A limit on the size of files stands in for the full disk."""
    target = tmp_path / "gt.lmdb"
    limited = (
        "import os, resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); sys.argv = sys.argv[1:]; "
        "sys.path.append(os.path.dirname(sys.argv[0])); import preparation.pack_writer as writer; writer._BATCH = 2; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    arguments = [COMMAND[1], "--from", str(clips.gt), "--to", str(target)]
    result = subprocess.run([sys.executable, "-c", limited, *arguments], capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert "cannot write to" in result.stderr
    assert "Traceback" not in result.stderr
    assert not target.exists()
    assert len(all_frames(pack(clips.gt, target))) == 12


def pack_in_small_batches(options, log):
    with open(log, "w") as stream, contextlib.redirect_stdout(stream):
        writer._BATCH = 4
        sys.exit(run(*options))


def test_a_pack_killed_at_any_moment_goes_on_and_never_looks_finished(tmp_path):
    clips = make_clips(tmp_path / "set", num_clips=1, num_frames=300, gt_size=(60, 80))
    target, log = tmp_path / "gt.lmdb", tmp_path / "log"
    options = ["--from", str(clips.gt), "--to", str(target), "--form", "tiles"]
    kills, sizes = 0, []
    for delay in itertools.chain((0.03, 0.01, 0.05, 0.0, 0.02), itertools.repeat(60)):
        process = multiprocessing.get_context("fork").Process(target=pack_in_small_batches, args=(options, log))
        process.start()
        # Wait until it packs, not only imports; the folder exists from the second run on.
        data = partial_path(target) / "data.mdb"
        known = data.stat().st_size if data.exists() else 0
        while process.is_alive() and (not data.exists() or data.stat().st_size <= known):
            time.sleep(0.002)
        process.join(delay)
        if not process.is_alive():
            assert process.exitcode == 0
            break
        process.kill()
        process.join()
        if target.exists():  # the signal came after the last write: then it is finished, as is checked below
            break
        kills += 1
        sizes.append(data.stat().st_size)
    assert kills >= 3
    assert sizes == sorted(sizes)
    assert " 0 before" not in log.read_text()  # it went on
    assert not partial_path(target).exists()
    store = open_store(target, LMDB)
    assert len(store.frames("000")) == 300
    assert run("--verify", target, "--from", clips.gt) == 0


def test_a_read_only_pack_is_read(clips, tmp_path):
    pack(clips.gt, tmp_path / "gt.lmdb")
    for file in (tmp_path / "gt.lmdb").iterdir():
        os.chmod(file, 0o444)
    os.chmod(tmp_path / "gt.lmdb", 0o555)
    try:
        assert open_store(tmp_path / "gt.lmdb", LMDB).read("000/00000000").shape == (64, 96, 3)
    finally:
        os.chmod(tmp_path / "gt.lmdb", 0o755)


def test_what_is_no_set_of_frames_is_named(tmp_path, capsys):
    assert run("--from", tmp_path / "none", "--to", tmp_path / "gt.lmdb") == 2
    assert "none' does not exist" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run("--from", tmp_path / "empty", "--to", tmp_path / "gt.lmdb") == 2
    assert "holds no frames, and no folders of frames" in capsys.readouterr().err
    assert run("--verify", tmp_path / "empty") == 2
    assert "empty' is not an LMDB (it holds no data.mdb); name what --to has made" in capsys.readouterr().err


def test_a_second_preparation_waits_for_the_first(clips, tmp_path, capsys):
    with another_preparation(tmp_path / "gt.lmdb"):
        assert run("--from", clips.gt, "--to", tmp_path / "gt.lmdb") == 2
    assert "gt.lmdb is being prepared by process" in capsys.readouterr().err
    assert not partial_path(tmp_path / "gt.lmdb").exists()


def test_verify_counts_the_frames_that_a_pack_lacks(copy, tmp_path, capsys):
    pack(copy.gt, tmp_path / "gt.lmdb")
    shutil.copytree(copy.gt / "000", copy.gt / "002")
    assert run("--verify", tmp_path / "gt.lmdb", "--from", copy.gt) == 1
    output = capsys.readouterr().out
    assert "gt.lmdb' lacks 6 frames of" in output
    assert "002/00000000, 002/00000001, 002/00000002 …; for a pack of a part give its --meta, too" in output
    assert "12 frames, 0 wrong, 6 lacking" in output
    assert run("--verify", tmp_path / "gt.lmdb", "--from", copy.gt, "--meta", copy.meta) == 0
