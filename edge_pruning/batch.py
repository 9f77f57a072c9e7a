"""A batch of pairs as tensors.

Under causal attention, tokens to the right change nothing. A shorter pair is therefore padded on the right, and the
result is exactly that of the pair alone; sorting by length (`MaskedPass.tiles`) keeps padding rare. Without causal
attention, a batch contains whole prompts of one length. The prompts of a vision transformer are images, and its one
compared position is where the class is read.

A pair whose answers form a tree (`answer_tree.py`) is several sequences: its prompt followed by each branch. The masked
pass only sees sequences; the metrics combine their positions into one number per pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from edge_pruning.answer_tree import TreeIndex
from edge_pruning.pair import Pair


@dataclass(frozen=True)
class Batch:
    """Several pairs. `n` counts compared positions over the whole batch, example after example. `s` counts sequences,
    pair after pair; there are as many as pairs, unless their answers form trees.

    clean, corrupted: token ids [s, p], or images [s, channel, height, width].
    lengths: number of positions of each sequence, [s].
    positions: the compared positions as indices into the flattened [s * p], [n].
    example: the pair of each compared position, [n].
    answers, wrong: accepted and wrong tokens, [n, any], padded with -1.
    width: p.
    tree: how the compared positions form trees; None if no pair has one. A batch has pairs of one kind only.
    """

    clean: Tensor
    corrupted: Tensor
    lengths: Tensor
    positions: Tensor
    example: Tensor
    answers: Tensor
    wrong: Tensor
    width: int = field(kw_only=True)
    tree: TreeIndex | None = field(default=None, kw_only=True)

    @property
    def size(self) -> int:
        """The number of pairs, b."""
        return self.sequences if self.tree is None else self.tree.pairs

    @property
    def sequences(self) -> int:
        return self.clean.shape[0]

    @classmethod
    def of(
        cls, pairs: Sequence[Pair], device: torch.device | str = "cpu", *, widths: Sequence[int] | None = None
    ) -> Batch:
        """Build a batch. widths: number of computed positions of each pair; by default, up to its last compared
        position. Raises ValueError for pairs of which only some have a tree of answers.
        """
        trees = [pair.prefixes for pair in pairs if pair.prefixes]
        if trees and len(trees) < len(pairs):
            raise ValueError(
                f"expected pairs of one kind in a batch; {len(trees)} of {len(pairs)} have a tree of answers. "
                "`engine.tiles` cuts pairs into such batches"
            )
        of_pairs = widths or [max(pair.positions) + 1 for pair in pairs]
        ends = [
            end - max(map(len, pair.branches)) + len(branch)
            for pair, end in zip(pairs, of_pairs, strict=True) for branch in pair.branches
        ]
        width, sequences = max(ends), [sequence for pair in pairs for sequence in pair.sequences]
        first = [0, *accumulate(len(pair.branches) for pair in pairs)]
        positions = [
            (first[b] + s) * width + p
            for b, pair in enumerate(pairs) for s, p in zip(pair.sequence_of_each, pair.positions, strict=True)
        ]
        fields = (
            _side_by_side([clean for clean, _ in sequences], ends),
            _side_by_side([corrupted for _, corrupted in sequences], ends),
            torch.tensor(ends),
            torch.tensor(positions),
            torch.tensor([b for b, pair in enumerate(pairs) for _ in pair.positions]),
            _filled([tokens for pair in pairs for tokens in pair.answers], -1),
            _filled([tokens for pair in pairs for tokens in pair.wrong], -1),
        )
        tree = TreeIndex.of(trees, device) if trees else None
        return cls(*(field.to(device, non_blocking=True) for field in fields), width=width, tree=tree)


def _side_by_side(prompts: Sequence[Any], ends: Sequence[int]) -> Tensor:
    if isinstance(prompts[0], Tensor):
        return torch.stack(list(prompts))
    return _filled([prompt[:end] for prompt, end in zip(prompts, ends, strict=True)], 0)


def _filled(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max((len(row) for row in rows), default=0)
    filled = [[*row, *[value] * (width - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.long).reshape(len(rows), width)
