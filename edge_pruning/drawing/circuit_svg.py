"""A circuit as a picture: `draw_circuit(circuit)` is a standalone SVG that browsers, LaTeX and editors read.

Edges run upward from the embeddings to the logits. They leave a node at its top and enter a head at its bottom: queries
at the left, keys in the middle, values at the right. Nodes outside the circuit are faint dots. Resting the pointer on
an edge shows its name and score. The same circuit always gives the same text, so pictures can be version-controlled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from edge_pruning.circuit import Circuit
from edge_pruning.drawing import svg
from edge_pruning.drawing.caption import caption_sentences
from edge_pruning.drawing.layout import LABEL_SIZE, Layout, Point, Port
from edge_pruning.drawing.legend import Entry, draw_legend, legend_entries
from edge_pruning.drawing.nodes import draw_dots, draw_nodes, obstacles
from edge_pruning.drawing.routing import Router, space_out
from edge_pruning.drawing.stroke import BAND, INK, MUTED, DrawnEdge, drawn_edges, stroke
from edge_pruning.drawing.strongest import strongest
from edge_pruning.drawing.text import BOLD, printable, shorten, wrap
from edge_pruning.graph import Graph

AXIS, MARGIN = 46.0, 22.0
NARROWEST = 560.0
TITLE_SIZE, CAPTION_SIZE, CAPTION_LINE = 16.0, 11.0, 16.0
PORT_GAP = 4.5  # wanted distance between edges at the same port
AXIS_TEXT = {"fill": MUTED, "text_anchor": "middle"}
HOVER = ".ep-edge:hover path{stroke-opacity:1}.ep-edge:hover path:first-child{stroke:#f0e442}"


def draw_circuit(circuit: Circuit, *, title: str | None = None, caption: str | None = None) -> str:
    """Draw a circuit as SVG text: which heads and MLPs work together, and through which of their inputs.

    title: above the picture.
    caption: below it, before the sentences on origin and size. Title and caption may be any text; what does not fit is
        cut with an ellipsis.

    If the circuit has scores, the width and opacity of a line show the rank of the edge's score. Of a large circuit
    only the strongest edges are drawn, and a sentence says so (see `strongest`). `save_picture` writes the text to a
    file.
    """
    connected = circuit.graph.without_dangling(circuit.mask)
    shown, left_out = strongest(circuit)
    edges = drawn_edges(shown, connected)
    about = caption_sentences(circuit, int(connected.count_nonzero()))
    sentences = [*([caption] if caption else []), *about, *left_out]
    return picture(circuit.graph, edges, legend_entries(edges, grouped=Layout(circuit.graph).grouped), sentences, title)


def picture(
    graph: Graph, edges: Sequence[DrawnEdge], entries: Sequence[Entry], sentences: Sequence[str], title: str | None
) -> str:
    """Draw edges (weakest first) of a graph as SVG text, with these legend entries and sentences below."""
    bare = Layout(graph)
    width = max(NARROWEST, AXIS + bare.width + MARGIN)
    left, top = AXIS + (width - AXIS - MARGIN - bare.width) / 2, MARGIN + (TITLE_SIZE + 12 if title else 0)
    layout = Layout(graph, left, top)
    legend, below = draw_legend(entries, AXIS, top + layout.height + 32, width - AXIS - MARGIN)
    notes, below = _notes(sentences, below + 4, width)
    drawn = [*_background(layout, width), draw_dots(layout, edges), *_edges(layout, edges), *draw_nodes(layout, edges)]
    header = [svg.title(title or "Circuit"), svg.description(" ".join(sentences)), svg.element("style", HOVER)]
    return _document(width, below + MARGIN / 2, header, [*_heading(title, width), *drawn, *legend, *notes])


def _document(width: float, height: float, header: Sequence[str], children: Sequence[str]) -> str:
    background = svg.element("rect", width=width, height=height, fill="#ffffff")
    size = {"viewBox": f"0 0 {svg.number(width)} {svg.number(height)}", "width": width, "height": height}
    content = "".join(f"\n{part}" for part in [*header, background, *children]) + "\n"
    return svg.element("svg", content, xmlns=svg.NAMESPACE, role="img", **size, font_family=svg.FONT) + "\n"


def _heading(title: str | None, width: float) -> list[str]:
    if not title:
        return []
    words = shorten(printable(title), width - AXIS - MARGIN, BOLD * TITLE_SIZE)
    return [svg.text(words, AXIS, MARGIN + TITLE_SIZE - 4, font_size=TITLE_SIZE, font_weight="bold", fill=INK)]


def _notes(sentences: Sequence[str], y: float, width: float) -> tuple[list[str], float]:
    """The caption, each sentence on lines of its own, and the y below it."""
    room = width - AXIS - MARGIN
    lines = [line for sentence in sentences for line in wrap(printable(sentence), room, CAPTION_SIZE, max_lines=4)]
    texts = [
        svg.text(line, AXIS, y + i * CAPTION_LINE, font_size=CAPTION_SIZE, fill=MUTED) for i, line in enumerate(lines)
    ]
    return texts, y + len(lines) * CAPTION_LINE


def _background(layout: Layout, width: float) -> list[str]:
    """A band for every second layer, and the layers' numbers."""
    layers, parts = layout.graph.shape.layers, []
    for layer in range(layers):
        top = layout.layer_top(layer)
        if layer % 2 == 0:
            size = {"width": width - AXIS - MARGIN + 38, "height": layout.row, "rx": 4}
            parts.append(svg.element("rect", x=AXIS - 30, y=top, fill=BAND, **size))
        parts.append(svg.text(layer, AXIS - 16, top + layout.row / 2 + 4, font_size=LABEL_SIZE, **AXIS_TEXT))
    return [*parts, svg.text("layer", AXIS - 16, layout.layer_top(layers - 1) - 7, font_size=9, **AXIS_TEXT)]


def _edges(layout: Layout, edges: Sequence[DrawnEdge]) -> list[str]:
    """Every edge once, the strongest routed first and drawn last."""
    starts, ends = _attachments(layout, edges)
    router = Router(layout.frame, obstacles(layout, edges), reach=3 * layout.column)
    paths = {edge.name: router.route(starts[edge.name], ends[edge.name]) for edge in reversed(edges)}
    return [_edge(edge, paths[edge.name], len(edges)) for edge in edges]


def _edge(edge: DrawnEdge, path: str, edges: int) -> str:
    width, opacity = stroke(edge.strength, edges)
    line = {"d": path, "fill": "none", "stroke_linecap": "round"}
    halo = svg.element("path", **line, stroke="#ffffff", stroke_width=width + 2.5, stroke_opacity=0.6 * opacity)
    visible, dashes = (max(0.3, 0.5 * opacity), "4 4") if edge.dangling else (opacity, None)
    look = {"stroke": edge.hue, "stroke_width": width, "stroke_opacity": visible, "stroke_dasharray": dashes}
    drawn = svg.element("path", **line, **look)
    return svg.element("g", svg.title(_tooltip(edge)), halo, drawn, class_="ep-edge", data_edge=edge.name)


def _tooltip(edge: DrawnEdge) -> str:
    score = "" if edge.score is None else f", score {edge.score:.4g}"
    return edge.name + score + (", dangling" if edge.dangling else "")


def _attachments(layout: Layout, edges: Sequence[DrawnEdge]) -> tuple[dict[str, Point], dict[str, Point]]:
    """Where each edge leaves and enters. At a port, edges lie in the order of the nodes at their other ends."""
    leaving, entering = defaultdict(list), defaultdict(list)
    for edge in sorted(edges, key=lambda edge: edge.name):
        leaving[layout.leaves(edge.writer)].append(edge)
        entering[layout.enters(edge.reader)].append(edge)
    starts = _places(leaving, lambda edge: layout.enters(edge.reader).x)
    ends = _places(entering, lambda edge: layout.leaves(edge.writer).x)
    return starts, ends


def _places(ports: dict[Port, list[DrawnEdge]], other_end: Callable[[DrawnEdge], float]) -> dict[str, Point]:
    return {
        edge.name: (x, port.y)
        for port, attached in ports.items()
        for edge, x in zip(attached, space_out([other_end(edge) for edge in attached], port, PORT_GAP), strict=True)
    }
