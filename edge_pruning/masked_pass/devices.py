"""Where a pass runs, and in which dtype: the device of each layer, and what has to be there.

Masks, batches, frozen values and logits stay at home, on the device of the embeddings. A model that is spread over
several devices has layers on others (see `loading/spreading.py`).
"""

from __future__ import annotations

from collections.abc import Callable
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


def in_its_arithmetic(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A method of a pass that calls the adapter: inside, all arithmetic is in the pass's dtype."""

    @wraps(method)
    def inside(self: OnDevices, *arguments: P.args, **options: P.kwargs) -> T:
        with self.arithmetic():
            return method(self, *arguments, **options)

    return inside


class OnDevices:
    """A model on a graph, with the device of every layer. dtype: of all arithmetic; weights may have another one."""

    def __init__(self, adapter: Adapter, graph: Graph | None = None) -> None:
        self.adapter = adapter
        self.graph = graph or Graph(adapter.shape)
        if self.graph.shape != adapter.shape:
            raise ValueError(f"the graph is of another model: {self.graph.shape}, this one is {adapter.shape}")
        self.dtype = adapter.dtype
        self.home = adapter.device
        self.devices = [adapter.layer_device(layer) for layer in range(adapter.shape.layers)]

    def arithmetic(self) -> AbstractContextManager[Any]:
        """Inside, the adapter computes in `dtype`. The methods of a pass see to that themselves."""
        return arithmetic(self.dtype != self.adapter.dtype)

    @in_its_arithmetic
    def unembed(self, x: Tensor) -> Tensor:
        """Logits [n, vocab] at home, from the final residual stream [n, d] anywhere."""
        return self.adapter.unembed(x).to(self.home)

    @in_its_arithmetic
    def contexts(self, width: int) -> dict[torch.device, Any]:
        """The adapter's context for every device that has layers."""
        context = self.adapter.context(width)
        return {device: _on(device, context) for device in dict.fromkeys(self.devices)}


def _on(device: torch.device, context: Any) -> Any:
    """An adapter's context, whose tensors may stand in tuples and dictionaries, on a device."""
    if isinstance(context, Tensor):
        return context.to(device)
    if isinstance(context, dict):
        return {name: _on(device, value) for name, value in context.items()}
    return tuple(_on(device, value) for value in context) if isinstance(context, tuple) else context
