"""The command ``vsr``: runs ``vsr train``, ``vsr test`` and the others; ``python -m vsr`` does the same."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import vsr
from vsr.registry import did_you_mean
from vsr.utils.errors import UserError, exit_cleanly

COMMANDS = {  # of vsr/NAME.py, or else of vsr/tools/NAME.py
    "train": "trains the network of an options file",
    "test": "tests a network: restores, measures, writes tables and pictures",
    "compare": "puts the results of several tests side by side",
    "upscale": "upscales a video, or a folder of frames",
    "tables": "trains, tests and tabulates the experiments of Tables 1-3",
    "costs": "counts a network's parameters and multiply-accumulates",
    "export": "writes a network as ONNX or torch.export, for other runtimes",
    "schema": "writes a JSON Schema of options files, for editors",
    "convert": "writes weights in the form of BasicSR, mmagic or safetensors",
    "env": "describes the machine and the installation",
    "completion": "prints a script with which a shell completes this command",
    "bench-data": "measures how fast training samples are read",
}
HELP = "usage: vsr COMMAND …\n\n" + "".join(f"  {name:<12}{text}\n" for name, text in COMMANDS.items())
HELP += "\nvsr COMMAND --help lists its options.\n"


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; imports only its module. Returns its exit code."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help"):
        sys.stdout.write(HELP)
        return 0
    if command == "--version":
        sys.stdout.write(f"vsr {vsr.__version__}\n")
        return 0
    if command not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise UserError(f"unknown command '{command}'{did_you_mean(command, COMMANDS)}; commands: {known}")
    return module_of(command).main(rest)


def module_of(command: str) -> ModuleType:
    """Returns the module of a command."""
    name = command.replace("-", "_")
    return import_module(f"vsr.{name}" if find_spec(f"vsr.{name}") else f"vsr.tools.{name}")


def main() -> None:
    """Runs a command and exits with its code; see run. Modules of your own are found as by ``python -m vsr``."""
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.insert(0, "")
    exit_cleanly(run)


if __name__ == "__main__":
    main()
