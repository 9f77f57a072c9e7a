"""The legend below a picture of a circuit. It explains only what the picture contains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_pruning.drawing import svg
from edge_pruning.drawing.stroke import GROUPS, HUES, INK, KINDS, MUTED, SHARED_OPACITY, DrawnEdge, stroke
from edge_pruning.drawing.text import text_width

SIZE = 11.0
LINE = 19.0
SHARED_KINDS = {"q": "queries", "k": "keys (left half of a bar)", "v": "values (right half of a bar)"}
SWATCH = 26.0
GAP = 10.0


@dataclass(frozen=True)
class Entry:
    """A piece of the legend: markup that begins at x = 0 with its baseline at y = 0, and its width."""

    markup: str
    width: float

    @classmethod
    def of(cls, swatch: str, words: str) -> Entry:
        """A sample, at most `SWATCH` wide, followed by its meaning."""
        return cls(swatch + _words(words), SWATCH + 7 + text_width(words, SIZE))


def legend_entries(edges: Sequence[DrawnEdge], *, grouped: bool) -> list[Entry]:
    """Entries for hues, dangling edges, bars of shared key-value heads, and strengths with their scores."""
    words = {**KINDS, **SHARED_KINDS} if grouped else KINDS
    kinds = [kind for kind in KINDS if any(edge.kind == kind for edge in edges)]
    entries = [Entry.of(_line(HUES[kind], 2.6, 1.0), words[kind]) for kind in kinds]
    if any(edge.dangling for edge in edges):
        entries.append(Entry.of(_line(MUTED, 1.4, 0.8, dashed=True), "dangling (on no path from input to logits)"))
    if grouped and any(edge.kind in ("k", "v") for edge in edges):
        entries.append(Entry.of(_shared_bar(), "key-value head, shared by the heads above it"))
    return entries + _strengths(edges)


def group_entries(edges: Sequence[DrawnEdge], words: Mapping[str, str]) -> list[Entry]:
    """Entries for the groups of edges of two circuits. words: the name of each group."""
    entries = [Entry.of(_line(GROUPS[group], 2.6, 1.0), words[group]) for group in GROUPS if group in words]
    if any(edge.dangling for edge in edges):
        entries.append(Entry.of(_line(MUTED, 1.4, 0.8, dashed=True), "dangling in its circuit"))
    return entries


def _shared_bar() -> str:
    outline = svg.element("rect", x=0.5, y=-8.5, width=SWATCH - 1, height=8, rx=4, fill="#ffffff", stroke=INK)
    look = {"y": -7.5, "width": SWATCH / 2 - 4, "height": 6, "rx": 2, "fill_opacity": SHARED_OPACITY}
    keys, values = svg.element("rect", x=3, fill=HUES["k"], **look), svg.element("rect", x=14, fill=HUES["v"], **look)
    return outline + keys + values


def _strengths(edges: Sequence[DrawnEdge]) -> list[Entry]:
    """Lines for the weakest, the median and the strongest score, as one entry so that they stay together."""
    ranked = sorted((edge for edge in edges if edge.score is not None), key=lambda edge: edge.strength)
    if not ranked or ranked[0].strength == ranked[-1].strength:
        return []
    chosen = {"weakest score": ranked[0], "median": ranked[len(ranked) // 2], "strongest": ranked[-1]}
    parts, x = [], 0.0
    for which, edge in chosen.items():
        words, moved = f"{which} {edge.score:.3g}", f"translate({svg.number(x)} 0)"
        line = _line(INK, *stroke(edge.strength, len(edges)))
        parts.append(svg.element("g", line, _words(words), transform=moved))
        x += SWATCH + 7 + text_width(words, SIZE) + GAP
    return [Entry("".join(parts), x - GAP)]


def _words(words: str) -> str:
    return svg.text(words, SWATCH + 7, 0.0, font_size=SIZE, fill=INK)


def draw_legend(entries: Sequence[Entry], x: float, y: float, width: float) -> tuple[list[str], float]:
    """The entries in lines of at most `width`, the first at `y`; also the y below the last line."""
    parts, right = [], x
    for entry in entries:
        if right > x and right + entry.width > x + width:
            right, y = x, y + LINE
        parts.append(svg.element("g", entry.markup, transform=f"translate({svg.number(right)} {svg.number(y)})"))
        right += entry.width + GAP
    return parts, y + LINE if entries else y


def _line(hue: str, width: float, opacity: float, *, dashed: bool = False) -> str:
    return svg.element(
        "path",
        d=f"M1-4H{SWATCH - 1:.0f}",
        fill="none",
        stroke=hue,
        stroke_width=width,
        stroke_opacity=opacity,
        stroke_linecap="round",
        stroke_dasharray="4 4" if dashed else None,
    )
