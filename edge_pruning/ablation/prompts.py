"""The clean prompts of training pairs, for ablations that need data: grouped by length, cut where the run ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.pair import ImagePair, Pair

Prompt = tuple[int, ...]


def prompts_of(engine: MaskedPass, pairs: Sequence[Pair]) -> tuple[Prompt, ...]:
    """Return the clean prompts. Raises ValueError for images, whose positions have nothing in common."""
    if any(isinstance(pair, ImagePair) for pair in pairs):
        raise ValueError("mean and resample ablation require token prompts; use patch or zero for images")
    return tuple(pair.clean[: engine.width(pair)] for pair in pairs)


def sequences_of(engine: MaskedPass, pairs: Sequence[Pair]) -> tuple[Prompt, ...]:
    """Return the clean prompts with what follows each of them: a pair whose answers form a tree has several."""
    prompts = prompts_of(engine, pairs)
    return tuple(prompt + branch for prompt, pair in zip(prompts, pairs, strict=True) for branch in pair.branches)


def by_length(prompts: Iterable[Prompt]) -> dict[int, list[Prompt]]:
    """Group prompts by length, shortest first."""
    groups: dict[int, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        groups[len(prompt)].append(prompt)
    return dict(sorted(groups.items()))
