"""The pictures of a report, from its JSON: curves on both axes, every edge's loss, the spread over pairs, overlaps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edge_pruning.drawing import Matrix, draw_matrices
from edge_pruning.drawing.boxes import Box, draw_boxes
from edge_pruning.drawing.chart import Axis, Chart, Point, draw_chart
from edge_pruning.drawing.stroke import HUES, MUTED
from edge_pruning.numbers import METRICS, NUMBERS, accuracy_of
from edge_pruning.page.words import count, number, percent, small, verdict

Json = Mapping[str, Any]

BLUE, ORANGE, GREEN, PURPLE = HUES["q"], HUES["k"], HUES["v"], "#cc79a7"
HUES_OF_NUMBERS = {  # also the order of the charts; any other number is blue, and last
    "faithfulness": BLUE, "kl": ORANGE, "squared_error": ORANGE, "accuracy": GREEN, "exact_match": PURPLE,
}
VERDICTS = {"needed": BLUE, "idle": MUTED, "harmful": ORANGE}
SPREADS = {"circuit": BLUE, "complement": PURPLE, "random": GREEN, "empty": MUTED}
RUNS = {
    "model": "the model (all edges)",
    "circuit": "the circuit",
    "soft": "its soft mask, before the cut",
    "without_dangling": "without dangling edges",
    "complement": "all edges but the circuit's",
    "random": "random circuits of the same size",
    "empty": "the empty circuit",
}
SMALLEST_LOSS = 1e-4  # smaller losses stand next to 0


def curve_charts(curve: Json, evaluation: Json, *, log: bool) -> list[str]:
    """Draw every number that all tasks have against the number of edges; the circuit stands out."""
    names = dict.fromkeys([*HUES_OF_NUMBERS, *(name for name in NUMBERS if name not in METRICS)])
    return [draw_chart(_curve_chart(curve, evaluation, name, log=log)) for name in _defined(evaluation, names)]


def _defined(evaluation: Json, names: Iterable[str]) -> list[str]:
    """Outputs that are numbers have no KL, and no answers to be accurate about."""
    return [name for name in names if evaluation["model"].get(name) is not None]


def _curve_chart(curve: Json, evaluation: Json, name: str, *, log: bool) -> Chart:
    points = [_point(row, name) for row in curve["points"] if row.get(name) is not None]
    mark = _point(evaluation["circuit"], name) if evaluation["circuit"][name] is not None else None
    sizes, values = [p.x for p in points if p.x > 0 or not log], [p.y for p in points]
    log_y = log and name == evaluation["loss"]
    positive = [y for y in values if y > 1e-4] if log_y else values
    about = accuracy_of(evaluation) if name == "accuracy" else NUMBERS[name]
    levels = [evaluation["model"][name]] if name == "accuracy" else [] if about.perfect is None else [about.perfect]
    x = Axis("edges, without dangling ones" + (" (logarithmic)" if log else ""), min(sizes, default=1.0),
             max([*sizes, 2.0]), log)
    y = Axis.over(about.unit, positive, log=log_y, at_least=[] if log_y else [0.0, *levels])
    shown, hue = [p for p in points if not log_y or p.y > 1e-4], HUES_OF_NUMBERS.get(name, BLUE)
    return Chart(about.title, x, y, shown, hue, levels, mark)


def _point(row: Json, name: str) -> Point:
    low, high = row["interval"][name]
    connected, edges = count(row["edges_without_dangling"]), count(row["edges"])
    words = f"{connected} edges ({edges} with dangling ones): {number(row[name])}"
    known = "" if low is None else f", 95 % interval {number(low)} to {number(high)}"
    return Point(row["edges_without_dangling"], row[name], words + known, low, high)


def loss_chart(minimality: Json) -> str:
    """Every edge's loss by rank, with its sign, on an axis that is logarithmic on both sides of 0."""
    rows = minimality["rows"]
    dots = [
        (Point(rank, row["loss"], _about_edge(row)), VERDICTS[row["verdict"]])
        for rank, row in enumerate(rows, 1) if row["loss"] is not None
    ]
    losses = [dot.y for dot, _ in dots if math.isfinite(dot.y)]
    about = NUMBERS[minimality["loss"]]
    label = f"{about.unit} (logarithmic on both sides of 0)"
    low, high = 1.5 * min([0.0, *losses]), 1.5 * max([10 * SMALLEST_LOSS, *losses])
    y = Axis(label, low, high, around=SMALLEST_LOSS)
    x = Axis("edges, most needed first", 0.0, max(2.0, len(rows) + 1.0))
    return draw_chart(Chart(f"{about.title} increase without each edge", x, y, (), BLUE, dots=dots))


def _about_edge(row: Json) -> str:
    return f"{row['edge']}: {small(row['loss'])}, {verdict(row['verdict'])}"


def spread_charts(evaluation: Json) -> list[str]:
    """KL and faithfulness over the pairs, of the circuit and what it is compared with."""
    return [_spread(evaluation, name, log=name == evaluation["loss"])
            for name in _defined(evaluation, (evaluation["loss"], "faithfulness"))]


def _spread(evaluation: Json, name: str, *, log: bool) -> str:
    blocks = {run: evaluation[run] for run in SPREADS if evaluation[run] is not None}
    boxes = [
        Box(RUNS[run], {p: _float(v) for p, v in block["quantiles"][name].items()}, _float(block[name]), SPREADS[run])
        for run, block in blocks.items()
    ]
    values = [max(1e-3, v) if log else v for box in boxes for v in (*box.quantiles.values(), box.mean)]
    label = f"{NUMBERS[name].unit}, over the pairs" + (" (logarithmic)" if log else "")
    return draw_boxes(NUMBERS[name].title, Axis.over(label, values, log=log), boxes)


def _float(value: float | None) -> float:
    return float("nan") if value is None else value


def roc_chart(truth: Json) -> str | None:
    """How well the scores tell true edges from others, whatever the size; None where no curve is defined."""
    if truth["roc"] is None:
        return None
    rates = zip(truth["roc"]["false_positive_rate"], truth["roc"]["true_positive_rate"], strict=True)
    points = [Point(x, y, f"{percent(y)} of the true edges among {percent(x)} of the others") for x, y in rates]
    x, y = Axis("share of the other edges", 0.0, 1.0), Axis("share of the true edges", 0.0, 1.0)
    return draw_chart(Chart(f"ROC of the scores, area {number(truth['auc'])}", x, y, points, BLUE))


def overlap_chart(size: Json) -> str:
    """Of every two seeds' circuits: edges and nodes in common."""
    names = [f"seed {seed}" for seed in size["seeds"]]
    short: Sequence[str] = [str(seed) for seed in size["seeds"]]
    return draw_matrices([
        Matrix("Edges in common (IoU)", names, short, size["edge_iou"]["matrix"]),
        Matrix("Nodes in common (IoU)", names, short, size["node_iou"]["matrix"]),
    ])
