"""Old keys of ``train:`` and of pretrained encoders, translated to losses, parameter rules and weights by prefix."""

from dataclasses import dataclass
from typing import Annotated, Any

from vsr.config.schema import Report, as_number, check_value
from vsr.registry import at_least
from vsr.utils.errors import UserError

PARTS = {"encoder": r"^(sentence_)?encoder\.", "decoder": r"^decoder\.", "memory": r"^memory\."}


@dataclass(frozen=True)
class PartRates:
    """The original project's learning rates of a FramePredictor's parts; ~ is optim_g's."""

    encoder: Annotated[float, at_least(0)] | None = None
    decoder: Annotated[float, at_least(0)] | None = None
    memory: Annotated[float, at_least(0)] | None = None


def modernise_training(tree: dict[str, Any]) -> list[str]:
    """Rewrites old keys in ``tree`` in place and returns one line for each.

    Raises:
        UserError: a rate is no rate, or is relative to an ``optim_g.lr`` of 0.
    """
    train, notes = tree.get("train"), _encoder_weights(tree)
    if not isinstance(train, dict):
        return notes
    if "pixel_opt" in train:
        loss, losses = train.pop("pixel_opt"), train.get("losses", {})
        if not isinstance(losses, dict) or losses.get("pixel", loss) != loss:
            raise UserError("train.pixel_opt is read as train.losses.pixel, and both are given")
        train["losses"] = {"pixel": loss, **losses}
    rules: list[dict[str, Any]] = []
    for key, rule_of in RULES.items():
        if key not in train or (key == "tsa_iter" and tree.get("trainer") == "FreezeTrainer"):
            continue  # FreezeTrainer's tsa_iter ends its freeze
        if key == "lr" and not isinstance(train["lr"], dict):
            continue
        found = rule_of(train.pop(key), train)
        if found:
            notes.append(f"train.{key} is read as train.parameters: {found}")
        rules += found
    if rules:
        own = train.get("parameters") or []
        train["parameters"] = [*rules, *own] if isinstance(own, list) else own
    return notes


def _fusion_first(value: Any, train: dict[str, Any]) -> list[dict[str, Any]]:
    number = as_number(value)
    if value is None or (number is not None and number <= 0):
        return []
    return [{"match": "", "from_iter": value}, {"match": "fusion", "from_iter": 0}]


def _factor_of(name: str) -> Any:
    return lambda value, train: [] if value is None or as_number(value) == 1 else [{"match": name, "lr_mul": value}]


def _fix_flow(value: Any, train: dict[str, Any]) -> list[dict[str, Any]]:
    return [] if not value else [{"match": "spynet|edvr", "from_iter": value}]


def _part_rates(value: Any, train: dict[str, Any]) -> list[dict[str, Any]]:
    report = Report()
    rates = check_value(value, PartRates, "train.lr", report)
    if report.mistakes:
        raise UserError(report.mistakes[0])
    optimizer = train.get("optim_g")
    base = as_number(optimizer.get("lr")) if isinstance(optimizer, dict) else None
    rules = []
    for part, rate in vars(rates).items():
        if rate is None or base is None or rate == base:
            continue
        if base == 0:
            raise UserError(f"train.lr.{part} is {rate}, but train.optim_g.lr, which it is read as a factor of, is 0")
        rules.append({"match": PARTS[part], "lr_mul": rate / base})
    return rules


RULES = {
    "tsa_iter": _fusion_first,
    "dcn_lr_mul": _factor_of("dcn"),
    "flow_lr_mul": _factor_of("spynet"),
    "fix_flow": _fix_flow,
    "lr": _part_rates,
}


def _encoder_weights(tree: dict[str, Any]) -> list[str]:
    """Moves ``network_g.encoder.weights``, which constructors once read, to ``path.pretrain_network_g``."""
    network = tree.get("network_g")
    encoder = network.get("encoder") if isinstance(network, dict) else None
    if not isinstance(encoder, dict) or encoder.get("type") != "ResNetEncoder" or "weights" not in encoder:
        return []
    file, path = encoder.pop("weights"), tree.get("path")
    path = tree["path"] = {} if path is None else path
    if file is None or not isinstance(path, dict):
        return []
    given = path.get("pretrain_network_g")
    if isinstance(given, str) and path.get("strict_load_g", True):
        return ["network_g.encoder.weights has no effect: path.pretrain_network_g holds the whole network"]
    parts = {"encoder": file, **({"sentence_encoder": file} if network.get("query_sentence_separate") else {})}
    path["pretrain_network_g"] = {**parts, **({"": given} if isinstance(given, str) else given or {})}
    return [f"network_g.encoder.weights is read as path.pretrain_network_g: {parts}"]
