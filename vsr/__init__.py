"""Video super-resolution, trained and tested from YAML files."""

import signal
import sys

__version__ = "0.2.0"

if (
    sys.argv[:1] == ["-m"]
    and any(part.startswith("vsr.") for part in sys.orig_argv)
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    # `python -m vsr.…`: Ctrl-C ends the seconds of importing without a traceback; exit_cleanly takes over.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
