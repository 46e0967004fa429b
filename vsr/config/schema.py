"""Checks a mapping from an options file against the signature of what it configures.

The signature is the schema: parameter names are the keys, annotations the kinds of value, defaults the defaults.
Parameters before ``/`` are the program's and not keys.
"""

import dataclasses
import inspect
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

from vsr.registry import Component, Kind, Limit, Shared, did_you_mean, find, name_of

Mark = TypeVar("Mark")
MISSING = inspect.Parameter.empty
LARGEST = {int: 2.0**62, float: 3.4e38}  # what PyTorch can count, and what 32 bits hold


@runtime_checkable
class Noted(Protocol):
    """A section that notes settings which are allowed but may not be intended, ``key: reason``."""

    def notes(self) -> list[str]: ...  # noqa: D102


class Option(NamedTuple):
    """One key that a mapping may have."""

    annotation: Any
    default: Any  # MISSING: the key is required


class Report:
    """The results of checking a file.

    Args:
        tree: the file, where Shared parameters find their values.

    Attributes:
        mistakes: all of them, ``key path: reason``.
        absent: files and folders that do not exist, ``key path: reason``.
        notes: settings that are allowed but may not be intended.
        changes: differences from the defaults.
        components: path, kind and component, for every valid ``type:``.
    """

    def __init__(self, tree: Mapping[str, Any] | None = None) -> None:
        self.tree = tree or {}
        self.mistakes: list[str] = []
        self.absent: list[str] = []
        self.notes: list[str] = []
        self.changes: list[str] = []
        self.components: list[tuple[str, Kind, partial[Any]]] = []

    def mistake(self, path: str, text: str) -> None:
        """Adds ``key path: reason``."""
        self.mistakes.append(f"{path}: {text}" if path else text)

    def absorb(self, other: "Report") -> None:
        """Adds all that another report found."""
        self.mistakes += other.mistakes
        self.absent += other.absent
        self.notes += other.notes
        self.changes += other.changes
        self.components += other.components


def lines_of(error: Exception, path: str, options: Iterable[str] = ()) -> list[str]:
    """Returns ``key path: reason`` for each line of an error; a first word that is an option joins the key path."""
    lines = []
    for line in str(error).splitlines():
        word, _, text = line.partition(" ")
        word = word.rstrip(":")
        is_option = word.partition(".")[0].partition("[")[0] in options
        lines.append(f"{join(path, word)}: {text}" if is_option else f"{path}: {line}" if path else line)
    return lines


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
    beside: Sequence[str] = (),
) -> dict[str, Any] | None:
    """Returns the keyword arguments that ``value`` gives ``function``; None after a mistake, which is reported.

    Args:
        value: what stands in the file.
        function: what is configured.
        path: the keys that lead here, ``a.b``.
        report: receives the mistakes.
        supplied: see :func:`options_of`.
        beside: keys of others in the same mapping, which an unknown one may have been meant to be.
    """
    if not isinstance(value, Mapping):
        report.mistake(path, f"expected a mapping of keys, got {describe(value)}")
        return None
    try:
        options = options_of(function, supplied)
    except (NameError, TypeError, ValueError) as error:
        report.mistake(path, f"the signature of {function.__name__} cannot be read: {error}")
        return None
    num_before = len(report.mistakes)
    arguments: dict[str, Any] = {}
    for key, item in value.items():
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
        if key in arguments:
            continue
        shared = _marks(option.annotation, Shared)
        found = _shared_value(shared[0], option.annotation, report) if shared else None
        if found is not None:
            arguments[key] = found
            if found != option.default:
                report.changes.append(f"{join(path, key)}: {found!r} (from {shared[0].key})")
        elif option.default is MISSING:
            choices = f"; expected {_name(option.annotation)}" if get_origin(option.annotation) is Literal else ""
            report.mistake(join(path, key), f"missing{choices}")
    return arguments if len(report.mistakes) == num_before else None


def check_value(value: object, annotation: Any, path: str, report: Report) -> Any:
    """Returns ``value`` as ``annotation`` wants it (``"1e-4"`` becomes a number); None after a mistake."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        components = _marks(annotation, Component)
        if components:
            return check_component(value, components[0].kind, path, report)
        result = check_value(value, arguments[0], path, report)
        if result is not None and not all(limit.allows(result) for limit in _marks(annotation, Limit)):
            report.mistake(path, f"expected {_name(annotation)}, got {describe(value)}")
            return None
        return result
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
    supplied = _num_supplied(kind, component)
    own = {key: item for key, item in value.items() if key != "type"}
    arguments = check_mapping(own, component, path, report, supplied, beside)
    if arguments is None:
        return None
    built = partial(component, **arguments)
    report.components.append((path, kind, built))
    return built


def _num_supplied(kind: Kind, component: Callable[..., object]) -> int:
    """Returns 2 for a function that compares two images, whose first parameters are the program's."""
    return 2 if kind == "metric" or (kind == "loss" and not inspect.isclass(component)) else 0


def resolved(value: Any) -> Any:
    """Returns a checked value as plain data: a component as the mapping that builds it, defaults included."""
    if isinstance(value, partial):
        kind, name = name_of(value.func)
        options = options_of(value.func, _num_supplied(kind, value.func))
        settings = {key: value.keywords.get(key, option.default) for key, option in options.items()}
        return {"type": name, **resolved(settings)}
    if dataclasses.is_dataclass(value):
        return resolved(vars(value))
    if isinstance(value, Mapping):
        return {str(key): resolved(item) for key, item in value.items()}
    return [resolved(item) for item in value] if isinstance(value, list | tuple) else value


def _marks(annotation: Any, kind: type[Mark]) -> list[Mark]:
    """Returns the marks of a kind that stand in an ``Annotated``."""
    extras = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return [extra for extra in extras if isinstance(extra, kind)]


def _shared_value(shared: Shared, annotation: Any, report: Report) -> Any:
    """Returns the value that a parameter receives from another key; None if there is none, or it is invalid."""
    value: Any = report.tree
    for key in shared.key.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    attempt = Report()
    if value is not None and shared.convert is not None:
        number = as_number(value)
        value = shared.convert(value if number is None else number)
    return None if value is None else check_value(value, annotation, shared.key, attempt)


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
        attempt = Report(report.tree)
        result = check_value(value, choice, path, attempt)
        if not attempt.mistakes:
            report.absorb(attempt)
            return result
        attempts.append(attempt)
    if len(attempts) == 1:
        report.absorb(attempts[0])
    else:
        report.mistake(path, f"expected {_names(choices)}, got {describe(value)}")
    return None


def _check_dataclass(value: object, annotation: Any, path: str, report: Report) -> Any:
    arguments = check_mapping(value, annotation, path, report)
    if arguments is None:
        return None
    try:
        built = annotation(**arguments)
    except FileNotFoundError as error:
        report.absent += lines_of(error, path, options_of(annotation))
        return None
    except ValueError as error:
        report.mistakes += lines_of(error, path, options_of(annotation))
        return None
    report.notes += [f"{path}.{note}" for note in built.notes()] if isinstance(built, Noted) else []
    return built


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
        if isinstance(number, float) and not math.isfinite(number):
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
    if get_origin(annotation) is Annotated:
        limits = " and ".join(limit.text for limit in _marks(annotation, Limit))
        return f"{_name(get_args(annotation)[0])} {limits}".rstrip()
    if get_origin(annotation) in (Union, types.UnionType):
        return _names(get_args(annotation))
    if get_origin(annotation) is Literal:
        return " or ".join(f"'{c}'" if isinstance(c, str) else str(c) for c in get_args(annotation))
    if annotation in (list, tuple) or get_origin(annotation) in (list, tuple):
        return "a list"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(annotation, "a mapping")


def _names(choices: Sequence[Any]) -> str:
    return " or ".join(_name(choice) for choice in choices if choice is not type(None))
