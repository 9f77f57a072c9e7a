"""Levels of quality, and how many edges it takes to reach them.

One number per level makes methods comparable at equal quality: "95 % faithfulness takes 60 edges here and 140 there".
The size is found among circuits that were run, not interpolated: the smallest on a grid that reaches the level, then
closed in on by halving. Quality need not grow with size, so a larger circuit may fall below again; that is said, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edge_pruning.objectives import get_objective

PRECISION = 0.05  # of the size: how closely it is found


@dataclass(frozen=True)
class Level:
    """Faithfulness of at least `at`, or a loss (`kl` or `squared_error`) of at most `at` of the empty circuit's."""

    number: str
    at: float

    @property
    def name(self) -> str:
        return f"{self.number} {self.at:g}"

    @property
    def words(self) -> str:
        share = f"{100 * self.at:g} %"
        if self.number == "faithfulness":
            return f"faithfulness of {share}"
        return f"{get_objective(self.number).short} of {share} of the empty circuit's"

    def reached(self, means: Mapping[str, float], empty_loss: float) -> bool:
        """Whether a run with these means has reached it; never where the number is undefined."""
        if self.number == "faithfulness":
            return means["faithfulness"] >= self.at
        return means[self.number] <= self.at * empty_loss


def levels_of(loss: str) -> tuple[Level, ...]:
    """All levels, where the distance from the model is `kl` or `squared_error`."""
    return (*(Level("faithfulness", at) for at in (0.85, 0.90, 0.95, 0.99)), Level(loss, 0.10), Level(loss, 0.05))


def first_reached(sizes: Sequence[int], reached: Callable[[int], bool]) -> int | None:
    """The smallest of the sizes (ascending) that has reached a level; None if none has."""
    return next((size for size in sizes if reached(size)), None)


def size_between(sizes: Sequence[int], reached: Callable[[int], bool]) -> int | None:
    """A size to run next, to find out more closely where a level is reached; None if that is known well enough."""
    high = first_reached(sizes, reached)
    if high is None:
        return None
    low = max((size for size in sizes if size < high), default=0)
    if high - low <= max(1.0, PRECISION * high):
        return None
    return min(high - 1, max(low + 1, round(math.sqrt(max(1, low) * high))))
