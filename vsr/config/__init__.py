"""Options files: YAML → old spellings, checks against signatures → options, ready to build components."""

from vsr.config.load import load, report_check
from vsr.config.yaml_files import read_tree

__all__ = ["load", "read_tree", "report_check"]
