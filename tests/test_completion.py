"""`vsr completion`: the scripts complete commands and options in the shells themselves, where these are installed."""

import shutil
import subprocess

import pytest

from vsr.__main__ import COMMANDS
from vsr.tools import completion


def script(shell, capsys):
    assert completion.main([shell]) == 0
    return capsys.readouterr().out


def completed(text, *words):
    """What bash offers for the last of the words."""
    given = " ".join(f"'{word}'" for word in words)
    ask = f"COMP_WORDS=({given}); COMP_CWORD={len(words) - 1}; _vsr; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", text + ask], capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_and_their_options(capsys):
    text = script("bash", capsys)
    assert completed(text, "vsr", "") == list(COMMANDS)
    assert completed(text, "vsr", "te") == ["test"]
    assert completed(text, "vsr", "train", "--auto") == ["--auto_resume"]
    assert {"-opt", "--set", "--check", "--help"} <= set(completed(text, "vsr", "train", "-"))
    assert completed(text, "vsr", "train", "-opt", "o") == []  # files


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_reads_the_script(capsys):
    assert subprocess.run(["zsh", "-fc", "autoload -U compinit; compinit -u\n" + script("zsh", capsys)]).returncode == 0


def test_fish_has_a_line_for_each_option(capsys):
    text = script("fish", capsys)
    assert "complete -c vsr -n __fish_use_subcommand -f -a train -d 'trains the network of an options file'" in text
    assert "complete -c vsr -n '__fish_seen_subcommand_from test' -l weights" in text
    assert all(f" -a {name} " in text for name in COMMANDS)
    assert r"-a costs -d 'counts a network\'s parameters" in text
