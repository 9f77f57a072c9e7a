"""FLOPs of a model's layers, from how many numbers stay: two for every multiplication in a matrix product.

Norms, activations and softmax are not counted. A test compares what cutting saves with what torch counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edge_pruning.shrink.kept import Kept
from edge_pruning.shrink.layout import Sizes


@dataclass
class Counts:
    """How many numbers stay at each place of one layer (see `layout.py`). keys: positions with keys and values."""

    attention_inputs: int
    groups: int
    channels: int
    mlp_inputs: int
    units: int
    keys: int

    def flops(self, sizes: Sizes, width: int) -> int:
        """FLOPs of the layer for one example of `width` positions."""
        heads = self.groups * sizes.heads_per_group
        queries = width * self.attention_inputs * heads * sizes.e
        keys = self.keys * self.attention_inputs * self.groups * sizes.e
        values = self.keys * self.attention_inputs * self.channels
        attention = 2 * heads * width * self.keys * sizes.e
        output = width * self.channels * sizes.heads_per_group * sizes.d
        mlp = width * self.units * (sizes.inward * self.mlp_inputs + sizes.d)
        return 2 * (queries + keys + values + attention + output + mlp)


def counts_of(kept: Kept, width: int) -> list[Counts]:
    """The counts of each layer, for examples of `width` positions."""
    of = {
        "attention_inputs": kept.attention_inputs.sum(1),
        "groups": kept.groups.sum(1),
        "channels": kept.channels.flatten(1).sum(1),
        "mlp_inputs": kept.mlp_inputs.sum(1),
        "units": kept.units.sum(1),
        "keys": _keys(kept, width),
    }
    rows = zip(*(counts.tolist() for counts in of.values()), strict=True)
    return [Counts(**dict(zip(of, row, strict=True))) for row in rows]


def layer_flops(kept: Kept, sizes: Sizes, width: int) -> int:
    """FLOPs of all layers for one example of `width` positions."""
    return sum(counts.flops(sizes, width) for counts in counts_of(kept, width))


def _keys(kept: Kept, width: int) -> Tensor:
    return torch.full((len(kept.units),), width) if kept.positions is None else kept.positions.sum(1)
