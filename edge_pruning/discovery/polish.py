"""Polishing: swap edges of a circuit for edges outside it, as long as the loss on training pairs falls.

The loss is the task's objective (KL, for most). The mask's gradient predicts a swap to first order: removing a kept
edge changes the loss by minus its gradient, and adding a missing edge by plus its gradient. Swaps are tried in the
order of their predicted gain, first many together, then fewer, then one at a time. The first swap that lowers the loss
is kept, and the gradient is computed anew. The search ends when no attempt of a round lowers the loss. Cost: one masked
forward and backward pass over the pairs per attempt.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from edge_pruning.ablation import Ablation
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.circuit import Circuit
from edge_pruning.discovery.gradient import Capturing, mask_gradient
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.objectives import get_objective
from edge_pruning.tasks.task import PairSet

FIRST_SHARE = 0.1  # of the circuit's edges are swapped in the first attempt
SINGLES = 24  # single swaps tried per round


def polish(
    circuit: Circuit,
    engine: MaskedPass,
    data: PairSet,
    ablation: Ablation,
    *,
    within: Tensor | None = None,
    progress: Callable[[int, float], None] = lambda swapped, kl: None,
) -> Circuit:
    """A circuit of the same size with at most the loss of `circuit` on `data`, which must be training pairs.

    within: candidate edges, bool [w, r]. progress gets the number of edges swapped so far and the loss.
    """
    cache, objective = FrozenCache(engine, data.pairs, ablation), get_objective(data.objective)
    everything, capturing = range(len(data.pairs)), Capturing(engine, objective, data.pairs)

    def look(mask: Tensor) -> tuple[float, Tensor]:
        loss, gradient = mask_gradient(engine, cache, everything, mask, objective, capturing)
        return float(loss), gradient.cpu()

    candidates = engine.graph.edge_mask if within is None else within.cpu() & engine.graph.edge_mask
    mask, swapped = circuit.mask, 0
    loss, gradient = look(mask)
    helped = True
    while helped and 0 < len(circuit) < int(candidates.sum()):
        helped = False
        for proposal in _proposals(mask, gradient, candidates):
            after, its_gradient = look(proposal)
            if after < loss:
                swapped += int((proposal & ~mask).sum())
                mask, loss, gradient, helped = proposal, after, its_gradient, True
                progress(swapped, loss)
                break
    return replace(circuit, mask=mask, provenance=circuit.provenance.with_entries(polish={"swapped": swapped}))


def _proposals(mask: Tensor, gradient: Tensor, candidates: Tensor) -> Iterator[Tensor]:
    """Masks with some edges swapped: the most promising ones together, half as many, ..., then one by one."""
    flat, most = mask.flatten(), min(int(mask.sum()), int((candidates & ~mask).sum()))
    least_useful = gradient.masked_fill(~mask, -torch.inf).flatten().argsort(descending=True)
    most_wanted = gradient.masked_fill(mask | ~candidates, torch.inf).flatten().argsort()
    together = min(most, round(FIRST_SHARE * int(mask.sum())))
    while together > 1:
        yield _swapped(flat, least_useful[:together], most_wanted[:together]).view_as(mask)
        together //= 2
    singles = sorted(itertools.product(range(min(most, SINGLES)), repeat=2), key=sum)
    for i, j in singles[:SINGLES]:
        yield _swapped(flat, least_useful[i], most_wanted[j]).view_as(mask)


def _swapped(flat: Tensor, out: Tensor, new: Tensor) -> Tensor:
    return flat.index_fill(0, out, False).index_fill(0, new, True)
