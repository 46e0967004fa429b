"""Which kernels run, why the others cannot, and what a missing or damaged library does."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_args

import pytest
import torch
from load_script import load_script

from vsr import env
from vsr.ops import backend, deform_conv2d

ROOT = Path(__file__).parents[1]


def forget_libraries():
    backend.built.cache_clear()
    backend.library.cache_clear()


@pytest.fixture(autouse=True)
def fresh_choices(monkeypatch):
    """Forgets what was found out before a test, and what it found out."""
    monkeypatch.delenv("VSR_OPS", raising=False)
    problem = backend.library("cpu").problem  # the real one, loaded before a test puts another in its place
    backend.choices.clear()
    backend.announce.cache_clear()
    yield
    monkeypatch.undo()
    backend.choices.clear()
    backend.announce.cache_clear()
    forget_libraries()
    monkeypatch.setattr(backend.torch.ops, "load_library", lambda _: None)  # loading twice would register twice
    assert backend.library("cpu").problem == problem


@pytest.fixture
def library_file(tmp_path, monkeypatch):
    """A place for a library of the test's own making."""
    path = tmp_path / "_C.so"
    monkeypatch.setitem(backend.LIBRARIES, "cpu", path)
    forget_libraries()
    return path


def with_record(content, **record):
    record["sha256"] = hashlib.sha256(content).hexdigest()
    return content + b"\nVSR-BUILD " + json.dumps(record).encode()


def arguments():
    return torch.randn(1, 4, 5, 5), torch.zeros(1, 18, 5, 5), torch.randn(3, 4, 3, 3)


def test_a_missing_library_leaves_the_reference(library_file):
    choice = backend.choose("deform_conv2d", "cpu")
    assert choice.backend == "reference"
    assert "_C.so was not built; build it with: pip install" in choice.reason
    x, offset, weight = arguments()
    expected = torch.nn.functional.conv2d(x, weight, padding=1)
    torch.testing.assert_close(deform_conv2d(x, offset, weight, padding=1), expected, rtol=1e-4, atol=1e-5)


def test_a_missing_compiler_is_named_with_its_package(library_file, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    monkeypatch.setattr(backend.shutil, "which", lambda name: None)
    assert (
        "it needs a C++ compiler, and there is none (Debian, Ubuntu: apt install g++)" in backend.built("cpu").problem
    )


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "no record"])
def test_a_damaged_library_is_not_loaded(library_file, damage):
    content = with_record(b"\x7fELF" + bytes(range(256)) * 40, torch="2.11.0", source="x")
    library_file.write_bytes(
        {
            "truncated": content[:5000],
            "flipped": content.replace(b"\x10\x11", b"\x11\x10", 1),
            "empty": b"",
            "text": b"hello\nVSR-BUILD {",
            "no record": content[:-300],
        }[damage]
    )
    problem = backend.library("cpu").problem
    assert problem is not None and "damaged" in problem and "build it with" in problem
    assert backend.choose("deform_conv2d", "cpu").backend == "reference"


def test_a_library_that_does_not_load_says_what_it_was_built_for(library_file):
    library_file.write_bytes(with_record(b"not a library", torch="2.99.0", source="x"))
    problem = backend.library("cpu").problem
    assert problem is not None and f"built with PyTorch 2.99.0, running {torch.__version__}" in problem


def test_a_cuda_library_needs_a_cuda_build(tmp_path, monkeypatch):
    path = tmp_path / "_C_cuda.so"
    path.write_bytes(with_record(b"whatever", torch="2.11.0", cuda="13.0", source="x"))
    monkeypatch.setitem(backend.LIBRARIES, "cuda", path)
    monkeypatch.setattr(torch.version, "cuda", None)
    forget_libraries()
    assert "needs CUDA 13.0, this PyTorch is a CPU build" in backend.library("cuda").problem


def test_knowing_a_library_does_not_load_it(monkeypatch, library_file):
    """Its kernels would take the place of Triton's, which VSR_OPS may insist on."""
    library_file.write_bytes(with_record(b"whatever", torch="2.11.0", source="x"))
    monkeypatch.setattr(torch.ops, "load_library", lambda path: pytest.fail("it was loaded"))
    assert backend.built("cpu") == (None, backend.built("cpu").record)
    assert any("source x" in line for line in env.libraries())


@pytest.mark.parametrize(("lacking", "reason"), [("compiler", "gcc or clang"), ("header", "install python3-dev")])
def test_triton_needs_what_it_builds_its_launchers_with(monkeypatch, tmp_path, lacking, reason):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(backend, "find_spec", lambda name: True)
    monkeypatch.setattr(backend.shutil, "which", lambda name: None if lacking == "compiler" else f"/usr/bin/{name}")
    monkeypatch.setattr(backend.sysconfig, "get_path", lambda *names: str(tmp_path))
    assert reason in backend.unavailable("triton", "deform_conv2d", "cuda")
    monkeypatch.setenv("CC", "cc")
    (tmp_path / "Python.h").touch()
    assert backend.unavailable("triton", "deform_conv2d", "cuda") is None


def test_a_library_of_other_sources_is_stale():
    assert backend.is_stale({"source": "0123"})
    record = backend.library("cpu").record
    if not record:
        pytest.skip("no compiled library")
    assert isinstance(backend.is_stale(record), bool)


def test_a_library_from_before_an_operator_leaves_its_reference(monkeypatch):
    if backend.library("cpu").problem:
        pytest.skip("no compiled library")
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key

    def older(name, key):
        return "window" not in name and has_kernel(name, key)

    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", older)
    choice = backend.choose("local_window_read", "cpu")
    assert choice.backend == "reference" and "_C.so is older than local_window_read; build it with" in choice.reason
    assert backend.choose("deform_conv2d", "cpu").backend == "compiled"


def test_what_is_best_is_announced_quietly(monkeypatch, caplog):
    caplog.set_level("INFO", logger="vsr.ops")
    monkeypatch.setattr(backend, "unavailable", lambda name, operator, device: None)
    monkeypatch.setattr(backend, "is_stale", lambda record: True)  # of a library that is not used
    backend.announce("cuda")
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert caplog.messages == ["kernels on cuda: deform_conv2d triton, flow_warp triton, local_window_read triton"]


def test_plain_pytorch_is_announced_once(library_file, caplog):
    """To who uses the operators alone; a training has said so before its first step."""
    for _ in range(2):
        deform_conv2d(*arguments(), padding=1)
    assert len(caplog.messages) == 1 and "deform_conv2d reference" in caplog.messages[0]
    assert "_C.so was not built; build it with" in caplog.messages[0]


def test_what_takes_the_place_of_triton_is_a_warning(monkeypatch, caplog):
    """The library's CUDA kernels, which store columns; the local window has none."""
    possible = {("compiled", "deform_conv2d"), *(("reference", operator) for operator in get_args(backend.Operator))}
    monkeypatch.setattr(backend, "unavailable", lambda name, operator, _: None if (name, operator) in possible else "x")
    backend.announce("cuda")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert (
        "kernels on cuda: deform_conv2d compiled, flow_warp reference, local_window_read reference ("
        in caplog.messages[0]
    )
    assert "no triton kernels: x" in caplog.messages[0]


def test_insisting_on_what_cannot_run_is_an_error(monkeypatch, library_file):
    x, offset, weight = arguments()
    for wanted, message in (
        ("compiled", "was not built"),
        ("triton", "run on CUDA, not on cpu"),
        ("fast", "expected one of"),
    ):
        monkeypatch.setenv("VSR_OPS", wanted)
        backend.choices.clear()
        with pytest.raises(ValueError, match=f"VSR_OPS={wanted}.*{message}"):
            deform_conv2d(x, offset, weight, padding=1)


def test_insisting_on_the_reference(monkeypatch):
    monkeypatch.setenv("VSR_OPS", "reference")
    assert backend.choose("deform_conv2d", "cpu") == ("reference", "VSR_OPS=reference")
    assert backend.choose("deform_conv2d", "mps").backend == "reference"


def test_the_report_names_everything():
    command = [sys.executable, "-m", "vsr.env"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    report = done.stdout
    assert "Overriding a previously registered kernel" not in done.stderr
    for fact in (
        f"torch {torch.__version__.split('+')[0]}",
        "python 3",
        "threads",
        "conv3x3 on cpu: ",
        "deform_conv2d on cpu: ",
        "deform_conv2d on cuda: ",
        "flow_warp on cpu: ",
        "flow_warp on cuda: ",
        "local_window_read on cpu: ",
        "local_window_read on cuda: ",
        "on GPUs never yet, `bash scripts/check_gpu.sh`",
    ):
        assert fact in report
    assert "conv3x3 on cuda: " not in report
    for name in ("compiled", "triton", "reference"):
        assert report.count(f"  {name}: ") == 7


def test_a_truncated_library_costs_one_line(tmp_path):
    shutil.copytree(ROOT / "vsr", tmp_path / "vsr", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    source = ROOT / "vsr" / "_C.so"
    (tmp_path / "vsr" / "_C.so").write_bytes(source.read_bytes()[:50_000] if source.exists() else b"\x7fELF")
    code = """
import sys, torch, vsr.ops
print(vsr.ops.__file__, 'torchvision imported:', 'torchvision' in sys.modules)
vsr.ops.deform_conv2d(torch.ones(1, 1, 3, 3), torch.zeros(1, 2, 3, 3), torch.ones(1, 1, 1, 1))
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout and "torchvision imported: False" in done.stdout
    lines = [line for line in done.stderr.splitlines() if "deform_conv2d" in line]
    assert len(lines) == 1 and "reference" in lines[0] and "damaged" in lines[0] and "pip install" in lines[0]


@pytest.fixture(scope="module")
def setup_script():
    return load_script("setup", ROOT)


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_setup_follows_an_nvcc_that_is_a_wrapper(setup_script, tmp_path, monkeypatch):
    real = tmp_path / "cuda-13.7" / "bin" / "nvcc"
    executable(
        real, f'case "$1" in --version) echo "release 13.7, V13.7.1";; *) echo "#$ TOP={real.parents[1]}" >&2;; esac'
    )
    executable(tmp_path / "path" / "nvcc", f'exec {real} "$@"')
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH']}")
    assert setup_script.cuda_home() == (str(real.parents[1].resolve()), "13.7")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "nowhere"))
    assert setup_script.cuda_home()[0] is None


def test_setup_builds_cuda_only_where_it_fits(setup_script, monkeypatch):
    monkeypatch.delenv("VSR_CUDA", raising=False)
    assert setup_script.cuda_problem("13.0", "/cuda", "13.2") is None
    assert "CPU build" in setup_script.cuda_problem(None, "/cuda", "13.0")
    assert "toolkit is 12.8, PyTorch was built with 13.0" in setup_script.cuda_problem("13.0", "/cuda", "12.8")
    assert setup_script.cuda_problem("13.0", None, "no nvcc on PATH") == "no nvcc on PATH"
    monkeypatch.setenv("VSR_CUDA", "0")
    assert setup_script.cuda_problem("13.0", "/cuda", "13.0") == "VSR_CUDA=0"


def test_setup_without_a_compiler_builds_nothing_or_fails_when_told(setup_script, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(setup_script.shutil, "which", lambda _: None)
    monkeypatch.delenv("VSR_REQUIRE_EXT", raising=False)
    assert setup_script.extensions() == ([], {})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "no C++ compiler" in lines[0]
    monkeypatch.setenv("VSR_REQUIRE_EXT", "1")
    with pytest.raises(SystemExit, match="VSR_REQUIRE_EXT=1, but no C\\+\\+ compiler"):
        setup_script.extensions()


def test_a_wheel_holds_nothing_that_an_earlier_build_left(tmp_path):
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "vsr").mkdir()
    shutil.copy(ROOT / "vsr" / "__init__.py", tmp_path / "vsr")
    deleted = tmp_path / "build" / "lib" / "vsr" / "deleted_since.py"
    deleted.parent.mkdir(parents=True)
    deleted.write_text("")
    environment = {**os.environ, "PATH": str(tmp_path), "CXX": "no-such-compiler", "VSR_REQUIRE_EXT": "0"}
    command = [sys.executable, "setup.py", "-q", "bdist_wheel"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "vsr/__init__.py" in names and not any("deleted" in name for name in names)


def test_a_record_survives_the_round_trip(setup_script, tmp_path):
    path = tmp_path / "_C.so"
    path.write_bytes(b"\x7fELF some code")
    setup_script.append_record(path, {"source": setup_script.source_hash()})
    content, _, line = path.read_bytes().rpartition(b"\nVSR-BUILD ")
    record = json.loads(line)
    assert content == b"\x7fELF some code" and record["sha256"] == hashlib.sha256(content).hexdigest()
    assert not backend.is_stale(record)


def test_the_library_defines_the_schemas_that_python_would():
    """Adjacent texts are one, in both languages."""

    def schemas(file, call):
        text = re.sub(r'"\s*\n\s*"', "", file.read_text())
        return set(re.findall(call + r'\(\s*(?:_library,\s*)?"([^"]+)"', text))

    of_python = set().union(*(schemas(file, "define") for file in (ROOT / "vsr/ops").glob("*/op.py")))
    assert schemas(ROOT / "csrc/schemas.cpp", r"m\.def") == of_python
    assert {schema.partition("(")[0] for schema in of_python} >= {"deform_conv2d", "local_window_read_backward"}
