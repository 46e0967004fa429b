"""The embeddings of a memory network, and its hops."""

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vsr.memory.addressing import Addressing, Embedding, Flat2d, Normalize, checked_window
from vsr.registry import NotNegative, Positive

Tying = Literal["adjacent", "layer"]
# (query map (b, e, h', w'), key maps (b, t, e, h', w'), values (b, t, c, h, w), valid (b, t) or None) -> (weighted sum
# of the values (b, c, h, w), weights or None), with h' = ⌈h / stride⌉. Without values, the keys are summed.
Search = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], tuple[Tensor, Tensor | None]]


class MemoryRead(NamedTuple):
    """The result of a memory's last hop."""

    query: Tensor  # u (b, e, h, w)
    read: Tensor  # o (b, e, h, w)
    weights: Tensor | None  # p, (b, t·n, …) with n as the memory defines it; None unless requested


class Memory(Protocol):
    """A component of the kind ``memory``: a module built from the channels and (h, w) of query and sentences.

    Its option ``embed_channels`` sets e; null is the number of channels given. It is called with a query (b, c, h, w),
    sentences (b, t, c, h, w), oldest first, and ``valid`` (b, t), False for empty slots.
    """

    embed_channels: int  # e

    def __call__(  # noqa: D102
        self, query: Tensor, sentences: Tensor, valid: Tensor | None = None, return_weights: bool = False
    ) -> MemoryRead: ...


class Hops(nn.Module):
    """Embeds query and sentences, searches once per hop and passes each hop's read to the next hop.

    With u = B q, k_i = A s_i, v_i = C s_i (convolutions without bias), p = softmax(⟨u, k_i⟩ / √e), o = Σ p_i v_i:
    ``adjacent``: u ← u + o and A of a hop is C of the hop before; ``layer``: u ← H u + o with the same A and C.
    For 1×1 embeddings the sum is taken over the sentences and C applied to it, Σ p_i C s_i = C Σ p_i s_i: one
    convolution instead of t. ``normalize: concat`` is a group norm over the 2e channels of u and o together. The other
    options are those of ``Addressing`` and of the memories.

    Reference:
        Sukhbaatar et al., End-To-End Memory Networks, NeurIPS 2015, section 2 and 2.2, https://arxiv.org/abs/1503.08895
    Differs:
        Maps instead of vectors; scores divided by √e; B is not tied to the first A, nor the output to the last C.
    """

    def __init__(
        self,
        channels: int,
        map_size: tuple[int, int],
        embed_channels: int | None,
        num_hops: int,
        tying: Tying,
        normalize: Normalize,
        embedding: Embedding,
        memory_size: int | None,
        flat2d: Flat2d | None,
    ) -> None:
        super().__init__()
        self.embed_channels = e = channels if embed_channels is None else embed_channels
        self.num_hops, self.tying, self.memory_size = num_hops, tying, memory_size
        self.is_pointwise = embedding != "conv3x3"
        num_embeddings = num_hops + 1 if tying == "adjacent" else 2
        self.query_embedding = _embedding(channels, e, self.is_pointwise)  # B
        embeddings = [_embedding(channels, e, self.is_pointwise) for _ in range(num_embeddings)]
        self.embeddings = nn.ModuleList(embeddings)  # A, C, …
        hop_projection = tying == "layer" and num_hops > 1
        self.hop_projection = nn.Conv2d(e, e, 1, bias=False) if hop_projection else nn.Identity()  # H
        self.addressing = Addressing(e, map_size, embedding, flat2d, normalize)
        self.norm = nn.GroupNorm(_num_groups(2 * e), 2 * e) if normalize == "concat" else None

    def forward(self, query: Tensor, sentences: Tensor, valid: Tensor | None, search: Search) -> MemoryRead:
        """Returns the last hop's query, read and weights. Where no sentence is valid, the read is 0.

        The query is q (b, c, h, w), the sentences are s (b, t, c, h, w), oldest first; ``valid`` (b, t) is True for the
        sentences to use, None uses all. ``search`` computes the weights and applies them.
        """
        sentences, valid = self._kept(query, sentences, valid)
        u, read, weights = self.query_embedding(query), None, None
        for hop in range(self.num_hops):
            if read is not None:
                u = self.hop_projection(u) + read
            first = hop if self.tying == "adjacent" else 0
            key_embedding, value_embedding = self.embeddings[first], self.embeddings[first + 1]
            address, keys = self.addressing(u, sentences, key_embedding)
            if self.is_pointwise:
                weighted_sum, weights = search(address, keys, None if keys is sentences else sentences, valid)
                read = value_embedding(weighted_sum)
            else:
                values = value_embedding(sentences.flatten(0, 1)).unflatten(0, sentences.shape[:2])
                read, weights = search(address, keys, values, valid)
        assert read is not None, "there is at least one hop"
        if self.norm is not None:
            u, read = self.norm(torch.cat([u, read], 1)).chunk(2, 1)
        return MemoryRead(u, read, weights)

    def _kept(self, query: Tensor, sentences: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        channels = self.query_embedding.in_channels
        if query.ndim != 4 or query.shape[1] != channels:
            raise ValueError(f"the query is {tuple(query.shape)}; expected (b, {channels}, h, w)")
        b, c, h, w = query.shape
        if sentences.ndim != 5 or sentences.shape[1] < 1 or sentences[:, 0].shape != query.shape:
            expected = f"({b}, at least 1, {c}, {h}, {w}), as the query"
            raise ValueError(f"the sentences are {tuple(sentences.shape)}; expected {expected}")
        slots = tuple(sentences.shape[:2])
        if valid is not None and (valid.dtype != torch.bool or valid.shape != slots):
            raise ValueError(f"valid is {valid.dtype} {tuple(valid.shape)}; expected torch.bool {slots}")
        if self.memory_size is not None:
            sentences = sentences[:, -self.memory_size :]
            valid = None if valid is None else valid[:, -self.memory_size :]
        if valid is not None:
            # An empty slot may contain NaN, and 0 · NaN is NaN.
            sentences = sentences.masked_fill(~valid[:, :, None, None, None], 0)
        return sentences, valid


class SearchMemory(nn.Module):
    """The embeddings and hops of a memory; the registered memories differ in their ``search``.

    Args:
        channels: c, of query and sentences.
        map_size: (h, w) of the training feature maps.
        crop: R, side of the neighbouring region searched in each frame, odd; 0 and 1 compare equal positions only.
        embed_channels: e, of the embeddings; null is the features' own number.
        hops: K; the read of a hop is added to the next hop's query.
        tying: adjacent (A of a hop is C of the hop before) or layer (A and C shared, u ← H u + o).
        normalize: none; cosine (normalised embeddings, learned temperature); concat (group norm over u and o together).
        embedding: conv (1×1); conv3x3; fc compares one fully connected vector a map: fixed map size, no crop.
        memory_size: sentences kept, the newest; null keeps all.
        flat2d: {stride: 1|2, pad: 3}, a convolution that reduces the maps that are compared; crop counts reduced
            positions.
    """

    has_window: ClassVar[bool] = True
    has_tau: ClassVar[bool] = False

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
        if crop > 1 and not self.has_window:
            raise ValueError(f"crop is {crop}, but pixsentence searches the whole frame; remove crop, or use pixwise")
        self.window = checked_window(crop, map_size, embedding, flat2d)
        self.stride = 1 if flat2d is None else flat2d.stride
        self.is_fc = embedding == "fc"
        self.hops = Hops(channels, map_size, embed_channels, hops, tying, normalize, embedding, memory_size, flat2d)
        self.embed_channels = self.hops.embed_channels
        positions = 1 if self.is_fc else math.prod(-(-size // self.stride) for size in map_size)
        self.tau = nn.Parameter(torch.tensor(positions**0.5)) if self.has_tau else None

    def forward(
        self, query: Tensor, sentences: Tensor, valid: Tensor | None = None, return_weights: bool = False
    ) -> MemoryRead:
        """Reads the sentences, see ``Memory``; the weights are those of ``search``."""
        u, read, weights = self.hops(query, sentences, valid, partial(self.search, return_weights=return_weights))
        if not return_weights or weights is None:
            return MemoryRead(u, read, None)
        return MemoryRead(u, read, self.with_forgotten(weights, 1, sentences.shape[1]))

    def with_forgotten(self, weights: Tensor, dim: int, num_sentences: int) -> Tensor:
        """Returns the weights of all sentences along ``dim``: 0 for the oldest, which the memory did not keep."""
        kept = min(num_sentences, self.hops.memory_size or num_sentences)
        shape = list(weights.shape)
        shape[dim] = shape[dim] // kept * (num_sentences - kept)
        return torch.cat([weights.new_zeros(shape), weights], dim)

    def search(
        self, query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None, return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """A ``Search``; it may leave out the weights if ``return_weights`` is false."""
        raise NotImplementedError


def _num_groups(channels: int) -> int:
    """Returns 32, or the largest number of groups of at least two channels."""
    groups = math.gcd(32, channels)
    return groups // 2 if groups == channels else groups


def _embedding(channels: int, embed_channels: int, is_pointwise: bool) -> nn.Conv2d:
    return nn.Conv2d(channels, embed_channels, 1 if is_pointwise else 3, padding="same", bias=False)
