"""Soft top-k with a random size: one short run that ranks every edge, and so gives circuits of every size.

One score per edge. Each step takes a size k, log-uniform over a broad range, solves for the threshold tau at which the
mask has exactly that size, and runs the mask:

    sum_i sigmoid(s_i - tau) = k,          z_i = sigmoid(s_i - tau)

No noise, no multipliers, no target to tune: the size is exact at every step. (Arora and others, "Matryoshka
attribution", 2026, arXiv 2609.25518.) What differs here is the beginning and the data:

- Scores begin at minus the logarithm of the edge's rank in an EAP-IG ranking. Effects fall about as one over the rank,
  so the first masks are proportional to them. From equal scores every edge starts at k / n of itself, most fall at once
  to where the sigmoid has no gradient, and in a large graph none of them comes back.
- Steps draw pairs that no step has seen, as long as the task writes them, because 200 pairs are soon learned by heart.
- The range of k is in edges and follows the task (`size_range.py`). Sizes follow each other by the golden ratio, so
  that any few steps in a row cover the range.
- An edge's score is the sum of its own, its writer's and its reader's. Whether a head matters at all shows in all of
  its edges, so that is learned from far fewer pairs than what a single edge does.
- Steps descend on the square root of the loss. KL grows as the square of a distance, so small circuits, whose KL is a
  hundred times that of large ones, would otherwise decide where the scores of nodes go.
- The temperature of the sigmoid falls, and the learning rate with it, so that the masks come close to the circuits that
  are cut from the scores: at temperature 1 half of a large mask lies on edges that no cut keeps.

Cost: an attribution of a few pairs, and a few thousand masked forward and backward passes of one pair. It misleads when
the sizes that matter lie outside the range of k, and where a model works in steps: at half a mask its thresholds are
not crossed and there is no gradient. Such models want a size that the loss controls (`budget.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.eap_ig import EapIg
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.search import Search, normalised_ranks
from edge_pruning.discovery.size_range import MOST, size_range, size_range_cost
from edge_pruning.discovery.training import Draw, MaskParameters, train, training_cost
from edge_pruning.edge_scores import EdgeScores

GOLDEN = (math.sqrt(5) - 1) / 2
UNRANKED = (0.009, 0.35)  # of the candidates: the range of sizes if there is no ranking to begin with


@method
@dataclass(frozen=True)
class SoftTopK(Method):
    """Learn scores over random circuit sizes.

    attribute_first: begin with an EAP-IG ranking (of the objective, on the first `attributed` pairs), unless initial
        scores are given.
    fresh: draw pairs beyond the training pairs if the task can write more of them.
    batch_uses: how many steps in a row use the same pairs; a pair's frozen passes cost half a step.
    node_rate: the learning rate of the scores of writers and readers, in learning rates of edges; 0 learns none.
    root_loss: descend on the square root of the loss, so that circuits of all sizes count.
    temperature: of the masks in the last step; it falls from 1, in equal ratios.
    smallest, largest: the range of sizes, in edges; found by `size_range.py` if None.
    """

    name: ClassVar[str] = "soft-top-k"
    summary: ClassVar[str] = "Edge Pruning with soft top-k masks of random size: one short run ranks all (default)"
    one_run_ranks_all: ClassVar[bool] = True
    rounds_weights: ClassVar[bool] = True

    steps: int = 600
    batch_size: int = 8
    batch_uses: int = 2
    learning_rate: float = 0.1
    attribute_first: bool = True
    attributed: int = 64
    fresh: bool = True
    node_rate: float = 2.0
    root_loss: bool = True
    temperature: float = 0.2
    smallest: int | None = None
    largest: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        smallest, largest = self.smallest, self.largest
        check_settings(self, {
            "steps": (self.steps >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "batch_uses": (self.batch_uses >= 1, "at least 1"),
            "learning_rate": (0 < self.learning_rate < math.inf, "positive"),
            "node_rate": (0 <= self.node_rate < math.inf, "0 or positive"),
            "temperature": (0 < self.temperature <= 1, "above 0 and at most 1"),
            "attributed": (self.attributed >= 1, "at least 1 (pairs)"),
            "largest": (largest is None or largest >= 1, "at least 1 (edges)"),
            "smallest": (
                smallest is None or 1 <= smallest <= (largest or smallest), "at least 1 and at most largest (edges)"
            ),
        })

    def find(self, search: Search) -> EdgeScores:
        masks = SoftTopKMasks(self, search.candidates, search.device)
        if search.observer.resume() is None:  # otherwise the beginning is in the state
            self._begin(masks, search)
        if self.fresh:
            search = replace(search, data=search.data.enlarged(self._fresh_pairs))
        train(
            masks, search,
            steps=self.steps, batch_size=self.batch_size, batch_uses=self.batch_uses, seed=self.seed,
            root=self.root_loss,
        )
        return search.scores(masks.scores())

    def cost(self, search: Search) -> Cost:
        data, ranking = search.data, search.init_scores
        fresh = self.fresh and data.writer is not None
        cost = training_cost(
            max(self._fresh_pairs, len(data.pairs)) if fresh else len(data.pairs),
            steps=self.steps, batch_size=self.batch_size, batch_uses=self.batch_uses,
        )  # fmt: skip
        if (ranking or self.attribute_first) and None in (self.smallest, self.largest):
            cost = size_range_cost(search) + cost
        if ranking is None and self.attribute_first:
            cost = EapIg(metric="objective").cost(search.for_ranking(self.attributed)) + cost
        return cost

    def soft_mask(self, scores: EdgeScores, edges: int) -> Tensor:
        candidates = scores.values.isfinite()
        mask = torch.zeros(scores.values.shape)
        mask[candidates] = soft_top_k(scores.values[candidates] / self.temperature, torch.tensor(float(edges)))
        return mask

    @property
    def _fresh_pairs(self) -> int:
        """How many pairs training uses if no pair is used twice."""
        return math.ceil(self.steps / self.batch_uses) * self.batch_size

    def _begin(self, masks: SoftTopKMasks, search: Search) -> None:
        """Give the masks their first scores and their range of sizes."""
        ranking = search.init_scores
        if ranking is None and self.attribute_first:
            ranking = EapIg(metric="objective").find(search.for_ranking(self.attributed))
        if ranking is not None:
            masks.warm_start(normalised_ranks(ranking, search.candidates))
        low, high = (share * search.n_candidates for share in UNRANKED)
        if ranking is not None and None in (self.smallest, self.largest):
            low, high = size_range(search, ranking)
        high = min(self.largest or high, MOST * search.n_candidates)
        masks.set_range(min(self.smallest or low, high), high)


class SoftTopKMasks(MaskParameters):
    """Masks over candidates, bool [w, r]. The range of sizes is set before training and is part of the state, as the
    scores are.
    """

    def __init__(self, settings: SoftTopK, candidates: Tensor, device: torch.device) -> None:
        super().__init__()
        self.settings, self.indices = settings, candidates.flatten().nonzero().squeeze(1).to(device)
        writers, readers = candidates.shape
        learned = {"scores": len(self.indices)}
        if settings.node_rate:
            learned |= {"writers": writers, "readers": readers}
        self.parameters |= {name: torch.zeros(n, device=device, requires_grad=True) for name, n in learned.items()}
        self._learned = tuple(learned)
        self.parameters["log_sizes"] = torch.zeros(2, device=device)  # the optimizer leaves them alone

    def set_range(self, smallest: float, largest: float) -> None:
        self.parameters["log_sizes"].copy_(torch.tensor([smallest, largest]).log())

    def warm_start(self, ranks: Tensor) -> None:
        """Begin at minus the logarithm of the place in another ranking; ranks: from 1/2 (first) to -1/2 (last)."""
        self.parameters["scores"].data.copy_(-(1 + (0.5 - ranks) * (len(self.indices) - 1)).log())

    def scores(self) -> Tensor:
        """What the candidates' masks are made of [edge], at temperature 1."""
        scores = self.parameters["scores"]
        if not self.settings.node_rate:
            return scores
        of_nodes = self.parameters["writers"].unsqueeze(1) + self.parameters["readers"]
        return scores + of_nodes.flatten().index_select(0, self.indices)

    def optimizer(self) -> torch.optim.Optimizer:
        rate = self.settings.learning_rate
        rates = {name: rate if name == "scores" else rate * self.settings.node_rate for name in self._learned}
        return torch.optim.Adam([{"params": [self.parameters[name]], "lr": lr} for name, lr in rates.items()])

    def schedule(self, step: int) -> float:
        """Half a cosine from 1 to 0: scores settle, and seeds agree on more edges than at a constant rate.

        It is multiplied by the temperature, so that steps stay as large as they are beside the width of the sigmoid.
        """
        return self._temperature(step) * 0.5 * (1 + math.cos(math.pi * step / self.settings.steps))

    def draw(self, step: int, generator: torch.Generator) -> Draw:
        low, high = self.parameters["log_sizes"]
        k = (low + (high - low) * ((self.settings.seed + step + 0.5) * GOLDEN % 1)).exp()
        mask = soft_top_k(self.scores() / self._temperature(step), k)
        undecided = ((mask > 0.05) & (mask < 0.95)).float().mean()
        return Draw(mask, None, {"target_edges": k, "edges": mask.detach().sum(), "undecided": undecided.detach()})

    def _temperature(self, step: int) -> float:
        return float(self.settings.temperature ** (step / self.settings.steps))


def soft_top_k(scores: Tensor, k: Tensor, costs: Tensor | None = None) -> Tensor:
    """sigmoid(scores - tau) with tau such that it sums to k; differentiable in the scores, tau included.

    costs: what each entry counts for, positive; then the sum of costs times the mask is k. None: 1.
    """
    with torch.no_grad():
        tau = threshold(scores, k, costs)
        slope = scores.sub(tau).sigmoid()
        slope = _sum(slope * (1 - slope), costs)
    # One Newton step from the solution does not move tau, but gives it the gradient that the constraint implies.
    tau = tau + (_sum((scores - tau).sigmoid(), costs) - k) / slope.clamp_min(1e-12)
    return (scores - tau).sigmoid()


def threshold(scores: Tensor, k: Tensor, costs: Tensor | None = None, *, iterations: int = 50) -> Tensor:
    """tau with sum(costs * sigmoid(scores - tau)) = k, by bisection; a fixed number of steps, so that no device waits.
    """
    margin = 40.0 + math.log(scores.numel())
    low, high = scores.min() - margin, scores.max() + margin
    for _ in range(iterations):
        middle = (low + high) / 2
        too_many = _sum((scores - middle).sigmoid(), costs) > k
        low, high = torch.where(too_many, middle, low), torch.where(too_many, high, middle)
    return (low + high) / 2


def _sum(mask: Tensor, costs: Tensor | None) -> Tensor:
    return (mask if costs is None else costs * mask).sum()
