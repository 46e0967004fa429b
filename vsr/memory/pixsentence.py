"""Whole-space search: every position attends to all positions of all memory frames."""

from functools import partial

from torch import Tensor, nn

from vsr.memory.addressing import Embedding, Flat2d, Normalize, by_phase
from vsr.memory.hops import Hops, MemoryRead, Tying
from vsr.memory.pixsim import single_weight_search
from vsr.memory.whole_space import frame_weights, position_weights, whole_space_read
from vsr.registry import NotNegative, Positive, register


@register("memory", "pixsentence")
class PixSentence(nn.Module):
    """Reads a memory with a weight per pair of positions: score ⟨u(x), k_i(y)⟩ / √e, softmax over frames i and all y.

    Args:
        channels: c, of query and sentences.
        map_size: (h, w) of the training feature maps.
        crop: 0 or 1: the search has no window.
        embed_channels: e, of the embeddings; null is the features' own number.
        hops: K; the read of a hop is added to the next hop's query.
        tying: adjacent (A of a hop is C of the hop before) or layer (A and C shared, u ← H u + o).
        normalize: none; cosine (normalised embeddings, learned temperature); concat (group norm over u and o together).
        embedding: conv (1×1); conv3x3; fc compares one fully connected vector a map, so that a frame has one weight.
        memory_size: sentences kept, the newest; null keeps all.
        flat2d: {stride: 1|2, pad: 3}, a convolution that reduces the maps that are compared; stride 2 makes a
            score map 16 times cheaper, all of it 4 times.
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
        if crop not in (0, 1):
            raise ValueError(f"crop is {crop}, but pixsentence searches the whole frame; remove crop, or use pixwise")
        self.hops = Hops(channels, map_size, embed_channels, hops, tying, normalize, embedding, memory_size, flat2d)
        self.embed_channels, self.memory_size = self.hops.embed_channels, memory_size
        self.stride = 1 if flat2d is None else flat2d.stride
        self.is_fc = embedding == "fc"

    def forward(
        self, query: Tensor, sentences: Tensor, valid: Tensor | None = None, return_weights: bool = False
    ) -> MemoryRead:
        """Reads the sentences, see ``Memory``.

        The weights are summed over each frame's positions: (b, t, h, w), or (b, t) with ``embedding: fc``.
        """
        search = single_weight_search if self.is_fc else partial(self._search, return_weights=return_weights)
        u, read, weights = self.hops(query, sentences, valid, search)
        return MemoryRead(u, read, weights if return_weights else None)

    def weights_at(self, query: Tensor, sentences: Tensor, positions: Tensor, valid: Tensor | None = None) -> Tensor:
        """Returns the weights of a few query positions: (b, n, t, h', w'), h' = h, or of the reduced maps.

        ``positions`` (n, 2) are rows and columns of the query; the other arguments are those of ``forward``.
        """
        if self.is_fc:
            raise ValueError("embedding: fc has one weight a frame and none of single positions")

        def search(
            query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None
        ) -> tuple[Tensor, Tensor | None]:
            read, _ = self._search(query, keys, values, valid, return_weights=False)
            return read, position_weights(query, keys, positions // self.stride, valid)

        weights = self.hops(query, sentences, valid, search).weights
        assert weights is not None, "the search returns weights"
        return weights

    def _search(
        self, query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None, return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Weighs, at every position, all positions of all frames: a ``Search``, with weights (b, t, h, w)."""

        def read(phase: Tensor) -> tuple[Tensor, Tensor | None]:
            inside = (..., slice(phase.shape[-2]), slice(phase.shape[-1]))
            q, k = query[inside], keys[inside]
            weights = frame_weights(q, k, valid) if return_weights else None
            return whole_space_read(q, k, None if values is None else phase, valid), weights

        return by_phase(read, keys if values is None else values, self.stride)
