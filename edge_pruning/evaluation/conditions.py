"""What was measured on, and how: named beside every number."""

from __future__ import annotations

from dataclasses import dataclass

from edge_pruning.ablation import Ablation
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.tasks.task import PairSet


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
    def of(cls, engine: MaskedPass, pairs: PairSet, ablation: Ablation, seed: int) -> Conditions:
        """`seed`: of everything that is drawn at random in the evaluation."""
        dtype = str(engine.adapter.dtype).removeprefix("torch.")
        return cls(
            pairs.task, pairs.split, pairs.metric, pairs.hash, len(pairs.pairs), ablation.name, ablation.description,
            dtype, seed,
        )
