"""ACDC: try the edges one after the other, from the logits back to the input, and remove what is not missed.

    remove (i -> j)  if  L(circuit without it) - L(circuit) < threshold            (Conmy and others, 2023)

with L the KL to the model, or another metric; readers in reverse topological order, and a reader's latest writer first
(with `init_scores`: its lowest-scoring one). Cost: about half a masked forward pass per edge and threshold, which is
why it does not scale. It misleads where two edges can stand in for each other: whichever is tried first goes, and late
edges are tried first.

A removal changes nothing before its reader, so only what comes after is run again (`rerun.py`). A reader's candidates
run side by side, each as if all before it in the row had been removed; the row counts up to the first that has to stay,
and begins anew behind it. That is the result of trying one by one.

Several thresholds, ascending, each beginning with what the one before has left, rank the edges: the score is the
increase that the removal was measured to cause, at least the last threshold that the edge survived. Cutting at a
threshold gives its circuit, so one run gives a curve. (Conmy and others begin each threshold with the whole model.)
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.ablation import Ablation
from edge_pruning.batch import Pair
from edge_pruning.circuit import EdgeScores
from edge_pruning.discovery.attribution import METRICS, metric_of, metric_rule
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.observer import Observer
from edge_pruning.discovery.search import Diverged, Search
from edge_pruning.discovery.training import drawn
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.micro_batches import in_halves, over_tiles
from edge_pruning.masked_pass.rerun import Rerun
from edge_pruning.objectives import Objective

log = logging.getLogger("edge_pruning")

MOST_TOGETHER = 8  # candidates side by side: twice as many after a row without a stop, half as many after a stop


@method
@dataclass(frozen=True)
class Acdc(Method):
    """`sweep` thresholds, each `factor` times the one before, up to `threshold`; 1 is ACDC as published.

    `batch_size` pairs, drawn by `seed`, judge every removal. `metric`: what the task is fitted with (`objective`: KL,
    for most), the task's `difference`, or an objective by name.
    """

    name: ClassVar[str] = "acdc"
    summary: ClassVar[str] = "greedy removal from the logits back to the input of every edge that is not missed (slow)"
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
        judge = Judge(verbs, pairs, search.ablation.fitted(verbs, data.pairs), objective)
        removal = Removal(search.graph, judge, candidates, order)
        self._run(removal, objective.name, search.observer)
        values = removal.scores[candidates]
        kept = [int((values >= threshold).sum()) for threshold in self.thresholds]
        self._say_useless(kept, search.n_candidates)
        return search.scores(values, natural_size=kept[0] if self.sweep == 1 else None)

    def _run(self, removal: Removal, loss: str, observer: Observer) -> None:
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

    def _say_useless(self, kept: list[int], n: int) -> None:
        """Thresholds that decide nothing are said, not silently returned."""
        for count, what, advice in ((n, f"all {n:,} candidate edges are", "larger"), (0, "no edge is", "smaller")):
            useless = [f"{t:.2g}" for t, k in zip(self.thresholds, kept, strict=True) if k == count]
            if useless:
                log.warning(
                    "method %r: %s left at threshold %s; %s ones tell edges apart",
                    self.name, what, ", ".join(useless), advice,
                )


class Judge:
    """The loss of a circuit, and of others that differ from it in one reader's edges; means over some pairs.

    Its engine is a plain `MaskedPass`. A judge begins with a circuit, and is then told of every reader's final edges,
    from the logits back to the input.
    """

    def __init__(self, engine: MaskedPass, pairs: Sequence[Pair], ablation: Ablation, objective: Objective) -> None:
        self.engine, self.pairs, self.ablation, self.objective = engine, pairs, ablation, objective
        self.reruns: list[Rerun] = []

    def begin(self, mask: Tensor) -> float:
        """Run the circuit `mask` [w, r]; its loss."""
        self.reruns = []  # the memory of the last ones is needed

        def of_tile(ids: list[int]) -> Rerun:
            batch = self.engine.batch([self.pairs[i] for i in ids])
            return Rerun(self.engine, mask, batch, self.ablation.freeze(self.engine, batch))

        full_side_by_side = max(1, self.engine.tile_tokens // MOST_TOGETHER)
        self.reruns = [rerun for _, rerun in over_tiles(self.engine, self.pairs, of_tile, full_side_by_side)]
        return self._mean([rerun.whole for rerun in self.reruns])[0]

    def losses(self, reader: int, columns: Tensor) -> list[float]:
        """The loss with each of `columns` [k, w] as the edges into a reader. Raises Diverged if one is not finite."""
        return self._mean([in_halves(partial(rerun.logits, reader), columns) for rerun in self.reruns])

    def settle(self, reader: int, column: Tensor) -> None:
        for rerun in self.reruns:
            rerun.mask[:, reader] = column.to(rerun.mask)

    def _mean(self, logits: list[Tensor]) -> list[float]:
        total = torch.zeros(len(logits[0]), dtype=torch.float64)
        for rerun, alternatives in zip(self.reruns, logits, strict=True):
            losses = [self.objective(rerun.frozen.logits, one, rerun.batch).sum() for one in alternatives]
            total += torch.stack(losses).double().cpu() / len(self.pairs)
        if not total.isfinite().all():
            raise Diverged(
                f"the loss is not finite: {total.tolist()}. The last checkpoint was kept. Try --dtype float32, or "
                "check the model's logits for infinities."
            )
        return total.tolist()


class Removal:
    """What is left of the graph, its loss, and what every removal has cost; all of it is in a checkpoint."""

    def __init__(self, graph: Graph, judge: Judge, candidates: Tensor, order: Tensor) -> None:
        self.graph, self.judge, self.order = graph, judge, order
        self.mask = candidates.clone()
        self.scores = torch.full(candidates.shape, -torch.inf, dtype=torch.float64)
        self.loss = math.nan
        self.begun = False

    @property
    def edges(self) -> int:
        return int(self.mask.sum())

    def begin(self) -> None:
        loss = self.judge.begin(self.mask)
        self.loss = loss if math.isnan(self.loss) else self.loss
        self.begun = True

    def prune(self, reader: int, threshold: float, floor: float) -> None:
        """Try every edge into a reader; removals score what they cost, but at least `floor`."""
        writers = self.mask[:, reader].nonzero().squeeze(1)
        writers = writers[self.order[writers, reader].argsort()]
        if self._is_idle(reader):
            self._remove(writers, reader, [0.0] * len(writers), floor)
            writers = writers[:0]
        together = MOST_TOGETHER
        while len(writers):
            tried, stopped = self._try(writers[:together], reader, threshold, floor)
            writers = writers[tried:]
            together = max(1, together // 2) if stopped else min(2 * together, MOST_TOGETHER)
        self.judge.settle(reader, self.mask[:, reader])

    def _try(self, row: Tensor, reader: int, threshold: float, floor: float) -> tuple[int, bool]:
        """Remove the edges of a row up to the first that has to stay; how many were tried, and whether one stays."""
        columns = self.mask[:, reader].repeat(len(row), 1)
        for i, writer in enumerate(row):
            columns[i:, writer] = False
        losses = self.judge.losses(reader, columns)
        costs = [after - before for before, after in zip([self.loss, *losses], losses, strict=False)]
        gone = next((i for i, cost in enumerate(costs) if not cost < threshold), len(row))
        self._remove(row[:gone], reader, costs, floor)
        if gone == len(row):
            self.loss = losses[-1]
            return gone, False
        self.loss = losses[gone - 1] if gone else self.loss
        self.scores[row[gone], reader] = costs[gone]
        return gone + 1, True

    def _remove(self, writers: Tensor, reader: int, costs: list[float], floor: float) -> None:
        self.mask[writers, reader] = False
        self.scores[writers, reader] = torch.tensor(costs[: len(writers)], dtype=torch.float64).clamp_min(floor)

    def _is_idle(self, reader: int) -> bool:
        """Whether nothing reads what the reader's node writes any more, so that its edges change nothing."""
        return reader != len(self.graph.readers) - 1 and not bool(self.mask[self.graph.feeds[reader]].any())

    # --- checkpoints -----------------------------------------------------------------------------------------------

    def state(self, done: int) -> dict[str, Tensor]:
        loss = torch.tensor(self.loss, dtype=torch.float64)
        return {"mask": self.mask, "scores": self.scores, "loss": loss, "steps": torch.tensor(done)}

    def restore(self, state: Mapping[str, Tensor] | None) -> int:
        """Put a state back; returns how many steps it had done."""
        if state is None:
            return 0
        self.mask, self.scores, self.loss = state["mask"].clone(), state["scores"].clone(), float(state["loss"])
        return int(state["steps"])
