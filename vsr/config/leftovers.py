"""Keys of BasicSR and its descendants that have no counterpart here.

Where a value changes nothing, ``network_d: ~``, the key is dropped with a note. For any other
value, the message names the missing feature.
"""

from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from typing import Any, NamedTuple

from vsr.config.options import GeneralOptions, LoaderOptions, PathOptions, ValOptions
from vsr.config.schema import join, options_of
from vsr.config.spellings import known_options, sections_at


class Leftover(NamedTuple):
    """Keys of a section that change nothing: always, or with one of these values."""

    section: str
    keys: tuple[str, ...]
    values: Collection[Any] | None
    reason: str = ""


_ABSENT = (None, False)
_AUGMENTED = ("use_hflip", "use_rot", "random_reverse", "flip_sequence", "interval_list", "gt_size", "val_partition")
LEFTOVERS = [
    Leftover("", ("set_CUDA_VISIBLE_DEVICES", "find_unused_parameters", "use_static_graph"), None),
    Leftover("", ("network_e",), _ABSENT),
    Leftover("datasets.*", ("augment_on_gpu",), None, ": the workers augment, since it takes them 0.1 ms a sample"),
    Leftover("datasets.*", ("persistent_workers",), (True, False, None), ": the workers always stay"),
    Leftover("datasets.*", ("phase",), None),
    Leftover("datasets.*", ("dataroot_flow", "test_mode", "flip_sequence", "cache_data", "mean", "std"), _ABSENT),
    Leftover("datasets.*", ("color",), ("RGB", "rgb", None)),
    Leftover("datasets.*", ("filename_tmpl",), ("{}", None)),
    Leftover("datasets.train", ("val_partition",), None, ": its list alone names the clips"),
    Leftover("datasets.train", ("padding",), None, ": windows never leave a clip"),
    Leftover("datasets.train", ("interval_list",), ([1], None)),
    Leftover("datasets.val*", _AUGMENTED, None, ": test clips are read as they are"),
    Leftover("datasets.test*", _AUGMENTED, None, ": test clips are read as they are"),
    Leftover("path", ("ignore_resume_networks",), _ABSENT),
    Leftover("path", ("param_key_d",), None, ": its entry is found by name"),
    Leftover("train", ("network_d", "optim_d", "gan_opt", "pretrain_network_d"), _ABSENT),
    Leftover("train", ("strict_load_d",), None),
    Leftover("train", ("style_opt", "ldl_opt", "mixing_augs"), _ABSENT),
    Leftover("train.losses", ("perceptual",), _ABSENT),
    Leftover("train.losses.perceptual", ("style_weight",), (0, None)),
    Leftover("train.losses.perceptual", ("vgg_type",), ("vgg19", None)),
    Leftover("train.losses.perceptual", ("use_input_norm",), (True, None)),
    Leftover("train.losses.perceptual", ("range_norm", "norm_img"), _ABSENT),
    Leftover("train.losses.perceptual", ("criterion",), ("l1", None)),
    Leftover("train", ("use_grad_clip", "use_amp"), _ABSENT),
    Leftover("train", ("net_d_iters",), (1, None)),
    Leftover("train", ("net_d_init_iters",), (0, None)),
    Leftover("logger.wandb", ("entity",), _ABSENT),
    Leftover("val", ("grids",), _ABSENT),
    Leftover("val", ("use_image",), (True, None), ": metrics compare 8-bit images"),
    Leftover("val", ("rgb2bgr", "max_minibatch"), None),
    Leftover("val.metrics.*", ("better",), None, ": metrics know it themselves (lower_is_better in docs/training.md)"),
]
# by the key or trainer that asks for a feature
_GAN = "training against a discriminator needs `trainer: GANTrainer`, network_d, train.optim_d and train.gan_opt"
_OTHER_GAN = "its losses are not built in; `trainer: GANTrainer` trains against a discriminator"
_LOSS = "is not built in; docs/training.md describes a loss of your own, for train.losses"
_EARLY = "the spelling of BasicSR's files of early 2020, which are not translated; write"
_GAN_KEYS = ("network_d", "optim_d", "gan_opt", "net_d_iters", "net_d_init_iters", "pretrain_network_d")
MISSING = {
    "lr_g": f"{_EARLY} optim_g: {{type: Adam, lr: 4e-4}}",
    **dict.fromkeys(("beta1", "beta2"), f"{_EARLY} optim_g.betas: [0.9, 0.99]"),
    "weight_decay_g": f"{_EARLY} optim_g.weight_decay",
    "niter": f"{_EARLY} total_iter",
    "lr_scheme": f"{_EARLY} scheduler.type",
    **{key: f"{_EARLY} scheduler.{key}" for key in ("periods", "restart_weights", "eta_min")},
    "pixel_criterion": f"{_EARLY} pixel_opt: {{type: CharbonnierLoss}}",
    "pixel_weight": f"{_EARLY} pixel_opt.loss_weight",
    "which_model_g": f"{_EARLY} type",
    **dict.fromkeys(_GAN_KEYS, _GAN),
    **dict.fromkeys(("ESRGANModel", "RealESRGANModel", "RealESRNetModel"), _OTHER_GAN),
    **dict.fromkeys(("style_opt", "style_weight"), f"a style loss {_LOSS}"),
    "vgg_type": "the perceptual loss is that of VGG-19",
    "use_input_norm": "frames are always normalised for VGG-19",
    **dict.fromkeys(("range_norm", "norm_img"), "frames are always in [0, 1]"),
    "criterion": "the features' distance is always their mean absolute difference, l1",
    "ldl_opt": f"the LDL loss {_LOSS}",
    "mixing_augs": "mixing the samples of a batch is not built in",
    "use_grad_clip": "the largest norm of the gradients is train.clip_grad_norm",
    "use_amp": "mixed precision is train.amp",
}


def drop_leftovers(tree: dict[str, Any]) -> list[str]:
    """Removes keys that change nothing from the tree, unless they are options here; returns a note for each."""
    notes = []
    for section, keys, values, reason in LEFTOVERS:
        for path, mapping in sections_at(tree, section):
            for key in keys:
                is_left_over = key in mapping and (values is None or mapping[key] in values)
                if is_left_over and key not in _options_at(path, tree):
                    del mapping[key]
                    notes.append(f"{join(path, key)} has no effect here{reason}")
    return notes


def _options_at(path: str, tree: Mapping[str, Any]) -> Collection[str]:
    """Returns the keys that a section has here, with those of the component that it names."""
    section, _, phase = path.partition(".")
    if section == "datasets":
        return {*options_of(LoaderOptions), *known_options("dataset", tree["datasets"][phase].get("type"))}
    if path.startswith("train.losses."):
        return known_options("loss", tree["train"]["losses"][path.removeprefix("train.losses.")].get("type"))
    if section == "train":
        train = known_options("trainer", tree.get("trainer") or "ScratchTrainer").get("train")
        schema = None if train is None else train.annotation
        return options_of(schema) if isinstance(schema, type) and is_dataclass(schema) else ()
    sections = {"": GeneralOptions, "path": PathOptions, "val": ValOptions}
    return options_of(sections[path]) if path in sections else ()
