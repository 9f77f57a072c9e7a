"""Mean gradient: the gradient that soft top-k has at its start, averaged over its random sizes; nothing is learned.

At equal scores every candidate's mask is the share a = k / n of the edges that are to be kept, and the gradient of the
loss L in a score is

    dL/ds_i = a (1 - a) (dL/dz_i - mean_j dL/dz_j)      at z = a everywhere

The mean over j moves all scores alike, so the ranking is that of -dL/dz_i, averaged over sizes with weight a (1 - a).
That is integrated gradients along the path of masks from none to all (EAP-IG on activations), but not evenly weighted:

    size="uniform"        k uniform        weight 6 a (1 - a): mostly half-way
    size="log-uniform"    log k uniform    weight 2 (1 - a): mostly near the empty circuit

(Arora and others, "Matryoshka attribution", 2026.) The integral is taken at the middles of `steps` parts of equal
weight. Cost: `steps` masked forward and backward passes per pair. It misleads as a first step does: all masks are equal
along the path, so an edge that matters only once others are gone, or only with another edge, is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery.attribution import refuse_init_scores
from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.search import Search
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.objectives import get_objective

# Which share of the edges has the part u of the weight below it: the inverse of 3 a^2 - 2 a^3, and of 1 - (1 - a)^2.
SHARES: dict[str, Callable[[float], float]] = {
    "uniform": lambda u: 0.5 - math.sin(math.asin(1 - 2 * u) / 3),
    "log-uniform": lambda u: 1 - math.sqrt(1 - u),
}


@method
@dataclass(frozen=True)
class MeanGradient(Method):
    """`size`: how the sizes are distributed that the gradient is averaged over. `steps`: points along the path."""

    name: ClassVar[str] = "mean-gradient"
    summary: ClassVar[str] = "the first gradient of soft top-k, averaged over circuit sizes; nothing is learned"
    one_run_ranks_all: ClassVar[bool] = True

    size: str = "log-uniform"
    steps: int = 5

    def __post_init__(self) -> None:
        check_settings(self, {
            "size": (self.size in SHARES, " or ".join(SHARES)),
            "steps": (self.steps >= 1, "at least 1"),
        })

    def find(self, search: Search) -> EdgeScores:
        refuse_init_scores(self, search)
        pairs, objective = search.data.pairs, get_objective(search.data.objective)
        objective.check(pairs)
        cache = FrozenCache(search.engine, pairs, search.ablation)
        gradient = torch.zeros(search.candidates.shape)
        for share in self.shares():
            at_share = mask_gradient(search.engine, cache, range(len(pairs)), share * search.candidates, objective)[1]
            gradient += at_share.cpu() / self.steps
        return search.scores(-gradient[search.candidates])

    def cost(self, search: Search) -> Cost:
        pairs = len(search.data.pairs)
        return Cost(gradients=self.steps * pairs, forwards=0, frozen=pairs, step_pairs=pairs, kept=pairs)

    def shares(self) -> list[float]:
        """The masks of the candidates at each point of the path."""
        return [SHARES[self.size]((point + 0.5) / self.steps) for point in range(self.steps)]
