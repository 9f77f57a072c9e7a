"""The clean prompts of training pairs, as ablations that need data read them: by length, and cut where the run ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from edge_pruning.batch import Pair


def length_of(pair: Pair) -> int:
    """In tokens, up to the last compared position: nothing after it is run."""
    return max(pair.positions) + 1


def prompt_of(pair: Pair) -> tuple[int, ...]:
    return pair.clean[: length_of(pair)]


def by_length(pairs: Sequence[Pair]) -> dict[int, list[Pair]]:
    groups: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[length_of(pair)].append(pair)
    return dict(sorted(groups.items()))
