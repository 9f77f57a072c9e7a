"""Cutting: `cut` removes from a Hugging Face model, in place, what is not kept. `zero` sets weights to 0 instead.

Both give the same outputs, because a number that no map reads need not be computed. `fill` also adds the mean of the
removed numbers to the biases of the maps that read them, where there are biases: then only their variation is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edge_pruning.shrink.fewer_keys import FewerKeys
from edge_pruning.shrink.kept import Kept
from edge_pruning.shrink.layout import Layout, Maps
from edge_pruning.shrink.partial_linear import part_of


def cut(hf: Any, kept: Kept) -> None:
    """Remove everything that is not kept from a whole model, in place."""
    layout = Layout(hf)
    per_group = layout.sizes.heads_per_group
    for i, maps in enumerate(layout):
        _cut_attention(maps, kept.attention_inputs[i], kept.channels[i], per_group)
        _cut_mlp(maps, kept.mlp_inputs[i], kept.units[i])
        if kept.positions is not None and not kept.positions[i].all():
            where = kept.positions[i].nonzero().flatten().to(maps.out.weight.device)
            layout.block(i).attention = FewerKeys(maps.attention, where)


def _cut_attention(maps: Maps, inputs: Tensor, channels: Tensor, per_group: int) -> None:
    attention, e = maps.attention, channels.shape[1]
    groups = channels.any(1)
    heads = groups.repeat_interleave(per_group)
    left = channels[groups]  # the channels of the groups that stay [group, e]
    read = channels.repeat_interleave(per_group, 0).flatten()
    q, k, v, out = (maps.of_attention(name) for name in ("q_proj", "k_proj", "v_proj", "o_proj"))
    attention.q_proj = part_of(q, rows=heads.repeat_interleave(e), columns=inputs, from_inputs=inputs)
    attention.k_proj = part_of(k, rows=groups.repeat_interleave(e), columns=inputs, from_inputs=inputs)
    attention.v_proj = part_of(
        v, rows=channels.flatten(), columns=inputs, from_inputs=inputs, to_outputs=left.flatten()
    )
    from_heads = left.repeat_interleave(per_group, 0).flatten()
    attention.o_proj = part_of(out, columns=read, from_inputs=from_heads)
    if hasattr(attention, "num_attention_heads"):
        attention.num_attention_heads = int(heads.sum())  # type: ignore[assignment]  # an integer, not a module


def _cut_mlp(maps: Maps, inputs: Tensor, units: Tensor) -> None:
    for name in maps.names_in:
        setattr(maps.mlp, name, part_of(getattr(maps.mlp, name), rows=units, columns=inputs, from_inputs=inputs))
    setattr(maps.mlp, maps.name_out, part_of(maps.outward, columns=units))


def zero(hf: Any, kept: Kept) -> None:
    """Set to 0 the weights that read what is not kept. All positions stay, because no weights belong to them."""
    fold(hf, gates_of(kept, Layout(hf)), None)


def fill(hf: Any, kept: Kept, means: Mapping[str, Tensor]) -> None:
    """Do what `zero` does, and add the mean of what is not kept to the biases of the maps that read it."""
    fold(hf, gates_of(kept, Layout(hf)), means)


@torch.no_grad()
def fold(hf: Any, gates: Mapping[str, Tensor], means: Mapping[str, Tensor] | None) -> None:
    """Multiply gates and means into weights and biases: the model then computes what it computes in `gates.gated`."""
    for i, maps in enumerate(Layout(hf)):
        for place, of_place in gates.items():
            for linear in maps.by_place[place]:
                gate = of_place[i].to(linear.weight)
                if linear.bias is not None and means is not None:
                    linear.bias.add_(linear.weight @ ((1 - gate) * means[place][i].to(gate)))
                linear.weight.mul_(gate)


def gates_of(kept: Kept, layout: Layout) -> dict[str, Tensor]:
    """Gates of 1 for what stays and 0 for the rest, [layer, in] per place."""
    return {
        "attention_inputs": kept.attention_inputs.float(),
        "channels": kept.head_outputs(layout.sizes.heads_per_group).flatten(1).float(),
        "mlp_inputs": kept.mlp_inputs.float(),
        "units": kept.units.float(),
    }
