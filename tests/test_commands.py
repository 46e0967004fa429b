"""The command `vsr`: its list of commands, and what an unknown one says."""

import ast
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from training import small_options, write_options

from vsr import __main__ as commands
from vsr import __version__
from vsr.utils.errors import UserError


def vsr(*arguments, folder=None):
    return subprocess.run([sys.executable, "-m", "vsr", *arguments], capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_help_lists_every_command(capsys, arguments):
    assert commands.run(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in commands.COMMANDS)


def test_the_version_is_printed(capsys):
    assert commands.run(["--version"]) == 0
    assert capsys.readouterr().out == f"vsr {__version__}\n"


def test_the_installation_brings_the_command():
    (script,) = entry_points(group="console_scripts", name="vsr")
    assert script.load() is commands.main


def test_the_command_finds_modules_of_ones_own_beside_it(tmp_path):
    (tmp_path / "my_networks.py").write_text("print('imported')\n")
    code = "import sys; sys.path[0] = '/usr/bin'; sys.argv = ['vsr', 'schema', '--import', 'my_networks']"
    script = [sys.executable, "-c", f"{code}; from vsr.__main__ import main; main()"]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("imported")


def test_an_unknown_command_is_refused():
    done = vsr("trian")
    assert done.returncode == 2
    known = ", ".join(commands.COMMANDS)
    assert done.stderr == f"error: unknown command 'trian'; did you mean 'train'?; commands: {known}\n"


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_explains_itself(capsys, name):
    with pytest.raises(SystemExit, match="0"):
        commands.run([name, "--help"])
    assert f"usage: vsr {name}" in capsys.readouterr().out


def test_a_command_imports_only_its_module():
    code = "import sys; from vsr.__main__ import run; run(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_command_receives_its_arguments(tmp_path, clips):
    file = write_options(tmp_path, small_options(clips))
    done = vsr("train", "-opt", str(file), "--check", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "options OK (small, EDVR)" in done.stdout
    with pytest.raises(UserError, match="does not exist"):
        commands.run(["test", "-opt", "none.yml"])


@pytest.mark.parametrize("command", ["train", "test", "export"])
def test_an_options_file_without_opt_is_explained(command):
    with pytest.raises(UserError) as caught:
        commands.run([command, "mine.yml", "--set", "a=b.yml"])
    assert str(caught.value) == f"options files are given with -opt: vsr {command} -opt mine.yml"


@pytest.mark.parametrize("folder", ["vsr", "scripts", "benchmarks"])
def test_no_command_takes_abbreviated_options(folder):
    """`vsr train --resume` was --resume_mode, which needs a value."""
    files = (Path(commands.__file__).parents[1] / folder).rglob("*.py")
    calls = [node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    parsers = [call for call in calls if ast.unparse(call.func).endswith("ArgumentParser")]
    assert parsers
    assert all("allow_abbrev=False" in ast.unparse(call) for call in parsers)
    with pytest.raises(SystemExit):
        commands.run(["train", "-opt", "a.yml", "--resume", "exact"])
