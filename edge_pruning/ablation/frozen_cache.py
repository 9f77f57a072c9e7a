"""Frozen passes, once per example instead of once per step, in bounded memory.

The first examples that fit into `max_bytes` are kept, side by side in one tensor per field so that a batch is one
gather per field; the others are computed again whenever they are drawn. Which ones are kept depends only on their
number and size, and they are always computed in the same chunks: a resumed run sees the same bits as a whole one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from torch import Tensor

from edge_pruning.ablation import Ablation
from edge_pruning.batch import Batch, Pair, sent
from edge_pruning.masked_pass.masked_pass import Frozen, MaskedPass
from edge_pruning.masked_pass.micro_batches import over_tiles


class FrozenCache:
    """Hands out `Frozen` values for batches of `pairs`; `logits`: those of the clean model among them."""

    def __init__(
        self, engine: MaskedPass, pairs: Sequence[Pair], ablation: Ablation, max_bytes: int, *, logits: bool = True
    ) -> None:
        self.engine, self.pairs, self.ablation, self.logits = engine, pairs, ablation, logits
        self.width = max(map(engine.width, pairs))
        self.kept = self._how_many_fit(max_bytes) if max_bytes else 0
        starts = [0]
        for pair in pairs[: self.kept]:
            starts.append(starts[-1] + len(pair.positions))
        self._starts = starts
        self._per_position: dict[str, Tensor] = {}
        self._per_row: dict[str, Tensor] = {}
        for ids, frozen in over_tiles(engine, pairs[: self.kept], self._compute):
            self._keep(ids, frozen)

    @property
    def bytes(self) -> int:
        """Memory taken by what is kept."""
        return sum(kept.nbytes for kept in (*self._per_position.values(), *self._per_row.values()))

    def batch(self, ids: Sequence[int]) -> tuple[Batch, Frozen]:
        """The pairs `ids` as a batch, with everything about it that no mask changes."""
        batch = self._as_batch(ids)
        if any(i >= self.kept for i in ids):
            return batch, self._freeze(batch)
        index = sent(ids, batch.clean.device)
        rows = [row for i in ids for row in range(self._starts[i], self._starts[i + 1])]
        at_rows = sent(rows, batch.clean.device)
        wide = {name: kept[:, index, : batch.width] for name, kept in self._per_position.items()}
        heads = wide.pop("heads")
        heads = heads.unflatten(0, (self.engine.graph.shape.layers, -1))
        return batch, Frozen(heads=heads, **wide, **{name: kept[at_rows] for name, kept in self._per_row.items()})

    def _as_batch(self, ids: Sequence[int]) -> Batch:
        return self.engine.batch([self.pairs[i] for i in ids])

    def _compute(self, ids: Sequence[int]) -> Frozen:
        return self._freeze(self._as_batch(ids))

    def _freeze(self, batch: Batch) -> Frozen:
        return self.ablation.freeze(self.engine, batch, logits=self.logits)

    def _keep(self, ids: list[int], frozen: Frozen) -> None:
        """Tensors over positions are [any, b, p, *] and filled up to the widest pair; those over rows are [n, *]."""
        index = sent(ids, frozen.base.device)
        wide = {
            "embedding_difference": frozen.embedding_difference,
            "heads": frozen.heads.flatten(0, 1),
            "mlps": frozen.mlps,
            "base": frozen.base,
        }
        for name, value in wide.items():
            if name not in self._per_position:
                shape = (value.shape[0], self.kept, self.width, *value.shape[3:])
                self._per_position[name] = value.new_zeros(shape)
            self._per_position[name][:, index, : value.shape[2]] = value
        rows = [row for i in ids for row in range(self._starts[i], self._starts[i + 1])]
        at_rows = sent(rows, frozen.base.device)
        for name, value in (("logits", frozen.logits), ("final_base", frozen.final_base)):
            if name not in self._per_row:
                self._per_row[name] = value.new_zeros(self._starts[-1], value.shape[1])
            self._per_row[name][at_rows] = value

    def _how_many_fit(self, max_bytes: int) -> int:
        """Measured on one pair: bytes per position (every pair gets as many as the widest) and per compared one."""
        frozen, rows = self._compute([0]), len(self.pairs[0].positions)
        at_rows = frozen.logits.nbytes + frozen.final_base.nbytes
        wide = sum(value.nbytes for value in vars(frozen).values()) - at_rows
        per_pair = wide // self.engine.width(self.pairs[0]) * self.width
        taken = accumulate(per_pair + at_rows // rows * len(pair.positions) for pair in self.pairs)
        return sum(1 for total in taken if total <= max_bytes)
