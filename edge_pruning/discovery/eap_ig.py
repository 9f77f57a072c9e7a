"""EAP-IG: edge attribution patching with the gradient averaged along a path from ablated to clean.

One gradient at the whole model misses what is saturated there, and is 0 where the metric is flat. Integrated gradients
(Sundararajan and others, 2017) average it over points a between 0 and 1. There are two paths:

    inputs       effect(i -> j) = mean_a <y_i - c_i, dm/dx_j at the model run on c_0 + a (y_0 - c_0)>

where y_0 and c_0 are the clean and the ablated embeddings (Hanna and others, 2024). The difference y_i - c_i is that of
the clean run at every point; only the gradient moves.

    activations  effect(i -> j) = mean_a dm/dz_ij at the run whose masks all are a

where every edge carries c_i + a (y_i - c_i), and the effects add up to m(model) - m(empty) as the steps grow. (The
authors of EAP-IG move the writes of one sublayer at a time, at many times the cost.)

The points are the middles of `steps` equal parts. The paper has their right ends and its code the left ones, but KL is
flat at one of these. Cost: that of EAP times the number of steps, and one more forward pass for inputs. It misleads
where the run half-way is unlike any run that the model was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning import ranks
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery.attribution import (
    METRICS,
    gradients_at_ones,
    metric_of,
    metric_rule,
    pass_of_ones,
    ranked,
    refuse_init_scores,
    sign_rule,
)
from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.gradient import batch_gradient
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.search import Search
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.micro_batches import over_tiles
from edge_pruning.masked_pass.unmasked_pass import Frozen
from edge_pruning.objectives import Objective

PATHS = ("inputs", "activations")


@method
@dataclass(frozen=True)
class EapIg(Method):
    """EAP with integrated gradients.

    metric, sign: as for `eap`, but KL works here.
    path: `inputs` or `activations`.
    steps: the number of points on the path.
    """

    name: ClassVar[str] = "eap-ig"
    summary: ClassVar[str] = "EAP with integrated gradients: averaged from ablated to clean inputs (or activations)"
    one_run_ranks_all: ClassVar[bool] = True

    metric: str = "difference"
    path: str = "inputs"
    steps: int = 5
    sign: str = "absolute"

    def __post_init__(self) -> None:
        check_settings(self, {
            "metric": metric_rule(self.metric, METRICS),
            "path": (self.path in PATHS, " or ".join(PATHS)),
            "steps": (self.steps >= 1, "at least 1"),
            "sign": sign_rule(self.sign),
        })

    def find(self, search: Search) -> EdgeScores:
        refuse_init_scores(self, search)
        pairs, objective = search.data.pairs, metric_of(self, self.metric, METRICS, search.data)
        cache = FrozenCache(search.engine, pairs, search.ablation, 0, logits=objective.compares)
        engine = pass_of_ones(search) if self.path == "inputs" else search.engine
        effects = torch.zeros(search.candidates.shape)

        def of_tile(ids: list[int]) -> Tensor:
            return self._gradient(engine, cache, ids, search.candidates, objective).cpu()

        for _, gradient in over_tiles(engine, pairs, of_tile, shared=True):
            effects -= gradient / len(pairs)
        ranks.add_up(effects)
        return search.scores(ranked(effects[search.candidates], self.sign))

    def cost(self, search: Search) -> Cost:
        pairs = len(search.data.pairs)
        if self.path == "activations":
            return Cost(gradients=self.steps * pairs, forwards=0, frozen=pairs, step_pairs=pairs)
        gradients = gradients_at_ones(search, self.steps)
        return Cost(forwards=pairs, frozen=pairs, step_pairs=pairs, **gradients)

    def _gradient(
        self, engine: MaskedPass, cache: FrozenCache, ids: list[int], candidates: Tensor, objective: Objective
    ) -> Tensor:
        """The gradient of the objective's sum over one micro-batch, averaged along the path, [w, r]."""
        whole, (batch, frozen) = candidates.to(engine.adapter.device, torch.float32), cache.batch(ids)
        along = engine.differences(whole, batch, frozen) if self.path == "inputs" else None
        total = torch.zeros_like(whole)
        for mask, at_point in self._points(whole, frozen):
            total += batch_gradient(mask, engine, batch, at_point, objective, along=along)[1] / self.steps
        return total

    def _points(self, whole: Tensor, frozen: Frozen) -> Iterator[tuple[Tensor, Frozen]]:
        """The runs along the path: all masks [w, r] between, or the embeddings."""
        for a in ((step + 0.5) / self.steps for step in range(self.steps)):
            if self.path == "activations":
                yield a * whole, frozen
            else:
                yield whole, replace(frozen, embedding_difference=a * frozen.embedding_difference)
