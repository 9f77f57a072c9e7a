"""Uniform gradient sampling: random masks that are mostly 0 or 1, and whose rare values between carry the gradient.

Each edge has a theta, and is kept with probability about p = sigmoid(theta) (Li and Janson 2024, "Optimal ablation for
interpretability"). A mask is drawn with u uniform in (0, 1) and w = p (1 - p):

    z = 1 - clamp((u - p) / w + 1/2, 0, 1)    1 with probability p - w/2, 0 with 1 - p - w/2, else uniform between

With w constant and w p - (w - 1) stopgrad(p) in the place of p, z is the same, and dz/dp is 1 where z lies between,
whatever w is. The loss is that of the task plus a price for edges and for nodes,

    KL + penalty sum p + node_penalty sum_nodes (L H / 2) tanh(2 degree / (L H)), node_penalty = min(penalty / 2, 2e-4)

with L layers, H heads and a node's degree the sum of p over the edges that it writes (which edges the authors count is
our reading). A step has 5 pairs, each under the same 12 masks (theirs are drawn anew for each pair). Dangling edges are
not taken out of a drawn mask, as the authors do: under patch ablation they change neither output nor gradient.

Cost: 12 masked forward and backward passes of 5 pairs per step, 3,000 steps, and one run per penalty: that decides the
size, at p > 1/2. Other sizes are read off the ranking by theta. It misleads at sizes far from that one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.ablation import Patch
from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.search import Search
from edge_pruning.discovery.training import Draw, MaskParameters, train, training_cost
from edge_pruning.edge_scores import EdgeScores

INITIAL_THETA = 1.0
BETAS = (0.9, 0.995)
LARGEST_NORM = 5.0  # of a step's gradient
LEARNING_RATES = ((1e-4, 0.15), (5e-4, 0.10), (math.inf, 0.05))  # up to which penalty, and the rate
PATCH_RATE = 0.2  # under patch ablation the authors divide the rate by 5
LARGEST_NODE_PENALTY = 2e-4


@method
@dataclass(frozen=True)
class Ugs(Method):
    """`penalty`: nats per edge. `learning_rate`: None chooses the published one for the penalty and the ablation."""

    name: ClassVar[str] = "ugs"
    summary: ClassVar[str] = "uniform gradient sampling: random masks, mostly 0 or 1, and a price per edge"
    one_run_ranks_all: ClassVar[bool] = True

    penalty: float = 1e-3
    steps: int = 3000
    batch_size: int = 5
    masks_per_step: int = 12
    learning_rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        rate = self.learning_rate
        check_settings(self, {
            "penalty": (0 <= self.penalty < math.inf, "at least 0"),
            "steps": (self.steps >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "masks_per_step": (self.masks_per_step >= 1, "at least 1"),
            "learning_rate": (rate is None or 0 < rate < math.inf, "positive"),
        })

    def find(self, search: Search) -> EdgeScores:
        masks = UgsMasks(self, self._rate(search), search)
        if search.initial_ranks is not None:
            masks.parameters["theta"].data.add_(2 * search.initial_ranks)
        train(
            masks, search, steps=self.steps, batch_size=self.batch_size, seed=self.seed,
            masks_per_step=self.masks_per_step,
        )
        theta = masks.parameters["theta"]
        return search.scores(theta, natural_size=int((theta > 0).sum()))

    def cost(self, search: Search) -> Cost:
        return training_cost(
            len(search.data.pairs), steps=self.steps, batch_size=self.batch_size, masks_per_step=self.masks_per_step
        )

    def soft_mask(self, scores: EdgeScores, edges: int) -> Tensor:
        """Each edge's probability; the size is the one that was trained, whatever `edges` is."""
        return scores.values.sigmoid()

    def _rate(self, search: Search) -> float:
        if self.learning_rate is not None:
            return self.learning_rate
        rate = next(rate for largest, rate in LEARNING_RATES if self.penalty <= largest)
        return rate * (PATCH_RATE if isinstance(search.ablation, Patch) else 1)


class UgsMasks(MaskParameters):
    def __init__(self, settings: Ugs, rate: float, search: Search) -> None:
        super().__init__()
        self.settings, self.rate, device = settings, rate, search.device
        shape = search.graph.shape
        self.most = shape.layers * shape.heads / 2
        self.writers = search.candidates.nonzero()[:, 0].to(device)  # of each candidate edge [edge]
        self.n_writers = len(search.graph.writers)
        theta = torch.full((search.n_candidates,), INITIAL_THETA, device=device)
        self.parameters["theta"] = theta.requires_grad_()

    def optimizer(self) -> torch.optim.Optimizer:
        optimizer = torch.optim.AdamW(self.parameters.values(), lr=self.rate, betas=BETAS, weight_decay=0)
        optimizer.register_step_pre_hook(lambda *_: _clip(self.parameters["theta"]))
        return optimizer

    def schedule(self, step: int) -> float:
        return 1.0

    def draw(self, step: int, generator: torch.Generator) -> Draw:
        p = self.parameters["theta"].sigmoid()
        mask = sample(p, torch.rand(p.shape, generator=generator, device=p.device))
        undecided = ((mask > 0.05) & (mask < 0.95)).float().mean()
        record = {"target_edges": p.detach().sum(), "edges": mask.detach().sum(), "undecided": undecided.detach()}
        return Draw(mask, self.price(p), record)

    def price(self, p: Tensor) -> Tensor:
        """What the edges cost, and the nodes that write them, in nats."""
        degree = torch.zeros(self.n_writers, device=p.device).index_add(0, self.writers, p)
        nodes = self.most * (degree / self.most).tanh().sum()
        return self.settings.penalty * p.sum() + min(self.settings.penalty / 2, LARGEST_NODE_PENALTY) * nodes


def sample(p: Tensor, u: Tensor) -> Tensor:
    """A mask for probabilities p and uniform numbers u, [edge]; dz/dp is 1 where it is between 0 and 1, else 0."""
    fixed = p.detach()
    w = fixed * (1 - fixed)
    moved = w * p - (w - 1) * fixed  # p, with a gradient of w
    return 1 - ((u - moved) / w.clamp_min(1e-12) + 0.5).clamp(0, 1)


def _clip(theta: Tensor) -> None:
    torch.nn.utils.clip_grad_norm_([theta], LARGEST_NORM)
