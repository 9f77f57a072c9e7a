"""What was measured on, and how: named beside every number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from edge_pruning.setup import Setup


@dataclass(frozen=True)
class Conditions:
    """predicted: how many pairs have the model's own prediction for an answer. weights: the model's fingerprint.

    notices: what the task has left out, or should be known about its pairs.
    """

    task: str
    split: str
    metric: str
    data_hash: str
    examples: int
    ablation: str
    ablation_description: str
    dtype: str
    seed: int
    predicted: int = 0
    weights: str | None = None
    notices: tuple[str, ...] = ()

    @property
    def is_agreement(self) -> bool:
        """Whether accuracy is agreement with the model, because no pair has an answer of its own."""
        return self.predicted == self.examples

    @classmethod
    def of(cls, setup: Setup) -> Conditions:
        pairs, ablation = setup.pairs, setup.ablation
        return cls(
            pairs.task, pairs.split, pairs.metric, pairs.hash, len(pairs.pairs), ablation.name, ablation.description,
            setup.dtype, setup.seed, pairs.predicted, setup.model.fingerprint if setup.model else None,
            pairs.notices,
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Conditions:
        """From a JSON object that has them among others; files of older versions lack the last ones."""
        known = {f.name: content[f.name] for f in fields(cls) if f.name in content or f.default is MISSING}
        return cls(**{**known, "notices": tuple(known.get("notices", ()))})
