"""Tiles: micro-batches of pairs, sized for the device's cache and memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from edge_pruning.batch import Batch
from edge_pruning.masked_pass.layout import Layout
from edge_pruning.masked_pass.memory import memory_for_pass
from edge_pruning.models.adapter import Adapter
from edge_pruning.pair import Pair

CPU_TILE_BYTES = 14 << 20
CPU_BUFFER_BYTES = 512 << 20  # for differences, their gradients and reads of all layers: more saves no time
CPU_TILE_TOKENS = 64  # at least, because every micro-batch loads all weights, which fit no cache
GPU_TILE_BYTES = 512 << 20
FEWEST_TOKENS_WITH_READS = 128
LOGITS_BYTES = 1 << 30
COPIES_OF_LOGITS = 6  # in float32: logits of model and run, their log probabilities, and gradients


class Tiles:
    """The micro-batches of a pass. largest_tile: in tokens, set after a larger one ran out of memory."""

    adapter: Adapter
    layout: Layout
    dtype: torch.dtype
    home: torch.device
    keep_reads: bool | None
    largest_tile: int | None = None

    @property
    def tile_tokens(self) -> int:
        """Tokens per micro-batch: on a CPU a layer's reads should fit into the cache; on a GPU they should occupy it.

        Further bounds hold for large models. On a CPU, a pass's buffers take at most `CPU_BUFFER_BYTES`, but a
        micro-batch has at least `CPU_TILE_TOKENS`, so that loading the weights pays off. On a GPU, it has as many as a
        pass has memory for.
        """
        per_token = max(1, self.layout.most_readers) * self.adapter.d_model * self.dtype.itemsize
        if self.home.type == "cpu":
            in_buffers = CPU_BUFFER_BYTES // self._buffer_bytes_per_token(self.keeps_reads)
            most = max(min(CPU_TILE_BYTES // per_token, in_buffers), CPU_TILE_TOKENS)
        else:
            most = max(1, min(GPU_TILE_BYTES // per_token, self._tokens_that_fit(self.keeps_reads)))
        return min(most, self.largest_tile or most)

    @property
    def keeps_reads(self) -> bool:
        """Whether reads are kept for the backward pass: `keep_reads`, or if memory leaves enough tokens per tile."""
        if self.keep_reads is not None:
            return self.keep_reads
        return self.home.type == "cpu" or self._tokens_that_fit(True) >= FEWEST_TOKENS_WITH_READS

    def _tokens_that_fit(self, reads: bool) -> int:
        """Tokens that a forward and backward pass has memory for: its buffers, and a margin for everything else."""
        return self.memory_for_pass // (self._buffer_bytes_per_token(reads) * 5 // 4)

    def _buffer_bytes_per_token(self, reads: bool) -> int:
        """Bytes of the differences, their gradients and, if they are kept, the reads of a pass."""
        rows = 2 * self.layout.n_writers + (self.layout.n_readers if reads else 0)
        return rows * self.adapter.d_model * self.dtype.itemsize

    @cached_property
    def memory_for_pass(self) -> int:
        """Bytes, measured once, so that micro-batches keep their size when something else takes memory."""
        return memory_for_pass(self.home)

    def width(self, pair: Pair) -> int:
        """Positions of a pair's longest sequence that are computed; under causal attention, up to the last compared."""
        return max(pair.positions) + 1 if self.adapter.causal else self.adapter.width(pair)

    def tokens(self, pair: Pair) -> int:
        """Positions that a pair takes in a batch: those of all its sequences."""
        return len(pair.branches) * self.width(pair)

    def tiles(self, pairs: Sequence[Pair], max_tokens: int | None = None) -> list[list[int]]:
        """Cut pairs into micro-batches: lists of indices, at most `tile_tokens` tokens each (or one pair).

        A tile holds pairs of similar length; of equal length if attention is not causal and would see the padding.
        Pairs whose answers form a tree (several sequences each) are in tiles of their own. The
        number of compared positions is bounded, so that their logits take at most `LOGITS_BYTES`.
        """
        cut: list[list[int]] = []
        kinds = [(bool(pair.prefixes), self.width(pair)) for pair in pairs]
        most, rows, sequences = max_tokens or self.tile_tokens, 0, 0
        most_rows = LOGITS_BYTES // (4 * COPIES_OF_LOGITS * self.adapter.vocabulary)
        for i in sorted(range(len(pairs)), key=kinds.__getitem__):
            pair, (tree, width) = pairs[i], kinds[i]
            rows += len(pair.positions)
            sequences += len(pair.branches)
            full = not cut or sequences * width > most or rows > most_rows
            before = kinds[cut[-1][-1]] if cut else kinds[i]
            if full or tree != before[0] or (not self.adapter.causal and width != before[1]):
                cut.append([])
                rows, sequences = len(pair.positions), len(pair.branches)
            cut[-1].append(i)
        return cut

    def batch(self, pairs: Sequence[Pair]) -> Batch:
        """Pairs of one tile as tensors on the model's device. Raises ValueError if one is longer than the context."""
        widths = [self.width(pair) for pair in pairs]
        if max(widths) > self.adapter.max_length:
            raise ValueError(
                f"a pair has {max(widths)} tokens, but the model's context ends at {self.adapter.max_length}; "
                "use shorter prompts, or a model with a longer context"
            )
        if not self.adapter.causal and min(widths) < max(widths):
            raise ValueError(
                f"this model's attention is not causal, so all prompts of a batch must have one length; got "
                f"{min(widths)} to {max(widths)} tokens. `engine.tiles` cuts pairs into such batches"
            )
        return Batch.of(pairs, self.adapter.device, widths=widths)
