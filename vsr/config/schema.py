"""Checks a mapping from an options file against the signature of what it configures.

The signature is the schema: parameter names are the keys, annotations the kinds of value, defaults the defaults.
Parameters before ``/`` are the program's and not keys.
"""

import dataclasses
import inspect
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from vsr.registry import Component, Kind, did_you_mean, find

MISSING = inspect.Parameter.empty
LARGEST = {int: 2.0**62, float: 3.4e38}  # what PyTorch can count, and what 32 bits hold


class Option(NamedTuple):
    """One key that a mapping may have."""

    annotation: Any
    default: Any  # MISSING: the key is required


class Report:
    """What checking a file brings to light.

    Args:
        shared: values for the parameters that a component's mapping leaves out (``scale``).

    Attributes:
        mistakes: all of them, so that a user sees them at once: ``key path: what is wrong``.
        notes: what is no mistake, and perhaps not what was meant.
        changes: what differs from the defaults.
        components: path, kind and component, for every ``type:`` that was right.
    """

    def __init__(self, shared: Mapping[str, Any] | None = None) -> None:
        self.shared = shared or {}
        self.mistakes: list[str] = []
        self.notes: list[str] = []
        self.changes: list[str] = []
        self.components: list[tuple[str, Kind, partial[Any]]] = []

    def mistake(self, path: str, text: str) -> None:
        """Adds ``key path: what is wrong``."""
        self.mistakes.append(f"{path}: {text}" if path else text)

    def absorb(self, other: "Report") -> None:
        """Adds all that another report found."""
        self.mistakes += other.mistakes
        self.notes += other.notes
        self.changes += other.changes
        self.components += other.components


def options_of(function: Callable[..., object], supplied: int = 0) -> dict[str, Option]:
    """Returns the keys of a function, class or dataclass; ``*args`` and ``**kwargs`` are none.

    Args:
        function: what the options configure.
        supplied: number of leading parameters that are the program's where no ``/`` says which are.
    """
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    signature = inspect.signature(function).parameters.values()
    parameters = [p for p in signature if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    own = [p for p in parameters if p.kind is not p.POSITIONAL_ONLY]
    if len(own) == len(parameters):
        positional = [p for p in own if p.kind is not p.KEYWORD_ONLY]
        own = [p for p in own if p not in positional[:supplied]]
    return {p.name: Option(hints.get(p.name, Any), p.default) for p in own}


def settings_of(component: Callable[..., Any]) -> dict[str, Any]:
    """Returns the options of a component that waits for what the program supplies, defaults included."""
    assert isinstance(component, partial), "as check_component returns it"
    return {k: component.keywords.get(k, option.default) for k, option in options_of(component.func).items()}


def check_mapping(
    value: object,
    function: Callable[..., object],
    path: str,
    report: Report,
    supplied: int = 0,
    has_type: bool = False,
    beside: Sequence[str] = (),
) -> dict[str, Any] | None:
    """Returns the keyword arguments that ``value`` gives ``function``; None after a mistake, which is reported.

    Args:
        value: what stands in the file.
        function: what is configured.
        path: the keys that lead here, ``a.b``.
        report: receives the mistakes.
        supplied: see :func:`options_of`.
        has_type: a key ``type`` says what is configured.
        beside: keys of others in the same mapping, which an unknown one may have been meant to be.
    """
    if not isinstance(value, Mapping):
        report.mistake(path, f"expected a mapping of keys, got {describe(value)}")
        return None
    options = options_of(function, supplied)
    num_before = len(report.mistakes)
    arguments: dict[str, Any] = {}
    for key, item in value.items():
        if key == "type" and has_type and "type" not in options:
            continue
        if key not in options:
            report.mistake(join(path, key), f"unknown key{did_you_mean(key, [*options, *beside])}")
        elif item is None and not _accepts_none(options[key].annotation) and options[key].default is not MISSING:
            continue  # `key: ~` asks for the default
        else:
            arguments[key] = check_value(item, options[key].annotation, join(path, key), report)
            default = options[key].default
            if default is not MISSING and arguments[key] != default and not isinstance(item, Mapping):
                report.changes.append(f"{join(path, key)}: {arguments[key]!r} (default {default!r})")
    for key, option in options.items():
        if key in value:
            continue
        if key in report.shared and "type" in value:
            arguments[key] = report.shared[key]
        elif option.default is MISSING:
            choices = f"; expected {_name(option.annotation)}" if get_origin(option.annotation) is Literal else ""
            report.mistake(join(path, key), f"missing{choices}")
    return arguments if len(report.mistakes) == num_before else None


def check_value(value: object, annotation: Any, path: str, report: Report) -> Any:
    """Returns ``value`` as ``annotation`` wants it (``"1e-4"`` becomes a number); None after a mistake."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kind: Kind | None = next((extra.kind for extra in arguments[1:] if isinstance(extra, Component)), None)
        if kind is None:
            return check_value(value, arguments[0], path, report)
        return check_component(value, kind, path, report)
    if origin in (Union, types.UnionType):
        return _check_union(value, arguments, path, report)
    if dataclasses.is_dataclass(annotation):
        return _check_dataclass(value, annotation, path, report)
    if origin in (list, tuple, dict) and not arguments:
        return _check_scalar(value, origin, path, report)  # typing.List says no more than list
    if origin in (list, tuple):
        return _check_sequence(value, annotation, path, report)
    if origin is dict:
        if not isinstance(value, Mapping):
            report.mistake(path, f"expected a mapping of keys, got {describe(value)}")
            return None
        return {str(key): check_value(item, arguments[1], join(path, key), report) for key, item in value.items()}
    return _check_scalar(value, annotation, path, report)


def check_component(
    value: object, kind: Kind, path: str, report: Report, beside: Sequence[str] = ()
) -> "partial[Any] | None":
    """Returns the component a ``type:`` mapping names, waiting for what the program supplies; None after a mistake.

    The arguments are those of :func:`check_mapping`.
    """
    if not isinstance(value, Mapping):
        report.mistake(path, f"expected a mapping with `type:`, got {describe(value)}")
        return None
    if not isinstance(value.get("type"), str):
        report.mistake(join(path, "type"), "missing" if value.get("type") is None else "expected a name")
        return None
    try:
        component = find(kind, value["type"])
    except ValueError as error:
        report.mistake(join(path, "type"), str(error))
        return None
    compares = kind == "metric" or (kind == "loss" and not inspect.isclass(component))  # two images
    supplied = 2 if compares else 0
    arguments = check_mapping(value, component, path, report, supplied, has_type=True, beside=beside)
    if arguments is None:
        return None
    built = partial(component, **arguments)
    report.components.append((path, kind, built))
    return built


def join(path: str, key: object) -> str:
    """Returns the key path one level down."""
    return f"{path}.{key}" if path else str(key)


def describe(value: object) -> str:
    """Returns a value as a message shows it, with its kind."""
    kinds: dict[type, str] = {bool: "true/false", int: "a whole number", float: "a number", str: "text", list: "a list"}
    if value is None:
        return "nothing (null)"
    if isinstance(value, Mapping):
        return "a mapping"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '…'} ({kinds.get(type(value), type(value).__name__)})"


def _accepts_none(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _accepts_none(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType, Literal):
        return any(choice in (None, type(None)) for choice in get_args(annotation))
    return annotation in (Any, object)


def _check_union(value: object, choices: tuple[Any, ...], path: str, report: Report) -> Any:
    if value is None and any(choice is type(None) for choice in choices):
        return None
    attempts = []
    for choice in choices:
        if choice is type(None):
            continue
        attempt = Report(report.shared)
        result = check_value(value, choice, path, attempt)
        if not attempt.mistakes:
            report.absorb(attempt)
            return result
        attempts.append(attempt)
    if len(attempts) == 1:
        report.absorb(attempts[0])
    else:
        names = " or ".join(_name(choice) for choice in choices if choice is not type(None))
        report.mistake(path, f"expected {names}, got {describe(value)}")
    return None


def _check_dataclass(value: object, annotation: Any, path: str, report: Report) -> Any:
    arguments = check_mapping(value, annotation, path, report)
    if arguments is None:
        return None
    try:
        return annotation(**arguments)
    except ValueError as error:
        report.mistake(path, str(error))
        return None


def _check_sequence(value: object, annotation: Any, path: str, report: Report) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if not isinstance(value, list | tuple):
        report.mistake(path, f"expected a list, got {describe(value)}")
        return None
    kinds = list(arguments) if origin is tuple and arguments[-1] is not Ellipsis else [arguments[0]] * len(value)
    if len(kinds) != len(value):
        report.mistake(path, f"expected a list of {len(kinds)}, got {len(value)} entries")
        return None
    return origin(
        check_value(v, kind, f"{path}[{i}]", report) for i, (v, kind) in enumerate(zip(value, kinds, strict=True))
    )


def _check_scalar(value: object, annotation: Any, path: str, report: Report) -> Any:
    if annotation in (Any, object):
        return value
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        if value is False and "off" in choices:
            return "off"  # YAML 1.1 reads a bare `off` as false
        if any(value == choice and type(value) is type(choice) for choice in choices):
            return value
        hint = did_you_mean(str(value), [choice for choice in choices if isinstance(choice, str)])
        report.mistake(path, f"expected {_name(annotation)}, got {describe(value)}{hint}")
        return None
    number = as_number(value)
    if annotation in LARGEST and number is not None:
        if not math.isfinite(number):
            report.mistake(path, f"expected a finite number, got {value}")
            return None
        if abs(number) > LARGEST[annotation]:
            report.mistake(path, f"{describe(value)} is out of range")
            return None
        if annotation is float or number == int(number):
            return annotation(number)
    if annotation in (bool, str, dict, list) and type(value) is annotation:
        return value
    if annotation is tuple and isinstance(value, list | tuple):
        return tuple(value)
    is_scalar = value is not None and not isinstance(value, Mapping | list | tuple)
    hint = "; put it in quotes" if annotation is str and is_scalar else ""
    report.mistake(path, f"expected {_name(annotation)}, got {describe(value)}{hint}")
    return None


def as_number(value: object) -> int | float | None:
    """Returns a number; None for anything else. ``1e-4`` counts: YAML 1.1 wants a dot and reads it as text."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+", value):
        value = float(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"'{c}'" if isinstance(c, str) else str(c) for c in get_args(annotation))
    if annotation in (list, tuple) or get_origin(annotation) in (list, tuple):
        return "a list"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(annotation, "a mapping")
