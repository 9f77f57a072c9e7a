"""Running masks on pairs and measuring what they predict: what every part of an evaluation is made of.

Pairs are taken a tile at a time: what no mask changes is computed once and serves all masks. What masks exclude is not
computed, but masks that follow each other share a pass over the nodes that they need together, so small ones should
stand beside small ones. Cost: one frozen pass and at most one masked forward pass per mask, no backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from edge_pruning import metrics
from edge_pruning.ablation import Ablation
from edge_pruning.batch import Batch
from edge_pruning.evaluation.measured import Measured
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.micro_batches import over_tiles
from edge_pruning.tasks.task import PairSet

Progress = Callable[[int, int], None]
MOST_PASSES = 16  # each holds copies of the weights of its heads


@torch.no_grad()
def measure(
    engine: MaskedPass,
    masks: Sequence[Tensor],
    pairs: PairSet,
    ablation: Ablation,
    progress: Progress | None = None,
) -> tuple[Measured, Measured]:
    """The model's numbers [1, b], and those of every mask [mask, b], in the order of the pairs.

    masks: [w, r], bool or 0 to 1. progress: called with pairs done and pairs in all.
    """
    passes, found, order = list(_passes(engine, masks, ablation)), [], []

    def of_tile(ids: list[int]) -> Tensor:
        batch = engine.batch([pairs.pairs[i] for i in ids])
        frozen = ablation.freeze(engine, batch)
        runs = [frozen.logits, *(run.logits(mask, batch, frozen) for run, mask in passes)]
        return torch.stack([_numbers(frozen.logits, run, batch, pairs.metric) for run in runs], 1)

    for ids, numbers in over_tiles(engine, pairs.pairs, of_tile):
        found.append(numbers)
        order += ids
        if progress:
            progress(len(order), len(pairs.pairs))
    values = torch.cat(found, -1).cpu().double()  # [number, run, b], the only wait for the device
    values = values[..., torch.tensor(order).argsort()]
    return Measured(*values[:, :1]), Measured(*values[:, 1:])


def _passes(engine: MaskedPass, masks: Sequence[Tensor], ablation: Ablation) -> Iterator[tuple[MaskedPass, Tensor]]:
    """Every mask on the device, with a pass that computes what it needs."""
    together = max(1, math.ceil(len(masks) / MOST_PASSES))
    for first in range(0, len(masks), together):
        group = masks[first : first + together]
        needed = torch.stack([mask.cpu() != 0 for mask in group]).any(0)
        run = engine.restricted(needed, consistent=ablation.consistent)
        yield from ((run, mask.to(engine.adapter.device, torch.float32)) for mask in group)


def _numbers(model: Tensor, logits: Tensor, batch: Batch, metric: str) -> Tensor:
    """In the order of `Measured`, [number, b]."""
    kl = metrics.kl_divergence(model, logits, batch)
    squared_error = torch.full_like(kl, torch.nan)
    if model.shape[-1] == 1:  # one number is no distribution
        kl, squared_error = squared_error, metrics.squared_error(model, logits, batch)
    difference = metrics.DIFFERENCES[metric](logits, batch)
    hits = metrics.accuracy(logits, batch, metric), metrics.exact_match(model, logits, batch)
    return torch.stack([kl, squared_error, difference, *(hit.to(kl.dtype) for hit in hits)])


def problems_with(graph: Graph, what: str, engine: MaskedPass, pairs: PairSet) -> Iterator[str]:
    """Why a circuit or scores (`what`) of this graph cannot be measured on these pairs."""
    if graph != engine.graph:
        verb = "are" if what.endswith("s") else "is"
        yield (
            f"the {what} {verb} of another graph than the engine: {graph.shape} ({graph.convention}) and "
            f"{engine.graph.shape} ({engine.graph.convention}); make the engine with graph={what}.graph"
        )
    if not pairs.pairs:
        yield f"task {pairs.task!r} has no pairs in split {pairs.split!r}; expected at least one"
    if pairs.metric not in metrics.DIFFERENCES:
        yield f"expected a metric {', '.join(metrics.DIFFERENCES)}; got {pairs.metric!r}"
