"""What a shrinking method is: a way to score the parts of a model that can be cut out of it.

    NodeMasks(steps=300).score(job) -> PartScores

Methods are values; their fields are their settings. `@shrinker` registers a method in its own file. Any method that
finds circuits is one as well: its scores of edges are summed over the edges of a node (`summed_edges.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from edge_pruning.registry import Registry
from edge_pruning.shrink.job import Job
from edge_pruning.shrink.selection import PartScores

SHRINKERS: Registry[type[Shrinker]] = Registry("shrinking method")
shrinker = SHRINKERS.register


@dataclass(frozen=True)
class Shrinker(ABC):
    """A way to rank the parts of a model.

    name: the name on the command line.
    summary: one line for `edge-pruning list shrinkers`.
    one_run_ranks_all: whether the scores serve every size; if not, `score` is run once per size.
    tunes: whether `score` also trains weights when the model is fine-tuned, so that scores depend on these settings.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    one_run_ranks_all: ClassVar[bool] = True
    tunes: ClassVar[bool] = False

    @abstractmethod
    def score(self, job: Job) -> PartScores:
        """Score the parts of the kinds that this method removes. The parts with the lowest scores go first."""
