"""Node masks: learn which heads and MLP units matter by gradient descent on KL, over random sizes of the model.

There is one score per head (per group of heads that share keys and values) and per MLP unit. A step draws a share a of
the FLOPs, uniform between `smallest` and `largest`, solves for the threshold tau at which the gates cost exactly that
share, and runs the model with these gates:

    sum_i cost_i sigmoid(s_i - tau) = a sum_i cost_i,        gate_i = sigmoid(s_i - tau)

Costs are FLOPs, so a head has to be worth as much as the units that could stay in its place. This is soft top-k
(`discovery/soft_top_k.py`) for nodes: no noise, no penalty to tune, and one run serves every size. Scores begin at
minus the logarithm of the rank by first-order effect per FLOP. Cost: `steps` forward and backward passes of a batch,
beside those of `first_order.py`. It misleads where half-open gates do not predict the effect of closed ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.discovery.method import check_settings
from edge_pruning.discovery.search import Diverged
from edge_pruning.discovery.soft_top_k import GOLDEN, soft_top_k
from edge_pruning.shrink.first_order import first_order_effects, gated_loss
from edge_pruning.shrink.job import Job
from edge_pruning.shrink.method import Shrinker, shrinker
from edge_pruning.shrink.selection import ONLY, PartScores, part_costs


@shrinker
@dataclass(frozen=True)
class NodeMasks(Shrinker):
    """Learn gates on heads and MLP units.

    steps, batch_size, learning_rate: of the training of the scores; the learning rate falls along half a cosine.
    smallest, largest: the range of sizes that are drawn, as shares of the FLOPs.
    only: `heads` or `units`, if all parts of the other kind stay.
    """

    name: ClassVar[str] = "node-masks"
    summary: ClassVar[str] = "learns gates on heads and MLP units by KL, at random sizes; one run serves all (default)"

    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 0.1
    smallest: float = 0.1
    largest: float = 0.95
    only: str | None = None

    def __post_init__(self) -> None:
        check_settings(
            self,
            {
                "steps": (self.steps >= 1, "at least 1"),
                "batch_size": (self.batch_size >= 1, "at least 1"),
                "learning_rate": (0 < self.learning_rate < math.inf, "positive"),
                "smallest": (0 < self.smallest <= self.largest, "positive and at most largest"),
                "largest": (self.largest < 1, "below 1"),
                "only": (self.only in ONLY, "heads or units"),
            },
        )

    def score(self, job: Job) -> PartScores:
        effects = dict(zip(("heads", "units"), first_order_effects(job), strict=True))
        kinds = [kind for kind in effects if self.only in (None, kind)]
        costs = {kind: part_costs(job.sizes, job.width)[kind] for kind in kinds}
        each = torch.cat([torch.full((effects[kind].numel(),), costs[kind]) for kind in kinds])
        effect = torch.cat([effects[kind].flatten() for kind in kinds])
        scores = learned(self, job, effect / each, each / each.sum(), [effects[kind].shape for kind in kinds])
        return PartScores(**dict(zip(kinds, scores, strict=True)))


def learned(settings: NodeMasks, job: Job, effects: Tensor, costs: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    """Train the scores, and return them by kind in these shapes. effects, costs: [part], all kinds concatenated."""
    device = job.setup.engine.adapter.device
    places = effects.argsort(descending=True, stable=True).argsort()
    scores = (-(1.0 + places).log()).to(device).requires_grad_()
    costs = costs.to(device)
    optimizer = torch.optim.Adam([scores], lr=settings.learning_rate)
    for step in range(settings.steps):
        optimizer.param_groups[0]["lr"] = settings.learning_rate * (1 + math.cos(math.pi * step / settings.steps)) / 2
        share = settings.smallest + (settings.largest - settings.smallest) * ((job.seed + step + 0.5) * GOLDEN % 1)
        gates = _split(soft_top_k(scores, torch.tensor(share, device=device), costs), shapes)
        heads, units = gates if len(gates) == 2 else _other_open(settings.only, gates[0], job)
        batch = job.batch(step, settings.batch_size)
        loss = gated_loss(job, heads, units, batch, job.target(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        job.stage("learning masks", step + 1, settings.steps)
    if not scores.isfinite().all():
        raise Diverged("the masks' scores are not finite; try a lower learning_rate")
    return _split(scores.detach().cpu(), shapes)


def _split(flat: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    parts = flat.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _other_open(only: str | None, gates: Tensor, job: Job) -> tuple[Tensor, Tensor]:
    """Gates on heads and units; those of the kind that is not trained are 1."""
    if only == "heads":
        return gates, torch.ones(job.sizes.layers, job.sizes.units, device=gates.device)
    return torch.ones(job.sizes.layers, job.sizes.groups, device=gates.device), gates
