"""A last polish: swap edges of a circuit for edges outside it, as long as the KL on training pairs falls.

The mask's gradient says to first order what a swap would do: removing a kept edge changes the KL by minus its gradient,
adding a missing one by plus its. Swaps are tried in the order of what they promise, first many together, then fewer,
then one at a time, and the first that helps is kept; then the gradient is taken anew. It ends when none of the attempts
of a round helps. Cost: one masked forward and backward pass over the pairs per attempt.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from edge_pruning import metrics
from edge_pruning.ablation import Ablation
from edge_pruning.batch import Pair
from edge_pruning.circuit import Circuit
from edge_pruning.discovery.training import DEFAULT_CACHE_BYTES
from edge_pruning.forward import MaskedPass, tiles
from edge_pruning.frozen_cache import FrozenCache

FIRST_SHARE = 0.1  # of the circuit's edges are swapped in the first attempt
SINGLES = 24  # single swaps tried per round


def polish(
    circuit: Circuit,
    engine: MaskedPass,
    pairs: Sequence[Pair],
    ablation: Ablation,
    *,
    within: Tensor | None = None,
    progress: Callable[[int, float], None] = lambda swapped, kl: None,
) -> Circuit:
    """A circuit of the same size with at most the KL of `circuit` on `pairs`, which must be training pairs.

    within: candidate edges, bool [w, r]. progress gets the number of edges swapped so far and the KL in nats.
    """
    cache = FrozenCache(engine, pairs, ablation, DEFAULT_CACHE_BYTES)
    candidates = engine.graph.edge_mask if within is None else within.cpu() & engine.graph.edge_mask
    mask, swapped = circuit.mask, 0
    kl, gradient = _kl_and_gradient(engine, cache, mask)
    helped = True
    while helped and 0 < len(circuit) < int(candidates.sum()):
        helped = False
        for proposal in _proposals(mask, gradient, candidates):
            after, its_gradient = _kl_and_gradient(engine, cache, proposal)
            if after < kl:
                swapped += int((proposal & ~mask).sum())
                mask, kl, gradient, helped = proposal, after, its_gradient, True
                progress(swapped, kl)
                break
    return replace(circuit, mask=mask, provenance={**circuit.provenance, "polish": {"swapped": swapped}})


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


def _kl_and_gradient(engine: MaskedPass, cache: FrozenCache, mask: Tensor) -> tuple[float, Tensor]:
    """Mean KL over all pairs in nats, and its gradient in every edge's mask [w, r]."""
    leaf = mask.to(engine.adapter.device, torch.float32).requires_grad_()
    total = torch.zeros((), device=leaf.device)
    for ids in tiles(cache.pairs, engine.tile_tokens):
        batch, frozen = cache.batch(ids)
        kl = metrics.kl_divergence(frozen.logits, engine.logits(leaf, batch, frozen), batch).sum() / len(cache.pairs)
        kl.backward()
        total += kl.detach()
    assert leaf.grad is not None
    return float(total), leaf.grad.cpu()
