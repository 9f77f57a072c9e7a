"""The loss of a circuit, and of its variants that differ in the edges into one reader.

A change of a reader's edges changes nothing before that reader, so only what comes after it is run again (`rerun.py`).
Cost: one masked forward pass for the circuit, and a part of one for each variant; variants run side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from edge_pruning import ranks
from edge_pruning.ablation import Ablation
from edge_pruning.discovery.search import Diverged
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.micro_batches import in_halves, over_tiles
from edge_pruning.masked_pass.rerun import Rerun
from edge_pruning.objectives import Objective
from edge_pruning.pair import Pair

MOST_SIDE_BY_SIDE = 8  # variants of a circuit


class CircuitLoss:
    """The mean loss of a circuit over some pairs, and of circuits that differ from it in one reader's edges.

    The engine is a `MaskedPass` itself, not one of its faster subclasses. Call `begin` with a circuit; then, from the
    logits back to the input, `losses` for a reader as often as needed, and `settle` with the reader's final edges.
    """

    def __init__(self, engine: MaskedPass, pairs: Sequence[Pair], ablation: Ablation, objective: Objective) -> None:
        self.engine, self.pairs, self.ablation, self.objective = engine, pairs, ablation, objective
        self.reruns: list[Rerun] = []

    def begin(self, mask: Tensor) -> float:
        """Run the circuit `mask` [w, r], and return its loss."""
        self.reruns = []  # frees the memory of the last circuit first

        def of_tile(ids: list[int]) -> Rerun:
            batch = self.engine.batch([self.pairs[i] for i in ids])
            return Rerun(self.engine, mask, batch, self.ablation.freeze(self.engine, batch))

        tokens = max(1, self.engine.tile_tokens // MOST_SIDE_BY_SIDE)
        self.reruns = [rerun for _, rerun in over_tiles(self.engine, self.pairs, of_tile, tokens, shared=True)]
        return self._mean(1, [rerun.whole for rerun in self.reruns])[0]

    def losses(self, reader: int, columns: Tensor) -> list[float]:
        """Return the loss with each of `columns` [k, w] as the edges into a reader. Raises Diverged if not finite."""
        logits = [in_halves(partial(rerun.logits, reader), columns) for rerun in self.reruns]
        return self._mean(len(columns), logits)

    def settle(self, reader: int, column: Tensor) -> None:
        """Make `column` [w] the edges into a reader, for all readers before it."""
        for rerun in self.reruns:
            rerun.mask[:, reader] = column.to(rerun.mask)

    def _mean(self, variants: int, logits: list[Tensor]) -> list[float]:
        """The mean losses of so many variants; of several ranks, each has the logits of its pairs only."""
        total = torch.zeros(variants, dtype=torch.float64)
        for rerun, alternatives in zip(self.reruns, logits, strict=True):
            losses = [self.objective(rerun.frozen.logits, one, rerun.batch).sum() for one in alternatives]
            total += torch.stack(losses).double().cpu() / len(self.pairs)
        ranks.add_up(total)
        if not total.isfinite().all():
            raise Diverged(
                f"the loss is not finite: {total.tolist()}. The last checkpoint was kept. Try --dtype float32, or "
                "check the model's logits for infinities."
            )
        return total.tolist()
