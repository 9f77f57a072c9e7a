"""Numbers as a run would have measured them, made up."""

from __future__ import annotations

from typing import Any

from edge_pruning.circuit import Circuit
from edge_pruning.evaluation.summary import QUANTILES
from edge_pruning.graph import Graph

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">&\"'"
RUNS = ("model", "circuit", "without_dangling", "complement", "empty")


def row(graph: Graph, size: int) -> dict[str, Any]:
    """A size's line in curve.json: the larger, the closer to the model."""
    sizes = {"edges": size, "edges_without_dangling": size - 1}
    return {**sizes, "split": "validation", "kl": 10.0 / max(1, size), "accuracy": 0.9}


def evaluation(circuit: Circuit, task: str) -> dict[str, Any]:
    blocks = {run: block(circuit, kl=0.0 if run == "model" else 0.5) for run in RUNS}
    return {
        "task": task, "split": "test", "examples": 8, "metric": "logit_difference", "ablation": "patch",
        "ablation_description": "Its value on the corrupted prompt", "data_hash": "0" * 64, "dtype": "float32",
        "seed": 0, "loss": "kl", "convention": circuit.graph.convention, "definitions": {"kl": "how far"},
        "warnings": ["only 8 pairs"], "soft": None, "random": None, **blocks, "discretisation_gap": None,
        "templates": {}, "ground_truth": None,
    }  # fmt: skip


def block(circuit: Circuit, **numbers: float) -> dict[str, Any]:
    names = ("kl", "logit_difference", "accuracy", "exact_match", "faithfulness")
    means = {**dict.fromkeys(names, 0.75), **numbers}
    return {
        **circuit.counts, **means, "standard_error": dict.fromkeys(names, 0.01),
        "interval": {name: [means[name] - 0.1, means[name] + 0.1] for name in names},
        "quantiles": {name: {str(q): means[name] * q / 50 for q in QUANTILES} for name in names},
    }
