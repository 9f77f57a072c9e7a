"""HAP, hybrid attribution and pruning: attribution chooses candidate edges, Edge Pruning runs within them (Gu and
others, 2025).

    candidates = top share of attribution.find(...)          circuit = pruning.find(..., within=candidates)

Attribution is cheap and ranks the useless edges well. Its errors are in the order of the useful ones, and Edge Pruning
corrects that order. Cost: one attribution, and the pruning steps on what is left of the graph. It misleads where an
edge that matters is not a candidate, because nothing brings it back. `init_scores` replace the attribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.discovery.attribution import METRICS, metric_rule
from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.eap import Eap
from edge_pruning.discovery.eap_ig import EapIg
from edge_pruning.discovery.hard_concrete import HardConcrete
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.search import Search, normalised_ranks
from edge_pruning.discovery.soft_top_k import SoftTopK
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.registry import Registry

ATTRIBUTIONS: Registry[type[Eap | EapIg]] = Registry("attribution method", [Eap, EapIg])
PRUNINGS: Registry[type[SoftTopK | HardConcrete]] = Registry("pruning method", [SoftTopK, HardConcrete])


@method
@dataclass(frozen=True)
class Hap(Method):
    """Attribution, then Edge Pruning within its candidates.

    attribution, metric: the attribution method, and its metric.
    candidates: the share of all edges that it keeps.
    attributed: how many training pairs it uses, the first ones; None: all.
    warm_start: whether pruning begins with the attribution's ranking, which suits runs of few steps.
    pruning: the method that runs within the candidates.
    steps, batch_size, learning_rate: of the pruning method; None takes its own.
    """

    name: ClassVar[str] = "hap"
    summary: ClassVar[str] = "hybrid attribution and pruning: attribution chooses candidates for Edge Pruning"

    attribution: str = "eap"
    metric: str = "difference"
    candidates: float = 0.3
    attributed: int | None = None
    warm_start: bool = False
    pruning: str = "soft-top-k"
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        rate = self.learning_rate
        check_settings(self, {
            "attribution": (self.attribution in ATTRIBUTIONS, " or ".join(ATTRIBUTIONS)),
            "metric": metric_rule(self.metric, METRICS),
            "attributed": (self.attributed is None or self.attributed >= 1, "at least 1 (pairs)"),
            "candidates": (0 < self.candidates <= 1, "above 0 and at most 1 (a share of all edges)"),
            "pruning": (self.pruning in PRUNINGS, " or ".join(PRUNINGS)),
            "steps": (self.steps is None or self.steps >= 1, "at least 1"),
            "batch_size": (self.batch_size is None or self.batch_size >= 1, "at least 1"),
            "learning_rate": (rate is None or 0 < rate < math.inf, "positive"),
        })
        _ = self.attribution_value, self.pruning_value  # their own checks

    @property
    def one_run_ranks_all(self) -> bool:  # type: ignore[override]  # it depends on `pruning`
        return self.pruning_value.one_run_ranks_all

    @property
    def rounds_weights(self) -> bool:  # type: ignore[override]  # it depends on `pruning`
        return self.pruning_value.rounds_weights

    @property
    def attribution_value(self) -> Method:
        return ATTRIBUTIONS[self.attribution](metric=self.metric)

    @property
    def pruning_value(self) -> Method:
        own = {"steps": self.steps, "batch_size": self.batch_size, "learning_rate": self.learning_rate}
        given = {name: value for name, value in own.items() if value is not None}
        return PRUNINGS[self.pruning](seed=self.seed, **given)  # type: ignore[arg-type]

    def find(self, search: Search) -> EdgeScores:
        start, warm = search.init_scores, self.warm_start or search.init_scores is not None
        if self._attributes(search):
            start = self.attribution_value.find(search.for_ranking(self.attributed))
        kept = search.candidates if start is None else self._kept(start, search)
        return self.pruning_value.find(replace(search, within=kept, init_scores=start if warm else None))

    def cost(self, search: Search) -> Cost:
        if not self._attributes(search):
            return self.pruning_value.cost(search)
        ranking = search.scores(torch.zeros(search.n_candidates))  # any: what counts is that there is one
        within, start = self._kept(ranking, search), ranking if self.warm_start else None
        pruning = self.pruning_value.cost(replace(search, within=within, init_scores=start))
        return self.attribution_value.cost(search.for_ranking(self.attributed)) + pruning

    def soft_mask(self, scores: EdgeScores, edges: int) -> Tensor | None:
        return self.pruning_value.soft_mask(scores, edges)

    def _attributes(self, search: Search) -> bool:
        """Whether there is a ranking to compute before pruning begins."""
        return search.init_scores is None and (self.warm_start or self.candidates < 1)

    def _kept(self, start: EdgeScores, search: Search) -> Tensor:
        """The highest-scoring share of the candidates, bool [w, r]. Raises ValueError if a wanted size is larger."""
        share, sizes = max(1, round(self.candidates * search.n_candidates)), search.sizes
        if sizes and max(sizes) > share:
            raise ValueError(
                f"method {self.name!r}: candidates={self.candidates:g} keeps {share:,} edges, fewer than the wanted "
                f"{max(sizes):,}; raise candidates"
            )
        return search.scores(normalised_ranks(start, search.candidates)).top(share)
