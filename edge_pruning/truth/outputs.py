"""Test whether a circuit keeps every output of the model: the strictest test of sufficiency.

An output is kept if circuit and model decide alike: the same most likely token, or numbers that are equal up to
`metrics.CLOSE`. Cost: one forward pass over all pairs per test; frozen values stay in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from edge_pruning import metrics
from edge_pruning.ablation import Ablation
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.tasks.task import PairSet

Edge = tuple[int, int]  # writer and reader


class Outputs:
    """The outputs of a model on pairs, for testing whether masks keep them."""

    def __init__(self, engine: MaskedPass, pairs: PairSet, ablation: Ablation) -> None:
        self.engine, self.ablation = engine, ablation
        batches = [engine.batch([pairs.pairs[i] for i in ids]) for ids in engine.tiles(pairs.pairs)]
        self.tiles = [(batch, ablation.freeze(engine, batch)) for batch in batches]

    @torch.no_grad()
    def kept_by(self, mask: Tensor) -> bool:
        """Return whether every output of every pair is the model's. mask: [w, r]."""
        run = self.engine.restricted(mask != 0, consistent=self.ablation.consistent)
        on_device = mask.to(self.engine.adapter.device, torch.float32)
        return all(
            bool(metrics.exact_match(frozen.logits, run.logits(on_device, batch, frozen), batch).all())
            for batch, frozen in self.tiles
        )

    def spare(self, mask: Tensor) -> Iterator[Edge]:
        """Yield the edges of a mask that change no output if removed alone."""
        return (edge for edge in edges_of(mask) if self.kept_by(without(mask, [edge])))

    def smallest_size(self, scores: EdgeScores) -> int | None:
        """Return the number of best edges that keep every output, while one edge less does not; None if even all edges
        do not.

        Found by halving, so it is not necessarily the smallest such number.
        """
        low, high = -1, scores.n_candidates
        if not self.kept_by(scores.top(high)):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.kept_by(scores.top(middle)) else (middle, high)
        return high


def edges_of(mask: Tensor) -> list[Edge]:
    """Return the edges of a mask in graph order."""
    return [(w, r) for w, r in mask.nonzero().tolist()]


def without(mask: Tensor, edges: Sequence[Edge]) -> Tensor:
    """Return the mask without some edges."""
    smaller = mask.clone()
    if edges:
        smaller[tuple(torch.tensor(edges).T)] = False
    return smaller
