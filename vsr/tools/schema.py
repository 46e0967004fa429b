"""Writes a JSON Schema of options files, with which editors complete, explain and check them.

    vsr schema -o options/schema.json

An options file names it in its first line: # yaml-language-server: $schema=schema.json
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from vsr.config.json_schema import component_schema, json_schema
from vsr.config.load import import_own
from vsr.config.schema import Report
from vsr.registry import Kind, did_you_mean, names
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.files import write_text_atomically


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the schema and returns the exit code."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="vsr schema", description=__doc__, formatter_class=formatter
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="file to write; standard output by default")
    parser.add_argument("--component", metavar="TYPE", help="only the options of one component, such as EDVR")
    text = "a module of your own whose components are included; may be repeated"
    parser.add_argument("--import", metavar="MODULE", action="append", default=[], dest="modules", help=text)
    args = parser.parse_args(arguments)
    report = Report()
    import_own(args.modules, report)
    if report.mistakes:
        raise UserError(report.mistakes[0].replace("imports: ", "--import: ", 1))
    schema = json_schema() if args.component is None else component_schema(*_component(args.component))
    content = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
    if args.output is None:
        sys.stdout.write(content)
    else:
        write_text_atomically(args.output, content)
    return 0


def _component(name: str) -> tuple[Kind, str]:
    known = {component: kind for kind in get_args(Kind) for component in names(kind)}
    if name not in known:
        raise UserError(f"--component: unknown component '{name}'{did_you_mean(name, known)}")
    return known[name], name


if __name__ == "__main__":
    exit_cleanly(main)
