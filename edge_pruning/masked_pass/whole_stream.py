"""The residual stream of the whole model: all masks are 1, and only their gradient is needed.

All readers at one site then read the same running sum. The gradient of a writer is a running sum too, over all later
reads.

    x_j = base_j + sum_i (y_i - c_i)             dL/dy_i = sum_j g_j          over the readers j that see writer i

Two of a read's three products with the mask become sums; only dL/dz_ij = <g_j, y_i - c_i> remains a product.
Attribution at the whole model (EAP, EAP-IG on inputs) needs nothing else; see `MaskedPass.whole`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from edge_pruning.masked_pass.stream import Stream


class WholeStream(Stream):
    """A stream that treats every mask as all ones, whatever its values.

    `_back[n]` is added to the gradient of every one of the first n writers, [token, d].
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.keep_reads = True  # all readers share one
        self._summed = 0
        self._back: dict[int, Tensor] = {}

    @cached_property
    def _sum(self) -> Tensor:
        return torch.zeros_like(self.differences[0])

    def mix(self, readers: slice, writers: int, base: Tensor, *, out: Tensor | None = None) -> Tensor:
        assert writers >= self._summed, "reads come in the order of the layers"
        self._sum += self.differences[1 + self._summed : 1 + writers].sum(0)
        self._summed = writers
        return (base + self._sum).expand(readers.stop - readers.start, *base.shape)

    def mix_in_place(self, readers: slice, writers: int, base: Tensor) -> Tensor:
        return self.mix(readers, writers, base)

    def mix_more(self, readers: slice, writers: slice, x: Tensor) -> Tensor:
        return x + self.differences[1 + writers.start : 1 + writers.stop].sum(0)

    def pass_back(self, readers: slice, writers: slice, gradient: Tensor) -> None:
        """All writers of the range get the same gradient, so only the ends of the range are recorded."""
        total = gradient.sum(0)
        self._note(writers.stop, total)
        if writers.start:
            self._note(writers.start, -total)

    def pass_back_from(self, small: Stream, tokens: Tensor) -> None:
        assert isinstance(small, WholeStream)
        for writers, gradient in small._back.items():
            self._note(writers, torch.zeros_like(self._sum).index_add_(0, tokens, gradient))

    def take_back(self, there: Stream) -> None:
        assert isinstance(there, WholeStream)
        for writers, gradient in there._back.items():
            self._note(writers, gradient.to(self._sum.device))

    def gradient_of(self, first: int, count: int) -> Tensor:
        """Later writers are never queried again, so their recorded gradients are merged."""
        behind = [writers for writers in self._back if writers >= first + count]
        total = sum((self._back.pop(writers) for writers in behind), torch.zeros_like(self._sum))
        self._back[first + count] = total
        return total.expand(count, *total.shape)

    def _note(self, writers: int, gradient: Tensor) -> None:
        self._back[writers] = self._back[writers] + gradient if writers in self._back else gradient
