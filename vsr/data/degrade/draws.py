"""The kinds of options that random degradations have: ranges, random walks and weighted choices."""

from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np

from vsr.registry import at_least, at_most

Share = Annotated[float, at_least(0), at_most(1)]
Weight = Annotated[float, at_least(0)]


@dataclass(frozen=True)
class Range:
    """Positive numbers, of which one is drawn per clip.

    Args:
        low: the smallest.
        high: the largest.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low <= 0:
            raise ValueError(f"low: {self.low:g} is not above 0")
        if self.low > self.high:
            raise ValueError(f"low: {self.low:g} is larger than high, {self.high:g}")

    def draw(self, rng: np.random.Generator) -> float:
        """Returns a number of the range, uniformly drawn."""
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class Walk(Range):
    """A positive number that is drawn once per clip and changes a little from frame to frame, within its range.

    Args:
        step: the largest change between neighbouring frames, up or down; 0 keeps the number.
    """

    step: Weight = 0.0

    def values(self, rng: np.random.Generator, count: int, start: float | None = None) -> list[float]:
        """Returns the number in ``count`` frames; ``start`` is the first, None draws it."""
        return walk(rng, self.low, self.high, self.step, count, start)


@dataclass(frozen=True)
class Quality(Walk):
    """The quality of JPEG, from 1 to 100, as it walks; see Walk."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low < 1:
            raise ValueError(f"low: {self.low:g} is less than 1")
        if self.high > 100:
            raise ValueError(f"high: {self.high:g} is more than 100")


@dataclass(frozen=True)
class BitRate(Range):
    """Bits per second, of which one number is drawn per clip; encoders count in thousands."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low < 1000:
            raise ValueError(f"low: {self.low:g} is less than 1000, the lowest bit rate of libx264")


@dataclass(frozen=True)
class OddSizes(Range):
    """Sides of kernels, the odd numbers of a range; one is drawn per clip."""

    low: int
    high: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, size in (("low", self.low), ("high", self.high)):
            if size % 2 == 0:
                raise ValueError(f"{name}: {size} is even; the side of a kernel is odd, such as {size + 1}")

    def draw(self, rng: np.random.Generator) -> int:
        """Returns an odd number of the range, uniformly drawn."""
        return int(rng.integers(self.low // 2, self.high // 2 + 1)) * 2 + 1


@dataclass(frozen=True)
class Weights:
    """Choices with their weights, one drawn per clip; a choice that is not named has weight 0."""

    def __post_init__(self) -> None:
        if not any(asdict(self).values()):
            raise ValueError(f"every weight is 0; give one of {', '.join(asdict(self))} a weight above 0")

    def draw(self, rng: np.random.Generator) -> str:
        """Returns the name of a choice, drawn with a probability in proportion to its weight."""
        names, weights = zip(*asdict(self).items(), strict=True)
        return str(rng.choice(names, p=np.array(weights) / sum(weights)))


def walk(
    rng: np.random.Generator, low: float, high: float, step: float, count: int, start: float | None = None
) -> list[float]:
    """Returns ``count`` numbers in [low, high]: ``start``, or one drawn; each is up to ``step`` from the one before."""
    values = [float(rng.uniform(low, high)) if start is None else start]
    for change in rng.uniform(-step, step, count - 1):
        values.append(min(max(values[-1] + float(change), low), high))
    return values
