"""Random scores: the weakest baseline. A method whose circuits are no better than these has found nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from edge_pruning.discovery.attribution import refuse_init_scores
from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.method import Method, method
from edge_pruning.discovery.search import Search
from edge_pruning.edge_scores import EdgeScores


@method
@dataclass(frozen=True)
class Random(Method):
    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "baseline: every edge gets a random score"
    one_run_ranks_all: ClassVar[bool] = True
    baseline: ClassVar[bool] = True

    seed: int = 0

    def find(self, search: Search) -> EdgeScores:
        refuse_init_scores(self, search)
        values = torch.rand(search.candidates.shape, generator=torch.Generator().manual_seed(self.seed))
        return search.scores(values[search.candidates])

    def cost(self, search: Search) -> Cost:
        return Cost(gradients=0, forwards=0, frozen=0, step_pairs=len(search.data.pairs))
