"""The lock of a folder: one owner, released when it dies, whatever it forked."""

import errno
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from vsr.utils.errors import UserError
from vsr.utils.locks import sole_use

OWNER_WITH_A_WORKER = """
import multiprocessing, os, pathlib, sys, time
from vsr.utils.locks import sole_use
def work():
    print(os.getpid(), flush=True)  # what a fork closes is closed by now
    time.sleep(60)
with sole_use(pathlib.Path(sys.argv[1])):
    multiprocessing.get_context("fork").Process(target=work).start()
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_free_although_its_forked_worker_lives(tmp_path):
    command = [sys.executable, "-c", OWNER_WITH_A_WORKER, str(tmp_path / "set")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        worker = int(owner.stdout.readline())
        try:
            with (
                pytest.raises(UserError, match=rf"set is in use by process {owner.pid} on "),
                sole_use(tmp_path / "set"),
            ):
                pass
            owner.kill()
            owner.wait()
            assert Path(f"/proc/{worker}").exists()
            with sole_use(tmp_path / "set"):
                pass
        finally:
            os.kill(worker, signal.SIGKILL)


def test_one_folder_under_two_paths_has_one_lock(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "link").symlink_to("set")
    with sole_use(tmp_path / "set"), pytest.raises(UserError, match="link is in use by"), sole_use(tmp_path / "link"):
        pass


def hold(folder, has_lock, may_go):
    with sole_use(folder):
        has_lock.set()
        may_go.wait(60)


def test_a_process_that_waits_gets_the_lock_when_it_is_released(tmp_path):
    context = multiprocessing.get_context("fork")
    has_lock, may_go = context.Event(), context.Event()
    owner = context.Process(target=hold, args=(tmp_path / "set", has_lock, may_go))
    owner.start()
    assert has_lock.wait(60)
    may_go.set()
    with sole_use(tmp_path / "set", wait=True):
        pass
    owner.join()
    assert owner.exitcode == 0


def test_an_error_inside_releases_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), sole_use(tmp_path / "set"):
        1 / 0  # noqa: B018
    with sole_use(tmp_path / "set"):
        pass


def test_on_other_ranks_nothing_is_locked(tmp_path):
    with sole_use(tmp_path / "set"), sole_use(tmp_path / "set", active=False):
        pass


def test_where_nothing_can_be_written_no_lock_is_needed(tmp_path, monkeypatch, caplog):
    def refuse(*_args, **_kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    monkeypatch.setattr(logging.getLogger("vsr"), "propagate", True)
    with sole_use(tmp_path / "set"):
        assert "set cannot be locked (Read-only file system): make sure no other process works there" in caplog.text


def test_a_folder_in_one_that_cannot_be_written_is_locked_from_within(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with sole_use(tmp_path / "set"):
        assert (tmp_path / "set" / ".set.lock").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
