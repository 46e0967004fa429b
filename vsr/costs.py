"""``python -m vsr.costs``; see vsr.tools.costs."""

from vsr.tools.costs import main
from vsr.utils.errors import exit_cleanly

if __name__ == "__main__":
    exit_cleanly(main)
