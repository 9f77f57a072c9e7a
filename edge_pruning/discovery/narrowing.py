"""Narrowing: Edge Pruning in rounds, each within the smallest circuit of the last that still keeps every output.

    candidates = all edges;   repeat: candidates = the fewest best edges, of those learned within candidates under a
    bound on the loss (`budget.py`), that keep every output (the same most likely tokens, the same numbers) on all pairs

The number of edges is found, not given: it is the size of the last round. One round that ranks a needed edge last keeps
nearly all edges, which loses nothing but time: the next has another seed. Edges that went out earlier score lower.
Cost: up to `rounds` short runs, each on fewer edges, and per round some ten forward passes over all pairs, at most one
per edge that is left. It is for models that are exact, compiled programs above all; a language model's outputs hang on
many edges a little each, so there it keeps many edges, and what it keeps is fitted to the training pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.ablation import Ablation
from edge_pruning.circuit import EdgeScores
from edge_pruning.discovery.budget import BudgetMasks, loss_bound
from edge_pruning.discovery.method import Method, Observer, candidates_of, check_settings, method
from edge_pruning.discovery.training import derived_seed, spread_ranks, train
from edge_pruning.exhaustive import needed_edges
from edge_pruning.forward import MaskedPass
from edge_pruning.outputs import Outputs
from edge_pruning.tasks.task import PairSet


@method
@dataclass(frozen=True)
class Narrowing(Method):
    """It ends where no edge can be spared, after `patience` rounds that took none away, or after `rounds`.

    `steps` and `batch_size` are those of a round, and its masks may cost `tolerance`, a share of the empty circuit's
    loss. With `prune`, every edge of the last circuit that changes no output is then taken away (see `exhaustive.py`):
    no gradient has a say in that, and it costs a forward pass per edge.
    """

    name: ClassVar[str] = "narrowing"
    summary: ClassVar[str] = "rounds under a bound on the loss, each within the fewest edges that kept every output"
    one_run_ranks_all: ClassVar[bool] = True

    rounds: int = 8
    patience: int = 4
    prune: bool = False
    steps: int = 300
    batch_size: int = 128
    tolerance: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, {
            "rounds": (self.rounds >= 1, "at least 1"),
            "patience": (self.patience >= 1, "at least 1"),
            "steps": (self.steps >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "tolerance": (0 < self.tolerance < 1, "between 0 and 1 (a share of the empty circuit's loss)"),
        })

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
        alive, outputs = candidates_of(engine.graph, within), Outputs(engine, data, ablation)
        values, size, idle = torch.full(alive.shape, -torch.inf), None, 0
        for number in range(self.rounds):
            warm = init_scores if number == 0 else None
            watch = _OneRound(observer or Observer(), number * self.steps, self.rounds * self.steps)
            scores = self._round(number, engine, data, ablation, alive, warm, watch)
            kept = outputs.smallest_size(scores)
            idle = idle + 1 if kept in (None, size) else 0
            if number == 0 or not idle:
                values[alive] = number + spread_ranks(scores, engine.graph, alive)
            if kept is not None:
                alive, size = scores.top(kept), kept
            if idle == self.patience or kept is None or next(outputs.spare(alive), None) is None:
                break
        if self.prune and size is not None:
            alive = needed_edges(outputs, alive)
            values[alive], size = values[alive] + self.rounds, int(alive.sum())
        return EdgeScores(engine.graph, values, natural_size=size)

    def _round(
        self, number: int, engine: MaskedPass, data: PairSet, ablation: Ablation, alive: Tensor,
        warm: EdgeScores | None, watch: Observer,
    ) -> EdgeScores:
        masks = BudgetMasks(int(alive.sum()), loss_bound(engine, data, ablation, alive, self.tolerance))
        if warm is not None:
            masks.warm_start(spread_ranks(warm, engine.graph, alive))
        train(
            masks, engine, data, ablation, candidates=alive, steps=self.steps, batch_size=self.batch_size,
            seed=derived_seed(self.seed, "round", number), observer=watch,
        )
        values = torch.full(alive.shape, -torch.inf)
        values[alive] = masks.parameters["scores"].detach().cpu()
        return EdgeScores(engine.graph, values)


class _OneRound(Observer):
    """Counts the steps of a round on from those before it; a state of one round is none to go on from."""

    def __init__(self, observer: Observer, before: int, total: int) -> None:
        self.observer, self.before, self.total = observer, before, total

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        numbered = [{**record, "step": self.before + record["step"]} for record in records]
        self.observer.progress(numbered, self.total)
