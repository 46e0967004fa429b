"""Prints a script with which a shell completes the command vsr: its commands, their options, and files.

vsr completion bash > ~/.local/share/bash-completion/completions/vsr
vsr completion zsh > ~/.zfunc/_vsr          # a folder of fpath
vsr completion fish > ~/.config/fish/completions/vsr.fish
"""

import argparse
import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module

from vsr.utils.errors import exit_cleanly

BASH = """_vsr() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" options="{names}"
    if ((COMP_CWORD > 1)); then
        case "${{COMP_WORDS[1]}}" in
{cases}
            *) options="" ;;
        esac
        [[ $word == -* ]] || return 0
    fi
    COMPREPLY=($(compgen -W "$options" -- "$word"))
}}
complete -o default -F _vsr vsr
"""
ZSH = "#compdef vsr\nautoload -U +X bashcompinit && bashcompinit\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the script and returns the exit code."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="vsr completion", description=__doc__, formatter_class=formatter
    )
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])
    shell = parser.parse_args(arguments).shell
    commands: dict[str, str] = import_module("vsr.__main__").COMMANDS  # which imports this module when it is called
    options = {name: [] if name == "completion" else options_of(name) for name in commands}
    sys.stdout.write(fish_script(commands, options) if shell == "fish" else bash_script(options, shell))
    return 0


def options_of(command: str) -> list[str]:
    """Returns the options in a command's ``--help``, -opt and --check."""
    text = io.StringIO()
    with redirect_stdout(text), suppress(SystemExit):
        import_module("vsr.__main__").module_of(command).main(["--help"])
    usage = text.getvalue().partition("\n\n")[0]
    return sorted(set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", usage)) - {"-h"} | {"--help"})


def bash_script(options: dict[str, list[str]], shell: str) -> str:
    """Returns the script of bash, which zsh reads, too."""
    cases = "\n".join(f'            {name}) options="{" ".join(known)}" ;;' for name, known in options.items())
    return (ZSH if shell == "zsh" else "") + BASH.format(names=" ".join(options), cases=cases)


def fish_script(commands: dict[str, str], options: dict[str, list[str]]) -> str:
    """Returns the script of fish."""
    texts = {name: text.replace("'", r"\'") for name, text in commands.items()}
    lines = [f"complete -c vsr -n __fish_use_subcommand -f -a {name} -d '{text}'" for name, text in texts.items()]
    for name, known in options.items():
        for option in known:
            kind = "-l" if option.startswith("--") else "-o"
            lines.append(f"complete -c vsr -n '__fish_seen_subcommand_from {name}' {kind} {option.lstrip('-')}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    exit_cleanly(main)
