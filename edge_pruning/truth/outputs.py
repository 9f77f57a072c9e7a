"""Whether a circuit keeps every output of the model: the strictest way to say that a circuit is enough.

An output is kept where the circuit decides for what the model decides: the same most likely token, or a number that is
equal up to `metrics.CLOSE`. Cost: one forward pass over all pairs per question, and what is frozen stays in memory.
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
    """A model's outputs on pairs, to ask of any mask whether it keeps them."""

    def __init__(self, engine: MaskedPass, pairs: PairSet, ablation: Ablation) -> None:
        self.engine, self.ablation = engine, ablation
        batches = [engine.batch([pairs.pairs[i] for i in ids]) for ids in engine.tiles(pairs.pairs)]
        self.tiles = [(batch, ablation.freeze(engine, batch)) for batch in batches]

    @torch.no_grad()
    def kept_by(self, mask: Tensor) -> bool:
        """Whether every output of every pair is the model's; mask: [w, r]."""
        run = self.engine.restricted(mask != 0, consistent=self.ablation.consistent)
        on_device = mask.to(self.engine.adapter.device, torch.float32)
        return all(
            bool(metrics.exact_match(frozen.logits, run.logits(on_device, batch, frozen), batch).all())
            for batch, frozen in self.tiles
        )

    def spare(self, mask: Tensor) -> Iterator[Edge]:
        """The edges of a mask that change no output if only they are taken away, one after the other."""
        return (edge for edge in edges_of(mask) if self.kept_by(without(mask, [edge])))

    def smallest_size(self, scores: EdgeScores) -> int | None:
        """How many of the best edges keep every output, while one edge less does not; None if not even all do.

        Found by halving, so of several such sizes it need not be the smallest.
        """
        low, high = -1, scores.n_candidates
        if not self.kept_by(scores.top(high)):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.kept_by(scores.top(middle)) else (middle, high)
        return high


def edges_of(mask: Tensor) -> list[Edge]:
    """In graph order."""
    return [(w, r) for w, r in mask.nonzero().tolist()]


def without(mask: Tensor, edges: Sequence[Edge]) -> Tensor:
    """The mask with some edges taken away."""
    smaller = mask.clone()
    if edges:
        smaller[tuple(torch.tensor(edges).T)] = False
    return smaller
