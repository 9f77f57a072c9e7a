"""Learned dimensions: learns a score for each number that the layers' maps read, with an L1 penalty on the scores.

Source: Zhu, Tang and Han, "Vision transformer pruning", 2021. The inputs of the maps to queries, keys and values, of
the output map, and of the MLP's maps in and out are multiplied by scores a that begin at 1:

    loss = KL(original || model) + penalty * sum |a|,        map(x) becomes map(a x)

One threshold for the scores of all layers decides what goes. With `--finetune` the weights are trained as well. Scores
are folded into the weights that they multiply, so that what stays computes what was trained. Heads that share keys and
values share the scores of their channels.

Differences from the paper: its loss uses labels, and it sets the scores that stay back to 1, as `folded=false` does.
Cost: `steps` forward and backward passes of a batch. It misleads if `steps` are too few for the scores to separate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edge_pruning.discovery.method import check_settings
from edge_pruning.discovery.search import Diverged
from edge_pruning.metrics import kl_divergence
from edge_pruning.shrink.cutting import fold
from edge_pruning.shrink.gates import gated
from edge_pruning.shrink.job import Job
from edge_pruning.shrink.layout import Sizes
from edge_pruning.shrink.method import Shrinker, shrinker
from edge_pruning.shrink.running import outputs
from edge_pruning.shrink.selection import PartScores


@shrinker
@dataclass(frozen=True)
class LearnedDimensions(Shrinker):
    """Learn a score for each number that the layers' maps read.

    steps, batch_size, learning_rate: of the training of the scores.
    weights_learning_rate: of the weights, with `--finetune`; 0 leaves them as they are.
    penalty: the factor of the sum of the scores' absolute values.
    folded: whether the scores are multiplied into the weights at the end.
    """

    name: ClassVar[str] = "learned-dimensions"
    summary: ClassVar[str] = "learns a score for each number that a map reads, by KL and an L1 penalty"
    tunes: ClassVar[bool] = True

    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 0.02
    weights_learning_rate: float = 1e-4
    penalty: float = 1e-4
    folded: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self,
            {
                "steps": (self.steps >= 1, "at least 1"),
                "batch_size": (self.batch_size >= 1, "at least 1"),
                "learning_rate": (0 < self.learning_rate < math.inf, "positive"),
                "weights_learning_rate": (0 <= self.weights_learning_rate < math.inf, "at least 0"),
                "penalty": (0 < self.penalty < math.inf, "positive"),
            },
        )

    def score(self, job: Job) -> PartScores:
        device = job.setup.engine.adapter.device
        scores = {
            place: torch.ones(shape, device=device).requires_grad_() for place, shape in shapes(job.sizes).items()
        }
        groups = [{"params": list(scores.values()), "lr": self.learning_rate}]
        if job.tune is not None and self.weights_learning_rate:
            job.hf.requires_grad_(True)
            groups.append({"params": list(job.hf.parameters()), "lr": self.weights_learning_rate})
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        for step in range(self.steps):
            batch = job.batch(step, self.batch_size)
            with gated(job.layout, over_maps(scores, job.sizes), job.means):
                loss = kl_divergence(job.target(batch), outputs(job.hf, batch), batch).mean()
            optimizer.zero_grad()
            (loss + self.penalty * sum(of_place.abs().sum() for of_place in scores.values())).backward()
            optimizer.step()
            job.stage("learning dimensions", step + 1, self.steps)
        job.hf.requires_grad_(False)
        found = {place: of_place.detach() for place, of_place in scores.items()}
        if not all(of_place.isfinite().all() for of_place in found.values()):
            raise Diverged("the dimensions' scores are not finite; try a lower learning_rate")
        if self.folded:
            fold(job.hf, over_maps(found, job.sizes), job.means)
        return PartScores(**{place: of_place.abs().cpu() for place, of_place in found.items()})


def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    return {
        "attention_inputs": (sizes.layers, sizes.d), "channels": (sizes.layers, sizes.groups, sizes.e),
        "mlp_inputs": (sizes.layers, sizes.d), "units": (sizes.layers, sizes.units),
    }  # fmt: skip


def over_maps(scores: dict[str, Tensor], sizes: Sizes) -> dict[str, Tensor]:
    """The scores as gates [layer, in]; the heads of a group share the scores of its channels."""
    channels = scores["channels"].repeat_interleave(sizes.heads_per_group, 1).flatten(1)
    return {**scores, "channels": channels}
