"""Gates: factors on what a model's maps read, in an untouched Hugging Face model.

With gate g and the mean m of the input x, a map reads  g x + (1 - g) m.  Gates of 1 give the model itself. A gate of 0
removes a number as `cutting.fill` does. For a map without a bias m is 0, because it has nothing to hold a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from edge_pruning.shrink.layout import Layout


@contextmanager
def gated(layout: Layout, gates: Mapping[str, Tensor], means: Mapping[str, Tensor] | None = None) -> Iterator[None]:
    """A context in which the model runs with gates.

    gates: by place (see `layout.py`), [layer, in].
    means: the mean inputs, in the same form; None: 0.
    """
    handles = [
        linear.register_forward_pre_hook(_gate(gate, None if linear.bias is None or means is None else means[place][i]))
        for place, of_place in gates.items()
        for i, (maps, gate) in enumerate(zip(layout, of_place.unbind(), strict=True))
        for linear in maps.by_place[place]
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _gate(gate: Tensor, mean: Tensor | None) -> Callable[[nn.Module, Any], tuple[Tensor, ...]]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (x,) = inputs
        return (gate * x if mean is None else gate * x + (1 - gate) * mean,)

    return hook
