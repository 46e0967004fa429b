"""Reads an options file's YAML: inheritance, overrides, plain values only."""

from collections.abc import Hashable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from vsr.config.schema import describe
from vsr.utils.errors import UserError

MOST_VALUES = 100_000  # of a file, its aliases written out
_PREFIX = "tag:yaml.org,2002:"


def read_tree(file: str | Path, parents: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Returns a file's mapping, merged into those of the files that its ``_base_`` names.

    Mappings merge key by key; any other value replaces; ``null`` removes the base's.
    """
    path = Path(file).resolve()
    if path in parents:
        raise UserError(f"{file}: _base_ leads back to the file itself: {' → '.join(p.name for p in (*parents, path))}")
    try:
        tree = _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not parents:
            raise UserError(f"options file {file} does not exist") from None
        text = f"{parents[-1].name}: _base_: {path} does not exist (relative to that file's folder)"
        raise UserError(text) from None
    except UnicodeDecodeError:
        raise UserError(f"options file {file} is not a text file in UTF-8") from None
    except OSError as error:
        raise UserError(f"options file {file} cannot be read: {error}") from None
    except _TagError as error:
        raise UserError(f"{file}{_place(error)}: {error.problem}") from None
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{file}{_place(error)}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{file}: expected a mapping of keys, got {describe(tree)}")
    bases = tree.pop("_base_", [])
    merged: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or "\0" in base:
            raise UserError(f"{file}: _base_ has to name a file, got {describe(base)}")
        merged = _merge(merged, read_tree(path.parent / base, (*parents, path)))
    return _merge(merged, tree)


def base_of(file: Path, keys: Sequence[str]) -> Path | None:
    """Returns the base of a file that gives a key; None where the file itself gives it, or no file does.

    The file is one that :func:`read_tree` has read.
    """
    found = _giver(file, keys)
    return None if found == file else found


def _giver(file: Path, keys: Sequence[str]) -> Path | None:
    tree = value = _parse(file.read_text(encoding="utf-8"))
    for key in keys:
        value = value[key] if isinstance(value, dict) and key in value else None
    if value is not None:
        return file
    bases = tree.get("_base_", [])
    found = (_giver(file.parent / base, keys) for base in reversed(bases if isinstance(bases, list) else [bases]))
    return next((base for base in found if base is not None), None)


def _parse(text: str) -> Any:
    """Returns the value of YAML text; raises ``yaml.YAMLError`` for anything else."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ConstructorError(None, None, "nested too deeply") from None


def _place(error: yaml.MarkedYAMLError) -> str:
    """Returns line and text of a mistake, ", line 14, `lr: 1`"."""
    mark = error.problem_mark or error.context_mark
    if mark is None or mark.buffer is None:
        return ""
    lines = mark.buffer.rstrip("\0").splitlines()
    text = f", `{lines[mark.line].strip()[:60]}`" if mark.line < len(lines) else ""
    return f", line {mark.line + 1}{text}"


def override(tree: dict[str, Any], setting: str) -> None:
    """Changes the key that ``a.b.c=value`` names; the value is read as YAML, and ``~`` removes the key."""
    keys, equals, text = setting.partition("=")
    if not equals or not keys.strip():
        raise UserError(f"--set takes a.b.c=value, got '{setting}'")
    *sections, last = keys.strip().split(".")
    try:
        value = _parse(text)
    except _TagError as error:
        raise UserError(f"--set {setting}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"--set {setting}: the value is not valid YAML: {' '.join(str(error).split())}") from None
    for section in sections:
        if tree.get(section) is None:  # an empty section, too
            tree[section] = {}
        tree = tree[section]
        if not isinstance(tree, dict):
            raise UserError(f"--set {setting}: '{section}' is not a mapping of keys")
    if value is None and last in tree:
        del tree[last]
    else:
        tree[last] = value  # a `~` where nothing is, too: the key may be misspelt


def _merge(base: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in child.items():
        if value is None and key in merged:
            del merged[key]
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


class _TagError(ConstructorError):
    """A tag of something else than plain data."""


class _Loader(yaml.SafeLoader):
    """Plain YAML without objects, in which each alias is a copy, so that ``--set`` changes one place only."""

    num_values = 0

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]:
            if key.value in seen:
                raise ConstructorError(None, None, f"the key '{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Returns a node's value; a malformed number, and a date, which no training state could hold, are errors."""
        self.num_values += 1
        if self.num_values > MOST_VALUES:
            text = f"its aliases stand for more than {MOST_VALUES:,} values"
            raise ConstructorError(None, None, text, node.start_mark)
        try:
            value = super().construct_object(node, deep=True)
            if isinstance(value, date | bytes | set):  # or a datetime, which is a date
                raise ValueError(f"its kind is {type(value).__name__}")
        except (ValueError, LookupError, AttributeError) as error:
            shown = repr(node.value[:40]) if isinstance(node, yaml.ScalarNode) else f"!!{node.tag.rpartition(':')[2]}"
            text = f"{shown} is not a valid value ({error}); quote it if it is text"
            raise ConstructorError(None, None, text, node.start_mark) from None
        del self.constructed_objects[node]  # the next alias is constructed anew
        return value

    def construct_undefined(self, node: yaml.Node) -> Any:
        tag = node.tag.replace(_PREFIX, "!!")
        raise _TagError(None, None, f"the tag {tag} is refused: options files hold plain data", node.start_mark)


# plain data as `yaml.dump` writes it; a tuple is read as a list
_PLAIN = {"tuple": "seq", "list": "seq", "dict": "map", "unicode": "str", "long": "int", "none": "null"}
for _kind, _plain in {**_PLAIN, **{kind: kind for kind in ("str", "int", "float", "bool")}}.items():
    _Loader.add_constructor(f"{_PREFIX}python/{_kind}", yaml.SafeLoader.yaml_constructors[_PREFIX + _plain])
_Loader.yaml_constructors[None] = _Loader.construct_undefined  # type: ignore[index]  # of unknown tags
