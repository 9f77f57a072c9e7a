"""A batch of pairs as tensors.

Under causal attention, tokens to the right change nothing. A shorter pair is therefore padded on the right, and the
result is exactly that of the pair alone; sorting by length (`MaskedPass.tiles`) keeps padding rare. Without causal
attention, a batch contains whole prompts of one length. The prompts of a vision transformer are images, and its one
compared position is where the class is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from edge_pruning.pair import Pair


@dataclass(frozen=True)
class Batch:
    """Several pairs. `n` counts compared positions over the whole batch, example after example.

    clean, corrupted: token ids [b, p], or images [b, channel, height, width].
    lengths: number of positions of each pair, [b].
    positions: the compared positions as indices into the flattened [b * p], [n].
    example: the pair of each compared position, [n].
    answers, wrong: accepted and wrong tokens, [n, any], padded with -1.
    width: p.
    """

    clean: Tensor
    corrupted: Tensor
    lengths: Tensor
    positions: Tensor
    example: Tensor
    answers: Tensor
    wrong: Tensor
    width: int = field(kw_only=True)

    @property
    def size(self) -> int:
        return self.clean.shape[0]

    @classmethod
    def of(
        cls, pairs: Sequence[Pair], device: torch.device | str = "cpu", *, widths: Sequence[int] | None = None
    ) -> Batch:
        """Build a batch. widths: number of computed positions of each pair; by default, up to its last compared
        position.
        """
        ends = widths or [max(pair.positions) + 1 for pair in pairs]
        width = max(ends)
        positions = [b * width + p for b, pair in enumerate(pairs) for p in pair.positions]
        fields = (
            _side_by_side([pair.clean for pair in pairs], ends),
            _side_by_side([pair.corrupted for pair in pairs], ends),
            torch.tensor(ends),
            torch.tensor(positions),
            torch.tensor([b for b, pair in enumerate(pairs) for _ in pair.positions]),
            _filled([tokens for pair in pairs for tokens in pair.answers], -1),
            _filled([tokens for pair in pairs for tokens in pair.wrong], -1),
        )
        return cls(*(field.to(device, non_blocking=True) for field in fields), width=width)


def _side_by_side(prompts: Sequence[Any], ends: Sequence[int]) -> Tensor:
    if isinstance(prompts[0], Tensor):
        return torch.stack(list(prompts))
    return _filled([prompt[:end] for prompt, end in zip(prompts, ends, strict=True)], 0)


def _filled(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max((len(row) for row in rows), default=0)
    filled = [[*row, *[value] * (width - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.long).reshape(len(rows), width)
