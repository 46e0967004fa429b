"""The local window read for other runtimes, which have no such operator; onnx_nodes writes the other operators."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vsr.ops.local_window.shifts import allowed_candidates, masked_softmax, scores_by_slices, sum_by_slices

DEFORM_CONV_OPSET = 19  # of ONNX, the first with DeformConv


def decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Returns a program whose local window reads are slices and sums."""
    read = torch.ops.vsr.local_window_read.default
    if all(node.target is not read for node in program.graph.nodes):
        return program  # decomposing traces a program again, which takes its time
    table: dict[Any, Callable[..., Any]] = {read: _local_window_read}
    return program.run_decompositions(table)


def _local_window_read(
    query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None, window: int
) -> tuple[Tensor, Tensor]:
    allowed = allowed_candidates(keys, window, valid)
    scores = scores_by_slices(query, keys, window)
    read = sum_by_slices(masked_softmax(scores, allowed), keys if values is None else values, window)
    return read, torch.logsumexp(scores.masked_fill(~allowed, float("-inf")), 1)
