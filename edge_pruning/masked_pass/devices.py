"""The devices and the dtype of a pass: the device of each layer, and the values that each device needs.

Masks, batches, frozen values and logits stay on the `home` device, that of the embeddings. If a model is spread over
several devices, some layers lie on other devices (see `loading/placement.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from edge_pruning.graph import Graph
from edge_pruning.masked_pass.arithmetic import arithmetic
from edge_pruning.models.adapter import Adapter

P = ParamSpec("P")
T = TypeVar("T")
MOST_WIDTHS = 64  # whose tables are kept


def in_its_arithmetic(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Decorate a method of a pass that calls the adapter, so that its arithmetic is in the pass's dtype."""

    @wraps(method)
    def inside(self: OnDevices, *arguments: P.args, **options: P.kwargs) -> T:
        with self.arithmetic():
            return method(self, *arguments, **options)

    return inside


class OnDevices:
    """A model on a graph, with the device of every layer. `dtype` is that of the arithmetic; weights may differ."""

    def __init__(self, adapter: Adapter, graph: Graph | None = None) -> None:
        self.adapter = adapter
        self.graph = graph or Graph(adapter.shape)
        if self.graph.shape != adapter.shape:
            raise ValueError(f"expected a graph of shape {adapter.shape}, got one of another model: {self.graph.shape}")
        self.dtype = adapter.dtype
        self.home = adapter.device
        self.devices = [adapter.layer_device(layer) for layer in range(adapter.shape.layers)]
        self.tables: dict[int, dict[torch.device, Any]] = {}  # contexts by width

    def arithmetic(self) -> AbstractContextManager[Any]:
        """A context in which the adapter computes in `dtype`. The methods of a pass enter it themselves."""
        return arithmetic(self.dtype != self.adapter.dtype)

    @in_its_arithmetic
    def unembed(self, x: Tensor) -> Tensor:
        """Logits [n, vocab] on the home device, from the final residual stream [n, d] on any device."""
        shards = self.adapter.shards
        if shards is None:
            return self.adapter.unembed(x).to(self.home)
        logits = self.adapter.unembed(shards.enter(shards.ends, x))
        return shards.leave(shards.ends, logits, ahead=shards.ends - 1)

    @in_its_arithmetic
    def contexts(self, width: int) -> dict[torch.device, Any]:
        """The adapter's context for every device that has layers; kept for later passes of the same width."""
        if width in self.tables:
            return self.tables[width]
        context = self.adapter.context(width)
        made = {device: _on(device, context) for device in dict.fromkeys(self.devices)}
        if len(self.tables) < MOST_WIDTHS:
            self.tables[width] = made
        return made

    def release(self) -> None:
        """Free all memory that is kept for the next pass."""
        self.tables = {}


def indices_on(indices: Sequence[int], device: torch.device) -> Tensor:
    """Copy indices [n] to a device without synchronising; `torch.tensor(..., device=...)` synchronises."""
    return torch.tensor(indices, dtype=torch.long).to(device, non_blocking=True)


def _on(device: torch.device, context: Any) -> Any:
    """Copy an adapter's context to a device; its tensors may be nested in tuples and dictionaries."""
    if isinstance(context, Tensor):
        return context.to(device)
    if isinstance(context, dict):
        return {name: _on(device, value) for name, value in context.items()}
    return tuple(_on(device, value) for value in context) if isinstance(context, tuple) else context
