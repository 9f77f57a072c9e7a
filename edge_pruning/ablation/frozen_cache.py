"""A cache for frozen passes: computed once per example instead of once per step, in bounded memory.

The first examples that fit into `max_bytes` are kept in one tensor per field, position after position, so that a batch
is one gather per field. The other examples of a batch are recomputed. Which examples are kept depends only on their
number and size, and they are always computed in the same chunks: a resumed run uses the same bits as an uninterrupted
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from torch import Tensor

from edge_pruning.ablation import Ablation
from edge_pruning.batch import Batch
from edge_pruning.masked_pass.devices import indices_on
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.memory import memory_for_cache
from edge_pruning.masked_pass.micro_batches import over_tiles
from edge_pruning.masked_pass.unmasked_pass import PER_POSITION, Frozen
from edge_pruning.pair import Pair


class FrozenCache:
    """Returns `Frozen` values for batches of `pairs`.

    max_bytes: memory for kept values; None is a share of the available memory.
    logits: whether the values include the logits of the clean model.
    remember: whether recomputed batches are also kept, until `forget`; for batches that are used several times in a
    row.
    """

    def __init__(
        self,
        engine: MaskedPass,
        pairs: Sequence[Pair],
        ablation: Ablation,
        max_bytes: int | None = None,
        *,
        logits: bool = True,
        remember: bool = False,
    ) -> None:
        self.engine, self.pairs, self.ablation = engine, pairs, ablation
        self.logits, self.remember = logits, remember
        self._recent: dict[tuple[int, ...], tuple[Batch, Frozen]] = {}
        max_bytes = memory_for_cache(engine.home) if max_bytes is None else max_bytes
        self.kept = self._how_many_fit(max_bytes) if max_bytes else 0
        self._positions = _starts([engine.tokens(pair) for pair in pairs[: self.kept]])
        self._rows = _starts([len(pair.positions) for pair in pairs[: self.kept]])
        self._values: dict[str, Tensor] = {}
        for ids, frozen in over_tiles(engine, pairs[: self.kept], self._compute):
            self._keep(ids, frozen)

    @property
    def bytes(self) -> int:
        """Memory of the kept values, in bytes."""
        return sum(kept.nbytes for kept in self._values.values())

    def batch(self, ids: Sequence[int]) -> tuple[Batch, Frozen]:
        """Return the pairs `ids` as a batch, with everything about it that no mask changes."""
        if tuple(ids) in self._recent:
            return self._recent[tuple(ids)]
        batch = self._as_batch(ids)
        rest = [place for place, i in enumerate(ids) if i >= self.kept]
        if len(rest) == len(ids):
            frozen = self._freeze(batch)
        else:
            frozen = self._gathered(batch, ids)
            if rest:
                self._fill(frozen, ids, rest)
        if rest and self.remember:
            self._recent[tuple(ids)] = batch, frozen
        return batch, frozen

    def forget(self) -> None:
        """Drop the batches that `remember` keeps."""
        self._recent.clear()

    # --- kept values -----------------------------------------------------------------------------------------------

    def _keep(self, ids: list[int], frozen: Frozen) -> None:
        """Copy the values of the pairs `ids` from a batch into the kept tensors."""
        device, width = frozen.embeddings.device, frozen.embeddings.shape[1]
        sequences = [sequence for i in ids for sequence in self._sequences(i)]
        kept = _ranges(sequences)
        computed = _ranges((place * width, n) for place, (_, n) in enumerate(sequences))
        to, at = indices_on(kept, device), indices_on(computed, device)
        for name in PER_POSITION:
            value = getattr(frozen, name).flatten(-3, -2)
            if name not in self._values:
                self._values[name] = value.new_empty(*value.shape[:-2], self._positions[-1], value.shape[-1])
            self._values[name][..., to, :] = value[..., at, :]
        if "logits" not in self._values:
            self._values["logits"] = frozen.logits.new_empty(self._rows[-1], frozen.logits.shape[1])
        self._values["logits"][indices_on(self._rows_of(ids), device)] = frozen.logits

    def _gathered(self, batch: Batch, ids: Sequence[int]) -> Frozen:
        """Gather the kept values of the pairs `ids`. Entries of pairs that are not kept hold values of other pairs."""
        device, shape, parts = batch.clean.device, (batch.sequences, batch.width), {}
        places = [start for i in ids for start, _ in self._sequences(i)]
        last = self._positions[-1] - 1
        at = indices_on([min(start + p, last) for start in places for p in range(batch.width)], device)
        for name in PER_POSITION:
            kept = self._values[name]
            parts[name] = kept.index_select(kept.dim() - 2, at).unflatten(-2, shape)
        return Frozen(logits=self._values["logits"][indices_on(self._rows_of(ids), device)], **parts)

    def _fill(self, frozen: Frozen, ids: Sequence[int], rest: Sequence[int]) -> None:
        """Compute the pairs at some places of a batch, and write them to these places, in place."""
        computed, device = self._compute([ids[place] for place in rest]), frozen.embeddings.device
        first = _starts([len(self.pairs[i].branches) for i in ids])
        sequences = _ranges((first[place], first[place + 1] - first[place]) for place in rest)
        width, at = computed.embeddings.shape[1], indices_on(sequences, device)
        for name in PER_POSITION:
            getattr(frozen, name)[..., at, :width, :] = getattr(computed, name)
        starts = _starts([len(self.pairs[i].positions) for i in ids])
        rows = _ranges((starts[place], starts[place + 1] - starts[place]) for place in rest)
        frozen.logits[indices_on(rows, device)] = computed.logits

    def _sequences(self, i: int) -> list[tuple[int, int]]:
        """Return the start and length of the kept values of each of a pair's sequences; 0 stands in for others."""
        width, start = self.engine.width(self.pairs[i]), self._positions[i] if i < self.kept else 0
        return [(start + n * width * (i < self.kept), width) for n in range(len(self.pairs[i].branches))]

    def _rows_of(self, ids: Sequence[int]) -> list[int]:
        """Return the rows of the kept logits of pairs; row 0 stands in for pairs that are not kept."""
        return [self._rows[i] + n if i < self.kept else 0 for i in ids for n in range(len(self.pairs[i].positions))]

    # --- computed values -------------------------------------------------------------------------------------------

    def _as_batch(self, ids: Sequence[int]) -> Batch:
        return self.engine.batch([self.pairs[i] for i in ids])

    def _compute(self, ids: Sequence[int]) -> Frozen:
        return self._freeze(self._as_batch(ids))

    def _freeze(self, batch: Batch) -> Frozen:
        return self.ablation.freeze(self.engine, batch, logits=self.logits)

    def _how_many_fit(self, max_bytes: int) -> int:
        """Return how many examples fit, from the bytes per position and per compared position of one pair."""
        frozen, first = self._compute([0]), self.pairs[0]
        per_row = frozen.logits.nbytes // len(first.positions)
        per_position = sum(getattr(frozen, name).nbytes for name in PER_POSITION) // self.engine.tokens(first)
        sizes = (per_position * self.engine.tokens(pair) + per_row * len(pair.positions) for pair in self.pairs)
        return sum(1 for total in accumulate(sizes) if total <= max_bytes)


def _starts(counts: Sequence[int]) -> list[int]:
    """Return the start of each of several consecutive ranges, and the end of the last one."""
    return [0, *accumulate(counts)]


def _ranges(runs: Iterable[tuple[int, int]]) -> list[int]:
    """Return the indices of ranges, each given by its start and length."""
    return [start + n for start, length in runs for n in range(length)]
