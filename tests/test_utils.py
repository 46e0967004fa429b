"""Helpers: atomic writes, clean exits, stop signals, the state of random generators."""

import errno
import logging
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from vsr.engine import loop
from vsr.evaluation.draw.images import write_image
from vsr.ops.backend import BackendError
from vsr.utils import distributed, rng
from vsr.utils.distributed import connect, take_place
from vsr.utils.errors import UserError, exit_cleanly, tell
from vsr.utils.files import remove_unfinished, size_text, write_atomically, write_text_atomically
from vsr.utils.log import counted, start_log
from vsr.utils.signals import StopSignals


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    file = tmp_path / "state"
    write_text_atomically(file, "old")

    def fail(stream):
        stream.write(b"half of the ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, fail)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0.0 kB"),
        (730, "0.7 kB"),
        (45_600, "45.6 kB"),
        (1_000_000, "1.0 MB"),
        (12.34e9, "12.3 GB"),
        (5e12, "5000.0 GB"),
    ],
)
def test_small_sizes_are_told_in_small_units(num_bytes, text):
    assert size_text(num_bytes) == text


def test_two_writers_of_one_process_id_do_not_share_a_temporary_file(tmp_path, monkeypatch):
    """Containers on one shared folder all run as process 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    file = tmp_path / "state"

    def write(stream):
        stream.write(b"half of the first, ")
        stream.flush()
        write_text_atomically(file, "second")
        stream.write(b"and the other half")

    write_atomically(file, write)
    assert file.read_text() == "half of the first, and the other half"


def test_a_write_that_is_killed_leaves_the_old_file(tmp_path):
    file = tmp_path / "state"
    write_text_atomically(file, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from vsr.utils.files import write_atomically\n"
        "def half(stream): stream.write(b'half'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[1]), half)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(file)], check=False).returncode == -signal.SIGKILL
    assert file.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("mend this"), 2, "error: mend this\n"),
        (OSError(errno.ENOSPC, "No space left on device", "log"), 2, "log: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "experiments"), 2, "experiments: Permission denied"),
        (FileExistsError(errno.EEXIST, "File exists", "experiments"), 2, "experiments: something else has this name"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "log"), 2, "log: a file stands where a folder is needed"),
        (OSError(errno.EFBIG, "File too large", "pack"), 2, "pack: larger than this file system, or `ulimit -f`,"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "log"), 2, "log: a folder stands where a file is needed"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "aaa"), 2, "aaa: the name is too long"),
        (BackendError("VSR_OPS=foo: expected one of …"), 2, "error: VSR_OPS=foo"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), 2, "lower num_worker_per_gpu"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_what_a_user_can_mend_ends_in_one_message(capsys, error, code, message):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        exit_cleanly(main)
    assert caught.value.code == code
    assert message in capsys.readouterr().err


def test_our_own_mistakes_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        exit_cleanly(lambda: 1 // 0)
    with pytest.raises(FileNotFoundError):
        exit_cleanly(lambda: os.stat("/nonexistent"))


@pytest.mark.parametrize("limit", [0, 4096, 9000])
def test_an_image_that_does_not_fit_on_the_disk_is_an_error_and_no_file(tmp_path, limit):
    """Some of these remain in a buffer until the file is closed."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)  # 11 KB
    former, (_, hard) = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_image(tmp_path / "frame.png", noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, former)
    assert not list(tmp_path.iterdir())


LOGS = """
import sys; from pathlib import Path; from vsr.utils.errors import exit_cleanly; from vsr.utils.log import *
def main():
    start_log(Path(sys.argv[1]))
    for number in tqdm(range(3000), mininterval=0):
        logger.info("%d × %s", number, "a" * 100)
exit_cleanly(main)
"""


@pytest.mark.parametrize(
    "terminal", ["2>&1 | head -c 99", ">&- 2>&-", ">/dev/full 2>&1", "| PYTHONIOENCODING=ascii head -3"]
)
def test_a_lost_terminal_stops_neither_the_program_nor_its_file(tmp_path, terminal):
    script, log = tmp_path / "logs.py", tmp_path / "log"
    script.write_text(LOGS)
    command = f"PYTHONIOENCODING=ascii {sys.executable} {script} {log} {terminal}; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert run.returncode == 0
    assert "Error" not in run.stderr
    assert len(log.read_text().splitlines()) == 3000


def test_a_log_file_that_cannot_be_written_is_told(tmp_path):
    script = tmp_path / "logs.py"
    script.write_text(LOGS)
    run = subprocess.run([sys.executable, script, "/dev/full"], capture_output=True, text=True, check=False)
    assert "No space left on device" in run.stderr


@pytest.mark.parametrize("entry", ["train", "env"])
def test_ctrl_c_while_importing_is_quiet(entry):
    process = subprocess.Popen(
        [sys.executable, "-m", f"vsr.{entry}"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # which shells ignore in the background
    )
    while process.poll() is None and "torch" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == -signal.SIGINT


def test_the_first_signal_is_a_request_and_a_second_ctrl_c_interrupts():
    former = signal.getsignal(signal.SIGINT)
    with StopSignals() as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop and stop.received is signal.SIGUSR1
        os.kill(os.getpid(), signal.SIGTERM)  # a launcher's; saving goes on
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is former


def test_speed_is_of_the_steps_since_the_start(monkeypatch):
    now = iter(range(1000))  # every look at the clock is a second later
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(now)))
    measured = loop.Clock()
    items = iter(range(10))
    assert [measured.wait_for(items) for _ in range(3)] == [0, 1, 2]
    assert measured.speed_and_wait() == (3 / 7, 3 / 7)  # 3 × 2 looks and this one
    measured.wait_for(items)
    measured.start()
    assert [measured.wait_for(items) for _ in range(4)] == [4, 5, 6, 7]
    assert measured.speed_and_wait() == (4 / 9, 4 / 9)


def test_generators_go_on_from_a_saved_state(tmp_path):
    rng.seed(3)
    device = torch.device("cpu")
    torch.save(rng.get_state(device), tmp_path / "state")
    first = random.random(), np.random.rand(), torch.rand(1).item()
    rng.set_state(torch.load(tmp_path / "state", weights_only=True), device)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first


def test_a_meeting_point_that_is_taken_has_a_remedy(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, value)
        with (
            pytest.raises(UserError, match=rf"dist_params\.port, .* chooses another port\. PyTorch: .*{port}"),
            take_place(0),
        ):
            pass


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE is 'abc'; expected a whole number, at least 1: .* unset them"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is ''"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK is '-1'; expected a whole number, at least 0"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 and WORLD_SIZE 2"),
    ],
)
def test_a_launcher_that_makes_no_sense_is_told(monkeypatch, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message), take_place(0):
        pass


def test_waiting_for_other_processes_is_told(monkeypatch, caplog):
    for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29501"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logging.getLogger("vsr"), "propagate", True)
    monkeypatch.setattr(distributed, "connect", lambda *arguments: None)
    monkeypatch.setattr(distributed, "_leave_together", lambda: None)
    with take_place(0):
        assert "waiting for 1 other process(es) at 127.0.0.1:29501" in caplog.text


def test_two_processes_on_one_gpu_have_a_remedy(monkeypatch):
    """Nccl is bound to its GPU, without which it guesses."""

    def refuse(backend, *, device_id, **kwargs):
        assert (backend, device_id) == ("nccl", torch.device("cuda", 0))
        raise torch.distributed.DistBackendError(
            "NCCL error in: …: Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1b000"
        )

    monkeypatch.setattr(torch.distributed, "init_process_group", refuse)
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(UserError, match=r"each GPU takes one process .* Duplicate GPU detected"):
        connect(torch.device("cuda", 0), None, rank=1, world_size=2)


def test_the_last_message_is_in_the_log_too(tmp_path, capsys):
    start_log(tmp_path / "train.log")
    tell(UserError("the disk is full"))
    assert (tmp_path / "train.log").read_text().endswith("error: the disk is full\n")
    assert capsys.readouterr() == ("", "error: the disk is full\n")


def test_one_has_no_plural():
    assert [counted(number, "clip") for number in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]
