"""Judge a circuit file: on the model, task and ablation it came from, or on others (see `Bench.of` for which)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_pruning.evaluation import Curve, Evaluation, evaluate, evaluate_curve
from edge_pruning.runs.bench import Bench

Progress = Callable[[int, int], None]


def evaluate_file(
    path: str | Path, *, random_circuits: int = 10, progress: Progress | None = None, **conditions: Any
) -> Evaluation:
    """How faithful the circuit in a file is. conditions: those of `Bench.of`; by default the circuit's own."""
    on = Bench.of(path, **conditions)
    return evaluate(
        on.circuit, on.engine, on.pairs, on.ablation, random_circuits=random_circuits, seed=on.seed, progress=progress
    )


def curve_file(
    path: str | Path, *, sizes: Sequence[int] | None = None, progress: Progress | None = None, **conditions: Any
) -> Curve:
    """How good circuits of all sizes are that are cut from the scores beside a circuit file."""
    on = Bench.of(path, **conditions)
    return evaluate_curve(on.scores, on.engine, on.pairs, on.ablation, sizes=sizes, seed=on.seed, progress=progress)
