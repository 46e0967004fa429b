"""Builds a JSON Schema of options files, with which editors complete, explain and check them.

It is made of the same signatures, marks and docstrings as the checks of :mod:`vsr.config.schema`. Draft 7 is the
newest that the common YAML editors support in full.
"""

import dataclasses
import types
from collections.abc import Callable, Iterator
from functools import partial
from inspect import Parameter, isclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from vsr.config.leftovers import LEFTOVERS
from vsr.config.manual import descriptions_of, summary_of
from vsr.config.options import MADE_AS, GeneralOptions, LoaderOptions
from vsr.config.schema import MISSING, num_supplied, options_of
from vsr.config.spellings import PARTS, RENAMED, RENAMED_VALUES, RULES, WEIGHTS
from vsr.registry import Component, Kind, Limit, Shared, find, names

Schema = dict[str, Any]
DRAFT = "http://json-schema.org/draft-07/schema#"
NULL: Schema = {"type": "null"}
UNKNOWN_KEY: Schema = {"type": "null", "errorMessage": "unknown key"}  # `key: ~` removes what a _base_ says
SCIENTIFIC = r"^[+-]?[\d.]+[eE][+-]?\d+$"  # YAML 1.1 reads 1e-4 as text
SCALARS: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": ["integer", "string"], "pattern": SCIENTIFIC},
    float: {"type": ["number", "string"], "pattern": SCIENTIFIC},
    str: {"type": "string"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    dict: {"type": "object"},
    types.NoneType: NULL,
}
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}  # operator(x, bound)


def json_schema() -> Schema:
    """Returns the schema of an options file, with every registered component.

    A file that names a ``_base_``, or that has no name and so is one, may leave out anything.
    """
    definitions = Definitions()
    root = definitions.mapping(GeneralOptions)
    trainers = [old for name in names("trainer") for old in _spellings_of("trainer", name)]
    datasets = {"^(train|val.*|test.*)$": {"anyOf": [definitions.kind("dataset"), NULL]}}
    root["properties"] |= {
        "_base_": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "The files that this one extends, relative to it.",
        },
        "datasets": {
            "type": ["object", "null"],
            "description": "The data sets by phase: train, val…, test….",
            "patternProperties": datasets,
            "additionalProperties": UNKNOWN_KEY,
        },
        "trainer": {"enum": [*trainers, None], "description": "The trainer; ScratchTrainer by default."},
        "train": {"type": ["object", "null"], "description": "How the network is trained."},
    }
    conditions = list(definitions.train_sections())
    kinds: dict[str, Kind] = {"train.losses.": "loss", "train.network_d": "discriminator"}
    schemas = {start: _any_of([definitions.kind(kind), NULL]) for start, kind in kinds.items()}
    add_spellings(root, definitions.all, schemas)
    return {
        "$schema": DRAFT,
        "title": "Options of vsr",
        **root,
        "if": {"required": ["name"], "not": {"required": ["_base_"]}},
        "then": definitions.complete(),
        "allOf": conditions,
        "definitions": definitions.all,
    }


def component_schema(kind: Kind, name: str) -> Schema:
    """Returns the schema of one component's mapping."""
    definitions = Definitions()
    return {"$schema": DRAFT, "allOf": [definitions.component(kind, name)], "definitions": definitions.all}


class Definitions:
    """The schemas that others refer to: one of each component, kind and section."""

    def __init__(self) -> None:
        self.all: dict[str, Schema] = {}

    def kind(self, kind: Kind) -> Schema:
        """Returns a reference to the schema of a mapping with ``type:``."""

        def make() -> Schema:
            known, choices = [], []
            for name in names(kind):
                choices.append({"if": _has_type(name), "then": self.component(kind, name)})
                known += _spellings_of("type", name)
            return {"type": "object", "properties": {"type": {"enum": known}}, "allOf": choices}

        return self._reference(kind, make)

    def component(self, kind: Kind, name: str) -> Schema:
        """Returns a reference to the schema of a component's mapping, ``type:`` included."""

        def make() -> Schema:
            component = find(kind, name)
            schema = self.mapping(component, num_supplied(kind, component))
            beside = self.mapping(LoaderOptions)["properties"] if kind == "dataset" else {}
            if beside:
                beside["degradation"]["anyOf"].append({"enum": list(MADE_AS)})
            own_name = {"name": {"type": "string", "description": "Name of its results."}} if beside else {}
            schema["properties"] = {
                "type": {"enum": _spellings_of("type", name)},
                **own_name,
                **schema["properties"],
                **beside,
            }
            return schema

        return self._reference(f"{kind}.{name}", make)

    def mapping(self, function: Callable[..., Any], supplied: int = 0) -> Schema:
        """Returns the schema of the mapping that configures a function, class or dataclass."""
        texts, options = descriptions_of(function), options_of(function, supplied)
        return {
            "type": "object",
            "description": summary_of(function),
            "properties": {key: self._option(option, texts.get(key, "")) for key, option in options.items()},
            "additionalProperties": UNKNOWN_KEY,
        }

    def complete(self) -> Schema:
        """Returns what a file without ``_base_`` has to hold, beside valid values."""
        train = {"optim_g": self._required_of("optimizer"), "scheduler": self._required_of("scheduler")}
        return {
            "required": ["network_g", "datasets"],
            "properties": {
                "network_g": self._required_of("arch"),
                "datasets": {"additionalProperties": self._required_of("dataset")},
                "train": {"required": ["total_iter", "optim_g"], "properties": train},
            },
        }

    def _required_of(self, kind: Kind) -> Schema:
        choices = []
        for name in names(kind):
            component = find(kind, name)
            options = options_of(component, num_supplied(kind, component))
            missing = [key for key, option in options.items() if not _is_optional(option)]
            choices.append({"if": _has_type(name), "then": {"required": missing}})
        return {"required": ["type"], "allOf": choices}

    def train_sections(self) -> Iterator[Schema]:
        """Yields the conditions that give ``train:`` the options of the file's trainer."""
        for name in names("trainer"):
            if (options := train_options(find("trainer", name))) is None:
                continue
            is_this: Schema = {"properties": {"trainer": {"enum": _spellings_of("trainer", name)}}}
            if name != "ScratchTrainer":
                is_this["required"] = ["trainer"]
            section = self._reference(f"train.{name}", partial(self.mapping, options))
            section = {"anyOf": [section, NULL]}
            yield {"if": is_this, "then": {"properties": {"train": section}}}

    def _option(self, option: Parameter, text: str) -> Schema:
        schema = self._value(option.annotation)
        if _is_optional(option):  # `key: ~` asks for the default
            schema = _any_of([schema, NULL])
        if isinstance(option.default, bool | int | float | str):
            schema["default"] = option.default
        return schema | ({"description": text} if text else {})

    def _value(self, annotation: Any) -> Schema:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if isclass(annotation) and dataclasses.is_dataclass(annotation):
            return self._reference(annotation.__name__, lambda: self.mapping(annotation))
        if origin is Annotated:
            return self._marked(arguments[0], arguments[1:])
        if origin in (Union, types.UnionType):
            return _any_of([self._value(choice) for choice in arguments])
        if origin is Literal:
            return {"enum": [*arguments, *([False] if "off" in arguments else [])]}  # YAML 1.1 reads `off` as false
        if origin is tuple and arguments[-1] is not Ellipsis:
            items = [self._value(argument) for argument in arguments]
            return {"type": "array", "items": items, "minItems": len(items), "maxItems": len(items)}
        if origin in (list, tuple):
            return {"type": "array", "items": self._value(arguments[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self._value(arguments[1])}
        return dict(SCALARS.get(annotation, {}))

    def _marked(self, annotation: Any, marks: tuple[Any, ...]) -> Schema:
        for mark in marks:
            if isinstance(mark, Component):
                return self.kind(mark.kind)
        schema = self._value(annotation)
        for mark in marks:
            if isinstance(mark, Limit):
                schema[BOUNDS[mark.compare.__name__]] = mark.bound
        return schema

    def _reference(self, name: str, make: Callable[[], Schema]) -> Schema:
        if name not in self.all:
            self.all[name] = {}  # what it contains may refer to it
            self.all[name] |= make()
        return {"$ref": f"#/definitions/{name}"}


def train_options(trainer: Callable[..., Any]) -> Any:
    """Returns the dataclass of a trainer's options, None if it does not say."""
    options = get_type_hints(trainer.__init__ if isclass(trainer) else trainer).get("train")
    return options if isclass(options) and dataclasses.is_dataclass(options) else None


def add_spellings(root: Schema, definitions: dict[str, Schema], kinds: dict[str, Schema]) -> None:
    """Adds the old spellings that options files may use to the sections where they stand.

    ``kinds`` are the schemas of the components among them, by the beginning of their present key path.
    """

    def add(section: str, key: str, text: str, schema: Schema | None = None) -> None:
        named = {"": [root], "path": [definitions["PathOptions"]], "val": [definitions["ValOptions"]]}
        starts = {"datasets.*": "dataset.", "network_g": "arch.", "network_g.encoder": "encoder."}
        starts |= {"train": "train.", "train.losses.perceptual": "loss.PerceptualLoss", "val.metrics.*": "metric."}
        start = starts.get(section)
        parts = [part for name, part in definitions.items() if start is not None and name.startswith(start)]
        for part in named.get(section, parts):
            part["properties"].setdefault(key, {**(schema or {}), "description": text})

    for section, old, new in RENAMED:
        kind = next((schema for start, schema in kinds.items() if new.startswith(start)), None)
        add(section, old, f"Read as {new}.", kind)
    for section, key, part in WEIGHTS:
        add(section, key, f"Read as path.pretrain_network_g: {{{part}: FILE}}.", {"type": ["string", "null"]})
    add("", "gpu_ids", "Read as num_gpu, their number.")
    for section, keys, values, reason in LEFTOVERS:
        for old in keys:
            schema: Schema = {} if values is None else {"enum": list(values)}
            add("datasets.*" if section.startswith("datasets.") else section, old, f"No effect here{reason}.", schema)
    for old, _, field in RULES:
        add("train", old, f"Read as {field} of train.parameters.")
    rates = {part: {"type": ["number", "string", "null"]} for part in PARTS}
    add("train", "lr", "Learning rates of a FramePredictor's parts.", {"type": "object", "properties": rates})


def _has_type(name: str) -> Schema:
    return {"properties": {"type": {"enum": _spellings_of("type", name)}}, "required": ["type"]}


def _spellings_of(key: str, name: str) -> list[str]:
    """Returns a component's name and its old ones."""
    return [name, *(old for _, part, old, new in RENAMED_VALUES if (part, new) == (key, name))]


def _any_of(choices: list[Schema]) -> Schema:
    """Returns the schema of a value that one of several allows, in the shortest form."""
    if all("enum" in choice or choice == NULL for choice in choices):
        values = [value for choice in choices for value in choice.get("enum", [None])]
        return {"enum": list(dict.fromkeys(values))}
    others = [choice for choice in choices if choice != NULL]
    if len(others) == 1 and "type" in others[0]:
        kinds = others[0]["type"]
        kinds = kinds if isinstance(kinds, list) else [kinds]
        return others[0] | {"type": list(dict.fromkeys([*kinds, "null"]))}
    flat = [part for choice in choices for part in (choice["anyOf"] if set(choice) == {"anyOf"} else [choice])]
    return {"anyOf": [part for index, part in enumerate(flat) if part not in flat[:index]]}


def _is_optional(option: Parameter) -> bool:
    marks = get_args(option.annotation)[1:] if get_origin(option.annotation) is Annotated else ()
    return option.default is not MISSING or any(isinstance(mark, Shared) for mark in marks)
