"""``python -m vsr.env``; see vsr.tools.env."""

from vsr.tools.env import main
from vsr.utils.errors import exit_cleanly

if __name__ == "__main__":
    exit_cleanly(main)
