"""Find the circuit of a transformer that performs a task.

    import edge_pruning as ep

    run = ep.discover("ioi", edges=100)
    print(run.circuit, run.evaluation.circuit.kl)
    run.draw("circuit.svg")

Names are imported on first use, so that `import edge_pruning` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edge_pruning.version import __version__

if TYPE_CHECKING:
    from edge_pruning.circuit import Circuit
    from edge_pruning.compare import compare_circuits
    from edge_pruning.discovery import Search, get_method
    from edge_pruning.edge_scores import EdgeScores
    from edge_pruning.evaluation import evaluate_curve, report_on
    from edge_pruning.formats import convert
    from edge_pruning.graph import Graph, ModelShape
    from edge_pruning.loading import load_model
    from edge_pruning.runs import Run, discover, discover_seeds, inspect, study
    from edge_pruning.runs import evaluate_any as evaluate
    from edge_pruning.setup import Setup
    from edge_pruning.shrink import load_shrunk, shrink_model
    from edge_pruning.tasks import get_task
    from edge_pruning.tasks.own import Pair

_HOMES = {
    "Circuit": "circuit",
    "EdgeScores": "edge_scores",
    "Graph": "graph",
    "ModelShape": "graph",
    "Pair": "tasks.own",
    "Run": "runs",
    "Setup": "setup",
    "Search": "discovery",
    "compare_circuits": "compare",
    "convert": "formats",
    "discover": "runs",
    "discover_seeds": "runs",
    "evaluate": "runs:evaluate_any",
    "evaluate_curve": "evaluation",
    "get_method": "discovery",
    "get_task": "tasks",
    "inspect": "runs",
    "load_model": "loading",
    "load_shrunk": "shrink",
    "report_on": "evaluation",
    "shrink_model": "shrink",
    "study": "runs:study",
}

__all__ = [
    "Circuit",
    "EdgeScores",
    "Graph",
    "ModelShape",
    "Pair",
    "Run",
    "Setup",
    "Search",
    "__version__",
    "compare_circuits",
    "convert",
    "discover",
    "discover_seeds",
    "evaluate",
    "evaluate_curve",
    "get_method",
    "get_task",
    "inspect",
    "load_model",
    "load_shrunk",
    "report_on",
    "shrink_model",
    "study",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edge_pruning' has no attribute {name!r}; it has {', '.join(__all__)}")
    home, _, other = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(f"edge_pruning.{home}"), other or name)
    importlib.import_module("edge_pruning.notebook").attach()
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
