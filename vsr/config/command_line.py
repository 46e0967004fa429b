"""The command line that programs with an options file share."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from vsr.utils.errors import UserError


class OptionsParser(argparse.ArgumentParser):
    """A parser that takes no abbreviations, and explains an options file without ``-opt``."""

    def __init__(self, program: str, description: str) -> None:
        super().__init__(prog=program, description=description, allow_abbrev=False)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Returns the arguments; raises UserError for a YAML file that follows no option."""
        given = list(sys.argv[1:] if args is None else args)
        for before, argument in zip(["", *given], given, strict=False):
            if argument.endswith((".yml", ".yaml")) and not argument.startswith("-") and not before.startswith("-"):
                raise UserError(f"options files are given with -opt: {self.prog} -opt {argument}")
        return super().parse_args(given, namespace)


def options_parser(
    program: str, description: str, with_check: bool = False, required: bool = True
) -> argparse.ArgumentParser:
    """Returns a parser of ``-opt FILE``, required or not, and ``--set a.b=value``, and of ``--check`` if asked for."""
    parser = OptionsParser(program, description)
    parser.add_argument("-opt", "--opt", required=required, metavar="FILE", help="options file (YAML)")
    text = "overrides an option; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help=text)
    if with_check:
        parser.add_argument("--check", action="store_true", help="checks the options and stops; notes missing data")
    return parser
