"""Ablations: what a removed edge carries instead of its clean value.

`patch` (the default) carries the writer's output on the corrupted prompt: the circuit must explain the difference
between the two prompts. `mean` carries the writer's mean output on the task's prompts: what all prompts share stays.
`resample` carries its output on another prompt of the task, drawn at random: plausible, but wrong in every fact at
once. `zero` carries nothing: the circuit must do everything, and only biases remain. A circuit is faithful only under a
stated ablation.

`mean` and `resample` need data. `Ablation.fitted` takes it from the clean prompts of *training* pairs: no held-out pair
is used, whatever the ablation is used for later.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from edge_pruning.batch import Batch
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.unmasked_pass import Frozen, Writes
from edge_pruning.pair import Pair
from edge_pruning.registry import Registry, settings_of

ABLATIONS: Registry[type[Ablation]] = Registry("ablation")
ablation = ABLATIONS.register


@dataclass(frozen=True)
class Ablation(ABC):
    """A way to fill removed edges. Its settings are its fields.

    consistent: the values are those of one run, so that a node which reads only them writes its own ablated value.
    """

    name: ClassVar[str]
    consistent: ClassVar[bool] = False
    needs_pairs: ClassVar[bool] = False  # whether it must be `fitted` before use

    @abstractmethod
    def writes(self, engine: MaskedPass, batch: Batch) -> Writes:
        """Return the values c of every writer on `batch`.

        A pair's values depend on the pair alone: not on other pairs in the batch, nor on earlier batches.
        """

    def fitted(self, engine: MaskedPass, pairs: Sequence[Pair]) -> Ablation:
        """Return this ablation with its data from training pairs. The result is valid for this engine only."""
        return self

    @property
    def description(self) -> str:
        """What a removed edge carries, in words."""
        return (type(self).__doc__ or "").partition(".")[0]

    @torch.no_grad()
    def freeze(self, engine: MaskedPass, batch: Batch, *, logits: bool = True) -> Frozen:
        """Compute everything about `batch` that no mask changes. The clean model's `logits` cost an additional run."""
        return engine.freeze(batch, self.writes(engine, batch), logits=logits)

    def _refuse_unfitted(self, fit: object) -> None:
        """Raise ValueError if there is nothing in `fit`."""
        if not fit:
            raise ValueError(
                f"ablation {self.name!r} takes its values from training pairs and is not fitted; use "
                f"{type(self).__name__}().fitted(engine, training_pairs) returns"
            )


def get_ablation(name: str, *, seed: int = 0) -> Ablation:
    """Build the ablation of a name, not fitted yet. `seed` is for ablations that draw at random.

    Raises ValueError with the nearest names if the name is unknown.
    """
    cls = ABLATIONS.named(name)
    return cls(**({"seed": seed} if "seed" in settings_of(cls) else {}))


@ablation
@dataclass(frozen=True)
class Patch(Ablation):
    """The value on the corrupted prompt of the pair."""

    name: ClassVar[str] = "patch"
    consistent: ClassVar[bool] = True

    def writes(self, engine: MaskedPass, batch: Batch) -> Writes:
        return engine.unmasked_run(batch.corrupted)


@ablation
@dataclass(frozen=True)
class Zero(Ablation):
    """Zero. Output biases of attention belong to no writer and therefore stay."""

    name: ClassVar[str] = "zero"

    def writes(self, engine: MaskedPass, batch: Batch) -> Writes:
        return engine.no_writes(batch)
