"""Options files: YAML → old spellings, checks against signatures → options, ready to build components."""

from vsr.config.check import load, report_check
from vsr.config.files import read_tree

__all__ = ["load", "read_tree", "report_check"]
