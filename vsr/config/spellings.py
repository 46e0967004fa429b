"""Old spellings of option keys, translated in this one place, so that published EDVR/BasicSR files run unmodified."""

from typing import Any

from vsr.config.schema import join
from vsr.config.training_spellings import modernise_training
from vsr.utils.errors import UserError

# (section, old key, new key); "*" is any key at that place
RENAMED = [
    ("datasets.*", "use_flip", "use_hflip"),
    ("path", "pretrain_model_g", "pretrain_network_g"),
    ("path", "pretrain_netwrok_g", "pretrain_network_g"),
    ("path", "strict_load", "strict_load_g"),
    ("path", "param_key", "param_key_g"),
    ("", "model_type", "trainer"),
    ("", "pretrain_netwrok_g", "path.pretrain_network_g"),
    ("", "pretrain_network_g", "path.pretrain_network_g"),
    ("network_g", "ema_decay", "train.ema_decay"),
    ("val", "use_pbar", "pbar"),
]
# keys of other frameworks that have no effect here, and why
DROPPED = [
    ("", "set_CUDA_VISIBLE_DEVICES", ""),
    ("", "find_unused_parameters", ""),
    ("datasets.*", "augment_on_gpu", ": the workers augment, since it takes them 0.1 ms a sample"),
    ("val.metrics.*", "better", ": metrics know it themselves (lower_is_better in docs/training.md)"),
]
TRAINERS = {"EDVRModel": "ScratchTrainer", "VideoBaseModel": "ScratchTrainer", "SRModel": "ScratchTrainer"}
TYPES = {("train.scheduler", "MultiStepLR"): "MultiStepRestartLR"}


def modernise(tree: dict[str, Any]) -> list[str]:
    """Rewrites old spellings in ``tree`` in place and returns one line for each.

    Raises:
        UserError: a key stands there in its old and its new spelling with different values.
    """
    notes: list[str] = []
    for section, old, new in RENAMED:
        for path, mapping in _find(tree, section):
            if old in mapping:
                target, key = (tree, new) if "." in new else (mapping, new)
                _move(mapping, old, target, key)
                notes.append(f"{join(path, old)} is read as {new if '.' in new else join(path, new)}")
    for section, key, reason in DROPPED:
        for path, mapping in _find(tree, section):
            if key in mapping:
                del mapping[key]
                notes.append(f"{join(path, key)} has no effect here{reason}")
    if isinstance(tree.get("trainer"), str) and tree["trainer"] in TRAINERS:
        notes.append(f"trainer {tree['trainer']} is read as {TRAINERS[tree['trainer']]}")
        tree["trainer"] = TRAINERS[tree["trainer"]]
    if isinstance(tree.get("gpu_ids"), list):
        count = len(tree.pop("gpu_ids"))
        known = tree.setdefault("num_gpu", count)
        notes.append(
            f"gpu_ids is read as num_gpu: {count}" if known == count else "gpu_ids has no effect: num_gpu is given"
        )
    for (section, old), new in TYPES.items():
        for path, mapping in _find(tree, section):
            if mapping.get("type") == old:
                mapping["type"] = new
                notes.append(f"{path}.type {old} is read as {new}")
    return notes + modernise_training(tree)


def _move(source: dict[str, Any], old: str, target: dict[str, Any], new: str) -> None:
    value = source.pop(old)
    *sections, key = new.split(".")
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise UserError(f"{new}: '{section}' has to be a mapping of keys to receive the old key '{old}'")
    if key in target and target[key] != value:
        raise UserError(f"'{old}' is the old spelling of '{new}', and both are given: {value!r} and {target[key]!r}")
    target[key] = value


def _find(tree: dict[str, Any], section: str) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, Any]] = [("", tree)]
    for part in section.split(".") if section else []:
        found = [
            (join(path, key), mapping[key])
            for path, mapping in found
            if isinstance(mapping, dict)
            for key in (list(mapping) if part == "*" else [part])
            if key in mapping
        ]
    return [(path, mapping) for path, mapping in found if isinstance(mapping, dict)]
