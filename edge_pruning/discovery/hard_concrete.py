"""Edge Pruning as published: hard concrete masks with a target sparsity (Bhaskar and others, NeurIPS 2024).

Each edge has a log-alpha. A step draws a noisy mask that is often exactly 0 or 1 (Louizos and others, 2018),

    z = clamp(sigmoid((log u - log(1 - u) + log_alpha) / temperature) * 1.2 - 0.1, 0, 1),          u uniform

and the loss is KL + l1 (s - t) + l2 (s - t)^2. Here s = 1 - mean(z) is the sparsity, t its target, which rises in equal
steps, and l1 and l2 are multipliers learned by gradient ascent. Cost: thousands of masked forward and backward passes,
and one run per circuit size. It misleads at sizes far from its target, and with too few steps to reach it.

`soft_top_k.py` is the same idea with another parameterisation of the mask: no noise and no multipliers, and one run
ranks the edges for every size. It is this library's default.

The authors start log-alpha at 10. Every gate is clamped there, and its gradient is exactly 0, so masks begin to move
only through AdamW's weight decay. A start at 2 needs no weight decay and makes short runs possible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.discovery.cost import Cost
from edge_pruning.discovery.method import Method, check_settings, method
from edge_pruning.discovery.node_masks import WriterOfEdge
from edge_pruning.discovery.search import Search
from edge_pruning.discovery.training import Draw, MaskParameters, train, training_cost
from edge_pruning.edge_scores import EdgeScores

TEMPERATURE = 2 / 3
STRETCH = (-0.1, 1.1)
SMALLEST_UNIFORM = 1e-6


@method
@dataclass(frozen=True)
class HardConcrete(Method):
    """Edge Pruning as published; the defaults are the authors' settings.

    steps, target_steps, warmup_steps: of training, until the target sparsity is reached, until the full learning rate.
    target_sparsity: None sets it from the wanted size. A target above 1 pushes harder, on purpose.
    node_masks: whether every writer has a mask too; an edge's mask is then the product of both.
    node_target_sparsity: the target for the writers' masks.
    """

    name: ClassVar[str] = "edge-pruning"
    aliases: ClassVar[tuple[str, ...]] = ("hard-concrete",)
    summary: ClassVar[str] = "Edge Pruning as published (Bhaskar and others): hard concrete masks, one run per size"
    one_run_ranks_all: ClassVar[bool] = False

    steps: int = 3000
    target_steps: int = 2500
    warmup_steps: int = 200
    batch_size: int = 32
    learning_rate: float = 0.8
    multiplier_learning_rate: float = 0.8
    initial_log_alpha: float = 10.0
    target_sparsity: float | None = None
    node_masks: bool = False
    node_target_sparsity: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, {
            "steps": (self.steps >= 1, "at least 1"),
            "target_steps": (1 <= self.target_steps <= self.steps, "between 1 and steps"),
            "warmup_steps": (0 <= self.warmup_steps <= self.steps, "between 0 and steps"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "learning_rate": (0 < self.learning_rate < math.inf, "positive"),
            "multiplier_learning_rate": (0 < self.multiplier_learning_rate < math.inf, "positive"),
            "initial_log_alpha": (math.isfinite(self.initial_log_alpha), "finite"),
            "target_sparsity": (self.target_sparsity is None or self.target_sparsity >= 0, "at least 0"),
            "node_target_sparsity": (self.node_target_sparsity >= 0, "at least 0"),
        })

    def find(self, search: Search) -> EdgeScores:
        n, target = search.n_candidates, self._target(search.sizes, search.n_candidates)
        nodes = WriterOfEdge.of(search.graph, search.candidates, search.device) if self.node_masks else None
        masks = HardConcreteMasks(self, target, n, nodes, search.device)
        if search.initial_ranks is not None:
            masks.warm_start(search.initial_ranks)
        train(masks, search, steps=self.steps, batch_size=self.batch_size, seed=self.seed)
        return search.scores(masks.scores(), natural_size=round(float(masks.probability_open().sum())))

    def cost(self, search: Search) -> Cost:
        return training_cost(len(search.data.pairs), steps=self.steps, batch_size=self.batch_size)

    def soft_mask(self, scores: EdgeScores, edges: int) -> Tensor:
        """The median of each gate. Scores are log-alphas, so its size is the trained one, whatever `edges` is."""
        return _stretched((scores.values / TEMPERATURE).sigmoid())

    def _target(self, sizes: Sequence[int], n: int) -> float:
        if self.target_sparsity is not None:
            return self.target_sparsity
        if len(sizes) != 1:
            raise ValueError(
                f"method {self.name!r} is trained for one size; give one number of edges, a sparsity, or "
                "target_sparsity"
            )
        if not 0 <= sizes[0] <= n:
            raise ValueError(f"expected a size between 0 and {n} edges (the candidates), got {sizes[0]}")
        return 1 - sizes[0] / n


class HardConcreteMasks(MaskParameters):
    def __init__(
        self, settings: HardConcrete, target: float, n: int, nodes: WriterOfEdge | None, device: torch.device
    ) -> None:
        super().__init__()
        self.settings, self.target, self.nodes = settings, target, nodes
        start = torch.Generator().manual_seed(settings.seed)
        self._add("log_alpha", n, start, device)
        if nodes is not None:
            self._add("node_log_alpha", nodes.n, start, device)
        for name in ["multipliers", "node_multipliers"][: 1 if nodes is None else 2]:
            self.parameters[name] = torch.zeros(2, device=device, requires_grad=True)

    def _add(self, name: str, n: int, generator: torch.Generator, device: torch.device) -> None:
        value = self.settings.initial_log_alpha + 0.01 * torch.randn(n, generator=generator)
        self.parameters[name] = value.to(device).requires_grad_()

    def warm_start(self, ranks: Tensor) -> None:
        """Spread another method's ranking around the initial log-alpha."""
        self.parameters["log_alpha"].data.copy_(self.settings.initial_log_alpha + 2 * ranks)

    def optimizer(self) -> torch.optim.Optimizer:
        masks = [value for name, value in self.parameters.items() if name.endswith("log_alpha")]
        multipliers = [value for name, value in self.parameters.items() if name.endswith("multipliers")]
        return torch.optim.AdamW(
            [
                {"params": masks, "lr": self.settings.learning_rate},
                {"params": multipliers, "lr": self.settings.multiplier_learning_rate, "maximize": True},
            ]
        )

    def schedule(self, step: int) -> float:
        """Linear warm-up, then linear decay to 0."""
        warm, steps = self.settings.warmup_steps, self.settings.steps
        return (step + 1) / warm if step < warm else (steps - step) / max(1, steps - warm)

    def draw(self, step: int, generator: torch.Generator) -> Draw:
        z = sample(self.parameters["log_alpha"], generator)
        penalty, target = self._penalty("multipliers", z, self.target, step)
        record: dict[str, Tensor | float] = {
            "target_edges": (1 - target) * z.numel(),
            "undecided": ((z > 0.05) & (z < 0.95)).float().mean().detach(),
            "lambda1": self.parameters["multipliers"].detach()[0].clone(),  # a view would show what it is later
            "lambda2": self.parameters["multipliers"].detach()[1].clone(),
        }
        if self.nodes is not None:
            of_nodes = sample(self.parameters["node_log_alpha"], generator)
            extra, _ = self._penalty("node_multipliers", of_nodes, self.settings.node_target_sparsity, step)
            penalty = penalty + extra
            record["nodes"] = of_nodes.detach().sum()
            z = z * self.nodes.expand(of_nodes)
        return Draw(z, penalty, record | {"edges": z.detach().sum()})

    def _penalty(self, multipliers: str, z: Tensor, final: float, step: int) -> tuple[Tensor, float]:
        """l1 (s - t) + l2 (s - t)^2 and the target t, which rises linearly from 0."""
        target = final * min(1.0, step / self.settings.target_steps)
        gap = (1 - z.mean()) - target
        l1, l2 = self.parameters[multipliers]
        return l1 * gap + l2 * gap * gap, target

    @torch.no_grad()
    def scores(self) -> Tensor:
        """Log-alphas; with node masks the smaller one of the edge's and its writer's."""
        log_alpha = self.parameters["log_alpha"].detach()
        if self.nodes is None:
            return log_alpha
        of_node = self.nodes.expand(self.parameters["node_log_alpha"].detach())
        return torch.minimum(log_alpha, of_node)

    @torch.no_grad()
    def probability_open(self) -> Tensor:
        """P(z > 0) of each edge; the sum is the expected number of kept edges, which is the natural size."""
        p = probability_open(self.parameters["log_alpha"])
        return p if self.nodes is None else p * self.nodes.expand(probability_open(self.parameters["node_log_alpha"]))


def sample(log_alpha: Tensor, generator: torch.Generator) -> Tensor:
    """A noisy hard concrete mask."""
    u = torch.rand(log_alpha.shape, generator=generator, device=log_alpha.device)
    u = u.clamp(SMALLEST_UNIFORM, 1 - SMALLEST_UNIFORM)
    return _stretched(((u.log() - (1 - u).log() + log_alpha) / TEMPERATURE).sigmoid())


def probability_open(log_alpha: Tensor) -> Tensor:
    """P(z > 0): where the stretched sigmoid is not clamped to 0."""
    low, high = STRETCH
    return (log_alpha - TEMPERATURE * math.log(-low / high)).sigmoid()


def _stretched(s: Tensor) -> Tensor:
    low, high = STRETCH
    return (s * (high - low) + low).clamp(0, 1)
