"""Recognises published networks by the names and shapes of their parameters."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vsr.archs.edvr import EDVR
from vsr.archs.recurrent.basicvsr import BasicVSR
from vsr.archs.recurrent.basicvsr_pp import BasicVSRPlusPlus
from vsr.archs.recurrent.iconvsr import EDVRExtractor, IconVSR
from vsr.archs.recurrent.realbasicvsr import RealBasicVSRNet
from vsr.archs.recurrent.spynet import SpyNet
from vsr.archs.weight_names import to_ours
from vsr.utils.errors import UserError

NETWORKS = (EDVR, BasicVSR, IconVSR, BasicVSRPlusPlus, RealBasicVSRNet, SpyNet, EDVRExtractor)
BUILDERS: dict[str, Callable[..., nn.Module]] = {network.__name__: network for network in NETWORKS}
PARTS = ("SpyNet", "EDVRExtractor")  # no network_g, but parts of one
NUM_NAMED = 6


class UnknownNetworkError(UserError):
    """No known network has such weights."""


class Recognized(NamedTuple):
    """What a file of weights holds.

    Args:
        options: of the network, as ``network_g`` has them: ``{"type": "BasicVSR", "num_feat": 64, "num_block": 30}``.
        weights: all its parameters and buffers, under our names.
    """

    options: dict[str, Any]
    weights: dict[str, Tensor]

    def build(self) -> nn.Module:
        """Returns the network with the weights."""
        network = _build(self.options)
        network.load_state_dict(self.weights)
        return network


def recognize(weights: Mapping[str, Tensor], file: object = "the file") -> Recognized:
    """Returns the network whose weights these are, and the weights under our names.

    Known are BasicSR's and mmagic's EDVR, BasicVSR, IconVSR, BasicVSR++ and RealBasicVSR, and SpyNet by itself in three
    layouts. Options that no shape depends on have their defaults: ``keyframe_stride``, ``max_residue_magnitude``,
    ``center_frame_idx``.

    Args:
        weights: by name, as ``vsr.utils.weight_files.read_weights`` returns them.
        file: where they come from, for messages.

    Raises:
        UnknownNetworkError: no known network has such names.
        UserError: some do not fit the network; they are listed.
    """
    own = to_ours(weights)
    options = options_of(own)
    if options is None:
        some = ", ".join(list(dict.fromkeys(name.split(".")[0] for name in own))[:NUM_NAMED])
        known = ", ".join(BUILDERS)
        raise UnknownNetworkError(
            f"{file} holds weights of an unknown network, whose names begin with {some}; known: {known}"
        )
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in _build(options).state_dict().items()}
    wrong = [f"{name} is missing" for name in expected if name not in own]
    wrong += [f"{name} is not part of it" for name in own if name not in expected]
    shapes = {name: tuple(value.shape) for name, value in own.items() if name in expected}
    wrong += [f"{n} is {shape}, expected {expected[n]}" for n, shape in shapes.items() if shape != expected[n]]
    if wrong:
        more = f"; and {len(wrong) - NUM_NAMED} more" if len(wrong) > NUM_NAMED else ""
        raise UserError(f"{file} looks like {spelt(options)}, but {'; '.join(wrong[:NUM_NAMED])}{more}")
    return Recognized(options, own)


def options_of(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Returns the options of the network whose weights these are, under our names; None if it is unknown."""
    try:
        return next((found for guess in _GUESSES if (found := guess(weights)) is not None), None)
    except (KeyError, IndexError, ZeroDivisionError):  # a name or a dimension is missing that such a network has
        return None


def spelt(options: Mapping[str, Any]) -> str:
    """Returns options as YAML has them, ``{type: BasicVSR, num_feat: 64}``."""
    values = {key: str(value).lower() if isinstance(value, bool) else value for key, value in options.items()}
    return "{" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}"


def _build(options: Mapping[str, Any]) -> nn.Module:
    return BUILDERS[options["type"]](**{key: value for key, value in options.items() if key != "type"})


def _num_blocks(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Returns the number of residual blocks whose names begin with ``prefix.0``, ``prefix.1`` and so on."""
    pattern = re.compile(rf"{re.escape(prefix)}\.(\d+)\.")
    return max((int(match[1]) + 1 for name in weights if (match := pattern.match(name))), default=0)


def _spynet(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if "basic_module.0.basic_module.0.weight" not in weights:
        return None
    return {"type": "SpyNet", **_flow_feat(weights)}


def _flow_feat(weights: Mapping[str, Tensor], prefix: str = "") -> dict[str, int]:
    """Returns the width of the flow network, if it is not the published one's."""
    first = weights.get(f"{prefix}basic_module.0.basic_module.0.weight")
    return {} if first is None or first.shape[0] == 32 else {"flow_feat": first.shape[0]}


def _real_basicvsr(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if "image_cleaning.1.weight" not in weights:
        return None
    return {
        "type": "RealBasicVSRNet",
        "mid_channels": weights["image_cleaning.1.weight"].shape[1],
        "num_propagation_blocks": _num_blocks(weights, "basicvsr.forward_trunk.main.2"),
        "num_cleaning_blocks": _num_blocks(weights, "image_cleaning.0.main.2"),
    }


def _basicvsr_pp(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if "deform_align.backward_1.weight" not in weights:
        return None
    return {
        "type": "BasicVSRPlusPlus",
        "mid_channels": weights["deform_align.backward_1.weight"].shape[0],
        "num_blocks": _num_blocks(weights, "backbone.backward_1.main.2"),
        "is_low_res_input": "feat_extract.0.weight" not in weights,
        **_flow_feat(weights, "spynet."),
    }


def _iconvsr(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if "edvr.fusion.feat_fusion.weight" not in weights:
        return None
    num_feat = weights["forward_trunk.main.0.weight"].shape[0]
    return {
        "type": "IconVSR",
        "num_feat": num_feat,
        "num_block": _num_blocks(weights, "forward_trunk.main.2"),
        "temporal_padding": weights["edvr.fusion.feat_fusion.weight"].shape[1] // num_feat // 2,
        **_flow_feat(weights, "spynet."),
    }


def _basicvsr(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if "forward_trunk.main.0.weight" not in weights or "fusion.weight" not in weights:
        return None
    is_causal = not any(name.startswith("backward_trunk.") for name in weights)
    return {
        "type": "BasicVSR",
        "num_feat": weights["forward_trunk.main.0.weight"].shape[0],
        "num_block": _num_blocks(weights, "forward_trunk.main.2"),
        **({"causal": True} if is_causal else {}),
        **_flow_feat(weights, "spynet."),
    }


def _edvr(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if "pcd_align.cas_dcnpack.weight" not in weights:
        return None
    with_tsa = "fusion.temporal_attn1.weight" in weights
    num_feat = weights["pcd_align.cas_dcnpack.weight"].shape[0]
    fusion = weights["fusion.feat_fusion.weight" if with_tsa else "fusion.weight"]
    num_frame = fusion.shape[1] // num_feat
    if not any(name.startswith("conv_last.") for name in weights):
        return {"type": "EDVRExtractor", "num_frame": num_frame, "num_feat": num_feat}
    return {
        "type": "EDVR",
        "num_feat": num_feat,
        "num_frame": num_frame,
        "deformable_groups": weights["pcd_align.cas_dcnpack.conv_offset.weight"].shape[0] // 27,
        "num_extract_block": _num_blocks(weights, "feature_extraction"),
        "num_reconstruct_block": _num_blocks(weights, "reconstruction"),
        "hr_in": "predeblur.stride_conv_hr1.weight" in weights,
        "with_predeblur": "predeblur.conv_first.weight" in weights,
        "with_tsa": with_tsa,
        **({} if "upconv2.weight" in weights else {"scale": math.isqrt(weights["upconv1.weight"].shape[0] // 64)}),
    }


_GUESSES = (_real_basicvsr, _basicvsr_pp, _iconvsr, _basicvsr, _edvr, _spynet)
