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

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from edge_pruning.circuit import Circuit
from edge_pruning.drawing import draw_against_truth, draw_circuit
from edge_pruning.drawing.dark import dark_rules
from edge_pruning.numbers import accuracy_of, common_numbers
from edge_pruning.objectives import OBJECTIVES
from edge_pruning.page import words
from edge_pruning.page.asked import asked
from edge_pruning.page.charts import RUNS, curve_charts, loss_chart, overlap_chart, roc_chart, spread_charts
from edge_pruning.provenance import titled
from edge_pruning.version import __version__

HERE = Path(__file__).parent
SHOWN_EDGES = 400
Json = Mapping[str, Any]


def render(report: Json, circuit: Circuit) -> str:
    """The page of a report. report: what `Report.to_json()` gives and report.json holds; circuit: what it is about."""
    return str(template("page.html").render(**_context(report, circuit), **look()))


def parts(report: Json, circuit: Circuit, *, prefix: str) -> dict[str, Markup]:
    """The head (title, main numbers, warnings) and the sections of a report, for a page that shows the circuit itself.

    prefix: begins every id, so that several reports can stand on one page.
    """
    context = _context(report, circuit, prefix=prefix)
    return {name: Markup(template(f"{name}.html").render(**context)) for name in ("head", "sections")}


def look() -> dict[str, Any]:
    """What every page of this kind looks like: its style sheet, and the rules that turn its pictures dark."""
    style = (HERE / "style.css").read_text(encoding="utf-8")
    return {"style": Markup(style), "dark": Markup(dark_rules(".picture")), "version": __version__}


def title_of(report: Json) -> str:
    task, name = report["evaluation"]["task"], report["circuit"]["provenance"].get("model")
    return titled(str(task), name.get("name") if isinstance(name, Mapping) else None) or ""


def _context(report: Json, circuit: Circuit, *, prefix: str = "") -> dict[str, Any]:
    """What the templates refer to."""
    evaluation, curve, minimality = report["evaluation"], report["curve"], report["minimality"]
    columns = _columns(evaluation)
    return {
        "prefix": prefix,
        "title": title_of(report),
        "report": report,
        "evaluation": evaluation,
        "loss": OBJECTIVES[evaluation["loss"]],
        "columns": columns,
        "accuracy": dict(columns)["accuracy"],
        "truth": evaluation["ground_truth"],
        "curve": curve,
        "minimality": minimality,
        "stability": report["stability"],
        "asked": asked(report),
        "runs": [(RUNS[run], evaluation[run], run) for run in RUNS if evaluation[run] is not None],
        "edges": _edges(report, circuit),
        "templates": _least_and_most([row[evaluation["loss"]] for row in evaluation["templates"].values()]),
        "shown_edges": SHOWN_EDGES,
        "provenance": json.dumps(report["circuit"]["provenance"], indent=2, ensure_ascii=False),
        "pictures": _pictures(report, circuit, static=not prefix),
    }


def _columns(evaluation: Json) -> list[tuple[str, str]]:
    """Return name and heading of each number in a table of runs: the loss, the metric, and what all tasks have."""
    loss, *others = common_numbers(evaluation["loss"])
    headings = {n.name: n.heading for n in others if n.name in evaluation["circuit"]}
    headings["accuracy"] = accuracy_of(evaluation).heading
    metric = evaluation["metric"]
    return [(loss.name, loss.heading), (metric, words.spaced(metric)), *headings.items()]


def template(name: str) -> Template:
    """A template of this folder; whatever it is given is escaped."""
    return _templates().get_template(name)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = ("number", "small", "percent", "count", "interval", "percent_interval", "spaced", "verdict", "picture")
    environment.filters.update({name: getattr(words, name) for name in names})
    return environment


def _pictures(report: Json, circuit: Circuit, *, static: bool) -> dict[str, Any]:
    """SVG by place on the page; what the report does not have is missing. static: whether to draw the circuit."""
    curve, evaluation = report["curve"], report["evaluation"]
    pictures: dict[str, Any] = {"spread": spread_charts(evaluation)}
    if static:
        pictures["circuit"] = draw_circuit(circuit)
    if curve is not None:
        pictures |= {axis: curve_charts(curve, evaluation, log=axis == "log") for axis in ("log", "linear")}
    if report["minimality"] is not None:
        pictures["loss"] = loss_chart(report["minimality"])
    if report["stability"] is not None:
        pictures["overlap"] = [overlap_chart(size) for size in report["stability"]["sizes"]]
    truth = evaluation["ground_truth"]
    if truth is not None:
        true = Circuit.from_names(circuit.graph, [*truth["hits"], *truth["missed"]])
        roc = roc_chart(truth)
        pictures |= {"truth": draw_against_truth(circuit, true), "roc": [roc] if roc else []}
    return {place: _safe(picture) for place, picture in pictures.items()}


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
