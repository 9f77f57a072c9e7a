"""The speed of this machine: one micro-batch of training pairs, forward and backward, timed after a warm-up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from edge_pruning.ablation import Ablation
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.objectives import get_objective
from edge_pruning.pair import Pair
from edge_pruning.planning.plan import Speed

REPEATS = 2


def measured(engine: MaskedPass, pairs: Sequence[Pair], ablation: Ablation, objective: str) -> Speed:
    """Measure seconds per token. `pairs` are those of a micro-batch. Frozen values are cached, as in most steps of a
    run.
    """
    cache, ids = FrozenCache(engine, pairs, ablation), range(len(pairs))
    mask = engine.graph.edge_mask.to(engine.adapter.device, torch.float32) / 2
    tokens = sum(engine.width(pair) for pair in pairs)

    def step() -> Tensor:
        return mask_gradient(engine, cache, ids, mask, get_objective(objective))[0]

    @torch.no_grad()
    def forward() -> Tensor:
        return engine.logits(mask, *cache.batch(ids)).sum()

    source = f"measured just now with {len(pairs)} pairs on this machine"
    return Speed(_seconds(step) / tokens, _seconds(forward) / tokens, source)


def _seconds(work: Callable[[], Tensor]) -> float:
    """Return the shortest time of a few runs, because other programs on the machine only add time."""
    work().item()
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work().item()  # synchronises
        times.append(time.perf_counter() - begin)
    return min(times)
