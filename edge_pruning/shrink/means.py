"""The mean input of each of a model's maps, over examples and positions: it takes the place of what is removed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edge_pruning.batch import Batch
from edge_pruning.shrink.layout import Layout
from edge_pruning.shrink.running import outputs, present


@torch.no_grad()
def mean_inputs(hf: Any, examples: Iterable[Batch]) -> dict[str, Tensor]:
    """The mean input of the maps at each place, [layer, in], over all positions of the examples except padding."""
    layout = Layout(hf)
    totals = {
        place: [torch.zeros(linears[0].in_features, dtype=torch.float64) for maps in layout
                for linears in [maps.by_place[place]]]
        for place in layout.layer(0).by_place
    }  # fmt: skip
    there, count = torch.zeros(0), 0

    def add(total: Tensor, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        total += inputs[0][there].double().sum(0).cpu()

    handles = [
        linears[0].register_forward_pre_hook(partial(add, totals[place][i]))
        for i, maps in enumerate(layout) for place, linears in maps.by_place.items()
    ]  # fmt: skip
    try:
        for batch in examples:
            there = present(batch)
            count += int(there.sum())
            outputs(hf, batch)
    finally:
        for handle in handles:
            handle.remove()
    device = next(hf.parameters()).device
    return {place: (torch.stack(of_place) / count).float().to(device) for place, of_place in totals.items()}
