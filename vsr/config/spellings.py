"""Old spellings of option keys, translated in this one place, so that published EDVR/BasicSR files run unmodified."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from vsr.config.schema import Report, as_number, check_value, join
from vsr.registry import at_least
from vsr.utils.errors import UserError

# (section, old key, new key); "*" is any key at that place, and a new key with dots begins at the top of the file
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
    ("train", "pixel_opt", "train.losses.pixel"),
    ("val", "use_pbar", "pbar"),
]
# keys of other frameworks that have no effect here, and why
DROPPED = [
    ("", "set_CUDA_VISIBLE_DEVICES", ""),
    ("", "find_unused_parameters", ""),
    ("datasets.*", "augment_on_gpu", ": the workers augment, since it takes them 0.1 ms a sample"),
    ("val.metrics.*", "better", ": metrics know it themselves (lower_is_better in docs/training.md)"),
]
# (section, key, old name, new name)
RENAMED_VALUES = [
    ("", "trainer", "EDVRModel", "ScratchTrainer"),
    ("", "trainer", "VideoBaseModel", "ScratchTrainer"),
    ("", "trainer", "SRModel", "ScratchTrainer"),
    ("train.scheduler", "type", "MultiStepLR", "MultiStepRestartLR"),
]
# keys of `train:` that are read as `train.parameters`: the parameters that match, and the field that takes the value
RULES = [("tsa_iter", "", "from_iter"), ("dcn_lr_mul", "dcn", "lr_mul"), ("flow_lr_mul", "spynet", "lr_mul")]
RULES += [("fix_flow", "spynet|edvr", "from_iter")]
PARTS = {"encoder": r"^(sentence_)?encoder\.", "decoder": r"^decoder\.", "memory": r"^memory\."}


@dataclass(frozen=True)
class PartRates:
    """The original project's learning rates of a FramePredictor's parts; ~ is optim_g's."""

    encoder: Annotated[float, at_least(0)] | None = None
    decoder: Annotated[float, at_least(0)] | None = None
    memory: Annotated[float, at_least(0)] | None = None


def modernise(tree: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Rewrites old spellings in ``tree`` in place; returns a note for each, and old key paths by the new ones.

    Raises:
        UserError: a key stands there in its old and its new spelling with different values, or a part's learning rate
            is no rate, or relative to an ``optim_g.lr`` of 0.
    """
    notes: list[str] = []
    written: dict[str, str] = {}
    for section, old, new in RENAMED:
        for path, mapping in _find(tree, section):
            if old in mapping:
                old_path, new_path = join(path, old), new if "." in new else join(path, new)
                _move(tree, mapping.pop(old), old_path, new_path)
                written[new_path] = old_path
                if old != "pixel_opt":  # a usual key, which our own files have, too
                    notes.append(f"{old_path} is read as {new_path}")
    for section, key, reason in DROPPED:
        for path, mapping in _find(tree, section):
            if key in mapping:
                del mapping[key]
                notes.append(f"{join(path, key)} has no effect here{reason}")
    for section, key, old, new in RENAMED_VALUES:
        for path, mapping in _find(tree, section):
            if mapping.get(key) == old:
                mapping[key] = new
                notes.append(f"{join(path, key)} {old} is read as {new}")
    if isinstance(tree.get("gpu_ids"), list):
        count = len(tree.pop("gpu_ids"))
        is_read = tree.setdefault("num_gpu", count) == count
        notes.append(f"gpu_ids is read as num_gpu: {count}" if is_read else "gpu_ids has no effect: num_gpu is given")
    return notes + _encoder_weights(tree) + _parameter_rules(tree), written


def _move(tree: dict[str, Any], value: Any, old: str, new: str) -> None:
    *sections, key = new.split(".")
    target = tree
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise UserError(f"{new}: '{section}' has to be a mapping of keys to receive the old key '{old}'")
    if key in target and target[key] != value:
        raise UserError(f"{old} is read as {new}, and both are given: {value!r} and {target[key]!r}")
    rest = dict(target)
    target.clear()
    target |= {key: value, **rest}  # pixel_opt comes first: the order of the losses is that of their sum


def _find(tree: dict[str, Any], section: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns the mappings at a section's place, which may contain "*", with their key paths."""
    found = [("", tree)]
    for part in section.split(".") if section else []:
        children = [(path, key, value) for path, mapping in found for key, value in mapping.items()]
        found = [(join(p, k), value) for p, k, value in children if part in ("*", k) and isinstance(value, dict)]
    return found


def _parameter_rules(tree: dict[str, Any]) -> list[str]:
    """Moves old keys of ``train:`` to the beginning of ``train.parameters``."""
    train = tree.get("train")
    if not isinstance(train, dict):
        return []
    by_key: dict[str, list[dict[str, Any]]] = {}
    for key, match, field in RULES:
        if key not in train or (key == "tsa_iter" and tree.get("trainer") == "FreezeTrainer"):
            continue  # FreezeTrainer's tsa_iter ends its freeze
        value = train.pop(key)
        number = as_number(value)
        is_neutral = number == 1 if field == "lr_mul" else number is not None and number <= 0
        if value is not None and value is not False and not is_neutral:
            by_key[key] = [{"match": match, field: value}]
            by_key[key] += [{"match": "fusion", "from_iter": 0}] if key == "tsa_iter" else []
    if isinstance(train.get("lr"), dict):
        optimizer = train.get("optim_g")
        by_key["lr"] = _part_rules(train.pop("lr"), optimizer.get("lr") if isinstance(optimizer, dict) else None)
    rules = [rule for found in by_key.values() for rule in found]
    own = train.get("parameters") or []
    if rules and isinstance(own, list):
        train["parameters"] = rules + own
    return [f"train.{key} is read as train.parameters: {found}" for key, found in by_key.items() if found]


def _part_rules(value: Mapping[str, Any], base: Any) -> list[dict[str, Any]]:
    """Returns the rules of ``train.lr: {encoder, decoder, memory}``, factors of the base rate."""
    report = Report()
    rates = check_value(value, PartRates, "train.lr", report)
    if report.mistakes:
        raise UserError(report.mistakes[0])
    base = as_number(base)
    others = {part: rate for part, rate in vars(rates).items() if base is not None and rate not in (None, base)}
    for part, rate in others.items():
        if base == 0:
            raise UserError(f"train.lr.{part} is {rate}, but train.optim_g.lr, which it is read as a factor of, is 0")
    return [{"match": PARTS[part], "lr_mul": rate / base} for part, rate in others.items()]


def _encoder_weights(tree: dict[str, Any]) -> list[str]:
    """Moves ``network_g.encoder.weights``, which constructors once read, to ``path.pretrain_network_g``."""
    notes = []
    for _, encoder in _find(tree, "network_g.encoder"):
        if encoder.get("type") != "ResNetEncoder" or "weights" not in encoder:
            continue
        file, path = encoder.pop("weights"), tree.get("path") or {}
        if file is None or not isinstance(path, dict):
            continue
        tree["path"], given = path, path.get("pretrain_network_g")
        if isinstance(given, str) and path.get("strict_load_g", True):
            notes.append("network_g.encoder.weights has no effect: path.pretrain_network_g holds the whole network")
            continue
        encoders = ["encoder"] + ["sentence_encoder"] * bool(tree["network_g"].get("query_sentence_separate"))
        parts = dict.fromkeys(encoders, file)
        path["pretrain_network_g"] = {**parts, **({"": given} if isinstance(given, str) else given or {})}
        notes.append(f"network_g.encoder.weights is read as path.pretrain_network_g: {parts}")
    return notes
