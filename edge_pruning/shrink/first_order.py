"""First-order effects: an estimate of how much the loss rises without each head and each MLP unit.

    effect = -dKL/dg,    averaged over three models, in which all gates are .25, .5 or .75

KL has its minimum at the whole model, so its gradient is 0 there. It is taken instead on the path from the whole model
to one without heads and MLPs (`mean_gradient.py` does the same for edges). Cost: three forward and backward passes per
example.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_pruning.batch import Batch
from edge_pruning.metrics import kl_divergence
from edge_pruning.shrink.gates import gated
from edge_pruning.shrink.job import Job
from edge_pruning.shrink.layout import Sizes
from edge_pruning.shrink.running import batches, outputs

LEVELS = (0.25, 0.5, 0.75)
EXAMPLES = 128  # training pairs, at most


def first_order_effects(job: Job) -> tuple[Tensor, Tensor]:
    """The effects of all heads [layer, group] and units [layer, f], in nats per example; higher matters more."""
    sizes, pairs = job.sizes, job.setup.train.pairs[:EXAMPLES]
    shapes = ((sizes.layers, sizes.groups), (sizes.layers, sizes.units))
    totals = [torch.zeros(shape) for shape in shapes]
    for batch in batches(job.setup.engine, pairs):
        target = job.target(batch)
        for level in LEVELS:
            gates = [torch.full(shape, level, device=target.device, requires_grad=True) for shape in shapes]
            loss = gated_loss(job, gates[0], gates[1], batch, target)
            for total, slope in zip(totals, torch.autograd.grad(loss, gates), strict=True):
                total -= slope.cpu() * batch.size / (len(pairs) * len(LEVELS))
    return totals[0], totals[1]


def gated_loss(job: Job, heads: Tensor, units: Tensor, batch: Batch, target: Tensor) -> Tensor:
    """Mean KL(original || gated model) in nats, with gates on heads [layer, group] and units [layer, f]."""
    gates = {"channels": over_channels(heads, job.sizes), "units": units}
    with gated(job.layout, gates, job.means):
        return kl_divergence(target, outputs(job.hf, batch), batch).mean()


def over_channels(heads: Tensor, sizes: Sizes) -> Tensor:
    """Repeat one number per group of heads [layer, group] for every number that the output map reads [layer, h * e]."""
    return heads.repeat_interleave(sizes.heads_per_group * sizes.e, 1)
