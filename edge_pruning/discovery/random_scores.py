"""Random scores: the null of nulls. A method whose circuits are no better than these has found nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.ablation import Ablation
from edge_pruning.circuit import EdgeScores
from edge_pruning.discovery.attribution import refuse_init_scores, scores_of
from edge_pruning.discovery.method import Method, Observer, candidates_of, method
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.tasks.task import PairSet


@method
@dataclass(frozen=True)
class Random(Method):
    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "null: every edge gets a random score"
    one_run_ranks_all: ClassVar[bool] = True

    seed: int = 0

    def find(
        self,
        engine: MaskedPass,
        data: PairSet,
        ablation: Ablation,
        *,
        sizes: Sequence[int] = (),
        within: Tensor | None = None,
        init_scores: EdgeScores | None = None,
        observer: Observer | None = None,
    ) -> EdgeScores:
        refuse_init_scores(self, init_scores)
        candidates = candidates_of(engine.graph, within)
        drawn = torch.rand(candidates.shape, generator=torch.Generator().manual_seed(self.seed))
        return scores_of(engine.graph, candidates, drawn)
