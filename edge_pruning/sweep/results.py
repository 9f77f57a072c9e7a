"""The results of a sweep: every circuit with its settings and numbers, as JSON, CSV, and one page with all curves.

A report can be written at any time; it says which cells are not finished. Cells that differ in their seed or in their
size alone form one curve, on which seeds are averaged at every size.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from edge_pruning import files
from edge_pruning.contents import CurveContent
from edge_pruning.numbers import NUMBERS
from edge_pruning.page.sweep import render_sweep
from edge_pruning.runs import RunConfig
from edge_pruning.runs.config import DEFAULT_PRESET
from edge_pruning.runs.folder import CURVE
from edge_pruning.sweep.folder import CellState, SweepFolder
from edge_pruning.version import __version__

FORMAT, FORMAT_VERSION = "edge-pruning/sweep-report", 1
ALONG = ("seed", "edges", "sparsity")  # settings along which the points of one curve differ
ALWAYS = ("task", "model", "method", "ablation", "seed")
MEASURED = ("edges", "edges_without_dangling", "edges_total", "split", *NUMBERS)


def write_report(folder: SweepFolder) -> list[Path]:
    """Write report.json, report.csv and report.html into the folder of the sweep. Returns their paths."""
    report = collected(folder)
    paths = [folder.path / f"report.{kind}" for kind in ("html", "json", "csv")]
    files.write_json(paths[1], report)
    files.write_text(paths[2], as_csv(report))
    files.write_text(paths[0], render_sweep(report))
    return paths


def collected(folder: SweepFolder) -> dict[str, Any]:
    """All that report.json holds."""
    states = folder.states()
    settings = [_flat(state.cell.config) for state in states]
    names = list(dict.fromkeys(name for one in settings for name in one))
    axes = [name for name in names if len({repr(one.get(name)) for one in settings}) > 1]
    cells = [_cell(state, one, axes) for state, one in zip(states, settings, strict=True)]
    return {
        "format": FORMAT, "version": FORMAT_VERSION, "edge_pruning": __version__, "sweep": folder.path.name,
        "axes": axes, "shared": {name: settings[0][name] for name in names if name not in axes},
        "cells": cells, "curves": _curves(cells, axes),
    }  # fmt: skip


def as_csv(report: Mapping[str, Any]) -> str:
    """One line per circuit: every size of every cell; one line without numbers for a cell that has none."""
    extra = [name for name in report["axes"] if name not in (*ALWAYS, *MEASURED)]
    lines = [
        {**cell["settings"], **cell, **row}
        for cell in report["cells"] for row in cell["sizes"] or [{}]
    ]  # fmt: skip
    columns = ["cell", "state", *ALWAYS, *extra, *MEASURED, "chosen", "model_accuracy", "seconds", "error"]
    columns = [name for name in columns if any(line.get(name) is not None for line in lines)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(config: RunConfig) -> dict[str, Any]:
    """The settings of a cell, those in tables as `data.train`; the method's name also where a preset stands for it."""
    values = config.to_json()
    tables = {f"{table}.{name}": value for table in ("data", "settings") for name, value in values.pop(table).items()}
    values["method"] = config.method_value.name
    values["preset"] = config.preset or (None if config.method else DEFAULT_PRESET)
    return {name: value for name, value in {**values, **tables}.items() if value is not None and value != []}


def _cell(state: CellState, settings: Mapping[str, Any], axes: Sequence[str]) -> dict[str, Any]:
    evaluation = state.evaluation
    return {
        "cell": state.cell.name,
        "state": state.state,
        "settings": {name: settings.get(name) for name in dict.fromkeys([*ALWAYS, *axes])},
        "seconds": round(state.seconds, 1),
        "error": state.failure and state.failure["error"],
        "model_accuracy": evaluation and evaluation["model"].get("accuracy"),
        "page": (state.folder / "circuit.html").exists(),
        "sizes": _sizes(state.folder) if evaluation else [],
    }


def _sizes(folder: Path) -> list[dict[str, Any]]:
    curve = files.read_json(folder / CURVE, CurveContent)
    return [
        {name: row.get(name) for name in MEASURED} | {"chosen": i == curve["chosen"]}
        for i, row in enumerate(curve["sizes"])
    ]


# --- curves -----------------------------------------------------------------------------------------------------------


def _curves(cells: Iterable[Mapping[str, Any]], axes: Sequence[str]) -> list[dict[str, Any]]:
    """For each task in each model, the points of all curves: `label`, `edges` and numbers, means over the seeds."""
    charts: dict[tuple[str, str], dict[tuple[str, int], list[Mapping[str, Any]]]] = {}
    for cell in cells:
        settings = cell["settings"]
        words = [
            _label(name, settings[name])
            for name in axes if name not in ("task", "model", *ALONG) and settings[name] is not None
        ]
        points = charts.setdefault((settings["task"], settings["model"]), {})
        for row in cell["sizes"]:
            points.setdefault((", ".join(words) or settings["method"], row["edges"]), []).append(row)
    return [
        {"task": task, "model": model, "points": [_mean(*where, rows) for where, rows in sorted(points.items())]}
        for (task, model), points in charts.items()
    ]


def _label(name: str, value: Any) -> str:
    """`edge-pruning` for a method, `train 200` for other settings."""
    return str(value) if name in ("method", "preset", "ablation") else f"{name.rpartition('.')[2]} {value}"


def _mean(label: str, edges: int, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One point: every number's mean over the cells that have it."""
    known = {name: [row[name] for row in rows if row[name] is not None] for name in NUMBERS}
    means = {name: fmean(values) for name, values in known.items() if values}
    return {"label": label, "edges": edges, "circuits": len(rows), **means}
