"""PyTorch's switches of speed and precision."""

import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from vsr.contracts import Precision
from vsr.engine.options import TrainOptions
from vsr.utils.distributed import Place, over_ranks
from vsr.utils.errors import UserError
from vsr.utils.log import logger

NAMES: dict[torch.dtype | None, Precision] = {torch.bfloat16: "bf16", torch.float16: "fp16", None: "float32"}


def has_bf16_units(device: torch.device) -> bool:
    """Returns whether a device multiplies bfloat16 faster than float32: AMX or AVX512-BF16 of a CPU."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def restoration_type(precision: Precision, device: torch.device) -> tuple[torch.dtype | None, str]:
    """Returns the 16-bit type to restore in, None for float32, and the reason.

    ``auto`` is 16 bits where the device has the units for them, and float32 elsewhere.

    Raises:
        UserError: the device cannot.
    """
    on_gpu, has_bf16 = device.type == "cuda", has_bf16_units(device)
    units = "this GPU" if on_gpu else "this CPU"
    has_fp16 = on_gpu and torch.cuda.get_device_capability(device) >= (7, 0)
    if precision == "auto":
        dtype = torch.bfloat16 if has_bf16 else torch.float16 if has_fp16 else None
        return (
            dtype,
            f"{NAMES[dtype]}: {units} computes in it" if dtype else f"float32: {units} has no units for 16 bits",
        )
    if precision == "fp16" and not on_gpu:
        raise UserError("precision fp16 needs a GPU; bf16 and float32 run on CPUs")
    if precision == "bf16" and on_gpu and not has_bf16:
        raise UserError("precision bf16 needs a GPU of the Ampere generation or later; fp16 runs on this one")
    return {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision], f"{precision}, as given"


def autocast_type(amp: Literal["auto", "bf16", "fp16", "off"], device: torch.device) -> torch.dtype | None:
    """Returns the 16-bit type to compute in, None for 32 bits; raises UserError if the device cannot."""
    on_gpu, has_bf16 = device.type == "cuda", has_bf16_units(device)
    if amp == "auto":
        why = "computes in it" if has_bf16 else "has no units for 16 bits"
        logger.info("train.amp: auto is %s: this %s %s", "bf16" if has_bf16 else "off", device.type.upper(), why)
        return torch.bfloat16 if has_bf16 else None
    if amp == "fp16" and not on_gpu:
        raise UserError("train.amp: fp16 needs a GPU, for loss scaling; bf16 runs on CPUs too")
    if amp == "bf16" and on_gpu and not has_bf16:
        raise UserError("train.amp: bf16 needs a GPU of the Ampere generation or later; fp16 runs on this one")
    slow = torch.backends.mkldnn.is_available() and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if amp == "bf16" and not on_gpu and slow:
        logger.warning("train.amp: bf16 is slow on this CPU, which has no instructions for it; off is faster")
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}[amp]


def kept_type(former: Literal["bf16", "off"], now: torch.dtype | None, device: torch.device) -> torch.dtype | None:
    """Returns the type that ``train.amp: auto`` chose when a training began; ``now`` is what it would choose.

    Raises:
        UserError: the device cannot compute in it.
    """
    try:
        kept = autocast_type(former, device)
    except UserError as error:
        raise UserError(f"train.amp: auto was {former} when this training began. {error}") from None
    if kept != now:
        logger.info("train.amp: auto stays %s, as when this training began", former)
    return kept


def is_faster_channels_last(
    step: Callable[[], object], set_layout: Callable[[bool], None], place: Place
) -> tuple[bool, str]:
    """Returns whether a step is faster in channels-last order, the same on all ranks, and the measured times.

    Args:
        step: makes a step that changes nothing.
        set_layout: orders the networks' weights, channels last or not; the features follow.
        place: of this process.
    """
    on_gpu, seconds = place.device.type == "cuda", {False: float("inf"), True: float("inf")}
    clock = time.perf_counter if on_gpu else time.process_time  # other programs keep CPUs busy
    for is_last in (False, True) * 2:  # the first step of each warms up
        set_layout(is_last)
        before = clock()
        step()
        if on_gpu:
            torch.cuda.synchronize(place.device)
        seconds[is_last] = min(seconds[is_last], clock() - before)
    both = over_ranks(torch.tensor([seconds[True], seconds[False]], device=place.device), place, "mean").tolist()
    return both[0] < both[1], f"{both[0]:.3g} s against {both[1]:.3g} s a step"


def set_switches(train: TrainOptions, device: torch.device) -> None:
    """Sets PyTorch's global switches: TF32, cuDNN's benchmark mode, deterministic algorithms."""
    if train.tf32 is not None:
        allow_tf32(train.tf32)
    torch.backends.cudnn.benchmark = device.type == "cuda" and not train.deterministic
    torch.use_deterministic_algorithms(train.deterministic, warn_only=True)
    if train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it PyTorch warns of every matrix product
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # only finds mistakes


def allow_tf32(allowed: bool) -> None:
    """Lets GPUs round the factors of float32 products and convolutions to TF32, or not; CPUs compute as before."""
    cudnn: Any = torch.backends.cudnn
    for operator in (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn):  # older names of these switches disagree
        operator.fp32_precision = "tf32" if allowed else "ieee"


@contextmanager
def full_float32() -> Generator[None]:
    """Computes float32 products and convolutions in full float32 while entered, on GPUs and CPUs."""
    gpu: Any = torch.backends.cudnn
    cpu: Any = torch.backends.mkldnn
    operators = (torch.backends.cuda.matmul, gpu.conv, gpu.rnn, cpu.conv, cpu.matmul)
    former = [operator.fp32_precision for operator in operators]
    try:
        for operator in operators:
            operator.fp32_precision = "ieee"
        yield
    finally:
        for operator, precision in zip(operators, former, strict=True):
            operator.fp32_precision = precision
