"""The gradient of an objective in every edge's mask, from one forward and one backward pass per micro-batch.

Learning a mask descends on it; attribution methods read it off; the polish asks it which swap promises most.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edge_pruning import ranks
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.batch import Batch
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.micro_batches import over_tiles
from edge_pruning.masked_pass.unmasked_pass import Frozen
from edge_pruning.objectives import Objective


def mask_gradient(
    engine: MaskedPass, cache: FrozenCache, ids: Sequence[int], mask: Tensor, objective: Objective
) -> tuple[Tensor, Tensor]:
    """The mean of the objective over the pairs `ids`, and its gradient in the mask [w, r]; both on the device."""
    leaf = mask.detach().to(engine.adapter.device, torch.float32).requires_grad_()
    total, own = torch.zeros((), device=leaf.device), ranks.share(ids)

    def of_tile(tile: list[int]) -> Tensor:
        return add_gradient(leaf, engine, *cache.batch([own[i] for i in tile]), objective)

    for _, loss in over_tiles(engine, [cache.pairs[i] for i in own], of_tile):
        total += loss / len(ids)
    gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad / len(ids)  # a rank may have no pair
    ranks.add_up(total, gradient)
    return total, gradient


def add_gradient(
    leaf: Tensor, engine: MaskedPass, batch: Batch, frozen: Frozen, objective: Objective, *, along: Tensor | None = None
) -> Tensor:
    """The sum of the objective over a batch; adds its gradient to that of the mask `leaf` (see `MaskedPass.logits`)."""
    loss = objective(frozen.logits, engine.logits(leaf, batch, frozen, along=along), batch).sum()
    loss.backward()
    return loss.detach()
