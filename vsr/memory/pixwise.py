"""Spatial-weight synthesis: a weight map per memory frame (and shift)."""

from torch import Tensor

from vsr.memory.addressing import by_phase
from vsr.memory.hops import SearchMemory
from vsr.memory.pixsim import single_weight_search
from vsr.ops import local_window_read
from vsr.registry import register


@register("memory", "pixwise")
class PixWise(SearchMemory):
    """Reads a memory with a weight per position and candidate: score ⟨u(x), k_i(x + δ)⟩ / √e.

    With ``embedding: fc`` a frame has one weight.
    """

    def search(
        self, query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None, return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Weighs, at every position, the candidates of its window.

        The weights are (b, t·R², h, w), numbered (frame, row shift, column shift), or (b, t) with ``embedding: fc``.
        """
        if self.is_fc:
            return single_weight_search(query, keys, values, valid)

        def read(phase: Tensor) -> tuple[Tensor, Tensor | None]:
            q, k = query[..., : phase.shape[-2], : phase.shape[-1]], keys[..., : phase.shape[-2], : phase.shape[-1]]
            return local_window_read(q, k, None if values is None else phase, self.window, valid, return_weights)

        return by_phase(read, keys if values is None else values, self.stride)
