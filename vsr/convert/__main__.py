"""Runs ``python -m vsr.convert``."""

from vsr.convert import main
from vsr.utils.errors import exit_cleanly

exit_cleanly(main)
