"""Checks a mapping from an options file against the signature of the function, class or dataclass it configures.

The signature is the schema: parameter names are the keys; those before ``/`` are the program's.
"""

import dataclasses
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from vsr.registry import Component, Kind, Limit, Shared, did_you_mean, find, name_of

Function = Callable[..., Any]
Mark = TypeVar("Mark")
MISSING = inspect.Parameter.empty
LARGEST = {int: 2.0**62, float: 3.4e38}  # the limits of PyTorch's sizes and of float32


@dataclass
class Report:
    """The results of checking a file.

    Args:
        tree: the file, where Shared parameters find their values.
        features: missing features, by the key that asks for them.
        base_of: returns the ``_base_`` that gives a key, by its path; None for a key of the file itself.
        mistakes: all of them, ``key path: reason``.
        absent: files and folders that do not exist, ``key path: reason``.
        notes: settings that are allowed but may not be intended.
        warnings: settings that are allowed but make results wrong.
        changes: differences from the defaults.
        components: key path, kind and component of every valid ``type:``.
        imports_failed: whether a module of ``imports`` is missing, and with it names that a ``type:`` may give.
    """

    tree: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, str] = field(default_factory=dict)
    base_of: Callable[[str], Path | None] = field(default=lambda path: None)
    mistakes: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    components: list[tuple[str, Kind, "partial[Any]"]] = field(default_factory=list)
    imports_failed: bool = False

    def mistake(self, path: str, text: str) -> None:
        """Adds ``key path: reason``; returns None, the value of an option that is wrong."""
        self.mistakes.append(f"{path}: {text}" if path else text)

    def unknown(self, key: object, path: str, known: Iterable[str], given: Collection[Any]) -> None:
        """Adds the mistake of an unknown key: with the missing feature, its base, or the nearest known key."""
        if feature := self.features.get(str(key)):
            self.mistake(path, f"unknown key: {feature}")
        elif base := self.base_of(path):
            self.mistake(path, f"unknown key; it comes from the _base_ {base.name}: `{key}: ~` removes it")
        else:
            self.mistake(path, f"unknown key{did_you_mean(str(key), known, given)}")

    def attempt(self) -> "Report":
        """Returns an empty report on the same file."""
        return Report(self.tree, self.features, self.base_of, imports_failed=self.imports_failed)

    def refusal(self, error: Exception, path: str, options: Iterable[str]) -> None:
        """Adds each line of an error that a component raised; a first word that is an option joins the key path."""
        lines = self.absent if isinstance(error, FileNotFoundError) else self.mistakes
        for line in str(error).splitlines():
            word, _, text = line.partition(" ")
            word = word.rstrip(":")
            is_option = word.partition(".")[0].partition("[")[0] in options
            lines.append(f"{join(path, word)}: {text}" if is_option else f"{path}: {line}" if path else line)

    def absorb(self, other: "Report") -> None:
        """Adds all that another report found."""
        self.mistakes += other.mistakes
        self.absent += other.absent
        self.notes += other.notes
        self.changes += other.changes
        self.components += other.components


def options_of(function: Function, supplied: int = 0) -> dict[str, inspect.Parameter]:
    """Returns the keys of a function, class or dataclass; ``*args`` and ``**kwargs`` are none.

    Without a ``/``, the first ``supplied`` positional parameters are the program's.
    """
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    signature = inspect.signature(function).parameters.values()
    parameters = [p for p in signature if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    own = [p for p in parameters if p.kind is not p.POSITIONAL_ONLY]
    if len(own) == len(parameters):
        positional = [p for p in own if p.kind is not p.KEYWORD_ONLY]
        own = [p for p in own if p not in positional[:supplied]]
    return {p.name: p.replace(annotation=hints.get(p.name, Any)) for p in own}


def settings_of(component: Function, supplied: int = 0) -> dict[str, Any]:
    """Returns the options of a component that :func:`check_component` returned, defaults included."""
    assert isinstance(component, partial), "as check_component returns it"
    options = options_of(component.func, supplied)
    return {key: component.keywords.get(key, option.default) for key, option in options.items()}


def check_mapping(
    value: object,
    function: Function,
    path: str,
    report: Report,
    supplied: int = 0,
    beside: Sequence[str] = (),
    given: Collection[str] = (),
) -> dict[str, Any] | None:
    """Returns the keyword arguments of ``function`` in ``value``, a mapping of the file; None after a mistake.

    ``path`` is its key path, ``a.b``; for ``supplied`` see options_of. For an unknown key, an option is suggested, or a
    key ``beside`` them, unless the mapping or ``given`` has it.
    """
    if not isinstance(value, Mapping):
        return report.mistake(path, f"expected a mapping of keys, got {describe(value)}")
    try:
        options = options_of(function, supplied)
    except (NameError, TypeError, ValueError) as error:
        return report.mistake(path, f"the signature of {function.__name__} cannot be read: {error}")
    num_before = len(report.mistakes)
    arguments: dict[str, Any] = {}
    for key in value:
        if key not in options:
            report.unknown(key, join(path, key), (*options, *beside), {*value, *given})
    for key, option in options.items():
        key_path, item, annotation, default = join(path, key), value.get(key), option.annotation, option.default
        shared = next(iter(_marks(annotation, Shared)), None)
        # `key: ~` asks for the default
        if item is not None or (key in value and (default is MISSING or _accepts_none(annotation))):
            found = arguments[key] = check_value(item, annotation, key_path, report)
            if default is not MISSING and found != default and not isinstance(item, Mapping):
                report.changes.append(f"{key_path}: {found!r} (default {default!r})")
        elif shared is not None and (found := _shared_value(shared, annotation, report)) is not None:
            arguments[key] = found
            if found != default:
                report.changes.append(f"{key_path}: {found!r} (from {shared.key})")
        elif default is MISSING:
            choices = f"; expected {name_of_type(annotation)}" if get_origin(annotation) is Literal else ""
            report.mistake(key_path, f"missing{choices}")
    return arguments if len(report.mistakes) == num_before else None


def check_value(value: object, annotation: Any, path: str, report: Report) -> Any:
    """Returns ``value`` as ``annotation`` wants it (``"1e-4"`` becomes a number); None after a mistake."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        if components := _marks(annotation, Component):
            return check_component(value, components[0].kind, path, report)
        result = check_value(value, arguments[0], path, report)
        if result is not None and not all(limit.compare(result, limit.bound) for limit in _marks(annotation, Limit)):
            return report.mistake(path, f"expected {name_of_type(annotation)}, got {describe(value)}")
        return result
    if origin in (Union, types.UnionType):
        return _check_union(value, arguments, path, report)
    if dataclasses.is_dataclass(annotation):
        return _check_dataclass(value, annotation, path, report)
    if origin in (list, tuple, dict) and not arguments:
        return _check_scalar(value, origin, path, report)  # typing.List is list
    if origin in (list, tuple):
        return _check_sequence(value, annotation, path, report)
    if origin is dict:
        if not isinstance(value, Mapping):
            return report.mistake(path, f"expected a mapping of keys, got {describe(value)}")
        return {str(key): check_value(item, arguments[1], join(path, key), report) for key, item in value.items()}
    return _check_scalar(value, annotation, path, report)


def check_component(
    value: object, kind: Kind, path: str, report: Report, beside: Sequence[str] = (), given: Collection[str] = ()
) -> "partial[Any] | None":
    """Returns the component that a ``type:`` mapping names as a partial; None after a mistake; see check_mapping."""
    if not isinstance(value, Mapping):
        return report.mistake(path, f"expected a mapping with `type:`, got {describe(value)}")
    if not isinstance(value.get("type"), str):
        return report.mistake(join(path, "type"), "missing" if value.get("type") is None else "expected a name")
    try:
        component = find(kind, value["type"])
    except ValueError as error:
        return None if report.imports_failed else report.mistake(join(path, "type"), str(error))
    own = {key: item for key, item in value.items() if key != "type"}
    arguments = check_mapping(own, component, path, report, num_supplied(kind, component), beside, given)
    if arguments is None:
        return None
    built = partial(component, **arguments)
    report.components.append((path, kind, built))
    return built


def num_supplied(kind: Kind, component: Function) -> int:
    """Returns 2 for a function that compares two images, its first parameters."""
    return 2 if kind == "metric" or (kind == "loss" and not inspect.isclass(component)) else 0


def resolved(value: Any) -> Any:
    """Returns a checked value as plain data: a component as the mapping that builds it, defaults included."""
    if isinstance(value, partial):
        kind, name = name_of(value.func)
        return {"type": name, **resolved(settings_of(value, num_supplied(kind, value.func)))}
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
    """Returns the value of another key for a parameter; None if there is none, or it is invalid."""
    value: Any = report.tree
    for key in shared.key.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is not None and shared.convert is not None:
        number = as_number(value)
        value = shared.convert(value if number is None else number)
    return None if value is None else check_value(value, annotation, shared.key, Report())


def join(path: str, key: object) -> str:
    """Returns the key path one level down."""
    return f"{path}.{key}" if path else str(key)


def describe(value: object) -> str:
    """Returns a value as a message shows it, with its kind."""
    kinds: dict[type, str] = {bool: "true/false", int: "a whole number", float: "a number", str: "text", list: "a list"}
    if value is None or isinstance(value, Mapping):
        return "nothing (null)" if value is None else "a mapping"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '…'} ({kinds.get(type(value), type(value).__name__)})"


def _accepts_none(annotation: Any) -> bool:
    attempt = Report()
    check_value(None, annotation, "", attempt)
    return not attempt.mistakes


def _check_union(value: object, choices: tuple[Any, ...], path: str, report: Report) -> Any:
    if value is None and type(None) in choices:
        return None
    attempts = []
    for choice in [choice for choice in choices if choice is not type(None)]:
        attempt = report.attempt()
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
        return annotation(**arguments)
    except (FileNotFoundError, ValueError) as error:
        return report.refusal(error, path, options_of(annotation))


def _check_sequence(value: object, annotation: Any, path: str, report: Report) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if not isinstance(value, list | tuple):
        return report.mistake(path, f"expected a list, got {describe(value)}")
    kinds = list(arguments) if origin is tuple and arguments[-1] is not Ellipsis else [arguments[0]] * len(value)
    if len(kinds) != len(value):
        return report.mistake(path, f"expected a list of {len(kinds)}, got {len(value)} entries")
    pairs = enumerate(zip(value, kinds, strict=True))
    return origin(check_value(item, kind, f"{path}[{index}]", report) for index, (item, kind) in pairs)


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
        return report.mistake(path, f"expected {name_of_type(annotation)}, got {describe(value)}{hint}")
    number = as_number(value)
    if annotation in LARGEST and number is not None:
        if isinstance(number, float) and not math.isfinite(number):
            return report.mistake(path, f"expected a finite number, got {value}")
        if abs(number) > LARGEST[annotation]:
            return report.mistake(path, f"{describe(value)} is out of range")
        if annotation is float or number == int(number):
            return annotation(number)
    if annotation in (bool, str, dict, list) and type(value) is annotation:
        return value
    if annotation is tuple and isinstance(value, list | tuple):
        return tuple(value)
    is_scalar = value is not None and not isinstance(value, Mapping | list | tuple)
    hint = "; put it in quotes" if annotation is str and is_scalar else ""
    return report.mistake(path, f"expected {name_of_type(annotation)}, got {describe(value)}{hint}")


def as_number(value: object) -> int | float | None:
    """Returns a number; None for anything else. ``1e-4`` counts: YAML 1.1 wants a dot and reads it as text."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+", value):
        value = float(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def name_of_type(annotation: Any) -> str:
    """Returns a parameter's type as messages name it, "a whole number of at least 1"."""
    if get_origin(annotation) is Annotated:
        limits = " and ".join(f"{limit.text} {limit.bound}" for limit in _marks(annotation, Limit))
        return f"{name_of_type(get_args(annotation)[0])} {limits}".rstrip()
    if get_origin(annotation) in (Union, types.UnionType):
        return _names(get_args(annotation))
    if get_origin(annotation) is Literal:
        return " or ".join(f"'{c}'" if isinstance(c, str) else str(c) for c in get_args(annotation))
    if annotation in (list, tuple) or get_origin(annotation) in (list, tuple):
        return "a list"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(annotation, "a mapping")


def _names(choices: Sequence[Any]) -> str:
    return " or ".join(name_of_type(choice) for choice in choices if choice is not type(None))
