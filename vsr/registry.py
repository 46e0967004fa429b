"""Maps the ``type:`` of an options file to the class or function that builds the component.

A component's constructor signature is the schema of its options: parameters before ``/`` are supplied by the program
(a network's channels, an optimiser's parameters), every other parameter is a key of the YAML mapping.
"""

import difflib
import operator
from collections.abc import Callable, Container, Iterable
from functools import cache, partial
from importlib import import_module
from pkgutil import walk_packages
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args

# fmt: off
Kind = Literal[
    "arch", "encoder", "decoder", "memory", "discriminator", "dataset", "degradation", "degradation_step", "trainer",
    "loss", "gan_loss", "metric", "optimizer", "scheduler",
]
# fmt: on
Registered = TypeVar("Registered", bound=Callable[..., object])

# where the components of a kind are: a file there and the decorator are all that a new one needs
_PACKAGES: dict[Kind, str] = {
    "arch": "vsr.archs",
    "encoder": "vsr.archs",
    "decoder": "vsr.archs",
    "memory": "vsr.memory",
    "discriminator": "vsr.archs",
    "dataset": "vsr.data.sets",
    "degradation": "vsr.data.degrade",
    "degradation_step": "vsr.data.degrade",
    "trainer": "vsr.engine",
    "loss": "vsr.losses",
    "gan_loss": "vsr.losses",
    "metric": "vsr.metrics",
    "optimizer": "vsr.engine.optim",
    "scheduler": "vsr.engine.optim",
}
_components: dict[Kind, dict[str, Callable[..., object]]] = {kind: {} for kind in get_args(Kind)}


class Component(NamedTuple):
    """Marks a parameter as a component of its own: ``Annotated[Callable[..., nn.Module], Component("memory")]``.

    In YAML it is a mapping with ``type:``; the constructor receives a ``functools.partial``, which still takes the
    program's arguments.
    """

    kind: Kind


class Shared(NamedTuple):
    """Marks a parameter whose default is the value of another key of the file.

    ``scale: Annotated[int, Shared("scale")] = 4`` defaults to the ``scale`` at the top of the file, or 4 without one.

    Args:
        key: path of the other key, ``datasets.train.gt_size``.
        convert: computes the default of its value; it returns None to fall back on the parameter's own default.
    """

    key: str
    convert: Callable[[Any], Any] | None = None


class Limit(NamedTuple):
    """Marks a number that has a limit: ``Annotated[int, at_least(1)]``."""

    text: str
    compare: Callable[[float, float], bool]
    bound: float


at_least = partial(Limit, "of at least", operator.ge)
at_most = partial(Limit, "of at most", operator.le)
above = partial(Limit, "above", operator.gt)
below = partial(Limit, "below", operator.lt)


Positive = Annotated[int, at_least(1)]
NotNegative = Annotated[int, at_least(0)]


def register(kind: Kind, name: str | None = None) -> Callable[[Registered], Registered]:
    """Returns a decorator that registers a class or function under its own name, or ``name``, the ``type:`` in YAML.

    The decorator raises ValueError if another component has the name; the registry is left as it was.
    """

    def decorate(component: Registered) -> Registered:
        key = name or component.__name__
        known = _components[kind].get(key)
        origin = component.__module__, component.__qualname__
        if known is not None and (known.__module__, known.__qualname__) != origin:
            raise ValueError(f"{kind} '{key}' is registered twice: by {known.__module__} and {component.__module__}")
        _components[kind][key] = component
        return component

    return decorate


def find(kind: Kind, name: str) -> Callable[..., object]:
    """Returns the component registered as ``name``; raises ValueError, with the known names, if there is none."""
    known = names(kind)
    if name not in known:
        hint = did_you_mean(name, known, likeness=0.75)
        own = f'; one of your own: imports: [its module], and @register("{kind}") above its definition'
        raise ValueError(f"unknown {kind} '{name}'{hint}; known: {', '.join(known)}{'' if hint else own}")
    return _components[kind][name]


def name_of(component: Callable[..., object]) -> tuple[Kind, str]:
    """Returns the kind and the name that a component is registered under."""
    return next((kind, name) for kind, known in _components.items() for name, c in known.items() if c is component)


def names(kind: Kind) -> list[str]:
    """Returns the registered names of a kind, sorted."""
    _import_all(_PACKAGES[kind])
    return sorted(_components[kind])


@cache
def _import_all(package: str) -> None:
    """Imports every module of a package, so that its components register themselves."""
    for module in walk_packages(import_module(package).__path__, f"{package}."):
        import_module(module.name)


def did_you_mean(name: str, known: Iterable[str], given: Container[str] = (), likeness: float = 0.6) -> str:
    """Returns ``"; did you mean 'x'?"`` for the nearest known name, and says if it is ``given`` already.

    A beginning that several names share, ``calculate_``, does not count.
    """
    known = list(known)
    beginning = f"{str(name).partition('_')[0]}_"
    shared = beginning if sum(candidate.startswith(beginning) for candidate in known) > 1 else ""
    folded = {candidate.removeprefix(shared).lower(): candidate for candidate in known}
    folded_name = str(name).removeprefix(shared).lower()
    close = difflib.get_close_matches(folded_name, folded, cutoff=likeness)
    close.sort(key=lambda candidate: sorted(candidate) != sorted(folded_name))  # letters swapped: Adma is Adam
    if not close:
        return ""
    nearest = folded[close[0]]
    return f"; did you mean '{nearest}'{', which is given already' if nearest in given else ''}?"
