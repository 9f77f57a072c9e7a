"""What a method is given: everything that defines a search for a circuit, as one value.

    method.find(Search(engine, train_pairs, Patch())) -> EdgeScores
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from edge_pruning.ablation import Ablation
from edge_pruning.discovery.observer import Observer
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.tasks.task import PairSet


class Diverged(RuntimeError):
    """A loss or a score became NaN or infinite."""


@dataclass(frozen=True, eq=False)
class Search:
    """A search for a circuit. Raises ValueError if the candidates or the initial scores do not fit the graph.

    engine: the masked pass of the model, with the graph whose edges are scored.
    data: training pairs, and the objective that compares a masked run with the model.
    ablation: what a removed edge carries.
    sizes: the numbers of edges that the caller wants to keep, if known.
    within: the candidate edges, bool [w, r]; all other edges stay ablated. None: every edge is a candidate.
    init_scores: another method's scores to begin with. Methods without a beginning refuse them.
    observer: receives progress and checkpoints.
    """

    engine: MaskedPass
    data: PairSet
    ablation: Ablation
    sizes: Sequence[int] = ()
    within: Tensor | None = None
    init_scores: EdgeScores | None = None
    observer: Observer = field(default_factory=Observer)

    def __post_init__(self) -> None:
        _ = self.candidates
        if self.init_scores is not None and self.init_scores.graph != self.graph:
            raise ValueError(
                f"the initial scores are of another graph: expected {self.graph}, got {self.init_scores.graph}"
            )

    @property
    def graph(self) -> Graph:
        return self.engine.graph

    @property
    def device(self) -> torch.device:
        return self.engine.adapter.device

    @cached_property
    def candidates(self) -> Tensor:
        """The edges to score, bool [w, r] on the CPU."""
        edges = self.graph.edge_mask
        if self.within is None:
            return edges
        if self.within.shape != edges.shape or self.within.dtype != torch.bool:
            raise ValueError(
                f"expected candidate edges as a bool mask [writer, reader] of shape {tuple(edges.shape)}, "
                f"got {self.within.dtype} {tuple(self.within.shape)}"
            )
        candidates = self.within.cpu() & edges
        if not candidates.any():
            raise ValueError("there are no candidate edges: `within` names no edge of the graph")
        return candidates

    @property
    def n_candidates(self) -> int:
        return int(self.candidates.sum())

    @property
    def initial_ranks(self) -> Tensor | None:
        """The candidates' normalised ranks in the initial scores [edge], if there are any."""
        return None if self.init_scores is None else normalised_ranks(self.init_scores, self.candidates)

    def for_ranking(self, pairs: int | None = None) -> Search:
        """The search for a ranking that another search begins with: on its first `pairs` pairs (None: on all)."""
        data = self.data if pairs is None else replace(self.data, pairs=self.data.pairs[:pairs])
        return replace(self, data=data, init_scores=None, observer=Observer())

    def scores(self, values: Tensor, *, natural_size: int | None = None) -> EdgeScores:
        """Make edge scores of one value per candidate [edge]; all other edges score minus infinity.

        Raises Diverged if a value is not finite.
        """
        values = values.detach().cpu()
        broken = int((~values.isfinite()).sum())
        if broken:
            raise Diverged(
                f"the scores of {broken} of {len(values)} edges are not finite. Try --dtype float32, or check the "
                "model's logits for infinities."
            )
        of_all = torch.full(self.candidates.shape, -torch.inf, dtype=values.dtype)
        of_all[self.candidates] = values
        return EdgeScores(self.graph, of_all, natural_size)


def normalised_ranks(scores: EdgeScores, candidates: Tensor) -> Tensor:
    """Rank the candidates by score, evenly spaced from 1/2 (highest) to -1/2 (lowest), [edge]; ties in graph order."""
    order = scores.values[candidates].argsort(descending=True, stable=True)
    return 0.5 - order.argsort().float() / max(1, len(order) - 1)
