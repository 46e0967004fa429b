"""Decides which kernels run an operator, and keeps the reason for those that cannot.

``triton`` (CUDA) before ``compiled`` (``csrc``) before ``reference`` (plain PyTorch, everywhere); the environment
variable ``VSR_OPS`` forces one. Nothing is ever compiled at import, and a missing or broken library never
stops it.
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
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from vsr.utils.errors import UserError

Backend = Literal["triton", "compiled", "reference"]  # in the order of preference
Operator = Literal["deform_conv2d", "local_window_read"]

# The devices that csrc has kernels of an operator for.
COMPILED: dict[Operator, tuple[str, ...]] = {"deform_conv2d": ("cpu", "cuda"), "local_window_read": ("cpu",)}

PACKAGE = Path(__file__).resolve().parents[1]
SOURCES = PACKAGE.parent / "csrc"
LIBRARIES = {"cpu": PACKAGE / "_C.so", "cuda": PACKAGE / "_C_cuda.so"}
HOW_TO_BUILD = "build it with: pip install -e . --no-build-isolation (scripts/setup.sh does that)"
_MARK = b"\nVSR-BUILD "

logger = logging.getLogger("vsr.ops")


class BackendError(UserError, ValueError):
    """``VSR_OPS`` forces kernels that cannot run here."""


class Library(NamedTuple):
    """A compiled library: ``problem`` is None when it is whole and, once loaded, its kernels are registered."""

    problem: str | None
    record: dict[str, str]


class Choice(NamedTuple):
    """The back end for a device, or None with the reason why the forced one cannot run there."""

    backend: Backend | None
    reason: str


# What was decided, by operator and device: at the import, since torch.compile can read a decision, but not make it. A
# decorator that tells it so would import the compiler, which takes every program another second.
choices: dict[tuple[Operator, str], Choice] = {}


@cache
def built(device_type: str) -> Library:
    """Returns what is known of the library for ``"cpu"`` or ``"cuda"`` without loading it."""
    path = LIBRARIES.get(device_type)
    if path is None:
        return Library(f"there are no compiled kernels for {device_type}", {})
    if not path.exists():
        return Library(f"{path.name} was not built; {HOW_TO_BUILD}", {})
    content, mark, line = path.read_bytes().rpartition(_MARK)
    record = _parse(line)
    if not mark or hashlib.sha256(content).hexdigest() != record.get("sha256"):
        # Checked first, because the dynamic loader dies with SIGBUS on a truncated file.
        return Library(f"{path.name} is damaged (its checksum is wrong); {HOW_TO_BUILD}", record)
    if "cuda" in record and torch.version.cuda is None:
        return Library(f"{path.name} needs CUDA {record['cuda']}, this PyTorch is a CPU build", record)
    return Library(None, record)


@cache
def library(device_type: str) -> Library:
    """Returns the library with the kernels of ``"cpu"`` or ``"cuda"``, loaded at the first call.

    Loading registers its kernels, also in the place of Triton's: only a question for them may lead here.
    """
    problem, record = built(device_type)
    if problem is not None:
        return Library(problem, record)
    path = LIBRARIES[device_type]
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        versions = f"built with PyTorch {record.get('torch')}, running {torch.__version__}"
        return Library(f"{path.name} does not load ({versions}): {error}; {HOW_TO_BUILD}", record)
    return Library(None, record)


def _parse(line: bytes) -> dict[str, str]:
    try:
        return json.loads(line)
    except ValueError:
        return {}


def is_stale(record: dict[str, str]) -> bool:
    """Returns whether the library was built from other sources than those of this checkout."""
    if not SOURCES.is_dir():
        return False
    files = sorted(path for path in SOURCES.rglob("*") if path.suffix in {".cpp", ".cu", ".h", ".cuh"})
    content = b"".join(path.relative_to(SOURCES).as_posix().encode() + path.read_bytes() for path in files)
    return record.get("source") != hashlib.sha256(content).hexdigest()[:16]


def unavailable(backend: Backend, operator: Operator, device_type: str) -> str | None:
    """Returns why a back end cannot run an operator on a kind of device, None if it can."""
    if backend == "compiled":
        return _compiled_problem(operator, device_type)
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
    return None


def _compiled_problem(operator: Operator, device_type: str) -> str | None:
    if device_type not in COMPILED[operator]:
        return f"{operator} has no compiled kernels for {device_type}"
    problem = library(device_type).problem
    key = device_type.upper()
    if problem is None and not torch._C._dispatch_has_kernel_for_dispatch_key(f"vsr::{operator}", key):
        return f"{LIBRARIES[device_type].name} is older than {operator}; {HOW_TO_BUILD}"
    return problem


def choose(operator: Operator, device_type: str) -> Choice:
    """Returns the back end for ``"cpu"`` or ``"cuda"`` tensors: what ``VSR_OPS`` names, or the first that can run."""
    key = operator, device_type
    if key not in choices:
        choices[key] = _decide(operator, device_type)
    return choices[key]


def choose_all() -> None:
    """Chooses for every operator and kind of device; see ``choices``."""
    device_types = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    for operator, device_type in product(get_args(Operator), device_types):
        choose(operator, device_type)


def _decide(operator: Operator, device_type: str) -> Choice:
    name = os.environ.get("VSR_OPS", "")
    wanted: Backend | None = name if name in get_args(Backend) else None  # type: ignore[assignment]
    if name and wanted is None:
        return Choice(None, f"VSR_OPS={name}: expected one of {', '.join(get_args(Backend))}, or nothing")
    if wanted is not None:
        problem = unavailable(wanted, operator, device_type)
        return Choice(None, f"VSR_OPS={wanted}, but {problem}") if problem else Choice(wanted, f"VSR_OPS={wanted}")
    reasons: list[str] = []
    for backend in get_args(Backend):
        problem = unavailable(backend, operator, device_type)
        if problem is None:
            return Choice(backend, "; ".join(reasons))
        reasons.append(f"no {backend} kernels: {problem}")
    raise AssertionError("the reference runs everywhere")


def require(operator: Operator, device_type: str) -> Backend:
    """Returns the back end of an operator for a kind of device.

    Raises:
        BackendError: ``VSR_OPS`` forces one that cannot run there.
    """
    choice = choose(operator, device_type)
    if choice.backend is None:
        raise BackendError(choice.reason)
    return choice.backend


def use_triton(operator: Operator, module: str, library: torch.library.Library) -> None:
    """Registers an operator's Triton kernels for CUDA, where they are chosen.

    Args:
        operator: its schema, and that of its ``_backward``, are defined.
        module: has ``forward`` and ``backward``; the first call imports it and compiles the kernels for its sizes.
        library: registers them.
    """

    def kernel(name: str) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            with torch.cuda.device(arguments[0].device):  # Triton launches on the current one
                return getattr(import_module(module), name)(*arguments)

        return run

    if choose(operator, "cuda").backend == "triton":
        library.impl(operator, kernel("forward"), "CUDA")
        library.impl(f"{operator}_backward", kernel("backward"), "CUDA")


def use_reference(operator: Operator, x: Tensor, sizes: list[int]) -> bool:
    """Returns whether plain PyTorch has to run the operator: if it was chosen, or if Triton cannot take the tensors.

    Args:
        operator: the operator that is called.
        x: one of its arguments, for its dtype and device.
        sizes: how many numbers an image of each argument spans. They may be symbolic; only Triton compares them.
    """
    chosen = require(operator, x.device.type)
    problem = triton_problem(x.dtype, sizes) if chosen == "triton" else None
    if not torch.compiler.is_compiling():
        announce(x.device.type)
        if problem is not None:
            _log_once(f"{operator}: plain PyTorch instead of Triton for {problem}")
    return chosen == "reference" or problem is not None


def triton_problem(dtype: torch.dtype, sizes: list[int]) -> str | None:
    """Returns why the Triton kernels, which index an image in 32 bits, cannot take such tensors; None if they can."""
    if dtype == torch.float64:
        return "float64"
    too_large = [size for size in sizes if size >= 2**31]
    return f"{too_large[0]} numbers in an image" if too_large else None


@cache
def _log_once(line: str) -> None:
    logger.warning(line)


@cache
def announce(device_type: str) -> None:
    """Logs one line about the back ends of a kind of device, as a warning unless they are the best there are; once."""
    choices = {operator: choose(operator, device_type) for operator in get_args(Operator)}
    chosen = ", ".join(f"{operator} {choice.backend or 'nothing'}" for operator, choice in choices.items())
    best = "triton" if device_type == "cuda" else "compiled"
    problems = {choice.reason for choice in choices.values() if choice.backend != best}
    uses_library = any(choice.backend == "compiled" for choice in choices.values())
    if not problems and uses_library and is_stale(built(device_type).record):
        problems = {f"the compiled library is older than csrc; {HOW_TO_BUILD}"}
    level = logging.WARNING if problems else logging.INFO
    logger.log(level, "kernels on %s: %s%s", device_type, chosen, f" ({'; '.join(problems)})" if problems else "")
