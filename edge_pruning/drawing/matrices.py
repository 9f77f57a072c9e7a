"""Heat maps: how much several circuits overlap, or how well each does the others' tasks. Every cell shows its number.

Colours go from white to one dark blue, so that lightness alone can be read. Rows and columns keep their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_pruning.drawing import svg
from edge_pruning.drawing.stroke import INK, MUTED
from edge_pruning.drawing.text import BOLD, printable, shorten, text_width, wrap

CELL, GAP, MARGIN = 46.0, 40.0, 22.0
LABEL_SIZE, TITLE_SIZE, SIZE = 11.0, 16.0, 12.0
DARKEST = (0, 74, 130)
UNKNOWN = "#eceff2"


@dataclass(frozen=True)
class Matrix:
    """Numbers in rows and columns.

    values: [row][column]; None: not known.
    low, high: the values that are drawn white and darkest.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    low: float = 0.0
    high: float = 1.0

    @property
    def width(self) -> float:
        return max(self.label_width + len(self.columns) * CELL, text_width(self.title, SIZE) * BOLD)

    @property
    def height(self) -> float:
        return 2 * SIZE + LABEL_SIZE + 12 + len(self.rows) * CELL

    @property
    def label_width(self) -> float:
        return max((text_width(name, LABEL_SIZE) for name in self.rows), default=0.0) + 10


def draw_matrices(matrices: Sequence[Matrix], *, title: str | None = None, notes: Sequence[str] = ()) -> str:
    """Draw matrices side by side, with notes below, as standalone SVG text. Raises ValueError without a matrix."""
    if not matrices:
        raise ValueError("nothing to draw: expected at least one matrix")
    top = MARGIN + (TITLE_SIZE + 16 if title else 0)
    width = max(420.0, 2 * MARGIN + sum(m.width for m in matrices) + GAP * (len(matrices) - 1))
    parts = [_text(shorten(printable(title), width - 2 * MARGIN, BOLD * TITLE_SIZE), MARGIN, MARGIN + TITLE_SIZE - 4,
                   font_size=TITLE_SIZE, font_weight="bold")] if title else []
    x, below = MARGIN, top + max(m.height for m in matrices) + 22
    for matrix in matrices:
        parts += _matrix(matrix, x, top)
        x += matrix.width + GAP
    lines = [line for note in notes for line in wrap(printable(note), width - 2 * MARGIN, LABEL_SIZE, max_lines=3)]
    parts += [_text(line, MARGIN, below + 16 * i, fill=MUTED) for i, line in enumerate(lines)]
    height = below + 16 * len(lines)
    background = svg.element("rect", width=width, height=height, fill="#ffffff")
    content = "".join(f"\n{part}" for part in [svg.title(title or "Comparison"), background, *parts]) + "\n"
    size = {"viewBox": f"0 0 {svg.number(width)} {svg.number(height)}", "width": width, "height": height}
    return svg.element("svg", content, xmlns=svg.NAMESPACE, role="img", **size, font_family=svg.FONT) + "\n"


def _matrix(matrix: Matrix, left: float, top: float) -> list[str]:
    parts = [_text(matrix.title, left, top + SIZE, font_size=SIZE, font_weight="bold")]
    x0, y0 = left + matrix.label_width, top + 2 * SIZE + LABEL_SIZE + 12
    for j, name in enumerate(matrix.columns):
        words = shorten(printable(name), CELL - 4, LABEL_SIZE)
        parts.append(_text(words, x0 + (j + 0.5) * CELL, y0 - 7, text_anchor="middle"))
    for i, name in enumerate(matrix.rows):
        parts.append(_text(printable(name), x0 - 8, y0 + (i + 0.5) * CELL + 4, text_anchor="end"))
        for j, value in enumerate(matrix.values[i]):
            parts += _cell(matrix, value, x0 + j * CELL, y0 + i * CELL, f"{name}, {matrix.columns[j]}")
    return parts


def _cell(matrix: Matrix, value: float | None, x: float, y: float, name: str) -> list[str]:
    share, fill, words = 0.0, UNKNOWN, "–"
    if value is not None and math.isfinite(value):
        share = min(1.0, max(0.0, (value - matrix.low) / (matrix.high - matrix.low)))
        fill, words = _shade(share), f"{value:.2f}"
    place = {"x": x + 1, "y": y + 1, "width": CELL - 2, "height": CELL - 2, "rx": 3}
    box = svg.element("rect", svg.title(f"{matrix.title}: {name}: {words}"), **place, fill=fill, class_="ep-cell")
    look = {"fill": "#ffffff" if share > 0.5 else INK, "text_anchor": "middle", "pointer_events": "none"}
    return [box, _text(words, x + CELL / 2, y + CELL / 2 + 4, **look)]


def _shade(share: float) -> str:
    """White at 0, the darkest blue at 1."""
    return "#" + "".join(f"{round(255 + share * (end - 255)):02x}" for end in DARKEST)


def _text(words: str, x: float, y: float, **look: object) -> str:
    return svg.text(words, x, y, **{"font_size": LABEL_SIZE, "fill": INK, **look})
