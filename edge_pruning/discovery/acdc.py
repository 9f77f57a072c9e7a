"""ACDC: remove one edge after the other, from the logits back to the input, if the loss stays nearly the same.

    remove (i -> j)  if  L(circuit without it) - L(circuit) < threshold            (Conmy and others, 2023)

L is the KL to the model, or another metric. Readers come in reverse topological order, and of a reader's edges the one
from the latest writer comes first (with `init_scores`: the lowest-scoring one). Cost: about half a masked forward pass
per edge and threshold, so it does not scale to large graphs. It misleads where two edges can replace each other: the
one that is tried first goes, and late edges are tried first.

Several thresholds, ascending, rank the edges. Each threshold begins with the edges that the one before left. The score
of an edge is the increase of the loss that its removal caused, but at least the last threshold that the edge survived.
The edges that score at least a threshold are its circuit, so one run gives a curve. (Conmy and others begin each
threshold with the whole model.)
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from edge_pruning.discovery.attribution import METRICS, metric_of, metric_rule
from edge_pruning.discovery.circuit_loss import CircuitLoss
from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.greedy_removal import GreedyRemoval
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.observer import Observer
from edge_pruning.discovery.search import Search
from edge_pruning.discovery.training import drawn
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.masked_pass.masked_pass import MaskedPass

log = logging.getLogger("edge_pruning")
MANY_PASSES = 1_000_000  # of one pair and threshold: more take hours or days, which is announced


@method
@dataclass(frozen=True)
class Acdc(Method):
    """ACDC with `sweep` thresholds up to `threshold`, each `factor` times the one before; a sweep of 1 is as published.

    batch_size, seed: how many pairs measure every removal, and which.
    metric: `objective` (the task's own, KL for most), `difference` (the task's, of right and wrong answers), or the
        name of an objective.
    """

    name: ClassVar[str] = "acdc"
    summary: ClassVar[str] = "remove edge after edge, from the logits back to the input, if the loss hardly rises"
    one_run_ranks_all: ClassVar[bool] = True

    threshold: float = 0.3
    sweep: int = 6
    factor: float = 3.0
    metric: str = "objective"
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, {
            "threshold": (0 < self.threshold < math.inf, "positive"),
            "sweep": (self.sweep >= 1, "at least 1"),
            "factor": (1 < self.factor < math.inf, "above 1"),
            "metric": metric_rule(self.metric, METRICS),
            "batch_size": (self.batch_size >= 1, "at least 1"),
        })

    @property
    def thresholds(self) -> list[float]:
        """Ascending."""
        return [self.threshold / self.factor**i for i in reversed(range(self.sweep))]

    def find(self, search: Search) -> EdgeScores:
        candidates, data = search.candidates, search.data
        objective = metric_of(self, self.metric, METRICS, data)
        order = torch.arange(candidates.numel(), 0, -1).view_as(candidates).float()  # later writers first
        if search.initial_ranks is not None:
            order[candidates] = search.initial_ranks
        pairs = [data.pairs[i] for i in drawn(len(data.pairs), self.batch_size, 0, self.seed)]
        verbs = MaskedPass(search.engine.adapter, search.graph)
        ablation = search.ablation.fitted(verbs, data.pairs)
        loss = CircuitLoss(verbs, pairs, ablation, objective)
        removal = GreedyRemoval(search.graph, loss, candidates, order)
        self._warn_of_cost(search.n_candidates, len(pairs))
        self._run(removal, objective.name, search.observer)
        values = removal.scores[candidates]
        kept = [int((values >= threshold).sum()) for threshold in self.thresholds]
        self._warn_of_useless(kept, search.n_candidates)
        return search.scores(values, natural_size=kept[0] if self.sweep == 1 else None)

    def cost(self, search: Search) -> Cost:
        pairs = min(self.batch_size, len(search.data.pairs))
        return Cost(gradients=0, forwards=None, frozen=self.sweep * pairs, step_pairs=pairs, kept=pairs)

    def _run(self, removal: GreedyRemoval, loss: str, observer: Observer) -> None:
        readers = len(removal.graph.readers)
        total = self.sweep * readers
        for step in range(removal.restore(observer.resume()), total):
            level, done = divmod(step, readers)
            floor = self.thresholds[level - 1] if level else -math.inf
            if done == 0 or not removal.begun:
                removal.begin()
            removal.prune(readers - 1 - done, self.thresholds[level], floor)
            record = {"step": step + 1, loss: removal.loss, "edges": removal.edges, "threshold": self.thresholds[level]}
            observer.progress([record], total)
            observer.checkpoint(lambda step=step: removal.state(step + 1))  # type: ignore[misc]

    def _warn_of_cost(self, edges: int, pairs: int) -> None:
        if edges * pairs > MANY_PASSES:
            log.warning(
                "method %r tries to remove %s edges one by one, each on %d pairs: up to %s passes of one pair for "
                "each of %d thresholds, which can take days. Use fewer pairs (batch_size), one threshold (sweep=1), "
                "or a method that scores all edges at once, such as eap-ig",
                self.name, f"{edges:,}", pairs, f"{edges * pairs:,}", self.sweep,
            )

    def _warn_of_useless(self, kept: list[int], n: int) -> None:
        """Warn of thresholds that keep every candidate or none."""
        for count, what, advice in ((n, f"all {n:,} candidate edges are", "larger"), (0, "no edge is", "smaller")):
            useless = [f"{t:.2g}" for t, k in zip(self.thresholds, kept, strict=True) if k == count]
            if useless:
                log.warning(
                    "method %r: %s left at threshold %s; %s ones tell edges apart",
                    self.name, what, ", ".join(useless), advice,
                )
