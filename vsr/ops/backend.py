"""Selects the back end of each operator and records why the others are unavailable.

Order of preference: ``triton`` (CUDA), ``compiled`` (``csrc``), ``reference`` (plain PyTorch, any device). The
environment variable ``VSR_OPS`` forces one. Importing this package compiles nothing, and a missing or broken library
does not make it fail.
"""

import hashlib
import json
import logging
import os
import shutil
import sysconfig
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from vsr.utils.errors import UserError

Backend = Literal["triton", "compiled", "reference"]  # in the order of preference
Operator = Literal["conv3x3", "deform_conv2d", "flow_warp", "local_window_read"]

# Devices for which csrc contains kernels of the operator.
COMPILED: dict[Operator, tuple[str, ...]] = {
    "conv3x3": ("cpu",),
    "deform_conv2d": ("cpu", "cuda"),
    "flow_warp": ("cpu",),
    "local_window_read": ("cpu",),
}

PACKAGE = Path(__file__).resolve().parents[1]
SOURCES = PACKAGE.parent / "csrc"
LIBRARIES = {"cpu": PACKAGE / "_C.so", "cuda": PACKAGE / "_C_cuda.so"}
HOW_TO_BUILD = "build it with: pip install -e . --no-build-isolation (scripts/setup.sh does that)"
_MARK = b"\nVSR-BUILD "

logger = logging.getLogger("vsr.ops")


class BackendError(UserError, ValueError):
    """``VSR_OPS`` forces a back end that cannot run on this machine."""


class Library(NamedTuple):
    """A compiled library. ``problem`` says why it cannot be used; None if it can."""

    problem: str | None
    record: dict[str, str]


class Choice(NamedTuple):
    """The selected back end with the reason, or None with the reason why the forced one cannot run."""

    backend: Backend | None
    reason: str


# Choices by operator and device type, made at import: torch.compile can read a choice but not trace how it is made.
# torch.compiler.disable would import the compiler and add a second to the start of every program.
choices: dict[tuple[Operator, str], Choice] = {}


@cache
def built(device_type: str) -> Library:
    """Inspects the library for ``"cpu"`` or ``"cuda"`` without loading it."""
    path = LIBRARIES[device_type]
    if not path.exists():
        needs = (
            "" if has_compiler() else "; it needs a C++ compiler, and there is none (Debian, Ubuntu: apt install g++)"
        )
        return Library(f"{path.name} was not built{needs}; {HOW_TO_BUILD}", {})
    content, mark, line = path.read_bytes().rpartition(_MARK)
    try:
        record = json.loads(line)
    except ValueError:
        record = {}
    if not mark or hashlib.sha256(content).hexdigest() != record.get("sha256"):
        # Checked first: loading a truncated library raises SIGBUS.
        return Library(f"{path.name} is damaged (its checksum is wrong); {HOW_TO_BUILD}", record)
    if "cuda" in record and torch.version.cuda is None:
        return Library(f"{path.name} needs CUDA {record['cuda']}, this PyTorch is a CPU build", record)
    return Library(None, record)


def has_compiler() -> bool:
    """Returns whether there is a C++ compiler, as setup.py looks for it."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "c++").split()[0], "g++"))


@cache
def library(device_type: str) -> Library:
    """Loads the library for ``"cpu"`` or ``"cuda"`` at the first call and returns it.

    Loading registers its kernels and replaces Triton's. Call it only if the compiled kernels are wanted.
    """
    known = built(device_type)
    if known.problem is None:
        path = LIBRARIES[device_type]
        try:
            torch.ops.load_library(str(path))
        except OSError as error:
            versions = f"built with PyTorch {known.record.get('torch')}, running {torch.__version__}"
            return Library(f"{path.name} does not load ({versions}): {error}; {HOW_TO_BUILD}", known.record)
    return known


def define(library_: torch.library.Library, schema: str) -> None:
    """Defines an operator, unless the compiled library has done so (csrc/schemas.cpp)."""
    library("cpu")
    if not hasattr(torch.ops.vsr, schema.partition("(")[0]):
        library_.define(schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order))


def is_stale(record: dict[str, str]) -> bool:
    """Returns whether the library was built from sources that differ from this checkout's."""
    if not SOURCES.is_dir():
        return False
    files = sorted(path for path in SOURCES.rglob("*") if path.suffix in {".cpp", ".cu", ".h", ".cuh"})
    content = b"".join(path.relative_to(SOURCES).as_posix().encode() + path.read_bytes() for path in files)
    return record.get("source") != hashlib.sha256(content).hexdigest()[:16]


def unavailable(backend: Backend, operator: Operator, device_type: str) -> str | None:
    """Returns why a back end cannot run an operator on a device type; None if it can."""
    if backend == "compiled":
        if device_type not in COMPILED[operator]:
            return f"{operator} has no compiled kernels for {device_type}"
        problem = library(device_type).problem
        key = device_type.upper()
        if problem is None and not torch._C._dispatch_has_kernel_for_dispatch_key(f"vsr::{operator}", key):
            return f"{LIBRARIES[device_type].name} is older than {operator}; {HOW_TO_BUILD}"
        return problem
    if backend == "triton":
        if device_type != "cuda":
            return f"Triton kernels run on CUDA, not on {device_type}"
        if find_spec("triton") is None:
            return "the package triton is not installed"
        if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
            return "Triton builds its kernel launchers with gcc or clang, and neither was found"
        if not Path(sysconfig.get_path("include", "posix_prefix"), "Python.h").exists():
            return "Triton builds its kernel launchers with Python.h, which was not found (install python3-dev)"
    return None


def choose(operator: Operator, device_type: str) -> Choice:
    """Returns the back end for ``"cpu"`` or ``"cuda"`` tensors: the one in ``VSR_OPS``, or the first available."""
    key = operator, device_type
    if key not in choices:
        choices[key] = _decide(operator, device_type)
    return choices[key]


def operators(device_type: str) -> list[Operator]:
    """Returns the operators that have back ends for a device type: PyTorch itself computes ``conv3x3`` on GPUs."""
    return [name for name in get_args(Operator) if name != "conv3x3" or device_type in COMPILED[name]]


def choose_all() -> None:
    """Fills ``choices`` for every operator and device type."""
    for device_type in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for operator in operators(device_type):
            choose(operator, device_type)


def _decide(operator: Operator, device_type: str) -> Choice:
    forced = os.environ.get("VSR_OPS", "")
    if forced not in ("", *get_args(Backend)):
        return Choice(None, f"VSR_OPS={forced}: expected one of {', '.join(get_args(Backend))}, or nothing")
    reasons: list[str] = []
    for backend in get_args(Backend):
        if forced in ("", backend):
            problem = unavailable(backend, operator, device_type)
            if problem is None:
                return Choice(backend, f"VSR_OPS={forced}" if forced else "; ".join(reasons))
            reasons.append(f"VSR_OPS={forced}, but {problem}" if forced else f"no {backend} kernels: {problem}")
    return Choice(None, "; ".join(reasons))


def require(operator: Operator, device_type: str) -> Backend:
    """Returns the back end; raises ``BackendError`` if ``VSR_OPS`` forces one that cannot run on the device type."""
    choice = choose(operator, device_type)
    if choice.backend is None:
        raise BackendError(choice.reason)
    return choice.backend


def use_triton(operator: Operator, module: str, library: torch.library.Library) -> None:
    """Registers ``forward`` and ``backward`` of ``module`` for CUDA if Triton is the selected back end.

    The operator's schemas must be defined in ``library``. The module is imported at the first call.
    """

    def kernel(name: str) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            with torch.cuda.device(arguments[0].device):  # Triton launches on the current device
                return getattr(import_module(module), name)(*arguments)

        return run

    if choose(operator, "cuda").backend == "triton":
        library.impl(operator, kernel("forward"), "CUDA")
        library.impl(f"{operator}_backward", kernel("backward"), "CUDA")


def use_reference(operator: Operator, x: Tensor, sizes: list[int]) -> bool:
    """Returns whether plain PyTorch runs the operator: it is selected, or Triton does not support the tensors.

    The dtype and device of ``x`` decide, and ``sizes``, the elements that one image of each argument spans; where they
    are symbolic, they are compared only if Triton is selected.
    """
    chosen, problem = require(operator, x.device.type), None
    if chosen == "triton":  # its kernels index an image with 32 bits
        too_large = [f"{size} elements in an image" for size in sizes if size >= 2**31]
        problem = "float64" if x.dtype == torch.float64 else next(iter(too_large), None)
    if not torch.compiler.is_compiling():
        announce(x.device.type)
        if problem is not None:
            _log_once(f"{operator}: plain PyTorch instead of Triton for {problem}")
    return chosen == "reference" or problem is not None


@cache
def _log_once(line: str) -> None:
    logger.warning(line)


@cache
def announce(device_type: str) -> None:
    """Logs the back ends of a device type once, as a warning if a faster one is unavailable."""
    choices = {operator: choose(operator, device_type) for operator in operators(device_type)}
    chosen = ", ".join(f"{operator} {choice.backend or 'nothing'}" for operator, choice in choices.items())
    best = "triton" if device_type == "cuda" else "compiled"
    problems = {choice.reason for choice in choices.values() if choice.backend != best}
    uses_library = any(choice.backend == "compiled" for choice in choices.values())
    if not problems and uses_library and is_stale(built(device_type).record):
        problems = {f"the compiled library is older than csrc; {HOW_TO_BUILD}"}
    level = logging.WARNING if problems else logging.INFO
    logger.log(level, "kernels on %s: %s%s", device_type, chosen, f" ({'; '.join(problems)})" if problems else "")
