"""Attention weights of any family in parts, without a second implementation of its attention.

The output of a head is linear in its values: `mix(q, k, v) = weights(q, k) v`. With the identity as values, `mix`
returns the weights themselves, including the family's rotary positions, windows, soft caps and sinks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models.parts import PartsAdapter


class Watching:
    """An engine whose attention weights can be read; the original engine is not changed."""

    def __init__(self, engine: MaskedPass) -> None:
        self.original, self.engine = engine, copy.copy(engine)
        self._weights: dict[int, Tensor] | None = None
        adapter = engine.adapter
        assert isinstance(adapter, PartsAdapter)
        self.engine.adapter, self._mix = copy.copy(adapter), adapter.mix
        self.engine.adapter.mix = self._watched  # type: ignore[method-assign]

    @contextmanager
    def weights(self) -> Iterator[dict[int, Tensor]]:
        """The attention weights by layer [h, b, query, key] of the run inside the context; filled during the run."""
        self._weights = {}
        try:
            yield self._weights
        finally:
            self._weights = None

    def _watched(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        if self._weights is not None:
            width = v.shape[-2]
            identity = torch.eye(width, dtype=v.dtype, device=v.device).expand(*v.shape[:2], width, width)
            self._weights[layer] = self._mix(layer, q, k, identity.contiguous(), context).float().cpu()
        return self._mix(layer, q, k, v, context)
