"""The names of parameters in published files: mmagic's, and those of SpyNet's first release, to and from ours.

Ours are BasicSR's, but for RealBasicVSR, which BasicSR does not have.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

GENERATOR, AVERAGE = "generator.", "generator_ema."  # beginnings of names in mmagic's files
TSA = r"(feat_fusion|spatial_attn[1-4]|spatial_attn_l[1-3]|spatial_attn_add1)"
PCD = r"((?:offset_conv[1-3]|feat_conv)\.l[1-3]|cas_offset_conv[12])"
# (theirs, ours): regular expressions and what replaces them
FROM_OTHERS = [
    (r"(^|\.)(?:module|net)Basic\.(\d+)\.(?:module|net)Basic\.", r"\1basic_module.\2.basic_module."),
    (r"(^|\.)(backward|forward)_resblocks\.", r"\1\2_trunk."),
    (r"(^|\.)upsample([12])\.upsample_conv\.", r"\1upconv\2."),
    (r"(^|\.)feat_l([23])_conv([12])\.conv\.", r"\1conv_l\2_\3."),
    (r"(^|\.)pcd_alignment\.", r"\1pcd_align."),
    (rf"(pcd_align\.{PCD})\.conv\.", r"\1."),
    (rf"((?:^|\.)fusion\.{TSA})\.conv\.", r"\1."),
]
TO_MMAGIC = [
    (r"(^|\.)(backward|forward)_trunk\.", r"\1\2_resblocks."),
    (r"(^|\.)upconv([12])\.", r"\1upsample\2.upsample_conv."),
    (r"(^|\.)conv_l([23])_([12])\.", r"\1feat_l\2_conv\3.conv."),
    (rf"(pcd_align\.{PCD})\.", r"\1.conv."),
    (rf"((?:^|\.)fusion\.{TSA})\.", r"\1.conv."),
    (r"(^|\.)pcd_align\.", r"\1pcd_alignment."),
]
MMAGIC_FLOW = re.compile(r"(basic_module\.\d+\.basic_module\.)(\d+)\.conv\.")  # numbers convolutions, we layers
OUR_FLOW = re.compile(r"(basic_module\.\d+\.basic_module\.)(\d+)\.")
FIRST_OF_FLOW = "basic_module.0.basic_module.0.weight"
CONSTANTS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # files of SpyNet alone lack them


def to_ours(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a file under our names; those that have them already are returned as they are.

    Args:
        weights: by name; of a file of mmagic, also those of other networks and counters, which are left out. If it
            holds a network and its average, the average is returned.
    """
    own = dict(weights)
    for prefix in (AVERAGE, GENERATOR):
        if any(name.startswith(prefix) for name in own):
            own = {name.removeprefix(prefix): value for name, value in own.items() if name.startswith(prefix)}
    own = {_renamed(name): value for name, value in own.items() if name != "step_counter"}
    for name in [name for name in own if name.endswith(FIRST_OF_FLOW)]:
        prefix = name.removesuffix(FIRST_OF_FLOW)
        for constant, values in CONSTANTS.items():
            own.setdefault(f"{prefix}{constant}", torch.tensor(values).view(1, 3, 1, 1))
    return own


def to_mmagic(weights: Mapping[str, Tensor], prefix: str = GENERATOR) -> dict[str, Tensor]:
    """Returns weights with our names under mmagic's."""
    renamed: dict[str, Tensor] = {}
    for name, value in weights.items():
        theirs = OUR_FLOW.sub(lambda m: f"{m[1]}{int(m[2]) // 2}.conv.", name)
        for pattern, replacement in TO_MMAGIC:
            theirs = re.sub(pattern, replacement, theirs)
        renamed[prefix + theirs] = value
    return renamed


def _renamed(name: str) -> str:
    name = MMAGIC_FLOW.sub(lambda m: f"{m[1]}{int(m[2]) * 2}.", name)
    for pattern, replacement in FROM_OTHERS:
        name = re.sub(pattern, replacement, name)
    return name
