"""The gradient of an objective in every edge's mask, from one forward and one backward pass per micro-batch.

Learning a mask descends on it; attribution methods read it off; the polish asks it which swap promises most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from edge_pruning import ranks
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.batch import Batch
from edge_pruning.masked_pass.buckets import Buckets
from edge_pruning.masked_pass.captured import Captured, Record, recorder
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.micro_batches import over_tiles
from edge_pruning.masked_pass.unmasked_pass import Frozen
from edge_pruning.objectives import Objective
from edge_pruning.pair import Pair

OF_BATCH = tuple(field.name for field in fields(Batch) if not field.kw_only)  # its tensors
OF_FROZEN = tuple(field.name for field in fields(Frozen))


class Capturing:
    """The gradients of one search's micro-batches, captured where that is possible (`masked_pass/captured.py`).

    pairs: those of which micro-batches consist.
    record: how they are recorded; by default, as the engine's `cuda_graph` says. Raises ValueError if that is "on" and
    not possible.
    """

    def __init__(
        self, engine: MaskedPass, objective: Objective, pairs: Sequence[Pair], record: Record | None = None
    ) -> None:
        self.engine, self.objective = engine, objective
        record = recorder(engine) if record is None else record
        without_trees = [] if record is None else [pair for pair in pairs if not pair.prefixes]
        self._buckets = Buckets(engine, without_trees) if without_trees else None
        self._captured = Captured(self._of_tensors, record, required=engine.cuda_graph == "on")

    def __call__(self, mask: Tensor, batch: Batch, frozen: Frozen) -> tuple[Tensor, ...]:
        """`batch_gradient`. Batches with trees of answers, each of another shape, run as usual."""
        if self._buckets is None or self._captured.record is None or batch.tree is not None:
            return batch_gradient(mask, self.engine, batch, frozen, self.objective)
        batch, frozen = self._buckets.filled(batch, frozen)
        of_batch, of_frozen = (getattr(batch, name) for name in OF_BATCH), (getattr(frozen, name) for name in OF_FROZEN)
        return self._captured(mask, *of_batch, *of_frozen)

    def _of_tensors(self, mask: Tensor, *parts: Tensor) -> tuple[Tensor, Tensor]:
        frozen = Frozen(*parts[len(OF_BATCH) :])
        batch = Batch(*parts[: len(OF_BATCH)], width=frozen.embeddings.shape[-2])
        return batch_gradient(mask, self.engine, batch, frozen, self._of_pairs)

    def _of_pairs(self, model: Tensor, circuit: Tensor, batch: Batch) -> Tensor:
        """The objective's values of the examples that count."""
        values = self.objective(model, circuit, batch)
        return values[:-1] if self._buckets is not None and self._buckets.uneven else values


def mask_gradient(
    engine: MaskedPass,
    cache: FrozenCache,
    ids: Sequence[int],
    mask: Tensor,
    objective: Objective,
    capturing: Capturing | None = None,
) -> tuple[Tensor, Tensor]:
    """The mean of the objective over the pairs `ids`, and its gradient in the mask [w, r]; both on the device.

    capturing: recordings for the same engine and objective, for a search that asks with many masks.
    """
    z, own = mask.detach().to(engine.adapter.device, torch.float32), ranks.share(ids)
    total, gradient = torch.zeros((), device=z.device), torch.zeros_like(z)  # a rank may have no pair

    def of_tile(tile: list[int]) -> tuple[Tensor, ...]:
        batch, frozen = cache.batch([own[i] for i in tile])
        if capturing is not None:
            return capturing(z, batch, frozen)
        return batch_gradient(z, engine, batch, frozen, objective)

    for _, (loss, of_loss) in over_tiles(engine, [cache.pairs[i] for i in own], of_tile):
        total += loss / len(ids)
        gradient += of_loss
    gradient /= len(ids)
    ranks.add_up(total, gradient)
    return total, gradient


def batch_gradient(
    mask: Tensor,
    engine: MaskedPass,
    batch: Batch,
    frozen: Frozen,
    objective: Callable[[Tensor, Tensor, Batch], Tensor],
    *,
    along: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The sum of the objective over a batch, and its gradient in the mask [w, r] (see `MaskedPass.logits`)."""
    leaf = mask.detach().requires_grad_()
    loss = objective(frozen.logits, engine.logits(leaf, batch, frozen, along=along), batch).sum()
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient
