"""Entry points in processes of their own, forked from one that has imported PyTorch: 0.1 s to start instead of 3 s.

What is decided at import, such as ``VSR_OPS``, needs a real ``python -m``.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch

# Processes that inherit nothing of this one, as spawned ones do; a fork would lack its threads.
fresh = multiprocessing.get_context("forkserver")
fresh.set_forkserver_preload(["pytest", "torch._dynamo", "vsr.train", "vsr.test", "vsr.tables", "vsr.costs"])
_default_hangup = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # where nohup runs the tests


class Forked:
    """A forked process, with what tests use of ``subprocess.Popen``."""

    def __init__(self, folder: Path, entry: str, arguments: list[str], environment: dict[str, str]) -> None:
        reader, writer = fresh.Pipe(duplex=False)
        self._process = fresh.Process(target=_run, args=(str(folder), entry, arguments, environment, writer))
        self._process.start()
        writer.close()
        self.pid = self._process.pid
        self.stdout = os.fdopen(os.dup(reader.fileno()))
        reader.close()

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def send_signal(self, number):
        with suppress(ProcessLookupError):  # it has ended, as with subprocess.Popen
            os.kill(self.pid, number)

    def wait(self, timeout):
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return self.returncode

    def communicate(self, timeout=120):
        text = self.stdout.read()
        self.wait(timeout)
        return text, None


def run_module(folder: Path, entry: str, *arguments: object, **environment: str) -> Forked | subprocess.Popen:
    """Starts ``python -m vsr.ENTRY ARGUMENTS`` in ``folder``, with one thread, its output and errors in one pipe."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **environment}
    words = [str(argument) for argument in arguments]
    if not torch.cuda.is_available():
        return Forked(folder, f"vsr.{entry}", words, variables)
    return subprocess.Popen(  # CUDA does not survive a fork
        [sys.executable, "-m", f"vsr.{entry}", *words],
        cwd=folder,
        env={**variables, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_default_hangup,
    )


def start_ranks(folders: Sequence[Path], entry: str, *arguments: object) -> list[Forked | subprocess.Popen]:
    """Starts an entry point in one process per folder; together they are ranks, as torchrun's are."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(len(folders))}
    return [
        run_module(folder, entry, *arguments, **environment, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank, folder in enumerate(folders)
    ]


def run_ranks(folder: Path, entry: str, count: int, *arguments: object) -> tuple[int, str]:
    """Runs an entry point in ``count`` ranks, or alone; returns the largest exit code and all output."""
    ranks = start_ranks([folder] * count, entry, *arguments) if count > 1 else [run_module(folder, entry, *arguments)]
    text = "".join(rank.communicate()[0] for rank in ranks)
    return max(abs(rank.returncode) for rank in ranks), text


def _run(folder: str, entry: str, arguments: list[str], environment: dict[str, str], output: Connection) -> None:
    """Does in the forked process what ``python -m ENTRY`` does."""
    os.setsid()
    os.chdir(folder)
    _default_hangup()
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
    multiprocessing.set_start_method(None, force=True)  # workers start as they do anywhere
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, folder)
    sys.argv = [entry, *arguments]
    sys.modules.pop(entry, None)  # or runpy would warn that it is imported already
    try:
        runpy.run_module(entry, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
