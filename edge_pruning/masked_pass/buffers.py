"""Memory of finished passes that the next pass uses again.

On a CPU a large tensor is made of fresh pages, and the system clears each page when it is first touched: measured at
GPT-2 small's shape, up to 6 % of a training step. Accelerators have allocators that keep memory; there a buffer is an
ordinary tensor.
"""

from __future__ import annotations

import math
import weakref

import torch
from torch import Tensor


class Buffers:
    """Flat tensors without an owner, largest last. Shared by an engine and its restricted copies."""

    def __init__(self) -> None:
        self._unused: list[Tensor] = []

    def take(self, owner: object, *shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """An uninitialised tensor. Its memory is used again once `owner` no longer exists, so keep no view of it."""
        if device.type != "cpu":
            return torch.empty(shape, dtype=dtype, device=device)
        size = math.prod(shape)
        flat = self._smallest_of(size, dtype)
        weakref.finalize(owner, self._give_back, flat).atexit = False
        return flat[:size].view(shape)

    @property
    def bytes(self) -> int:
        """Memory that waits for the next pass."""
        return sum(flat.nbytes for flat in self._unused)

    def _smallest_of(self, size: int, dtype: torch.dtype) -> Tensor:
        """The smallest that is large enough; if all are too small, a new one instead of the largest."""
        alike = [i for i, flat in enumerate(self._unused) if flat.dtype == dtype]
        fitting = [i for i in alike if len(self._unused[i]) >= size]
        if fitting:
            return self._unused.pop(fitting[0])
        if alike:
            self._unused.pop(alike[-1])
        return torch.empty(size, dtype=dtype)

    def _give_back(self, flat: Tensor) -> None:
        self._unused.append(flat)
        self._unused.sort(key=len)
