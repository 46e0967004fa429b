"""Whole-space search: every position attends to all positions of all memory frames."""

from torch import Tensor

from vsr.memory.addressing import by_phase
from vsr.memory.hops import SearchMemory
from vsr.memory.pixsim import single_weight_search
from vsr.memory.whole_space import frame_weights, position_weights, whole_space_read
from vsr.registry import register


@register("memory", "pixsentence")
class PixSentence(SearchMemory):
    """Reads a memory with a weight per pair of positions: score ⟨u(x), k_i(y)⟩ / √e, softmax over frames i and all y.

    Args:
        crop: 0 or 1: the search has no window.
        flat2d: stride 2 makes a score map 16 times cheaper, all of it 4 times.
    """

    has_window = False

    def search(
        self, query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None, return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Weighs, at every position, all positions of all frames.

        The weights are summed over each frame's positions: (b, t, h, w), or (b, t) with ``embedding: fc``.
        """
        if self.is_fc:
            return single_weight_search(query, keys, values, valid)

        def read(phase: Tensor) -> tuple[Tensor, Tensor | None]:
            q, k = query[..., : phase.shape[-2], : phase.shape[-1]], keys[..., : phase.shape[-2], : phase.shape[-1]]
            weights = frame_weights(q, k, valid) if return_weights else None
            return whole_space_read(q, k, None if values is None else phase, valid), weights

        return by_phase(read, keys if values is None else values, self.stride)

    def weights_at(self, query: Tensor, sentences: Tensor, positions: Tensor, valid: Tensor | None = None) -> Tensor:
        """Returns the weights of a few query positions: (b, n, t, h', w'), h' = h, or of the reduced maps.

        ``positions`` (n, 2) are rows and columns of the query; the other arguments are those of ``forward``.
        """

        def search(
            query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None
        ) -> tuple[Tensor, Tensor | None]:
            read, _ = self.search(query, keys, values, valid, return_weights=False)
            return read, position_weights(query, keys, positions // self.stride, valid)

        weights = self.hops(query, sentences, valid, search).weights
        assert weights is not None, "the search returns weights"
        return self.with_forgotten(weights, 2, sentences.shape[1])
