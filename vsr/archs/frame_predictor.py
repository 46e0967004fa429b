"""Predicts the next frame from the current one and a memory of past ones."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.contracts import Spec, TestType
from vsr.memory.hops import Memory, num_kept
from vsr.registry import Component, register


class Encoder(Protocol):
    """A module that makes the levels' features of a frame, the largest level first."""

    channels: list[int]  # of each level
    strides: list[int]  # pixels of the frame that one position stands for, of each level

    def __call__(self, image: Tensor) -> list[Tensor]: ...  # noqa: D102


class Decoder(Protocol):
    """A module that makes a picture of the levels' features."""

    image: nn.Conv2d  # its last layer

    def __call__(self, features: list[Tensor]) -> Tensor: ...  # noqa: D102


class Prediction(NamedTuple):
    """What a FramePredictor returns."""

    output: Tensor  # as test_type says
    weights: list[Tensor] | None  # each level's share of every sentence, (b, t) or (b, t, h_l, w_l); None unless asked


@register("arch")
class FramePredictor(nn.Module):
    """Predicts a frame: encoder → a memory read per level → decoder.

    Query is the current frame, sentences are past frames. At each level of the encoder's features the query asks a
    memory of its own; the decoder receives what the memories answer. A level whose ``noskip`` is false adds the query's
    own feature.

    Args:
        encoder: makes the levels' features of a frame: UNetEncoder or ResNetEncoder.
        decoder: makes the prediction of the levels: the one that matches the encoder.
        memory: the read, ``{type: pixsim | pixwise | pixsentence, …}``, made once a level. ``embed_channels`` applies
            at the smallest level; the others embed in their features' own number of channels.
        noskip: for each level, largest first: true gives the decoder the memory's answer alone.
        query_sentence_separate: sentences have an encoder of their own (the original project's QSsep).
        test_type: what is predicted: nextframe, the next frame; subtract, its difference to the current one;
            opticalflow, where its pixels come from in the current one (x and y, in pixels).
        frame_size: height and width of the training frames.

    Raises:
        ValueError: options that do not fit each other.

    Reference: the original project's README names the parts and the experiments; how they are joined is our reading of
        it (docs/restoration.md).
    """

    def __init__(
        self,
        encoder: Annotated[Callable[..., Encoder], Component("encoder")],
        decoder: Annotated[Callable[..., Decoder], Component("decoder")],
        memory: Annotated[Callable[..., Memory], Component("memory")],
        noskip: list[bool],
        query_sentence_separate: bool = False,
        test_type: TestType = "nextframe",
        frame_size: tuple[int, int] = (64, 64),
    ) -> None:
        super().__init__()
        self.encoder = encoder()
        self.sentence_encoder = encoder() if query_sentence_separate else None
        channels, strides = self.encoder.channels, self.encoder.strides
        if len(noskip) != len(channels):
            raise ValueError(f"noskip has {len(noskip)} entries; the encoder has {len(channels)} levels")
        if any(size % strides[-1] for size in frame_size):
            raise ValueError(f"frame_size {list(frame_size)}: the encoder needs multiples of {strides[-1]}")
        self.noskip = noskip
        self.test_type = test_type
        self.frame_size = frame_size
        self.spec = Spec(multiple=strides[-1], task="next-frame", test_type=test_type, frame_size=frame_size)
        levels = list(zip(channels, strides, strict=True))
        memories = [partial(memory, embed_channels=None)] * (len(levels) - 1) + [memory]
        self.memory = nn.ModuleList(
            LevelMemory(c, (frame_size[0] // stride, frame_size[1] // stride), build)
            for (c, stride), build in zip(levels, memories, strict=True)
        )
        self.decoder = decoder(channels, strides, 2 if test_type == "opticalflow" else 3)
        if test_type != "nextframe":  # an untrained network then copies the query
            for parameter in self.decoder.image.parameters():
                nn.init.zeros_(parameter)

    def forward(self, query: Tensor, sentences: Tensor, return_weights: bool = False) -> Prediction:
        """Returns the prediction and, if asked for, the memories' weights.

        Args:
            query: the current frame (b, 3, h, w), RGB in [0, 1].
            sentences: the frames before it (b, t, 3, h, w), oldest first.
            return_weights: also returns what share of the answer each sentence had, level by level.

        Raises:
            ValueError: sizes that the network cannot take.
        """
        b, t, _, h, w = sentences.shape
        if h % self.spec.multiple or w % self.spec.multiple:
            raise ValueError(f"frames are {h}×{w}; the encoder needs multiples of {self.spec.multiple}")
        asked = self.encoder(query)
        told = (self.sentence_encoder or self.encoder)(sentences.flatten(0, 1))
        features, weights = [], []
        for feature, past, memory, noskip in zip(asked, told, self.memory, self.noskip, strict=True):
            answer, level_weights = memory(feature, past.unflatten(0, (b, t)), return_weights)
            features.append(answer if noskip else answer + feature)
            weights.append(level_weights)
        return Prediction(self.decoder(features), weights if return_weights else None)

    def frame_of(self, output: Tensor, query: Tensor) -> Tensor:
        """Returns the frame (b, 3, h, w) that an output predicts: itself, added to the query, or the query warped."""
        if self.test_type == "subtract":
            return query + output
        return warp(query, output) if self.test_type == "opticalflow" else output


class LevelMemory(nn.Module):
    """A memory whose answer is brought to the level's number of channels, if its embeddings have another.

    Args:
        channels: of the level's features.
        map_size: height and width of the level's features in training.
        memory: builds the memory of these two.
    """

    def __init__(self, channels: int, map_size: tuple[int, int], memory: Callable[..., Memory]) -> None:
        super().__init__()
        self.read = memory(channels, map_size)
        e = self.read.embed_channels
        self.projection = nn.Identity() if e == channels else nn.Conv2d(e, channels, 1)

    def forward(self, query: Tensor, sentences: Tensor, return_weights: bool) -> tuple[Tensor, Tensor | None]:
        """Returns the answer (b, c, h, w) and, or None, the sentences' shares of it, (b, t) or (b, t, h, w).

        Args:
            query: (b, c, h, w).
            sentences: (b, t, c, h, w), oldest first.
            return_weights: whether the shares are wanted.
        """
        _, read, weights = self.read(query, sentences, None, return_weights)
        if weights is None:
            return self.projection(read), None
        t = sentences.shape[1]
        kept = num_kept(self.read, t)
        shares = weights.unflatten(1, (kept, -1)).sum(2)  # over the shifts of a window
        forgotten = shares.new_zeros(shares.shape[0], t - kept, *shares.shape[2:])
        return self.projection(read), torch.cat([forgotten, shares], 1)


def warp(frame: Tensor, flow: Tensor) -> Tensor:
    """Samples ``frame`` where ``flow`` points (backward warping); beyond the border, the border's pixels.

    Args:
        frame: (b, c, h, w).
        flow: (b, 2, h, w), displacement in pixels; channel 0 is x (right), 1 is y (down).

    Returns:
        (b, c, h, w); pixel (i, j) is ``frame`` at (i + flow_y, j + flow_x), bilinear.
    """
    h, w = frame.shape[-2:]
    rows, columns = torch.meshgrid(
        torch.arange(h, device=flow.device), torch.arange(w, device=flow.device), indexing="ij"
    )
    at = torch.stack([(columns + flow[:, 0] + 0.5) * 2 / w - 1, (rows + flow[:, 1] + 0.5) * 2 / h - 1], -1)
    return F.grid_sample(frame, at.to(frame.dtype), padding_mode="border", align_corners=False)
