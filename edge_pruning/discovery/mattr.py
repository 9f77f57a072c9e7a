"""Matryoshka attribution as published: soft top-k masks of random size, thousands of steps of one pair each.

The mask is that of `soft_top_k.py`; what differs are the sizes, from one edge to all, the optimizer's constant step,
and the number of pairs. Two settings are published (Arora and others 2026, arXiv 2609.25518), as presets:

    mattr        k uniform,     Adam with learning rate 0.05, 5,000 steps of one pair
    mattr-log    log k uniform, Adam with learning rate 0.1,  5,000 steps of one pair

Cost: one masked forward and backward pass of one pair per step. It misleads at small circuits where k is uniform: of
70,000 edges, one step in 70 draws fewer than 1,000. Where a score's gradient is below Adam's epsilon of 1e-8, which
happens above about a million edges, Adam follows its sign alone and the scores end close together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.search import Search
from edge_pruning.discovery.soft_top_k import soft_top_k
from edge_pruning.discovery.training import Draw, MaskParameters, train, training_cost
from edge_pruning.edge_scores import EdgeScores

SIZES = ("uniform", "log-uniform")


@method
@dataclass(frozen=True)
class Mattr(Method):
    """`size`: how the number of edges of each step's mask is drawn, between 1 and all candidates."""

    name: ClassVar[str] = "mattr"
    summary: ClassVar[str] = "Matryoshka attribution as published: soft top-k of any size, 5,000 steps of one pair"
    one_run_ranks_all: ClassVar[bool] = True

    size: str = "uniform"
    steps: int = 5000
    batch_size: int = 1
    learning_rate: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, {
            "size": (self.size in SIZES, " or ".join(SIZES)),
            "steps": (self.steps >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "learning_rate": (0 < self.learning_rate < math.inf, "positive"),
        })

    def find(self, search: Search) -> EdgeScores:
        masks = MattrMasks(self, search.n_candidates, search.device)
        if search.initial_ranks is not None:
            masks.parameters["scores"].data.copy_(4 * search.initial_ranks)
        train(masks, search, steps=self.steps, batch_size=self.batch_size, seed=self.seed)
        return search.scores(masks.parameters["scores"])

    def cost(self, search: Search) -> Cost:
        return training_cost(len(search.data.pairs), steps=self.steps, batch_size=self.batch_size)

    def soft_mask(self, scores: EdgeScores, edges: int) -> Tensor:
        candidates = scores.values.isfinite()
        mask = torch.zeros(scores.values.shape)
        mask[candidates] = soft_top_k(scores.values[candidates], torch.tensor(float(edges)))
        return mask


class MattrMasks(MaskParameters):
    def __init__(self, settings: Mattr, n: int, device: torch.device) -> None:
        super().__init__()
        self.settings, self.n = settings, n
        self.parameters["scores"] = torch.zeros(n, device=device, requires_grad=True)

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters.values(), lr=self.settings.learning_rate)

    def schedule(self, step: int) -> float:
        return 1.0

    def draw(self, step: int, generator: torch.Generator) -> Draw:
        u = torch.rand((), generator=generator, device=generator.device)
        k = 1 + u * (self.n - 1) if self.settings.size == "uniform" else (u * math.log(self.n)).exp()
        mask = soft_top_k(self.parameters["scores"], k)
        undecided = ((mask > 0.05) & (mask < 0.95)).float().mean()
        return Draw(mask, None, {"target_edges": k, "edges": mask.detach().sum(), "undecided": undecided.detach()})
