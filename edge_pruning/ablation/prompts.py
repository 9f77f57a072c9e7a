"""The clean prompts of training pairs, as ablations that need data read them: by length, cut where the run ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.pair import ImagePair, Pair

Prompt = tuple[int, ...]


def prompts_of(engine: MaskedPass, pairs: Sequence[Pair]) -> tuple[Prompt, ...]:
    """Raises ValueError for images: what they have in common position by position is their corners."""
    if any(isinstance(pair, ImagePair) for pair in pairs):
        raise ValueError("mean and resample ablation are for prompts of tokens; for images use patch or zero")
    return tuple(pair.clean[: engine.width(pair)] for pair in pairs)


def by_length(prompts: Iterable[Prompt]) -> dict[int, list[Prompt]]:
    """Shortest first."""
    groups: dict[int, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        groups[len(prompt)].append(prompt)
    return dict(sorted(groups.items()))
