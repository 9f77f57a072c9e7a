"""What a shrinking method is given: the model, the examples, and the settings that all methods share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from edge_pruning.batch import Batch
from edge_pruning.discovery.training import drawn
from edge_pruning.pair import Pair
from edge_pruning.setup import Setup
from edge_pruning.shrink.kept import Kept
from edge_pruning.shrink.layout import Layout, Sizes
from edge_pruning.shrink.running import mean_width, outputs
from edge_pruning.shrink.selection import PartScores, Selection

Stage = Callable[[str, int, int], object]


def silent(words: str, done: int, total: int) -> None:
    """Report no progress: `words` say what is being done, and `done` of `total` steps are."""


@dataclass(frozen=True, eq=False)
class Job:
    """One model to be shrunk for one task.

    hf: a whole copy of the model. Methods that train may change its weights.
    setup: the original model, and the task's pairs.
    pairs: the pairs to learn from, the training pairs or more.
    means: what is left of removed parts (see `means.py`); None: 0.
    keep: the wanted share of the FLOPs.
    seed: of everything random.
    tune: fine-tune `hf` with only some parts kept, for a share of the steps of fine-tuning; None without fine-tuning.
    stage: called with what is being done, the steps done, and all steps.
    """

    hf: Any
    setup: Setup
    pairs: Sequence[Pair]
    means: Mapping[str, Tensor] | None
    keep: float
    seed: int = 0
    tune: Callable[[Kept, float], None] | None = None
    stage: Stage = silent

    @cached_property
    def layout(self) -> Layout:
        return Layout(self.hf)

    @cached_property
    def sizes(self) -> Sizes:
        return self.layout.sizes

    @cached_property
    def width(self) -> int:
        """How many positions an example has on average."""
        return mean_width(self.setup.engine, self.pairs)

    def batch(self, step: int, size: int) -> Batch:
        """The training pairs of a step, a function of seed and step."""
        ids = drawn(len(self.pairs), size, step, self.seed)
        return self.setup.engine.batch([self.pairs[i] for i in ids])

    def target(self, batch: Batch) -> Tensor:
        """The original's logits [n, vocab], which a smaller model should reproduce."""
        with torch.no_grad():
            return outputs(self.setup.engine.adapter.hf, batch)

    def kept(self, scores: PartScores, keep: float | None = None, *, uniform: bool = False) -> Kept:
        """What stays of the model by these scores, at the wanted share or at `keep`."""
        return Selection(scores, self.sizes, self.width).kept(self.keep if keep is None else keep, uniform=uniform)
