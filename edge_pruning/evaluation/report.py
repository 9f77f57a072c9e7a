"""A full report on a circuit: its evaluation, the curve of its scores, the contribution of each edge, other seeds, and
example pairs. `page` turns it into a document.

Parts that do not apply are None: no curve without scores, no minimality without edges, no stability without other
seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edge_pruning.circuit import Circuit
from edge_pruning.evaluation.curve import Curve, evaluate_curve
from edge_pruning.evaluation.evaluation import Evaluation
from edge_pruning.evaluation.faithfulness import evaluate
from edge_pruning.evaluation.measure import LARGE
from edge_pruning.evaluation.minimality import LARGE_MAX_RUNS, MAX_RUNS, Minimality, evaluate_minimality
from edge_pruning.files import json_values
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet

FORMAT = "edge-pruning/report"
FORMAT_VERSION = 1
SHOWN_PAIRS = 6

Stage = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Report:
    """A full report on a circuit.

    stability: the content of stability.json for several seeds.
    pairs: some pairs, as text.
    """

    circuit: Circuit
    evaluation: Evaluation
    curve: Curve | None
    minimality: Minimality | None
    stability: Mapping[str, Any] | None
    pairs: tuple[Mapping[str, Any], ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before quoting the report, each sentence once."""
        parts = [part.warnings for part in (self.evaluation, self.curve, self.minimality) if part is not None]
        parts += [size["warnings"] for size in (self.stability or {}).get("sizes", ())]
        return tuple(dict.fromkeys(warning for part in parts for warning in part))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; undefined values are null."""
        content: dict[str, Any] = json_values({
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "warnings": list(self.warnings),
            "circuit": self.circuit.to_json(),
            "evaluation": self.evaluation.to_json(),
            "curve": None if self.curve is None else self.curve.to_json(),
            "minimality": None if self.minimality is None else self.minimality.to_json(),
            "stability": self.stability,
            "pairs": list(self.pairs),
        })
        return content


def report_on(
    circuit: Circuit,
    setup: Setup,
    *,
    soft_mask: Tensor | None = None,
    random_circuits: int = 10,
    max_runs: int | None = None,
    stability: Mapping[str, Any] | None = None,
    stage: Stage = lambda words, done, total: None,
) -> Report:
    """Evaluate a circuit in every way.

    max_runs: see `evaluate_minimality`; by default fewer on large graphs.
    stage: called with the current stage, the number of finished pairs, and the total.

    Raises ValueError as `evaluate` does.
    """
    evaluation = evaluate(
        circuit, setup, soft_mask=soft_mask, random_circuits=random_circuits,
        progress=lambda done, total: stage("evaluating", done, total),
    )
    curve = minimality = None
    if circuit.scores is not None:
        curve = evaluate_curve(
            circuit.scores, setup, progress=lambda done, total: stage("measuring all sizes", done, total),
        )
    if len(circuit):
        minimality = evaluate_minimality(
            circuit, setup, max_runs=max_runs or (MAX_RUNS if setup.graph.n_edges <= LARGE else LARGE_MAX_RUNS),
            progress=lambda done, total: stage("removing each edge alone", done, total),
        )
    return Report(circuit, evaluation, curve, minimality, stability, telling_pairs(evaluation, setup.pairs))


def telling_pairs(evaluation: Evaluation, pairs: PairSet, n: int = SHOWN_PAIRS) -> tuple[Mapping[str, Any], ...]:
    """Return the pairs with the largest distance between circuit and model, as text, with the predictions of both."""
    model, circuit = evaluation.runs["model"], evaluation.runs["circuit"]
    worst = circuit.loss[0].nan_to_num(-torch.inf).argsort(descending=True, stable=True)[:n].tolist()
    return tuple(
        {
            **pairs.texts[i].shown,
            evaluation.loss: float(circuit.loss[0, i]),
            "model": float(model.difference[0, i]),
            "circuit": float(circuit.difference[0, i]),
        }
        for i in (worst if pairs.texts else ())
    )
