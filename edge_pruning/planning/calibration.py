"""The speed of this machine: a micro-batch of each kind of pass, timed after a warm-up."""

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
JUDGED = 32  # most pairs to time judging with: its micro-batches are larger than those of a step


def measured(
    engine: MaskedPass,
    judge: MaskedPass,
    pairs: Sequence[Pair],
    of_step: int,
    of_judging: int,
    ablation: Ablation,
    objective: str,
) -> Speed:
    """Measure the seconds per token of a training step, of a gradient at masks that all are 1, and of a masked forward
    pass in float32, as circuits are judged. Frozen values are cached.

    engine, judge: in which circuits are searched and judged; they may be the same.
    ablation: it is fitted here.
    of_step, of_judging: the number of pairs in a micro-batch of a step and in one of judging (and attribution).
    """
    several = [bool(pair.prefixes) for pair in pairs[: min(of_judging, JUDGED)]]
    judged = [i for i, tree in enumerate(several) if tree == several[0]]  # pairs of one kind, as in a micro-batch
    stepped = range(min(of_step, len(pairs)))
    some = pairs[: 1 + max(*stepped, *judged)]
    cache = FrozenCache(engine, some, ablation.fitted(engine, pairs))
    of_judge = cache if judge is engine else FrozenCache(judge, some, ablation.fitted(judge, pairs))
    mask, compared = engine.graph.edge_mask.to(engine.adapter.device, torch.float32) / 2, get_objective(objective)

    def step() -> Tensor:
        return mask_gradient(engine, cache, stepped, mask, compared)[0]

    def whole() -> Tensor:
        return mask_gradient(engine.whole(), cache, judged, 2 * mask, compared)[0]

    @torch.no_grad()
    def forward() -> Tensor:
        return judge.logits(mask, *of_judge.batch(judged)).sum()

    def per_token(work: Callable[[], Tensor], ids: Sequence[int]) -> float:
        return _seconds(work) / sum(engine.tokens(pairs[i]) for i in ids)

    source = f"measured just now with {len(stepped)} pairs on this machine"
    return Speed(per_token(step, stepped), per_token(whole, judged), per_token(forward, judged), source)


def _seconds(work: Callable[[], Tensor]) -> float:
    """Return the shortest time of a few runs, because other programs on the machine only add time."""
    work().item()
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work().item()  # synchronises
        times.append(time.perf_counter() - begin)
    return min(times)
