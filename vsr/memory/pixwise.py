"""Spatial-weight synthesis: a weight map per memory frame (and shift)."""

from functools import partial

from torch import Tensor, nn

from vsr.memory.addressing import Embedding, Flat2d, Normalize, by_phase, checked_window
from vsr.memory.hops import Hops, MemoryRead, Tying
from vsr.memory.pixsim import single_weight_search
from vsr.ops import local_window_read
from vsr.registry import NotNegative, Positive, register


@register("memory", "pixwise")
class PixWise(nn.Module):
    """Reads a memory with a weight per position and candidate: score ⟨u(x), k_i(x + δ)⟩ / √e.

    Args:
        channels: c, of query and sentences.
        map_size: (h, w) of the training feature maps.
        crop: R, side of the neighbouring region searched in each frame, odd; 0 and 1 compare equal positions only.
        embed_channels: e, of the embeddings; null is the features' own number.
        hops: K; the read of a hop is added to the next hop's query.
        tying: adjacent (A of a hop is C of the hop before) or layer (A and C shared, u ← H u + o).
        normalize: none; cosine (normalised embeddings, learned temperature); concat (group norm over u and o together).
        embedding: conv (1×1); conv3x3; fc compares one fully connected vector a map, so that a frame has one weight.
        memory_size: sentences kept, the newest; null keeps all.
        flat2d: {stride: 1|2, pad: 3}, a convolution that reduces the maps that are compared; crop counts reduced
            positions.
    """

    def __init__(
        self,
        channels: int,
        map_size: tuple[int, int],
        /,
        crop: NotNegative = 0,
        embed_channels: Positive | None = None,
        hops: Positive = 1,
        tying: Tying = "adjacent",
        normalize: Normalize = "none",
        embedding: Embedding = "conv",
        memory_size: Positive | None = None,
        flat2d: Flat2d | None = None,
    ) -> None:
        super().__init__()
        self.window = checked_window(crop, map_size, embedding, flat2d)
        self.stride = 1 if flat2d is None else flat2d.stride
        self.is_fc = embedding == "fc"
        self.hops = Hops(channels, map_size, embed_channels, hops, tying, normalize, embedding, memory_size, flat2d)
        self.embed_channels, self.memory_size = self.hops.embed_channels, memory_size

    def forward(
        self, query: Tensor, sentences: Tensor, valid: Tensor | None = None, return_weights: bool = False
    ) -> MemoryRead:
        """Reads the sentences, see ``Memory``.

        The weights are (b, t·R², h, w), numbered (frame, row shift, column shift), or (b, t) with ``embedding: fc``.
        """
        search = single_weight_search if self.is_fc else partial(self._search, return_weights=return_weights)
        u, read, weights = self.hops(query, sentences, valid, search)
        return MemoryRead(u, read, weights if return_weights else None)

    def _search(
        self, query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None, return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Weighs, at every position, the candidates of its window: a ``Search``, with weights (b, t·R², h, w)."""
        if values is None:
            return local_window_read(query, keys, None, self.window, valid, return_weights)

        def read(phase: Tensor) -> tuple[Tensor, Tensor | None]:
            inside = (..., slice(phase.shape[-2]), slice(phase.shape[-1]))
            return local_window_read(query[inside], keys[inside], phase, self.window, valid, return_weights)

        return by_phase(read, values, self.stride)
