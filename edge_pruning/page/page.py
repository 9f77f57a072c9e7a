"""From a report's JSON and its circuit to HTML. One file: style and pictures are inside, and nothing is fetched.

Everything that comes from outside (prompts, names, paths) is escaped by the template engine; only the pictures, which
escape for themselves, enter as they are. A policy in the page forbids scripts and anything from elsewhere, should some
text get through all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edge_pruning.circuit import Circuit
from edge_pruning.drawing import draw_against_truth, draw_circuit
from edge_pruning.drawing.dark import dark_rules
from edge_pruning.objectives import OBJECTIVES
from edge_pruning.page import words
from edge_pruning.page.asked import asked
from edge_pruning.page.charts import RUNS, curve_charts, loss_chart, overlap_chart, roc_chart, spread_charts
from edge_pruning.version import __version__

HERE = Path(__file__).parent
SHOWN_EDGES = 400
Json = Mapping[str, Any]


def render(report: Json, circuit: Circuit) -> str:
    """The page of a report. report: what `Report.to_json()` gives and report.json holds; circuit: what it is about."""
    evaluation, curve, minimality = report["evaluation"], report["curve"], report["minimality"]
    name = report["circuit"]["provenance"].get("model")
    model = name.get("name") if isinstance(name, Mapping) else None
    return _template().render(
        title=f"{evaluation['task']} in {model}" if model not in (None, evaluation["task"]) else evaluation["task"],
        report=report,
        evaluation=evaluation,
        loss=OBJECTIVES[evaluation["loss"]],
        truth=evaluation["ground_truth"],
        curve=curve,
        minimality=minimality,
        stability=report["stability"],
        asked=asked(report),
        runs=[(RUNS[run], evaluation[run], run) for run in RUNS if evaluation[run] is not None],
        edges=_edges(report, circuit),
        templates=_least_and_most([row[evaluation["loss"]] for row in evaluation["templates"].values()]),
        shown_edges=SHOWN_EDGES,
        provenance=json.dumps(report["circuit"]["provenance"], indent=2, ensure_ascii=False),
        pictures=_pictures(report, circuit),
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        dark=Markup(dark_rules(".picture")),
        version=__version__,
    )


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = ("number", "small", "percent", "count", "interval", "percent_interval", "spaced")
    environment.filters.update({name: getattr(words, name) for name in names})
    return environment.get_template("page.html")


def _pictures(report: Json, circuit: Circuit) -> dict[str, Any]:
    """SVG by place on the page; what the report does not have is missing."""
    curve, evaluation = report["curve"], report["evaluation"]
    found: dict[str, Any] = {"circuit": draw_circuit(circuit), "spread": spread_charts(evaluation)}
    if curve is not None:
        found |= {axis: curve_charts(curve, evaluation, log=axis == "log") for axis in ("log", "linear")}
    if report["minimality"] is not None:
        found["loss"] = loss_chart(report["minimality"])
    if report["stability"] is not None:
        found["overlap"] = [overlap_chart(size) for size in report["stability"]["sizes"]]
    truth = evaluation["ground_truth"]
    if truth is not None:
        true = Circuit.from_names(circuit.graph, [*truth["hits"], *truth["missed"]])
        found |= {"truth": draw_against_truth(circuit, true), "roc": [chart for chart in [roc_chart(truth)] if chart]}
    return {place: _safe(picture) for place, picture in found.items()}


def _safe(picture: str | list[str]) -> Any:
    return Markup(picture) if isinstance(picture, str) else [Markup(one) for one in picture]


def _least_and_most(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = [value for value in values if value is not None]
    return min(known, default=None), max(known, default=None)


def _edges(report: Json, circuit: Circuit) -> list[dict[str, Any]]:
    """Every edge with its score and what is lost without it: the most needed, or the highest score, first."""
    lost = {row["edge"]: row for row in (report["minimality"] or {"rows": ()})["rows"]}
    values = [None] * len(circuit) if circuit.scores is None else circuit.scores.values[circuit.mask].tolist()
    rows = [
        {"edge": edge, "score": score, "lost": lost.get(edge)}
        for edge, score in zip(circuit.edges, values, strict=True)
    ]
    if lost:
        return sorted(rows, key=lambda row: -(row["lost"]["loss"] or 0.0))
    return sorted(rows, key=lambda row: -(row["score"] or 0.0))
