"""The gradient of an objective in every edge's mask, from one forward and one backward pass per micro-batch.

Learning a mask descends on it; attribution methods read it off; the polish asks it which swap promises most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import partial

import torch
from torch import Tensor

from edge_pruning import ranks
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.batch import Batch
from edge_pruning.masked_pass.captured import Captured, Record, recorder
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.micro_batches import over_tiles
from edge_pruning.masked_pass.unmasked_pass import Frozen
from edge_pruning.objectives import Objective

OF_BATCH = tuple(field.name for field in fields(Batch) if field.name != "width")
OF_FROZEN = tuple(field.name for field in fields(Frozen))


def mask_gradient(
    engine: MaskedPass,
    cache: FrozenCache,
    ids: Sequence[int],
    mask: Tensor,
    objective: Objective,
    captured: Captured | None = None,
) -> tuple[Tensor, Tensor]:
    """The mean of the objective over the pairs `ids`, and its gradient in the mask [w, r]; both on the device.

    captured: recordings of the same search (`capturing`), for many masks.
    """
    z, own = mask.detach().to(engine.adapter.device, torch.float32), ranks.share(ids)
    total, gradient = torch.zeros((), device=z.device), torch.zeros_like(z)  # a rank may have no pair
    of_tensors = captured if captured is not None else Captured(partial(_of_tensors, engine, objective), record=None)

    def of_tile(tile: list[int]) -> tuple[Tensor, ...]:
        batch, frozen = cache.batch([own[i] for i in tile])
        return of_tensors(z, *_tensors(batch, OF_BATCH), *_tensors(frozen, OF_FROZEN))

    for _, (loss, of_loss) in over_tiles(engine, [cache.pairs[i] for i in own], of_tile):
        total += loss / len(ids)
        gradient += of_loss
    gradient /= len(ids)
    ranks.add_up(total, gradient)
    return total, gradient


def capturing(engine: MaskedPass, objective: Objective, record: Record | None = None) -> Captured:
    """Recordings of micro-batches for a search with one engine and objective, where that is possible.

    record: how; by default, as the engine's `cuda_graph` says. Raises ValueError if it says "on" and that cannot be.
    """
    record = recorder(engine) if record is None else record
    return Captured(partial(_of_tensors, engine, objective), record, required=engine.cuda_graph == "on")


def batch_gradient(
    mask: Tensor, engine: MaskedPass, batch: Batch, frozen: Frozen, objective: Objective, *, along: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The sum of the objective over a batch, and its gradient in the mask [w, r] (see `MaskedPass.logits`)."""
    leaf = mask.detach().requires_grad_()
    loss = objective(frozen.logits, engine.logits(leaf, batch, frozen, along=along), batch).sum()
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


def _of_tensors(engine: MaskedPass, objective: Objective, mask: Tensor, *parts: Tensor) -> tuple[Tensor, Tensor]:
    """`batch_gradient` from the tensors of a batch and of its frozen values."""
    frozen = Frozen(*parts[len(OF_BATCH) :])
    batch = Batch(*parts[: len(OF_BATCH)], width=frozen.embeddings.shape[1])
    return batch_gradient(mask, engine, batch, frozen, objective)


def _tensors(of: Batch | Frozen, names: Sequence[str]) -> list[Tensor]:
    return [getattr(of, name) for name in names]
