"""Iterative pruning: Edge Pruning in rounds, each within the smallest circuit that still keeps every output.

    candidates = all edges
    repeat:  scores     = masks learned within the candidates, under a bound on the loss (`budget.py`)
             candidates = the fewest highest-scoring edges that keep every output on all training pairs

To keep an output is to predict the same most likely token, or the same number. The method finds the number of edges:
it is the size of the last round. If a round ranks a needed edge last, it keeps nearly all edges and only time is lost,
because the next round has another seed. Edges that were removed in an earlier round score lower. Cost: up to `rounds`
short trainings, each on fewer edges, and in each round about ten forward passes over all pairs, at most one per edge
that is left. The method is for exact models, above all compiled programs. The outputs of a language model depend a
little on many edges, so there it keeps many edges, and fits them to the training pairs.

The thresholds of a program leave little gradient where masks are small. A ranking by EAP-IG helps there: with
`attribute_first` it removes edges before the first round, as in HAP, under the same check of every output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.discovery.budget import BudgetMasks, loss_bound
from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.eap_ig import EapIg
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.observer import Observer
from edge_pruning.discovery.search import Search, normalised_ranks
from edge_pruning.discovery.training import derived_seed, train
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.truth.exhaustive import needed_edges
from edge_pruning.truth.outputs import Outputs


@method
@dataclass(frozen=True)
class IterativePruning(Method):
    """Prune in rounds until no edge can be removed, until `patience` rounds removed none, or for `rounds` rounds.

    attribute_first: remove edges by an EAP-IG ranking (of the objective) before the first round.
    steps, batch_size: of one round.
    tolerance: how much loss the masks of a round may add, as a share of the empty circuit's loss.
    prune: at the end, also remove every edge whose removal changes no output (see `exhaustive.py`). This uses no
        gradient and costs one forward pass per edge.
    """

    name: ClassVar[str] = "iterative-pruning"
    aliases: ClassVar[tuple[str, ...]] = ("narrowing",)
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
        at = _RoundStart.of(state) if state else self._begin(search, outputs)
        for number in range(at.number, self.rounds):
            if at.size is not None and next(outputs.spare(at.alive), None) is None:
                break
            warm = search.init_scores if number == 0 else None
            observer = _RoundObserver(search.observer, at, self, state)
            scores = self._round(replace(search, within=at.alive, init_scores=warm, observer=observer), number)
            state, kept = None, outputs.smallest_size(scores)
            at = at.next(scores, kept)
            if at.idle == self.patience or kept is None:
                break
        values, size = at.values, at.size
        if self.prune and size is not None:
            needed = needed_edges(outputs, at.alive)
            values[needed], size = values[needed] + self.rounds, int(needed.sum())
        return EdgeScores(search.graph, values, natural_size=size)

    def cost(self, search: Search) -> Cost:
        pairs = len(search.data.pairs)
        return Cost(gradients=None, forwards=None, frozen=pairs, step_pairs=min(self.batch_size, pairs), kept=pairs)

    def _begin(self, search: Search, outputs: Outputs) -> _RoundStart:
        alive = search.candidates
        nothing = torch.full(alive.shape, -torch.inf)
        if not self.attribute_first:
            return _RoundStart(0, alive, nothing, None, 0)
        scores = EapIg(metric="objective").find(search.for_ranking())
        return _RoundStart(-1, alive, nothing, None, 0).next(scores, outputs.smallest_size(scores))

    def _round(self, search: Search, number: int) -> EdgeScores:
        masks = BudgetMasks(search.n_candidates, loss_bound(search, self.tolerance))
        if search.initial_ranks is not None:
            masks.warm_start(search.initial_ranks)
        seed = derived_seed(self.seed, "round", number)
        train(masks, search, steps=self.steps, batch_size=self.batch_size, seed=seed)
        return search.scores(masks.parameters["scores"])


@dataclass(frozen=True)
class _RoundStart:
    """What is known when a round begins.

    number: of the round, from 0.
    alive: the edges that are left, bool [w, r].
    values: the scores so far [w, r].
    size: how many edges keep every output, if any number does.
    idle: how many rounds in a row removed no edge.
    """

    number: int
    alive: Tensor
    values: Tensor
    size: int | None
    idle: int

    def next(self, scores: EdgeScores, kept: int | None) -> _RoundStart:
        """The start of the next round, if the `kept` highest-scoring edges are the fewest that keep every output."""
        idle, values = self.idle + 1 if kept in (None, self.size) else 0, self.values.clone()
        if self.number == 0 or not idle:
            values[self.alive] = self.number + normalised_ranks(scores, self.alive)
        if kept is None:
            return _RoundStart(self.number + 1, self.alive, values, self.size, idle)
        return _RoundStart(self.number + 1, scores.top(kept), values, kept, idle)

    @property
    def state(self) -> dict[str, Tensor]:
        size = -1 if self.size is None else self.size
        numbers = {"number": self.number, "size": size, "idle": self.idle, "alive": self.alive, "values": self.values}
        return {f"rounds.{name}": torch.as_tensor(value) for name, value in numbers.items()}

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> _RoundStart:
        number, size, idle = (int(state[f"rounds.{name}"]) for name in ("number", "size", "idle"))
        return cls(number, state["rounds.alive"], state["rounds.values"], None if size < 0 else size, idle)


class _RoundObserver(Observer):
    """Passes one round on to the observer of the search: counts steps over all rounds, and adds the round's start."""

    def __init__(
        self, outer: Observer, at: _RoundStart, method: IterativePruning, state: Mapping[str, Tensor] | None
    ) -> None:
        self.outer, self.at, self.state = outer, at, state
        self.before, self.total = at.number * method.steps, method.rounds * method.steps

    def resume(self) -> Mapping[str, Tensor] | None:
        return self.state and {**self.state, "steps": self.state["steps"] - self.before}

    def progress(self, records: Sequence[Mapping[str, float]], total: int) -> None:
        self.outer.progress([{**record, "step": self.before + record["step"]} for record in records], self.total)

    def checkpoint(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        def of_search() -> Mapping[str, Tensor]:
            own = state()
            return {**own, **self.at.state, "steps": own["steps"] + self.before}

        self.outer.checkpoint(of_search)
