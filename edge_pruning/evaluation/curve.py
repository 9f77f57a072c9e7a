"""Quality as a function of size: circuits of many sizes cut from the same scores, on the same held-out pairs.

One circuit is one point; a ranking is judged by all of them. Scores from any source are accepted. Dangling edges are
removed before a circuit is run; the counts with and without them are kept. The result contains faithfulness, KL,
accuracy and exact match at every size, the number of edges needed for given levels, and MIB's CPR and CMD (see
`curve_numbers.py`).

Cost: one masked pass per size, about two sizes per doubling of the number of edges, and a few more to locate the
levels. Nodes outside a small circuit are not computed. Curves of large graphs are measured on some of the pairs; the
curve's `examples` is their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from edge_pruning.edge_scores import EdgeScores
from edge_pruning.evaluation.bootstrap import Resamples
from edge_pruning.evaluation.caveats import about_the_measurement
from edge_pruning.evaluation.curve_numbers import Level, areas, first_reached, levels_of, mib_sizes, size_between
from edge_pruning.evaluation.faithfulness_scale import FaithfulnessScale
from edge_pruning.evaluation.measure import LARGE, LARGE_PAIRS, Measurements, Progress, measure, problems_with
from edge_pruning.evaluation.protocol import CURVE, EvaluationProtocol, definitions_of
from edge_pruning.evaluation.summary import Summary, summarise
from edge_pruning.files import json_values
from edge_pruning.graph import Graph
from edge_pruning.setup import Setup

FORMAT = "edge-pruning/curve"
FORMAT_VERSION = 1
FEWEST = 8  # edges: the smallest size by default, in a graph that is not large
SMALLEST_SHARE = 0.0002  # of the edges: the smallest size by default, in a large graph
TIES = 0.1  # of the scored edges; a larger share causes a warning


class Ranking:
    """Scores as an order of all edges of the graph, best first: circuits of every size, each a subset of the next.

    Ties are in graph order; edges that were not candidates come last.
    """

    def __init__(self, scores: EdgeScores) -> None:
        self.scores = scores
        self._counted: dict[int, int] = {}

    @property
    def graph(self) -> Graph:
        return self.scores.graph

    @cached_property
    def _order(self) -> Tensor:
        places = self.graph.edge_mask.flatten().nonzero().squeeze(1)
        return places[self.scores.values.flatten()[places].argsort(descending=True, stable=True)]

    def mask(self, edges: int) -> Tensor:
        """Return the best edges as a bool mask [w, r], before dangling ones are removed."""
        mask = torch.zeros(self.graph.edge_mask.numel(), dtype=torch.bool)
        return mask.index_fill_(0, self._order[:edges], True).view_as(self.graph.edge_mask)

    def connected(self, edges: int) -> Tensor:
        """Return the best edges without dangling ones."""
        return self.graph.without_dangling(self.mask(edges))

    def n_connected(self, edges: int) -> int:
        """Return the number of best edges without dangling ones; computed once per size."""
        if edges not in self._counted:
            self._counted[edges] = int(self.connected(edges).sum())
        return self._counted[edges]

    @cached_property
    def ties(self) -> int:
        """The number of candidates that share their score with another, so that graph order decides between them."""
        values = self.scores.values[self.scores.values > -torch.inf]
        counts = values.unique(return_counts=True)[1]
        return int(counts[counts > 1].sum())

    @property
    def warnings(self) -> Iterator[str]:
        """The limitations of this order."""
        n, candidates = self.graph.n_edges, self.scores.n_candidates
        if candidates < n:
            yield (
                f"only {candidates:,} of {n:,} edges have a score: larger circuits are filled in graph order, so "
                "their numbers, and CPR and CMD with them, say little about the scores"
            )
        if self.ties > TIES * candidates:
            yield f"{self.ties:,} of {candidates:,} scored edges share their score with another; graph order decides"


@dataclass(frozen=True, eq=False)
class Curve:
    """The quality of circuits of all sizes; `curve.points[3].summary["kl"]` is a mean.

    runs: by number of edges, before dangling ones are removed; 0 is the empty circuit.
    """

    ranking: Ranking
    protocol: EvaluationProtocol
    model: Measurements
    runs: Mapping[int, Measurements]

    @property
    def sizes(self) -> list[int]:
        """All sizes that were run, ascending, without the empty circuit."""
        return sorted(size for size in self.runs if size)

    @cached_property
    def summaries(self) -> dict[int, Summary]:
        resamples = Resamples(self.protocol.examples, self.protocol.seed)
        return {size: summarise(self.runs[size], self.scale, resamples) for size in [0, *self.sizes]}

    @cached_property
    def scale(self) -> FaithfulnessScale:
        return FaithfulnessScale(self.model, self.runs[0], self.protocol.metric)

    @cached_property
    def areas(self) -> dict[str, float] | None:
        """`cpr`, `cmd`, `log_cpr`, `log_cmd`; None unless all of MIB's sizes were run."""
        sizes = mib_sizes(self.ranking.graph.n_edges)
        if not set(sizes) <= self.runs.keys():
            return None
        return areas([self.scale.faithfulness(self.runs[size]) for size in sizes])

    def edges_needed(self, level: Level) -> int | None:
        """Return the smallest size that reaches a level; None if none does."""
        return first_reached(self.sizes, lambda size: self._reached(level, size))

    def size_to_run(self, level: Level) -> int | None:
        """Return the size to run next to locate a level more precisely."""
        return size_between(self.sizes, lambda size: self._reached(level, size))

    def _reached(self, level: Level, size: int) -> bool:
        run = self.runs[size]
        means = {"faithfulness": self.scale.faithfulness(run), self.loss: float(run.loss.mean())}
        return level.reached(means, float(self.runs[0].loss.mean()))

    @property
    def loss(self) -> str:
        """`kl`, or `squared_error` if the outputs are numbers."""
        return self.model.loss_name

    # --- as JSON and as table rows ---------------------------------------------------------------------------------

    @property
    def warnings(self) -> tuple[str, ...]:
        of_all = about_the_measurement(self.protocol, self.scale, {str(k): run for k, run in self.runs.items()})
        return (*of_all, *self.ranking.warnings)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per size: both counts and the means; None where undefined."""
        rows: list[dict[str, Any]] = json_values([{**self._counts(k), **self.summaries[k].mean} for k in self.sizes])
        return rows

    def levels(self) -> list[dict[str, Any]]:
        """Return one row per level: the number of edges needed, by both counts (None: not reached); `stays`: whether
        all larger circuits reach it too.
        """
        table = []
        for level in levels_of(self.loss):
            size = self.edges_needed(level)
            row = {"level": level.name, "words": level.words, **self._counts(size)}
            larger = [] if size is None else [k for k in self.sizes if k > size]
            table.append(row | {"stays": None if size is None else all(self._reached(level, k) for k in larger)})
        return table

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; undefined values are null."""
        graph = self.ranking.graph
        points = [{**self._counts(k), **self.summaries[k].to_json()} for k in [0, *self.sizes]]
        content: dict[str, Any] = json_values({
            "format": FORMAT,
            "version": FORMAT_VERSION,
            **asdict(self.protocol),
            "loss": self.loss,
            "convention": graph.convention,
            "edges_total": graph.n_edges,
            "candidates": self.ranking.scores.n_candidates,
            "definitions": {**definitions_of(self.protocol, self.scale), **CURVE},
            "warnings": list(self.warnings),
            **(self.areas or dict.fromkeys(("cpr", "cmd", "log_cpr", "log_cmd"))),
            "levels": self.levels(),
            "points": points,
        })
        return content

    def _counts(self, size: int | None) -> dict[str, int | None]:
        connected = None if size is None else self.ranking.n_connected(size)
        return {"edges": size, "edges_without_dangling": connected}


def evaluate_curve(
    scores: EdgeScores,
    setup: Setup,
    *,
    sizes: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Measure the circuits of the best `k` edges for many k.

    sizes: numbers of edges; by default, a grid over all sizes that includes MIB's, and the sizes needed to locate the
        levels.
    progress: called with the number of finished pairs and the total, for each measurement.

    Raises ValueError with all problems for scores of another graph, impossible sizes or no pairs.
    """
    if setup.graph.n_edges > LARGE:
        setup = setup.on_some_pairs(LARGE_PAIRS)
    ranking, n = Ranking(scores), scores.graph.n_edges
    problems = list(problems_with(scores.graph, "scores", setup))
    bad = [k for k in sizes or () if not 1 <= k <= n]
    if bad or (sizes is not None and not sizes):
        problems.append(f"expected sizes from 1 to {n:,} edges, got {', '.join(map(str, bad)) or 'none'}")
    if problems:
        raise ValueError("; ".join(problems))
    protocol = EvaluationProtocol.of(setup)
    wanted, runs = sorted(set(sizes or default_sizes(n)) - {0}), dict[int, Measurements]()
    while wanted:
        masks = [ranking.connected(k) for k in [0, *wanted]]
        model, measured = measure(setup, masks, setup.pairs, progress=progress)
        runs |= {size: measured.one(i) for i, size in enumerate([0, *wanted])}
        curve = Curve(ranking, protocol, model, dict(runs))
        next_ones = {curve.size_to_run(level) for level in levels_of(curve.loss)} if sizes is None else set()
        wanted = sorted(size for size in next_ones if size is not None)
    return curve


def default_sizes(n_edges: int) -> set[int]:
    """Return two sizes per doubling, from a few edges to all, and MIB's."""
    smallest = max(min(FEWEST, n_edges), SMALLEST_SHARE * n_edges)
    halvings = int(2 * math.log2(n_edges / smallest)) + 1
    return {round(n_edges * 2 ** (-i / 2)) for i in range(halvings)} | set(mib_sizes(n_edges))
