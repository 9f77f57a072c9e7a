"""From the report of a sweep to HTML: all curves of a task in a model in one picture, and every cell in a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from markupsafe import Markup

from edge_pruning.drawing import draw_size_curve
from edge_pruning.numbers import NUMBERS
from edge_pruning.page.page import look, template

Json = Mapping[str, Any]
STATES = ("finished", "running", "interrupted", "waiting", "failed")
SHOWN = ("kl", "squared_error", "accuracy", "exact_match", "faithfulness")


def render_sweep(report: Json) -> str:
    """The page. report: what report.json of a sweep holds."""
    cells, axes = report["cells"], report["axes"]
    numbers = [NUMBERS[name] for name in SHOWN if any(row[name] is not None for row in _rows(cells))]
    return str(template("sweep.html").render(
        title=report["sweep"],
        report=report,
        counts=[(state, number) for state in STATES if (number := sum(cell["state"] == state for cell in cells))],
        columns=[name for name in axes if name not in ("edges", "sparsity")] or ["task"],
        numbers=[(number.name, number.heading) for number in numbers],
        rows=[(cell, next((row for row in cell["sizes"] if row["chosen"]), None)) for cell in cells],
        failed=[cell for cell in cells if cell["error"]],
        curves=[(_about(curve), picture) for curve in report["curves"] if (picture := _picture(curve["points"]))],
        shared=json.dumps(report["shared"], indent=2, ensure_ascii=False),
        **look(),
    ))


def _rows(cells: Sequence[Json]) -> list[Json]:
    return [row for cell in cells for row in cell["sizes"]]


def _about(curve: Json) -> str:
    task, model = PurePath(curve["task"]).name, PurePath(curve["model"]).name
    return task if curve["model"] == "bundled" else f"{task} in {model}"


def _picture(points: Sequence[Json]) -> Markup | None:
    """All curves of one task in one model; None where no circuit has a KL or an accuracy."""
    drawable = any(point.get(name) is not None for point in points for name in ("kl", "accuracy"))
    return Markup(draw_size_curve(points).partition("?>")[2].partition(">")[2]) if drawable else None
