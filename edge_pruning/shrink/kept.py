"""What stays of a model: for each layer, the numbers that its maps still read and the positions that it attends to.

The file has one bool tensor per place, so that what was removed can be looked up later by layer and index.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from edge_pruning import files
from edge_pruning.shrink.layout import Sizes

PLACES = ("attention_inputs", "channels", "mlp_inputs", "units")


@dataclass(frozen=True)
class Kept:
    """Bool tensors, true where something stays. Raises ValueError if a layer would keep nothing at one of the places.

    attention_inputs [layer, d], channels [layer, group, e], mlp_inputs [layer, d], units [layer, f]: see `layout.py`.
    positions [layer, p]: the positions whose keys and values are computed; None: all. Queries are always computed.
    """

    attention_inputs: Tensor
    channels: Tensor
    mlp_inputs: Tensor
    units: Tensor
    positions: Tensor | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            mask = getattr(self, field.name)
            empty = [] if mask is None else (~mask.flatten(1).any(1)).nonzero().flatten().tolist()
            if empty:
                raise ValueError(f"expected at least one of {field.name} in every layer; layers {empty} have none")

    @classmethod
    def all(cls, sizes: Sizes) -> Kept:
        shapes = ((sizes.d,), (sizes.groups, sizes.e), (sizes.d,), (sizes.units,))
        return cls(*(torch.ones(sizes.layers, *shape, dtype=torch.bool) for shape in shapes))

    @classmethod
    def load(cls, path: Path) -> Kept:
        """Read from a file. Raises ValueError if it does not hold what `save` writes."""
        tensors = files.read_tensors(path)
        missing = [name for name in PLACES if name not in tensors or tensors[name].dtype != torch.bool]
        if missing:
            raise ValueError(f"{path} does not say what was kept: expected bool tensors {', '.join(missing)}")
        return cls(**{name: tensors[name] for name in PLACES}, positions=tensors.get("positions"))

    def save(self, path: Path) -> None:
        masks = {field.name: getattr(self, field.name) for field in fields(self)}
        files.write_tensors(path, {name: mask for name, mask in masks.items() if mask is not None})

    def with_only(self, **masks: Tensor) -> Kept:
        return replace(self, **masks)

    @property
    def groups(self) -> Tensor:
        """The key-value groups of which a channel is left, bool [layer, group]."""
        return self.channels.any(-1)

    def head_outputs(self, heads_per_group: int) -> Tensor:
        """What the output maps read, bool [layer, h, e]."""
        return self.channels.repeat_interleave(heads_per_group, 1)

    @property
    def is_uniform(self) -> bool:
        """Whether a configuration can express it: only whole heads and units are gone, equally many in each layer."""
        inputs = self.attention_inputs.all() and self.mlp_inputs.all() and self.positions is None
        whole = torch.equal(self.channels, self.groups[..., None].expand_as(self.channels))
        counts = torch.stack([self.groups.sum(1), self.units.sum(1)])
        return bool(inputs and whole and (counts == counts[:, :1]).all())
