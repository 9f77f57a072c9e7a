"""Magnitude of activation differences: a baseline that sees how much a write changes, not what depends on it.

    score(i -> j) = mean over pairs of the mean of |y_i - c_i| over the positions that j reads

The logits read the compared positions, and every other reader reads all positions. So all edges of a writer score
alike, except the one to the logits, and ties go to the earlier edge. No gradient and no metric is used. Cost: one
masked forward pass per batch. It misleads wherever large changes do not matter. Lengths are those in the stream's
buffers, so under LayerNorm they are without the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning import ranks
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.batch import Batch
from edge_pruning.discovery.attribution import refuse_init_scores
from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.method import Method, method
from edge_pruning.discovery.search import Search
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.masked_pass.micro_batches import over_tiles


@method
@dataclass(frozen=True)
class Magnitude(Method):
    name: ClassVar[str] = "magnitude"
    summary: ClassVar[str] = "baseline: how much a writer changes between clean and ablated, whatever depends on it"
    one_run_ranks_all: ClassVar[bool] = True
    baseline: ClassVar[bool] = True

    def find(self, search: Search) -> EdgeScores:
        refuse_init_scores(self, search)
        engine, pairs = search.engine, search.data.pairs
        cache = FrozenCache(engine, pairs, search.ablation, 0)
        mask = search.candidates.to(search.device, torch.float32)
        values = torch.zeros(mask.shape)

        def of_tile(ids: list[int]) -> tuple[Tensor, Tensor]:
            batch, frozen = cache.batch(ids)
            return _means(engine.differences(mask, batch, frozen).float().norm(dim=-1), batch)  # [w, token]

        for _, (everywhere, compared) in over_tiles(engine, pairs, of_tile, shared=True):
            values[:, :-1] += (everywhere.cpu() / len(pairs))[:, None]
            values[:, -1] += compared.cpu() / len(pairs)
        ranks.add_up(values)
        return search.scores(values[search.candidates])

    def cost(self, search: Search) -> Cost:
        pairs = len(search.data.pairs)
        return Cost(gradients=0, forwards=pairs, frozen=pairs, step_pairs=pairs)


def _means(lengths: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Sums over a batch of each pair's mean over all of its positions, and over its compared ones, [w] each."""
    pair = torch.zeros_like(batch.lengths).index_copy(0, batch.positions // batch.width, batch.example)  # [s]
    total = torch.zeros_like(batch.lengths[: batch.size]).index_add(0, pair, batch.lengths)  # [b]
    inside = torch.arange(batch.width, device=lengths.device) < batch.lengths[:, None]  # [s, p]
    everywhere = (lengths.unflatten(1, inside.shape) * (inside / total[pair, None])).sum((1, 2))
    count = torch.bincount(batch.example, minlength=batch.size)
    return everywhere, (lengths[:, batch.positions] / count[batch.example]).sum(1)
