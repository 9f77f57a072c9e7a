"""Small multiples as SVG text: one quantity per panel, so no axis has two meanings.

Panels are plain data until the last step, which needs matplotlib and is the only one that imports it. The same numbers
always give the same text.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_pruning.drawing.text import BOLD, printable, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

Row = Mapping[str, Any]

INK, GRID = "#1f2933", "#dfe3e8"
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito
MARKERS = ("o", "s", "^", "D", "v", "P")  # hue is never the only difference
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 3, 3.4, 2.7  # inches
TITLE_POINTS, LEGEND_POINTS, LEGEND_WIDTH = 11.0, 8.0, 130.0
LEGEND_LINES, LEGEND_HEIGHT = 4, 0.2  # more lines would cover much of a panel; inches per row below all panels
LEGEND_ROOM = 8  # between a legend and the lines below it, in units of 1/72 inch
THIN_SPACE = "\N{THIN SPACE}"
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edge-pruning",  # or identifiers inside the file would be random
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": LEGEND_POINTS,
}


@dataclass(frozen=True)
class Line:
    """Points in the order in which they are joined, a name for the legend, and how it looks (matplotlib's words)."""

    points: list[tuple[float, float]]
    name: str
    look: Mapping[str, Any]


@dataclass(frozen=True)
class Panel:
    """One quantity against another, with units in its labels. y_range: what the y axis shows at least."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    y_range: tuple[float, float] | None = None


# --- numbers ----------------------------------------------------------------------------------------------------------


def points_of(rows: Iterable[Row], x: str, y: str) -> list[tuple[float, float]]:
    """The rows in which both fields are finite numbers."""
    return [(float(row[x]), float(row[y])) for row in rows if _is_finite(row.get(x)) and _is_finite(row.get(y))]


def spans_decades(lines: Iterable[Line]) -> bool:
    """Whether the lines are better read on a logarithmic axis: all above 0, and more than a factor of ten apart."""
    values = [y for line in lines for _, y in line.points]
    return bool(values) and min(values) > 0 and max(values) > 10 * min(values)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def not_empty(panels: Sequence[Panel], rows: Sequence[Row], x: str, fields: Sequence[str]) -> list[Panel]:
    """The panels that have points. Raises ValueError if none has."""
    kept = [replace(panel, lines=[line for line in panel.lines if line.points]) for panel in panels]
    if not any(panel.lines for panel in kept):
        present = sorted({str(field) for row in rows for field in row})
        raise ValueError(
            f"nothing to draw: expected rows with a finite {x!r} and at least one of {', '.join(fields)}; got "
            f"{len(rows)} rows with the fields {', '.join(present) or '(none)'}. Pass the rows of a run that "
            "got further"
        )
    return [panel for panel in kept if panel.lines]


# --- matplotlib -------------------------------------------------------------------------------------------------------


def draw_panels(panels: Sequence[Panel], title: str | None) -> str:
    """The panels in rows, each with a legend of its own where it has several lines. Where a legend would cover much of
    its panel, all panels share one below.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    shared = max(len(panel.lines) for panel in panels) > LEGEND_LINES
    below = math.ceil(len(names) / (2 * columns)) * LEGEND_HEIGHT if shared else 0.0
    size = (columns * PANEL_WIDTH, rows * PANEL_HEIGHT + below)
    with rc_context(STYLE):
        figure, file = Figure(figsize=size, layout="constrained", facecolor="white"), io.StringIO()
        axes = [figure.add_subplot(rows, columns, i) for i in range(1, len(panels) + 1)]
        for place, panel in zip(axes, panels, strict=True):
            _fill(place, panel)
            if len(panel.lines) > 1 and not shared:
                place.legend()
        if shared:
            lines = {line.get_label(): line for place in axes for line in place.get_lines()}
            figure.legend(handles=list(lines.values()), loc="outside lower left", ncols=2 * columns)
        if title:
            words = shorten(printable(title), 0.9 * 72 * size[0], BOLD * TITLE_POINTS)
            figure.suptitle(words, x=0.012, ha="left", fontsize=TITLE_POINTS, fontweight="bold")
        _uncover(figure, axes)
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _fill(axes: Axes, panel: Panel) -> None:
    for line in panel.lines:
        x, y = zip(*line.points, strict=True)
        look = {"marker": "o", **line.look} if len(x) == 1 else line.look  # a line of one point would be invisible
        axes.plot(x, y, label=_legend_name(line.name), **look)
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.log_x:
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis, [x for line in panel.lines for x, _ in line.points])
    if panel.y_range:
        (low, high), (least, most) = axes.get_ylim(), panel.y_range
        room = 0.03 * (most - least)
        axes.set_ylim(min(low, least - room), max(high, most + room))
    if panel.log_y:
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis, [y for line in panel.lines for _, y in line.points])


def _uncover(figure: Figure, axes: Sequence[Axes]) -> None:
    """Make room above the lines for legends that cover some of them wherever they lie."""
    figure.draw_without_rendering()  # before that, nothing has a place
    for place in axes:
        legend = place.get_legend()
        if legend is None or not any(_covers(legend, line) for line in place.get_lines()):
            continue
        share = (legend.get_window_extent().height + LEGEND_ROOM) / place.get_window_extent().height
        scale = place.yaxis.get_transform()
        low, high = scale.transform(place.get_ylim())
        place.set_ylim(top=float(scale.inverted().transform(low + (high - low) / (1 - share))))
        place.legend(loc="upper left")


def _covers(legend: Legend, line: Line2D) -> bool:
    path, box = line.get_path().transformed(line.get_transform()), legend.get_window_extent()
    dots = line.get_linestyle() == "None"
    return bool(box.count_contains(path.vertices) if dots else path.intersects_bbox(box, filled=False))


def _legend_name(name: str) -> str:
    """Matplotlib leaves names out of the legend that begin with an underscore."""
    return THIN_SPACE + name if name.startswith("_") else name


def _plain_ticks(axis: Axis, values: Sequence[float]) -> None:
    """Ticks such as 20, 50, 100 on a logarithmic axis, fewer per decade where there are many decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    decades = math.log10(max(values) / min(values)) if values else 0.0
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1, 3) if decades < 3 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.7g}"))
    axis.set_minor_locator(NullLocator())
