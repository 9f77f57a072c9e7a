"""A quick look at many circuits on the same pairs: loss and accuracy, at one masked pass per circuit.

For choosing among sizes. The full evaluation, with error bars and rivals, is `edge_pruning.evaluation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from edge_pruning import metrics
from edge_pruning.ablation import Ablation
from edge_pruning.forward import MaskedPass
from edge_pruning.micro_batches import over_tiles
from edge_pruning.objectives import get_objective
from edge_pruning.tasks import PairSet


@torch.no_grad()
def scan(
    engine: MaskedPass,
    masks: Sequence[Tensor],
    pairs: PairSet,
    ablation: Ablation,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, float]]:
    """Mean objective, under its name (`kl` in nats, say), and mean `accuracy` of each mask [w, r] on the pairs."""
    restricted = [engine.restricted(mask != 0, consistent=ablation.consistent) for mask in masks]
    on_device = [mask.to(engine.adapter.device, torch.float32) for mask in masks]
    objective = get_objective(pairs.objective)
    totals, done = torch.zeros(len(masks), 2, dtype=torch.float64), 0

    def of_tile(ids: list[int]) -> Tensor:
        batch, sums = engine.batch([pairs.pairs[i] for i in ids]), []
        frozen = ablation.freeze(engine, batch)
        for small, mask in zip(restricted, on_device, strict=True):
            logits = small.logits(mask, batch, frozen)
            loss = objective(frozen.logits, logits, batch)
            sums.append(torch.stack([loss.sum(), metrics.accuracy(logits, batch, pairs.metric).sum()]))
        return torch.stack(sums).cpu()

    for ids, sums in over_tiles(engine, pairs.pairs, of_tile):
        totals += sums
        done += len(ids)
        if progress:
            progress(done, len(pairs.pairs))
    return [{objective.name: loss, "accuracy": accuracy} for loss, accuracy in (totals / len(pairs.pairs)).tolist()]
