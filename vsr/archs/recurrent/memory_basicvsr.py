"""BasicVSR whose branches ask a memory of their former states."""

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from vsr.archs.edvr_memory import maps_of_crops
from vsr.archs.recurrent.basicvsr import BasicVSR
from vsr.archs.recurrent.parts import Keep
from vsr.memory import Memory
from vsr.memory.addressing import Flatten
from vsr.memory.fusion import Fuse, MemoryFusion
from vsr.ops import flow_warp
from vsr.registry import Component, NotNegative, Positive, Shared, register


@register("arch")
class MemoryBasicVSR(BasicVSR):
    """Restores every frame of a clip as BasicVSR does, and at each step reads a memory of the branch's last states.

    The query is the state of the step before, aligned to the current frame; the sentences are the last ``memory_size``
    states, each aligned by the composition of the flows between its frame and the current one, oldest first. What is
    read is added to the aligned state. It starts at zero, so that a pretrained BasicVSR starts unchanged, bit for bit
    (``path.strict_load_g: false``); the new parameters are called ``backward_memory.…`` and ``forward_memory.…``.

    Args:
        memory: the read, ``{type: pixsim | pixwise | pixsentence, …}``.
        memory_size: states that a branch remembers.
        fuse: add (y = H u + o: embed_channels is num_feat) or concat (y = P [u; o], 2 · embed_channels wide).
        num_feat: channels of the features.
        num_block: residual blocks of a branch; the published networks have 30.
        causal: reads no later frames: without the backward branch, for streams.
        cpu_cache_length: with more frames than this, features wait in the CPU's memory; ``null``: they never do.
        flow_feat: channels of SpyNet, the flow network; its published weights have 32.
        map_size: height and width of the training features; pixsim's temperature starts from it, ``embedding: fc`` is
            made for it, and ``crop`` is checked against it. By default a quarter of ``datasets.train.gt_size``.

    Raises:
        ValueError: options that do not fit each other.

    Reference: none; BasicVSR (Chan et al., CVPR 2021) with the reads of this project's memories (docs/memory.md). The
        composed flows are those of BasicVSR++ (Chan et al., CVPR 2022, equation 5), for any number of steps.
    """

    def __init__(
        self,
        memory: Annotated[Callable[..., Memory], Component("memory")],
        memory_size: Positive = 3,
        fuse: Fuse = "add",
        num_feat: Positive = 64,
        num_block: NotNegative = 15,
        causal: bool = False,
        cpu_cache_length: Positive | None = None,
        flow_feat: Positive = 32,
        map_size: Annotated[tuple[int, int], Shared("datasets.train.gt_size", maps_of_crops)] = (64, 64),
    ) -> None:
        super().__init__(num_feat, num_block, causal, cpu_cache_length, flow_feat)
        self.memory_size = memory_size
        fusions = [MemoryFusion(num_feat, map_size, memory, fuse, zero=True) for _ in range(1 if causal else 2)]
        self.forward_memory, self.backward_memory = fusions[0], None if causal else fusions[1]
        is_fixed = any(isinstance(part, Flatten) for part in fusions[0].modules())
        self.spec = self.spec._replace(map_size=map_size, pixels_per_position=4, is_fixed_to_map=is_fixed)

    def branch(
        self, trunk: nn.Module, lq: Tensor, order: Sequence[int], flows: Sequence[Tensor], start: Tensor, keep: Keep
    ) -> list[Tensor]:
        """Runs a branch, see BasicVSR; each step but the first reads the memory."""
        fusion = self.forward_memory if trunk is self.forward_trunk else self.backward_memory
        assert fusion is not None, "a branch has a memory"
        feature = start
        features: list[Tensor] = []
        states: list[tuple[Tensor, Tensor]] = []  # oldest first, with the flows from the current frame to theirs
        for k, i in enumerate(order):
            if k:
                flow = flows[k - 1]
                older = [(state, flow + flow_warp(to_state, flow)) for state, to_state in states]
                states = [*older, (feature, flow)][-self.memory_size :]
                aligned = [flow_warp(state, to_state) for state, to_state in states]
                feature = aligned[-1] + fusion(aligned[-1], torch.stack(aligned, 1))
            feature = trunk(torch.cat([lq[:, i], feature], 1))
            features.append(keep(feature))
        return features
