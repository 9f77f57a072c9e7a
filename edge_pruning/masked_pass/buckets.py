"""Few shapes for many micro-batches, so that a captured one can be replayed: they are filled up to common sizes.

    tokens           on the right, where causal attention sees nothing, up to one of `STEPS` widths or so
    positions        compared rows of an example that does not count, if pairs differ in how many they have
    answers          columns of -1, which is no token, up to the most that any pair has

What is filled in has no part in the objective, so its gradient is 0: the results are the same up to rounding. The
number of pairs is not filled up: a search draws as many in every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from edge_pruning.batch import Batch
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.unmasked_pass import PER_POSITION, Frozen
from edge_pruning.pair import Pair

STEPS = 8


class Buckets:
    """The sizes to which micro-batches of `pairs` are filled up. None of these may have a tree of answers.

    uneven: whether a filled batch has one more example than pairs, the last one, which does not count.
    """

    def __init__(self, engine: MaskedPass, pairs: Sequence[Pair]) -> None:
        rows, causal = [len(pair.positions) for pair in pairs], engine.adapter.causal
        self.widths = [engine.width(pair) for pair in pairs] if causal else []
        self.least, self.most = min(rows), max(rows)
        self.uneven = causal and self.least < self.most
        self.answers = max(len(tokens) for pair in pairs for tokens in pair.answers)
        self.wrong = max(len(tokens) for pair in pairs for tokens in pair.wrong)

    def filled(self, batch: Batch, frozen: Frozen) -> tuple[Batch, Frozen]:
        """A micro-batch with its frozen values, filled up."""
        b, n, more = batch.size, len(batch.positions), int(self.uneven)
        width = _up(batch.width, min(self.widths), max(self.widths)) if self.widths else batch.width
        rows = 1 + _up(n, b * self.least, b * self.most) - n if self.uneven else 0
        right = width - batch.width
        positions = batch.positions + batch.positions // batch.width * right
        batch = replace(
            batch,
            clean=_pad(batch.clean, (0, right, 0, more)),
            corrupted=_pad(batch.corrupted, (0, right, 0, more)),
            lengths=_pad(batch.lengths, (0, more), value=1),
            positions=_pad(positions, (0, rows), value=b * width),
            example=_pad(batch.example, (0, rows), value=b),
            answers=_more_rows(_pad(batch.answers, (0, self.answers - batch.answers.shape[1]), value=-1), rows),
            wrong=_more_rows(_pad(batch.wrong, (0, self.wrong - batch.wrong.shape[1]), value=-1), rows),
            width=width,
        )
        per_position = {name: _pad(getattr(frozen, name), (0, 0, 0, right, 0, more)) for name in PER_POSITION}
        return batch, Frozen(_more_rows(frozen.logits, rows), **per_position)


def _up(n: int, least: int, most: int) -> int:
    """The next of about `STEPS` numbers between the least and the most."""
    step = 1 + (most - least) // STEPS
    return most - (most - n) // step * step


def _more_rows(x: Tensor, rows: int) -> Tensor:
    """x [n, *] and copies of its first row: an objective has to be finite there."""
    return torch.cat([x, x[:1].expand(rows, -1)]) if rows else x


def _pad(x: Tensor, sizes: tuple[int, ...], value: int = 0) -> Tensor:
    """`functional.pad`, which would also copy what needs no padding."""
    return functional.pad(x, sizes, value=value) if any(sizes) else x
