"""Greedy removal: try to remove the edges into one reader, one after the other, and keep what the loss needs.

The candidates of a reader run side by side, each as if all before it in the row had been removed. The row counts up to
the first edge that must stay, and a new row begins behind it: half as long, and twice as long after a row in which no
edge stays. The result is that of trying one edge at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from edge_pruning.discovery import circuit_loss
from edge_pruning.discovery.circuit_loss import CircuitLoss
from edge_pruning.graph import Graph


class GreedyRemoval:
    """The edges that are left, their loss, and what every removal cost. A checkpoint holds all of it.

    order: [w, r]; of the edges into a reader, the one with the lowest value is tried first.
    """

    def __init__(self, graph: Graph, variants: CircuitLoss, candidates: Tensor, order: Tensor) -> None:
        self.graph, self.variants, self.order = graph, variants, order
        self.mask = candidates.clone()
        self.scores = torch.full(candidates.shape, -torch.inf, dtype=torch.float64)
        self.loss = math.nan
        self.begun = False

    @property
    def edges(self) -> int:
        return int(self.mask.sum())

    def begin(self) -> None:
        loss = self.variants.begin(self.mask)
        self.loss = loss if math.isnan(self.loss) else self.loss
        self.begun = True

    def prune(self, reader: int, threshold: float, floor: float) -> None:
        """Try to remove every edge into a reader. A removed edge scores what its removal cost, but at least `floor`."""
        writers = self.mask[:, reader].nonzero().squeeze(1)
        writers = writers[self.order[writers, reader].argsort()]
        if self._is_unread(reader):
            self._remove(writers, reader, [0.0] * len(writers), floor)
            writers = writers[:0]
        most = side_by_side = circuit_loss.MOST_SIDE_BY_SIDE
        while len(writers):
            tried, stopped = self._try(writers[:side_by_side], reader, threshold, floor)
            writers = writers[tried:]
            side_by_side = max(1, side_by_side // 2) if stopped else min(2 * side_by_side, most)
        self.variants.settle(reader, self.mask[:, reader])

    def _try(self, row: Tensor, reader: int, threshold: float, floor: float) -> tuple[int, bool]:
        """Remove the edges of a row up to the first that must stay. Return how many were tried, and if one stays."""
        columns = self.mask[:, reader].repeat(len(row), 1)
        for i, writer in enumerate(row):
            columns[i:, writer] = False
        losses = self.variants.losses(reader, columns)
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

    def _is_unread(self, reader: int) -> bool:
        """Whether no edge leaves the reader's node any more, so that the edges into it change nothing."""
        return reader != len(self.graph.readers) - 1 and not bool(self.mask[self.graph.feeds[reader]].any())

    def state(self, done: int) -> dict[str, Tensor]:
        loss = torch.tensor(self.loss, dtype=torch.float64)
        return {"mask": self.mask, "scores": self.scores, "loss": loss, "steps": torch.tensor(done)}

    def restore(self, state: Mapping[str, Tensor] | None) -> int:
        """Restore a state, and return how many steps it had done."""
        if state is None:
            return 0
        self.mask, self.scores, self.loss = state["mask"].clone(), state["scores"].clone(), float(state["loss"])
        return int(state["steps"])
