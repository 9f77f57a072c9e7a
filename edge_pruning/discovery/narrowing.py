"""Narrowing: Edge Pruning in rounds, each within the smallest circuit of the last that still keeps every output.

    candidates = all edges;   repeat: candidates = the fewest best edges, of those learned within candidates under a
    bound on the loss (`budget.py`), that keep every output (the same most likely tokens, the same numbers) on all pairs

The number of edges is found, not given: it is the size of the last round. One round that ranks a needed edge last keeps
nearly all edges, which loses nothing but time: the next has another seed. Edges that went out earlier score lower.
Cost: up to `rounds` short runs, each on fewer edges, and per round some ten forward passes over all pairs, at most one
per edge that is left. It is for models that are exact, compiled programs above all; a language model's outputs hang on
many edges a little each, so there it keeps many edges, and what it keeps is fitted to the training pairs.

A program's thresholds leave little gradient where masks are small, and there a ranking by EAP-IG helps: it may take its
share away before the first round (`attribute_first`), as in HAP. It is checked in the same way, by the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.circuit import EdgeScores
from edge_pruning.discovery.budget import BudgetMasks, loss_bound
from edge_pruning.discovery.eap_ig import EapIg
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.observer import Observer
from edge_pruning.discovery.search import Search, normalised_ranks
from edge_pruning.discovery.training import derived_seed, train
from edge_pruning.truth.exhaustive import needed_edges
from edge_pruning.truth.outputs import Outputs


@method
@dataclass(frozen=True)
class Narrowing(Method):
    """It ends where no edge can be spared, after `patience` rounds that took none away, or after `rounds`.

    With `attribute_first`, a ranking by EAP-IG (of the objective) takes its share away before the first round.
    `steps` and `batch_size` are those of a round, and its masks may cost `tolerance`, a share of the empty circuit's
    loss. With `prune`, every edge of the last circuit that changes no output is then taken away (see `exhaustive.py`):
    no gradient has a say in that, and it costs a forward pass per edge.
    """

    name: ClassVar[str] = "narrowing"
    summary: ClassVar[str] = "rounds under a bound on the loss, each within the fewest edges that kept every output"
    one_run_ranks_all: ClassVar[bool] = True

    attribute_first: bool = False
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

    def find(self, search: Search) -> EdgeScores:
        outputs = Outputs(search.engine, search.data, search.ablation)
        state = search.observer.resume()
        at = _Standing.of(state) if state else self._begin(search, outputs)
        for number in range(at.number, self.rounds):
            if at.size is not None and next(outputs.spare(at.alive), None) is None:
                break
            warm = search.init_scores if number == 0 else None
            observer = _OneRound(search.observer, at, self, state)
            scores = self._round(replace(search, within=at.alive, init_scores=warm, observer=observer), number)
            state, kept = None, outputs.smallest_size(scores)
            at = at.after(scores, kept)
            if at.idle == self.patience or kept is None:
                break
        values, size = at.values, at.size
        if self.prune and size is not None:
            needed = needed_edges(outputs, at.alive)
            values[needed], size = values[needed] + self.rounds, int(needed.sum())
        return EdgeScores(search.graph, values, natural_size=size)

    def _begin(self, search: Search, outputs: Outputs) -> _Standing:
        alive = search.candidates
        nothing = torch.full(alive.shape, -torch.inf)
        if not self.attribute_first:
            return _Standing(0, alive, nothing, None, 0)
        scores = EapIg(metric="objective").find(replace(search, init_scores=None, observer=Observer()))
        return _Standing(-1, alive, nothing, None, 0).after(scores, outputs.smallest_size(scores))

    def _round(self, search: Search, number: int) -> EdgeScores:
        masks = BudgetMasks(search.n_candidates, loss_bound(search, self.tolerance))
        if search.initial_ranks is not None:
            masks.warm_start(search.initial_ranks)
        seed = derived_seed(self.seed, "round", number)
        train(masks, search, steps=self.steps, batch_size=self.batch_size, seed=seed)
        return search.scores(masks.parameters["scores"])


@dataclass(frozen=True)
class _Standing:
    """What is known when a round begins: the edges left and the scores of all [w, r], the size, rounds without gain."""

    number: int
    alive: Tensor
    values: Tensor
    size: int | None
    idle: int

    def after(self, scores: EdgeScores, kept: int | None) -> _Standing:
        """Where a round leads whose `kept` best edges are the fewest that keep every output."""
        idle, values = self.idle + 1 if kept in (None, self.size) else 0, self.values.clone()
        if self.number == 0 or not idle:
            values[self.alive] = self.number + normalised_ranks(scores, self.alive)
        if kept is None:
            return _Standing(self.number + 1, self.alive, values, self.size, idle)
        return _Standing(self.number + 1, scores.top(kept), values, kept, idle)

    @property
    def state(self) -> dict[str, Tensor]:
        size = -1 if self.size is None else self.size
        numbers = {"number": self.number, "size": size, "idle": self.idle, "alive": self.alive, "values": self.values}
        return {f"rounds.{name}": torch.as_tensor(value) for name, value in numbers.items()}

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> _Standing:
        number, size, idle = (int(state[f"rounds.{name}"]) for name in ("number", "size", "idle"))
        return cls(number, state["rounds.alive"], state["rounds.values"], None if size < 0 else size, idle)


class _OneRound(Observer):
    """Counts steps on from the rounds before, and puts the state of one beside what was known at its beginning."""

    def __init__(self, watch: Observer, at: _Standing, method: Narrowing, state: Mapping[str, Tensor] | None) -> None:
        self.watch, self.at, self.state = watch, at, state
        self.before, self.total = at.number * method.steps, method.rounds * method.steps

    def resume(self) -> Mapping[str, Tensor] | None:
        return self.state and {**self.state, "steps": self.state["steps"] - self.before}

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        self.watch.progress([{**record, "step": self.before + record["step"]} for record in records], self.total)

    def checkpoint(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        def of_all() -> Mapping[str, Tensor]:
            own = state()
            return {**own, **self.at.state, "steps": own["steps"] + self.before}

        self.watch.checkpoint(of_all)
