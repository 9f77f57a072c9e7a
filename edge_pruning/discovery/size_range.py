"""The sizes worth training on: from where the loss begins to fall to twice the size at which it is nearly gone.

Sizes are numbers of edges, because circuits do not grow with the graph that they are in. The range is read off a
ranking that exists before training (an attribution's), on a few training pairs: circuits of 8, 16, 32, ... edges, up to
half of the candidates, are cut from it and run. A loss can rise again with size, when a circuit has only half of a
mechanism (greater-than on SmolLM2-135M: 4 % of the empty circuit's loss at 1,024 edges, 9 % at 2,048), so the range
ends where all larger circuits are good enough. Beyond the range nothing is learned, and a range that is too wide costs
little, so it goes on until only two percent of the loss are left. It covers the sizes that the caller wants. Cost: a
dozen or two forward passes of a few pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_pruning import ranks
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.search import Search
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.masked_pass.micro_batches import over_tiles
from edge_pruning.objectives import get_objective

FEWEST = 8  # edges: the smallest size that is looked at
BEGINS, ENDS = 0.9, 0.02  # of the empty circuit's loss: where it begins to fall, and where it is nearly gone for good
BELOW, ABOVE = 2, 2  # the range goes on by these factors on either side
AT_LEAST = 512  # edges: the upper end is no smaller, so that in a small graph most sizes are trained on
MOST = 0.5  # of the candidates: no size is larger
PAIRS = 16  # that the circuits are run on


def size_range(search: Search, ranking: EdgeScores) -> tuple[float, float]:
    """The smallest and the largest size to train on, in edges."""
    losses, sizes = _Losses(search), _sizes(search)
    empty = losses.of(torch.zeros_like(search.candidates))
    each = [losses.of(ranking.top(size)) for size in sizes]
    begins = next((size for size, loss in zip(sizes, each, strict=True) if loss < BEGINS * empty), FEWEST)
    bad = [i for i, loss in enumerate(each) if not loss < ENDS * empty]
    ends = [*sizes, _largest(search)][bad[-1] + 1 if bad else 0]
    largest = min(_largest(search), max(ABOVE * ends, AT_LEAST, *search.sizes))
    smallest = max(1.0, min([begins / BELOW, *search.sizes]))
    return min(smallest, largest), largest


def size_range_cost(search: Search) -> Cost:
    """Count what `size_range` computes."""
    pairs = min(PAIRS, len(search.data.pairs))
    return Cost(gradients=0, forwards=(1 + len(_sizes(search))) * pairs, frozen=pairs, step_pairs=pairs, kept=pairs)


def _largest(search: Search) -> float:
    return max(1.0, MOST * search.n_candidates)


def _sizes(search: Search) -> list[int]:
    """The sizes to look at, ascending."""
    return [FEWEST * 2**i for i in range(40) if FEWEST * 2**i < _largest(search)]


class _Losses:
    """Mean losses of circuits on the first training pairs, whose frozen passes are computed once."""

    def __init__(self, search: Search) -> None:
        self.search, self.pairs = search, search.data.pairs[:PAIRS]
        self.objective = get_objective(search.data.objective)
        self.cache = FrozenCache(search.engine, self.pairs, search.ablation, 0, remember=True)

    @torch.no_grad()
    def of(self, circuit: Tensor) -> float:
        whole, mask = self.search.engine, circuit.to(self.search.device, torch.float32)
        engine = whole.restricted(circuit, consistent=self.search.ablation.consistent)

        def of_tile(ids: list[int]) -> Tensor:
            batch, frozen = self.cache.batch(ids)
            return self.objective(frozen.logits, engine.logits(mask, batch, frozen), batch).sum()

        total = torch.zeros((), dtype=torch.float64)
        for _, loss in over_tiles(whole, self.pairs, of_tile, shared=True):
            total += loss.double().cpu()
        ranks.add_up(total)
        return float(total) / len(self.pairs)
