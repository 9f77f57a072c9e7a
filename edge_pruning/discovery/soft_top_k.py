"""Soft top-k with a random size: one short run that ranks every edge, and so gives circuits of every size.

One score per edge. Each step draws a size k, log-uniform over a broad range, solves for the threshold tau at which the
mask has exactly that size, and runs the mask:

    sum_i sigmoid(s_i - tau) = k,          z_i = sigmoid(s_i - tau)

No noise, no multipliers, no target to tune: the size is exact at every step. (Arora and others, "Matryoshka
attribution", 2026, arXiv 2609.25518.) Cost: a few hundred masked forward and backward passes. It misleads when the
sizes that matter lie outside the range of k, and where a model works in steps: at half a mask its thresholds are not
crossed and there is no gradient. Such models want a size that the loss controls (`budget.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.circuit import EdgeScores
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.search import Search
from edge_pruning.discovery.training import Draw, MaskParameters, train


@method
@dataclass(frozen=True)
class SoftTopK(Method):
    name: ClassVar[str] = "soft-top-k"
    summary: ClassVar[str] = "Edge Pruning with soft top-k masks of random size: one short run ranks all (default)"
    one_run_ranks_all: ClassVar[bool] = True

    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 0.5
    smallest: float = 0.009
    largest: float = 0.35
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, {
            "steps": (self.steps >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "learning_rate": (0 < self.learning_rate < math.inf, "positive"),
            "smallest": (0 < self.smallest <= self.largest, "above 0 and at most largest (shares of all edges)"),
            "largest": (0 < self.largest < 1, "between 0 and 1 (a share of all edges)"),
        })

    def find(self, search: Search) -> EdgeScores:
        masks = SoftTopKMasks(self, search.n_candidates, search.device)
        if search.initial_ranks is not None:
            masks.warm_start(search.initial_ranks)
        train(masks, search, steps=self.steps, batch_size=self.batch_size, seed=self.seed)
        return search.scores(masks.parameters["scores"])

    def soft_mask(self, scores: EdgeScores, edges: int) -> Tensor:
        candidates = scores.values.isfinite()
        mask = torch.zeros(scores.values.shape)
        mask[candidates] = soft_top_k(scores.values[candidates], torch.tensor(float(edges)))
        return mask


class SoftTopKMasks(MaskParameters):
    def __init__(self, settings: SoftTopK, n: int, device: torch.device) -> None:
        super().__init__()
        self.settings, self.n = settings, n
        self.parameters["scores"] = torch.zeros(n, device=device, requires_grad=True)

    def warm_start(self, ranks: Tensor) -> None:
        """Begin with another method's ranking: the scores from first to last are a few training steps apart."""
        self.parameters["scores"].data.copy_(4 * ranks)

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters.values(), lr=self.settings.learning_rate)

    def schedule(self, step: int) -> float:
        """Half a cosine from 1 to 0: scores settle, and seeds agree on more edges than at a constant rate."""
        return 0.5 * (1 + math.cos(math.pi * step / self.settings.steps))

    def draw(self, step: int, generator: torch.Generator) -> Draw:
        low, high = math.log(self.settings.smallest * self.n), math.log(self.settings.largest * self.n)
        k = (low + (high - low) * torch.rand((), generator=generator, device=generator.device)).exp()
        mask = soft_top_k(self.parameters["scores"], k)
        undecided = ((mask > 0.05) & (mask < 0.95)).float().mean()
        return Draw(mask, None, {"target_edges": k, "edges": mask.detach().sum(), "undecided": undecided.detach()})


def soft_top_k(scores: Tensor, k: Tensor) -> Tensor:
    """sigmoid(scores - tau) with tau such that it sums to k; differentiable in the scores, tau included."""
    with torch.no_grad():
        tau = threshold(scores, k)
        slope = scores.sub(tau).sigmoid()
        slope = slope * (1 - slope)
    # One Newton step from the solution does not move tau, but gives it the gradient that the constraint implies.
    tau = tau + ((scores - tau).sigmoid().sum() - k) / slope.sum().clamp_min(1e-12)
    return (scores - tau).sigmoid()


def threshold(scores: Tensor, k: Tensor, *, iterations: int = 50) -> Tensor:
    """tau with sum(sigmoid(scores - tau)) = k, by bisection; a fixed number of steps, so that no device waits."""
    margin = 40.0 + math.log(scores.numel())
    low, high = scores.min() - margin, scores.max() + margin
    for _ in range(iterations):
        middle = (low + high) / 2
        too_many = (scores - middle).sigmoid().sum() > k
        low, high = torch.where(too_many, middle, low), torch.where(too_many, high, middle)
    return (low + high) / 2
