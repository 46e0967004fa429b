"""Processes that take turns, so that a busy machine slows all of them; each imports a package of its own."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

Process = subprocess.Popen[str]


def started(script: str, words: list[str], path: Path | None) -> Process:
    """Starts a benchmark's process; ``path`` is the checkout of vsr that it imports, None the installed one."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}  # threads that wait would take the others' time
    if path is not None:
        paths = [str(path.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, str(Path(script).resolve()), *words]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answers_in_turn(processes: dict[str, Process], rounds: int, unit: str) -> dict[str, list[dict[str, Any]]]:
    """Asks each process once a round, ends them, and returns their answers by name."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in processes}
    for _ in tqdm(range(rounds), unit=unit):
        for name, process in processes.items():
            answers[name].append(asked(name, process))
    for process in processes.values():
        process.terminate()
        process.wait()
    return answers


def asked(name: str, process: Process) -> dict[str, Any]:
    """Returns a process's next answer."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write("next\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())
    except (OSError, ValueError):
        sys.exit(f"{name}: its process ended; the message above says why")


def serve(work: Callable[[], dict[str, Any]]) -> None:
    """Does some work per line of standard input, and answers with its result, its seconds and the memory's peak."""
    for _ in sys.stdin:
        before = time.process_time(), time.perf_counter()
        result = work()
        seconds = time.process_time() - before[0], time.perf_counter() - before[1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # of the process; MiB on Linux
        sys.stdout.write(json.dumps({**result, "seconds": seconds, "peak_mib": round(peak)}) + "\n")
        sys.stdout.flush()


def keep_freed_memory() -> None:
    """Keeps freed memory, as the programs of vsr do; former versions have the function elsewhere."""
    try:
        from vsr.utils import allocator as module
    except ImportError:
        from vsr.utils import memory as module  # type: ignore[attr-defined,no-redef]  # its former place
    module.keep_freed_memory()
