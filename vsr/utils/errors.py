"""Mistakes of a user, told in one message."""

import errno
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in options, data or usage; its text says what was got, what was expected and what to do."""


def tell(error: UserError) -> None:
    """Prints the message of a mistake."""
    sys.stderr.write(f"error: {error}\n")
    sys.stderr.flush()


def exit_cleanly(main: Callable[[], int | None]) -> None:
    """Runs an entry point and exits; what a user can mend becomes one message and exit code 2, without a traceback."""
    try:
        sys.exit(main() or 0)
    except UserError as error:
        tell(error)
        sys.exit(2)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; what was written before is whole. Make room, then go on"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"{error.strerror}: change the permissions, or work in another folder"
        elif error.errno in (errno.EEXIST, errno.ENOTDIR):
            reason = "a file stands where a folder is needed: move it away"
        elif error.errno == errno.EISDIR:
            reason = "a folder stands where a file is needed: name a file"
        else:
            raise
        tell(UserError(f"{error.filename}: {reason}"))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
