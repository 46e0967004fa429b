#!/usr/bin/env bash
# One would guess: a FileLock is free as soon as its owner has been killed.
# What happens: up to filelock 3.29.7 a forked child (multiprocessing's fork, a DataLoader's worker) inherits the
#     descriptor, and the lock stays held as long as the child lives. From 3.30.0 on the child closes it: the lock is
#     free.
# Versions: filelock 3.29.7, 3.30.0, 4.3.1. Source: flock(2); src/filelock/_unix.py and, from 3.30.0 on, the fork
#     callbacks of src/filelock/_api.py. Date: 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/owner.py" <<'PYTHON'
import multiprocessing
import sys
import time

import filelock

lock = filelock.FileLock(sys.argv[1])
lock.acquire()
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
child.start()
print(child.pid, flush=True)
time.sleep(60)
PYTHON
cat > "$work/see.py" <<'PYTHON'
import os
import signal
import subprocess
import sys

import filelock

folder, expected = sys.argv[1:]
path = os.path.join(folder, filelock.__version__ + ".lock")
owner = subprocess.Popen([sys.executable, os.path.join(folder, "owner.py"), path], stdout=subprocess.PIPE, text=True)
child = int(owner.stdout.readline())
owner.kill()
owner.wait()
try:
    os.kill(child, 0)  # raises if the child is gone
    filelock.FileLock(path).acquire(timeout=3)
    seen = "free"
except filelock.Timeout:
    seen = "held"
finally:
    os.kill(child, signal.SIGKILL)
print(f"filelock {filelock.__version__}: {seen} while the killed owner's child lives")
raise SystemExit(0 if seen == expected else f"the behaviour has changed: expected {expected}")
PYTHON
check() {  # the pinned package, and what is expected of it
    python3 -m venv "$work/$1"
    "$work/$1/bin/pip" install --quiet "$1"
    "$work/$1/bin/python" "$work/see.py" "$work" "$2"
}
check filelock==3.29.7 held
check filelock==3.30.0 free
check filelock==4.3.1 free
