"""A bound on the loss controls the size: as few edges as the bound allows.

    min  sum_i z_i   such that   loss(z) <= loss(all edges) + tolerance * loss(no edge)

There is one score per edge. A step removes a total of `cut` from the n masks, distributed as in soft top-k, with some
noise so that edges of equal score separate. If its loss is within the bound, the next step may remove more, and if not,
clearly less:

    z_i = 1 - sigmoid(tau - s_i - noise_i),   sum_i (1 - z_i) = cut,   cut <- cut / PACE  or  cut * PACE^CAUTION

So the masks stay where the model still works. Below the size that a task needs, the model is broken. A broken model
that is confidently wrong lowers its loss by predicting nothing, so its gradient ranks an edge into the logits last,
although everything else depends on it. Sizes that are drawn at random, or that fall on a fixed schedule, spend most
steps there. Cost: one masked forward and backward pass per step, and two over all pairs for the bound. It misleads
where the smallest cut already breaks the bound.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.discovery.search import Search
from edge_pruning.discovery.soft_top_k import soft_top_k
from edge_pruning.discovery.training import Draw, MaskParameters
from edge_pruning.objectives import get_objective

PACE = 0.94
CAUTION = 3  # one step back undoes this many steps forward
FIRST_CUT, SMALLEST_CUT = 0.05, 1e-4  # edges
LARGEST_CUT = 0.95  # a share of the edges
NOISE = 0.3
LEARNING_RATE = 0.2
BETAS = (0.9, 0.95)  # a short memory: gradients are huge where the model breaks and tiny where it works
EPSILON = 1e-12
SMALLEST_UNIFORM = 1e-6


def loss_bound(search: Search, tolerance: float) -> Tensor:
    """Return the largest loss that a circuit may have on all pairs.

    It is the loss of all candidates plus a share of the empty circuit's loss. It is a share, because objectives have
    different units.
    """
    pairs, objective = search.data.pairs, get_objective(search.data.objective)
    cache = FrozenCache(search.engine, pairs, search.ablation)

    def loss(mask: Tensor) -> Tensor:
        return mask_gradient(search.engine, cache, range(len(pairs)), mask, objective)[0]

    return loss(search.candidates) + tolerance * loss(torch.zeros_like(search.candidates))


class BudgetMasks(MaskParameters):
    """Masks over `n` edges, as small as the loss `bound` (a device tensor) allows."""

    def __init__(self, n: int, bound: Tensor) -> None:
        super().__init__()
        self.n, self.bound = n, bound
        self.parameters["scores"] = torch.zeros(n, device=bound.device, requires_grad=True)
        self.parameters["cut"] = torch.tensor(FIRST_CUT, device=bound.device)  # moved by `adjust`, not by the optimizer

    def warm_start(self, ranks: Tensor) -> None:
        """Begin with another method's ranking; its first and last scores are a few training steps apart."""
        self.parameters["scores"].data.copy_(4 * ranks)

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([self.parameters["scores"]], lr=LEARNING_RATE, betas=BETAS, eps=EPSILON)

    def schedule(self, step: int) -> float:
        return 1.0

    def draw(self, step: int, generator: torch.Generator) -> Draw:
        scores, cut = self.parameters["scores"], self.parameters["cut"]
        u = torch.rand(self.n, generator=generator, device=scores.device)
        noisy = scores + NOISE * u.clamp(SMALLEST_UNIFORM, 1 - SMALLEST_UNIFORM).logit()
        # Solved for what is cut, not for what is kept: float32 has no room for a small cut beside thousands of edges.
        mask = 1 - soft_top_k(-noisy, cut)
        undecided = ((mask > 0.05) & (mask < 0.95)).float().mean()
        return Draw(mask, None, {
            "target_edges": self.n - cut, "edges": mask.detach().sum(), "undecided": undecided.detach(),
        })

    def adjust(self, loss: Tensor) -> None:
        """Raise the cut after a loss within the bound, and lower it after one above, without synchronising."""
        cut = self.parameters["cut"]
        moved = torch.where(loss <= self.bound, cut / PACE, cut * PACE**CAUTION)
        self.parameters["cut"] = moved.clamp(SMALLEST_CUT, LARGEST_CUT * self.n)
