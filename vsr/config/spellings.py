"""Old spellings of option keys, translated in this one place, so that published EDVR/BasicSR files run unmodified."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any

from vsr.config.schema import Report, as_number, check_value, join, options_of
from vsr.registry import Kind, at_least, find, names
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
    ("", "use_tb_logger", "logger.use_tb_logger"),
    ("network_g", "ema_decay", "train.ema_decay"),
    ("train", "fix_iter", "fix_flow"),
    ("train", "perceptual_opt", "train.losses.perceptual"),
    ("train", "pixel_opt", "train.losses.pixel"),
    ("", "network_d", "train.network_d"),
    ("path", "pretrain_model_d", "path.pretrain_network_d"),
    ("path", "pretrain_network_d", "train.pretrain_network_d"),
    ("path", "strict_load_d", "train.strict_load_d"),
    ("val", "use_pbar", "pbar"),
]
USUAL = ("train.pixel_opt", "train.perceptual_opt", "network_d")  # our own files have them, too
_TRAINERS = ("EDVRModel", "VideoBaseModel", "SRModel", "VideoRecurrentModel", "BasicVSRModel")
# (section, key, old name, new name)
RENAMED_VALUES = [
    *(("", "trainer", name, "ScratchTrainer") for name in _TRAINERS),
    *(("", "trainer", name, "GANTrainer") for name in ("VideoRecurrentGANModel", "VideoGANModel", "SRGANModel")),
    ("train.scheduler", "type", "MultiStepLR", "MultiStepRestartLR"),
    ("train.scheduler", "type", "TrueCosineAnnealingLR", "CosineAnnealingLR"),
]
# keys of `train:` that are read as `train.parameters`: the parameters that match, and the field that takes the value
RULES = [("tsa_iter", "", "from_iter"), ("dcn_lr_mul", "dcn", "lr_mul"), ("flow_lr_mul", "spynet", "lr_mul")]
RULES += [("lr_flow", "spynet", "lr_mul"), ("fix_flow", "spynet|edvr", "from_iter")]
PARTS = {"encoder": r"^(sentence_)?encoder\.", "decoder": r"^decoder\.", "memory": r"^memory\."}
# (section, key) of files that constructors elsewhere read, and the part of the network that takes the weights
WEIGHTS = [
    ("network_g.encoder", "weights", "encoder"),
    ("network_g", "spynet_path", "spynet"),
    ("network_g", "spynet_pretrained", "spynet"),
    ("network_g", "edvr_path", "edvr"),
    ("network_g", "edvr_pretrained", "edvr"),
]


@dataclass(frozen=True)
class PartRates:
    """The original project's learning rates of a FramePredictor's parts; ~ is optim_g's."""

    encoder: Annotated[float, at_least(0)] | None = None
    decoder: Annotated[float, at_least(0)] | None = None
    memory: Annotated[float, at_least(0)] | None = None


def modernise(tree: dict[str, Any], written: dict[str, str]) -> list[str]:
    """Rewrites old spellings in ``tree`` in place; returns a note for each, and adds old key paths by the new ones.

    Raises:
        UserError: a key stands there in its old and its new spelling with different values, or values of old keys
            contradict each other.
    """
    renamed = rename(tree, RENAMED, written)
    if not any("network_d" in train for _, train in sections_at(tree, "train")):
        written["train.network_d"] = "network_d"  # where it is missing
    notes = [f"{old} is read as {new}" for old, new in renamed if old not in USUAL]
    notes += rename_values(tree, RENAMED_VALUES)
    if isinstance(tree.get("gpu_ids"), list):
        count = len(tree.pop("gpu_ids"))
        is_read = tree.setdefault("num_gpu", count) == count
        notes.append(f"gpu_ids is read as num_gpu: {count}" if is_read else "gpu_ids has no effect: num_gpu is given")
    return notes + _weights_of_parts(tree) + _parameter_rules(tree, written)


def rename(tree: dict[str, Any], table: list[tuple[str, str, str]], written: dict[str, str]) -> list[tuple[str, str]]:
    """Renames keys by a table like RENAMED; returns old and new path of each, and adds them to ``written``."""
    renamed = []
    for section, old, new in table:
        for path, mapping in sections_at(tree, section):
            if old in mapping:
                place, new_path = join(path, old), new if "." in new or not section else join(path, new)
                old_path = as_written(place, written)
                _move(tree, mapping.pop(old), old_path, new_path)
                below = [
                    (key.removeprefix(place), first) for key, first in written.items() if key.startswith(f"{place}.")
                ]
                written |= {new_path: old_path} | {new_path + rest: first for rest, first in below}
                renamed.append((old_path, new_path))
    return renamed


def rename_values(tree: dict[str, Any], table: list[tuple[str, str, str, str]]) -> list[str]:
    """Renames values by a table like RENAMED_VALUES; returns a note for each."""
    notes = []
    for section, key, old, new in table:
        for path, mapping in sections_at(tree, section):
            if mapping.get(key) == old:
                mapping[key] = new
                notes.append(f"{join(path, key)} {old} is read as {new}")
    return notes


def as_written(text: str, written: Mapping[str, str]) -> str:
    """Returns a text that begins with a key path, with that path as the file has it."""
    for new in sorted(written, key=len, reverse=True):
        if text == new or text.startswith(tuple(new + end for end in ":.[ ")):
            return written[new] + text.removeprefix(new)
    return text


def _move(tree: dict[str, Any], value: Any, old: str, new: str) -> None:
    *sections, key = new.split(".")
    if value is None and sections[0] not in tree:
        return  # network_d: ~ in a file that only tests
    target = tree
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise UserError(f"{new}: '{section}' has to be a mapping of keys to receive the old key '{old}'")
    if key in target and target[key] != value:
        text = f"{old} is read as {new}, and both are given: {value!r} and {target[key]!r}"
        raise UserError(f"{text}. Remove one; `{old.rpartition('.')[2]}: ~` removes that of a _base_")
    rest = dict(target)
    target.clear()
    target |= {key: value, **rest}  # pixel_opt comes first: the order of the losses is that of their sum


def sections_at(tree: dict[str, Any], section: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns the mappings at a place, ``datasets.val*``, with their key paths."""
    found = [("", tree)]
    for part in section.split(".") if section else []:
        children = [(path, key, value) for path, mapping in found for key, value in mapping.items()]
        found = [(join(p, k), v) for p, k, v in children if fnmatchcase(str(k), part) and isinstance(v, dict)]
    return found


def known_options(kind: Kind, name: Any) -> Mapping[str, Any]:
    """Returns the options of a component; none for an unknown name or signature, which is reported later."""
    try:
        return options_of(find(kind, name)) if name in names(kind) else {}
    except (NameError, TypeError, ValueError):
        return {}


def _parameter_rules(tree: dict[str, Any], written: dict[str, str]) -> list[str]:
    """Moves old keys of ``train:`` to the beginning of ``train.parameters``."""
    train = tree.get("train")
    if not isinstance(train, dict):
        return []
    optimizer = train.get("optim_g")
    base = as_number(optimizer.get("lr")) if isinstance(optimizer, dict) else None
    rules: list[tuple[str, dict[str, Any]]] = []  # with the key that each comes from
    for key, match, field in RULES:
        if key not in train or (key == "tsa_iter" and tree.get("trainer") == "FreezeTrainer"):
            continue  # FreezeTrainer's tsa_iter ends its freeze
        value = train.pop(key)
        number = as_number(value)
        if key == "lr_flow" and number is not None and base:
            value = number = number / base
        is_neutral = number == 1 if field == "lr_mul" else number is not None and number <= 0
        if value is not None and value is not False and not is_neutral:
            rules.append((key, {"match": match, field: value}))
            rules += [(key, {"match": "fusion", "from_iter": 0})] if key == "tsa_iter" else []
    if isinstance(train.get("lr"), dict):
        rates = _part_rules(train.pop("lr"), base)
        rules += [("lr", rule) for rule in rates]
    own = train.get("parameters") or []
    if not rules or not isinstance(own, list):
        return []
    train["parameters"] = [rule for _, rule in rules] + own
    for index, (key, rule) in enumerate(rules):
        old = as_written(f"train.{key}", written)
        written |= {f"train.parameters[{index}].{field}": old for field in rule}
    written |= {f"train.parameters[{len(rules) + index}]": f"train.parameters[{index}]" for index in range(len(own))}
    by_key = {key: [rule for other, rule in rules if other == key] for key, _ in rules}
    return [f"{as_written(f'train.{key}', written)} is read as train.parameters: {r}" for key, r in by_key.items()]


def _part_rules(value: Mapping[str, Any], base: float | None) -> list[dict[str, Any]]:
    """Returns the rules of ``train.lr: {encoder, decoder, memory}``, factors of the base rate."""
    report = Report()
    rates = check_value(value, PartRates, "train.lr", report)
    if report.mistakes:
        raise UserError(report.mistakes[0])
    others = {part: rate for part, rate in vars(rates).items() if base is not None and rate not in (None, base)}
    for part, rate in others.items():
        if base == 0:
            raise UserError(f"train.lr.{part} is {rate}, but train.optim_g.lr, which it is read as a factor of, is 0")
    return [{"match": PARTS[part], "lr_mul": rate / base} for part, rate in others.items()]


def _weights_of_parts(tree: dict[str, Any]) -> list[str]:
    """Moves files that constructors elsewhere read, ``network_g.spynet_path``, to ``path.pretrain_network_g``."""
    notes = []
    for section, key, part in WEIGHTS:
        for place, mapping in sections_at(tree, section):
            path = tree.get("path") or {}
            kind = "encoder" if part == "encoder" else "arch"
            if key not in mapping or key in known_options(kind, mapping.get("type")) or not isinstance(path, dict):
                continue
            if mapping.get("type") == "RealBasicVSRNet":
                part = f"basicvsr.{part}"  # the network that has the part is its own part
            file, given = mapping.pop(key), path.get("pretrain_network_g")
            if file is None:
                continue
            if isinstance(given, str) and path.get("strict_load_g", True):
                notes.append(f"{place}.{key} has no effect: path.pretrain_network_g holds the whole network")
                continue
            has_two = part == "encoder" and tree["network_g"].get("query_sentence_separate")
            parts = dict.fromkeys(["encoder", "sentence_encoder"] if has_two else [part], file)
            path["pretrain_network_g"] = {**parts, **({"": given} if isinstance(given, str) else given or {})}
            tree["path"] = path
            notes.append(f"{place}.{key} is read as path.pretrain_network_g: {parts}")
    return notes
