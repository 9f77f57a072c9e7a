"""Random: heads and units go in a random order. This is the baseline for all other methods. It costs no passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from edge_pruning.discovery.method import check_settings
from edge_pruning.shrink.job import Job
from edge_pruning.shrink.method import Shrinker, shrinker
from edge_pruning.shrink.selection import ONLY, PartScores


@shrinker
@dataclass(frozen=True)
class RandomParts(Shrinker):
    """Remove heads and MLP units in a random order.

    only: `heads` or `units`, if all parts of the other kind stay.
    seed: of the order.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "baseline: removes heads and MLP units in a random order"

    only: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, {"only": (self.only in ONLY, "heads or units")})

    def score(self, job: Job) -> PartScores:
        generator, sizes = torch.Generator().manual_seed(self.seed), job.sizes
        shapes = {"heads": (sizes.layers, sizes.groups), "units": (sizes.layers, sizes.units)}
        drawn = {kind: torch.rand(shape, generator=generator) for kind, shape in shapes.items()}
        return PartScores(**{kind: scores for kind, scores in drawn.items() if self.only in (None, kind)})
