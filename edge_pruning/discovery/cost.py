"""The cost of a search: passes over pairs, counted from its settings before it begins.

`edge-pruning plan` makes seconds of it, and the progress bar makes shares of the whole run.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a search computes. The unit is one pair: a pass over a batch of 8 counts 8.

    gradients: masked passes, forward and backward; None if their number depends on what the search finds.
    forwards: masked forward passes without a gradient; at most so many. None as above.
    frozen: pairs for which the frozen values are computed, if there is memory for those that are kept.
    step_pairs: pairs of one step; for a method without steps, all of its pairs.
    kept: the most pairs whose frozen values are in memory at a time, because they are used again later.
    whole: how many of the gradients are at masks that all are 1. Those need no masked reads, and cost less.
    """

    gradients: int | None
    forwards: int | None
    frozen: int
    step_pairs: int
    kept: int = 0
    whole: int = 0

    def __add__(self, other: Cost) -> Cost:
        """The cost of a search that another one prepares: `preparation + search`. Steps are those of the search."""
        gradients, forwards = _sum(self.gradients, other.gradients), _sum(self.forwards, other.forwards)
        kept = max(self.kept, other.kept)  # the first search is over when the other begins
        whole = self.whole + other.whole
        return Cost(gradients, forwards, self.frozen + other.frozen, other.step_pairs, kept, whole)

    def __mul__(self, times: int) -> Cost:
        """The cost of several such searches."""
        gradients, forwards = (None if count is None else times * count for count in (self.gradients, self.forwards))
        return Cost(gradients, forwards, times * self.frozen, self.step_pairs, self.kept, times * self.whole)

    def weighed(self, *, gradient: float, whole: float, forward: float, frozen: float) -> float | None:
        """The sum of all passes, each kind with its weight; None if the number of passes is not known."""
        if self.gradients is None or self.forwards is None:
            return None
        masked = self.gradients - self.whole
        return gradient * masked + whole * self.whole + forward * self.forwards + frozen * self.frozen


def _sum(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b
