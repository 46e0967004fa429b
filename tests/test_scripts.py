"""Every Python script explains itself; what each does is in its own test file."""

import pytest
from load_script import ROOT, exit_code, load_script

SCRIPTS = sorted(file.stem for file in (ROOT / "scripts").glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_shows_the_script_and_all_its_options(name, capsys):
    script = load_script(name)
    assert exit_code(script, "--help") == 0
    output = capsys.readouterr().out
    assert script.__doc__.splitlines()[0] in output
    assert "options:" in output


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_unknown_option_is_exit_code_2_and_no_traceback(name, capsys):
    assert exit_code(load_script(name), "--no-such-option") == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_has_tests_of_its_own(name):
    assert (ROOT / "tests" / f"test_{name}.py").is_file()
