"""Predicts the next frame from the current one and a memory of past ones."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.contracts import Spec, TestType
from vsr.memory import Memory
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

    The query is the current frame, the sentences are past frames. At each level of the encoder's features the query
    reads a memory of its own; the decoder receives the reads.

    Args:
        encoder: makes the levels' features of a frame: UNetEncoder or ResNetEncoder.
        decoder: makes the prediction of the levels: the one that matches the encoder.
        memory: the read, ``{type: pixsim | pixwise | pixsentence, …}``, built once per level. ``embed_channels``
            applies at the smallest level; the others embed in their features' own number of channels.
        noskip: for each level, largest first: true gives the decoder the read alone, false adds the query's feature.
        query_sentence_separate: sentences have an encoder of their own (the original project's QSsep).
        test_type: the prediction: nextframe, the next frame; subtract, its difference to the current one; opticalflow,
            the displacement to its pixels' places in the current one (x and y, in pixels).
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
        """Returns the prediction and, with ``return_weights``, each sentence's share of the read at each level.

        Args:
            query: the current frame (b, 3, h, w), RGB in [0, 1].
            sentences: the frames before it (b, t, 3, h, w), oldest first.
            return_weights: see Prediction.

        Raises:
            ValueError: h or w is not a multiple of ``spec.multiple``.
        """
        b, t, _, h, w = sentences.shape
        if h % self.spec.multiple or w % self.spec.multiple:
            raise ValueError(f"frames are {h}×{w}; the encoder needs multiples of {self.spec.multiple}")
        current = self.encoder(query)
        former = (self.sentence_encoder or self.encoder)(sentences.flatten(0, 1))
        features, weights = [], []
        for feature, past, memory, noskip in zip(current, former, self.memory, self.noskip, strict=True):
            answer, level_weights = memory(feature, past.unflatten(0, (b, t)), return_weights)
            features.append(answer if noskip else answer + feature)
            weights.append(level_weights)
        return Prediction(self.decoder(features), weights if return_weights else None)

    def frame_of(self, output: Tensor, query: Tensor) -> Tensor:
        """Returns the frame (b, 3, h, w) that an output predicts: itself, added to the query, or the query warped."""
        if self.spec.test_type == "subtract":
            return query + output
        return warp(query, output) if self.spec.test_type == "opticalflow" else output


class LevelMemory(nn.Module):
    """A memory whose read is projected to the number of channels of a level's features, if its embeddings have another.

    ``memory`` builds it from this number and from (h, w) of the features in training.
    """

    def __init__(self, channels: int, map_size: tuple[int, int], memory: Callable[..., Memory]) -> None:
        super().__init__()
        self.read = memory(channels, map_size)
        e = self.read.embed_channels
        self.projection = nn.Identity() if e == channels else nn.Conv2d(e, channels, 1)

    def forward(self, query: Tensor, sentences: Tensor, return_weights: bool) -> tuple[Tensor, Tensor | None]:
        """Returns the read (b, c, h, w) and, with ``return_weights``, the sentences' shares, (b, t) or (b, t, h, w).

        The query is (b, c, h, w), the sentences are (b, t, c, h, w), oldest first.
        """
        _, read, weights = self.read(query, sentences, None, return_weights)
        if weights is None:
            return self.projection(read), None
        return self.projection(read), weights.unflatten(1, (sentences.shape[1], -1)).sum(2)  # over a window's shifts


def warp(frame: Tensor, flow: Tensor) -> Tensor:
    """Samples ``frame`` (b, c, h, w) where ``flow`` points (backward warping, bilinear, border pixels repeated).

    ``flow`` is (b, 2, h, w), in pixels; channel 0 is x (right), 1 is y (down). Pixel (i, j) of the result is ``frame``
    at (i + flow_y, j + flow_x).
    """
    h, w = frame.shape[-2:]
    rows, columns = torch.arange(h, device=flow.device)[:, None], torch.arange(w, device=flow.device)
    at = torch.stack([(columns + flow[:, 0] + 0.5) * 2 / w - 1, (rows + flow[:, 1] + 0.5) * 2 / h - 1], -1)
    return F.grid_sample(frame, at.to(frame.dtype), padding_mode="border", align_corners=False)
