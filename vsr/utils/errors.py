"""Mistakes of a user, told in one message."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in options, data or usage; its text says what was got, what was expected and what to do."""


def tell(error: UserError) -> None:
    """Prints the message of a mistake."""
    sys.stderr.write(f"error: {error}\n")
    sys.stderr.flush()


def exit_cleanly(main: Callable[[], int | None]) -> None:
    """Runs an entry point and exits: a ``UserError`` becomes one message and exit code 2, without a traceback."""
    try:
        sys.exit(main() or 0)
    except UserError as error:
        tell(error)
        sys.exit(2)
