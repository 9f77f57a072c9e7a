"""Ablations: what a removed edge carries instead of its clean value.

`patch` (the default) carries what the writer writes on the corrupted prompt: the circuit must explain what tells the
two prompts apart. `mean` carries what the writer writes on the task's prompts on average: what all prompts share stays.
`resample` carries what it writes on another prompt of the task, drawn at random: plausible, and wrong in every fact at
once. `zero` carries nothing: the circuit must do everything, and biases are all that is left. A circuit is only
faithful under a stated ablation.

`mean` and `resample` need data. `Ablation.fitted` takes it from *training* pairs, and reads their clean prompts only:
no held-out pair is looked at, whatever the ablation is used for later.
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

    `consistent`: the values are those of one run, so that a node which reads only them writes its own ablated value.
    """

    name: ClassVar[str]
    consistent: ClassVar[bool] = False
    needs_pairs: ClassVar[bool] = False  # whether it can only be used once it is `fitted`

    @abstractmethod
    def writes(self, engine: MaskedPass, batch: Batch) -> Writes:
        """The values c of every writer on `batch`.

        A pair's values depend on the pair alone: not on its neighbours in the batch, nor on what ran before.
        """

    def fitted(self, engine: MaskedPass, pairs: Sequence[Pair]) -> Ablation:
        """This ablation with what it takes from `pairs`, which are training pairs; it then belongs to this engine."""
        return self

    @property
    def description(self) -> str:
        """What a removed edge carries, in words."""
        return (type(self).__doc__ or "").partition(".")[0]

    @torch.no_grad()
    def freeze(self, engine: MaskedPass, batch: Batch, *, logits: bool = True) -> Frozen:
        """Everything about `batch` that no mask changes; the clean model's `logits` cost a run of their own."""
        return engine.freeze(batch, self.writes(engine, batch), logits=logits)

    def _refuse_unfitted(self, fit: object) -> None:
        """Raises ValueError if there is nothing in `fit`."""
        if not fit:
            raise ValueError(
                f"ablation {self.name!r} takes its values from training pairs and has seen none; use what "
                f"{type(self).__name__}().fitted(engine, training_pairs) returns"
            )


def get_ablation(name: str, *, seed: int = 0) -> Ablation:
    """Build the ablation of a name, not fitted yet. `seed` is for ablations that draw at random.

    Raises ValueError with the nearest names if there is none.
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
    """Zero. Output biases of attention belong to no writer, so they stay."""

    name: ClassVar[str] = "zero"

    def writes(self, engine: MaskedPass, batch: Batch) -> Writes:
        return engine.no_writes(batch)
