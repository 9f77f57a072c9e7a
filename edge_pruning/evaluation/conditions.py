"""What was measured on, and how: named beside every number."""

from __future__ import annotations

from dataclasses import dataclass

from edge_pruning.setup import Setup


@dataclass(frozen=True)
class Conditions:
    task: str
    split: str
    metric: str
    data_hash: str
    examples: int
    ablation: str
    ablation_description: str
    dtype: str
    seed: int

    @classmethod
    def of(cls, setup: Setup) -> Conditions:
        pairs, ablation = setup.pairs, setup.ablation
        return cls(
            pairs.task, pairs.split, pairs.metric, pairs.hash, len(pairs.pairs), ablation.name, ablation.description,
            setup.dtype, setup.seed,
        )
