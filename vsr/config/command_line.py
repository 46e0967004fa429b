"""The command line that programs with an options file share."""

import argparse


def options_parser(
    program: str, description: str, with_check: bool = False, required: bool = True
) -> argparse.ArgumentParser:
    """Returns a parser of ``-opt FILE``, required or not, and ``--set a.b=value``, and of ``--check`` if asked for."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("-opt", "--opt", required=required, metavar="FILE", help="options file (YAML)")
    text = "overrides an option; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help=text)
    if with_check:
        parser.add_argument("--check", action="store_true", help="checks the options and stops; notes missing data")
    return parser
