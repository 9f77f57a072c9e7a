"""Ablations: what a removed edge carries instead of its clean value.

`patch` (the default) carries what the writer writes on the corrupted prompt: the circuit must explain what tells the
two prompts apart. `zero` carries nothing: the circuit must do everything, and biases are all that is left. A circuit is
only faithful under a stated ablation.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from edge_pruning.batch import Batch
from edge_pruning.forward import Frozen, MaskedPass, Writes

ABLATIONS: dict[str, type[Ablation]] = {}


@dataclass(frozen=True)
class Ablation(ABC):
    """A way to fill removed edges. Its settings are its fields."""

    name: ClassVar[str]

    @abstractmethod
    def writes(self, engine: MaskedPass, batch: Batch, clean: Writes) -> Writes:
        """The values c of every writer on `batch`, given those of the clean run."""

    @torch.no_grad()
    def freeze(self, engine: MaskedPass, batch: Batch) -> Frozen:
        """Everything about `batch` that no mask changes."""
        clean = engine.plain_run(batch.clean)
        return engine.freeze(batch, clean, self.writes(engine, batch, clean))


def ablation(cls: type[Ablation]) -> type[Ablation]:
    """Register an ablation under its name."""
    ABLATIONS[cls.name] = cls
    return cls


def get_ablation(name: str) -> Ablation:
    """Raises ValueError with the nearest names where there is none."""
    if name not in ABLATIONS:
        near = difflib.get_close_matches(name, ABLATIONS, 3, 0) or list(ABLATIONS)
        raise ValueError(f"there is no ablation {name!r}; nearest: {', '.join(near)}")
    return ABLATIONS[name]()


@ablation
@dataclass(frozen=True)
class Patch(Ablation):
    """The value on the corrupted prompt of the pair."""

    name: ClassVar[str] = "patch"

    def writes(self, engine: MaskedPass, batch: Batch, clean: Writes) -> Writes:
        return engine.plain_run(batch.corrupted)


@ablation
@dataclass(frozen=True)
class Zero(Ablation):
    """Zero. Output biases of attention belong to no writer, so they stay."""

    name: ClassVar[str] = "zero"

    def writes(self, engine: MaskedPass, batch: Batch, clean: Writes) -> Writes:
        return clean.zeros()
