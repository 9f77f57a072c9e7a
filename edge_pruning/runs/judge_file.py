"""Judge a circuit file on its own model, task and ablation, or on others (see `open_circuit`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.contents import StabilityContent
from edge_pruning.discovery import get_method
from edge_pruning.evaluation import Curve, Evaluation, Report, evaluate, evaluate_curve, report_on
from edge_pruning.page import render
from edge_pruning.runs.circuit_file import open_circuit, open_value
from edge_pruning.runs.result import Run
from edge_pruning.runs.seeds import FORMAT_VERSION, STABILITY, STABILITY_FORMAT
from edge_pruning.setup import Setup
from edge_pruning.view import view_paths

Progress = Callable[[int, int], None]
Stage = Callable[[str, int, int], None]


def evaluate_any(
    circuit: str | Path | Circuit | Run,
    setup: Setup | None = None,
    *,
    soft_mask: Tensor | None = None,
    random_circuits: int = 10,
    progress: Progress | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluate a circuit on a setup, or on its own task, model and ablation, or on others.

    circuit: a value, a run, or the path of a circuit file (also another tool's).
    setup: the setup to judge on. Without it, `settings` are those of `open_circuit` (task, model, ablation, metric,
        ...), by default the circuit's own.
    """
    if setup is None:
        on = open_circuit(circuit, **settings)
        circuit, setup = on.circuit, on.setup
    elif settings:
        raise ValueError(f"{', '.join(settings)} would have no effect, because a setup is given; leave out one")
    elif not isinstance(setup, Setup):
        raise ValueError(f"expected a Setup to judge on, got {type(setup).__name__}; or pass task=..., model=...")
    elif not isinstance(circuit, Circuit):
        circuit = open_value(circuit)
    return evaluate(circuit, setup, soft_mask=soft_mask, random_circuits=random_circuits, progress=progress)


def evaluate_file(
    path: str | Path, *, random_circuits: int = 10, progress: Progress | None = None, **settings: Any
) -> Evaluation:
    """Evaluate the circuit in a file. settings: those of `open_circuit`; by default the circuit's own."""
    on = open_circuit(path, **settings)
    return evaluate(on.circuit, on.setup, random_circuits=random_circuits, progress=progress)


def curve_file(
    path: str | Path, *, sizes: Sequence[int] | None = None, progress: Progress | None = None, **settings: Any
) -> Curve:
    """Measure circuits of all sizes, cut from the scores beside a circuit file."""
    on = open_circuit(path, **settings)
    return evaluate_curve(on.scores, on.setup, sizes=sizes, progress=progress)


def report_file(
    path: str | Path, *, random_circuits: int = 10, stage: Stage = lambda words, done, total: None, **settings: Any
) -> Report:
    """Write a full report on the circuit in a file. It includes the stability over seeds, if stored beside it."""
    on = open_circuit(path, **settings)
    return report_on(
        on.circuit, on.setup, soft_mask=_soft_mask(on.circuit), random_circuits=random_circuits,
        stability=_stability_beside(on.path), stage=stage,
    )


def report_path(circuit: Path, wanted: Path | None = None) -> Path:
    """Return the path of the page about a circuit file: for circuit-50.json, report-50.html beside it.

    Raises ValueError unless the wanted name ends in .html, or if the JSON beside it would replace the circuit.
    """
    stem = circuit.stem
    name = f"report{stem[7:]}" if stem.startswith("circuit") else f"{stem}-report"
    path = wanted or circuit.with_name(f"{name}.html")
    if path.suffix.lower() not in (".html", ".htm") or path.with_suffix(".json").absolute() == circuit.absolute():
        raise ValueError(
            "expected a report name that ends in .html and differs from the circuit's, because its JSON is beside it; "
            f"got {path}"
        )
    return path


def write_report(report: Report, path: Path) -> None:
    """Write the page, and its content as JSON beside it; see `report_path`. A run's circuit.html then also shows the
    report.
    """
    content = report.to_json()
    files.write_json(path.with_suffix(".json"), content)
    files.write_text(path, render(content, report.circuit))
    viewer = path.with_name("circuit.html")
    if path.name == "report.html" and viewer.exists():
        files.write_text(viewer, view_paths([path.parent]))


def _soft_mask(circuit: Circuit) -> Tensor | None:
    """Return the mask that the circuit was cut from, if its method has one."""
    origin = circuit.provenance
    if circuit.scores is None or origin.method is None or origin.is_polished:
        return None
    try:
        method = get_method(origin.method, **origin.method_settings)
    except (ValueError, TypeError, KeyError):  # from another tool, or a version with other settings
        return None
    return method.soft_mask(circuit.scores, len(circuit))


def _stability_beside(path: Path) -> Mapping[str, Any] | None:
    """Return the content of stability.json in the circuit's folder or its parent (for the circuit of one seed)."""
    for folder in (path.parent, path.parent.parent):
        if (folder / STABILITY).exists():
            return files.read_own(folder / STABILITY, STABILITY_FORMAT, FORMAT_VERSION, StabilityContent)
    return None
