"""The command line that programs with an options file share."""

import argparse


def options_parser(program: str, description: str, with_check: bool = False) -> argparse.ArgumentParser:
    """Returns a parser of ``-opt FILE`` and ``--set a.b=value``.

    Args:
        program: as it is called, for its usage line.
        description: what it does.
        with_check: adds ``--check``.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("-opt", "--opt", required=True, metavar="FILE", help="options file (YAML)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="overrides an option; may be repeated"
    )
    if with_check:
        parser.add_argument("--check", action="store_true", help="checks the options and stops; notes missing data")
    return parser
