"""The nodes in a picture of a circuit: heads, MLPs, embeddings, logits, and bars for shared key-value heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edge_pruning.drawing import svg
from edge_pruning.drawing.layout import KV_HEIGHT, LABEL_SIZE, NAME, Box, Layout
from edge_pruning.drawing.stroke import FAINT, HUES, INK, MUTED, SHARED_OPACITY, DrawnEdge
from edge_pruning.graph import EMBEDDING_WRITERS

HEAD_FILL, OTHER_FILL = "#ffffff", "#e3e7ec"


def draw_nodes(layout: Layout, edges: Sequence[DrawnEdge]) -> list[str]:
    """Draw the bars of embeddings and logits, the circuit's nodes with their names, and marks at the inputs in use."""
    graph = layout.graph
    entering = Counter(node for edge in edges if (node := read_node(layout, edge.reader)))
    leaving = Counter(edge.writer for edge in edges)
    named = [name for name in _blocks(layout) if entering[name] or leaving[name]]
    ends, compared = [*EMBEDDING_WRITERS[graph.embeddings], "logits"], any(edge.group for edge in edges)
    tooltip = {name: f"{name}: {_edges(entering[name])} in, {_edges(leaving[name])} out" for name in [*named, *ends]}
    return [
        *(_shared(layout, bar) for bar in _shared_bars(layout, edges)),
        *(_bar(layout.logits() if name == "logits" else layout.writer(name), name, tooltip[name]) for name in ends),
        *(_node(layout.writer(name), name, tooltip[name]) for name in named),
        *(_mark(layout, reader, compared=compared) for reader in _attention_readers(edges)),
    ]


def obstacles(layout: Layout, edges: Sequence[DrawnEdge]) -> list[Box]:
    """The boxes that edges should not cross: the nodes of the circuit."""
    used = _used(layout, edges)
    return [layout.writer(name) for name in _blocks(layout) if name in used]


def draw_dots(layout: Layout, edges: Sequence[DrawnEdge]) -> str:
    """Draw a faint dot for each node without an edge, so that every node's place can be seen."""
    used = _used(layout, edges)
    boxes = [layout.writer(name) for name in _blocks(layout) if name not in used]
    places = "".join(f"M{svg.number(box.x)} {svg.number(box.y)}h0" for box in boxes)
    return svg.element("path", d=places or "M0 0", stroke=FAINT, stroke_width=4, stroke_linecap="round")


def _blocks(layout: Layout) -> tuple[str, ...]:
    """The heads and MLPs: all writers but the embeddings."""
    return layout.graph.writers[layout.graph.n_embeddings :]


def _used(layout: Layout, edges: Sequence[DrawnEdge]) -> set[str]:
    read = (read_node(layout, edge.reader) for edge in edges)
    return {edge.writer for edge in edges} | {name for name in read if name is not None}


def read_node(layout: Layout, reader: str) -> str | None:
    """The node that a reader belongs to; None for a key or value reader that belongs to several heads."""
    shared = layout.grouped and reader.endswith(("<k>", "<v>"))
    return None if shared else reader.partition("<")[0]


def _attention_readers(edges: Sequence[DrawnEdge]) -> list[str]:
    return sorted({edge.reader for edge in edges if edge.reader.endswith(">")})


def _shared_bars(layout: Layout, edges: Sequence[DrawnEdge]) -> list[tuple[int, int]]:
    """Layer and index of the key-value heads that serve several heads and have an edge."""
    readers = [reader for reader in _attention_readers(edges) if read_node(layout, reader) is None]
    matches = [match for reader in readers if (match := NAME.fullmatch(reader))]
    return sorted({(int(match["layer"]), int(match["head"])) for match in matches})


def _shared(layout: Layout, bar: tuple[int, int]) -> str:
    """A key-value head as a bar, with a stem to each head that shares it."""
    (layer, group), box = bar, layout.kv_group(*bar)
    size = layout.graph.shape.heads // layout.graph.kv_readers
    heads = [layout.head(layer, head) for head in range(group * size, (group + 1) * size)]
    stems = "".join(f"M{svg.number(head.x)} {svg.number(box.top)}V{svg.number(head.y)}" for head in heads)
    name = f"key-value head {group} of layer {layer}, read by heads {group * size} to {(group + 1) * size - 1}"
    stem_lines = svg.element("path", d=stems, stroke=MUTED, stroke_width=1)
    return svg.element("g", svg.title(name), stem_lines, _rectangle(box, KV_HEIGHT / 2, HEAD_FILL), class_="ep-shared")


def _bar(box: Box, name: str, tooltip: str) -> str:
    label = _label(box, name, font_weight="bold")
    return svg.element("g", svg.title(tooltip), _rectangle(box, 5, OTHER_FILL), label, class_="ep-node", data_node=name)


def _node(box: Box, name: str, tooltip: str) -> str:
    is_head = name.startswith("a")
    body = _rectangle(box, box.height / 2, HEAD_FILL) if is_head else _rectangle(box, 3, OTHER_FILL)
    label = name[1:].replace("h", "") if is_head else name
    return svg.element("g", svg.title(tooltip), body, _label(box, label), class_="ep-node", data_node=name)


def _mark(layout: Layout, reader: str, *, compared: bool) -> str:
    """A mark at an input that has an edge: a short bar below a head, or half of a key-value head's bar.

    compared: whether two circuits are drawn; then the mark is grey, because hues tell the circuits apart.
    """
    port, height = layout.enters(reader), 4.0 if read_node(layout, reader) else KV_HEIGHT - 2
    size = {"width": port.right - port.left + 3, "height": height, "rx": 2}
    y = port.y - (height / 2 if read_node(layout, reader) else height + 1)
    opacity = None if read_node(layout, reader) else SHARED_OPACITY
    look = {"fill": MUTED if compared else HUES[reader[-2]], "fill_opacity": opacity}
    return svg.element("rect", x=port.left - 1.5, y=y, **size, **look, class_="ep-port")


def _rectangle(box: Box, radius: float, fill: str) -> str:
    place = {"x": box.left, "y": box.top, "width": box.width, "height": box.height}
    return svg.element("rect", **place, rx=radius, fill=fill, stroke=INK, stroke_width=1)


def _label(box: Box, words: str, **attributes: object) -> str:
    return svg.text(
        words, box.x, box.y + LABEL_SIZE * 0.36, font_size=LABEL_SIZE, fill=INK, text_anchor="middle", **attributes
    )


def _edges(count: int) -> str:
    return f"{count} edge" if count == 1 else f"{count} edges"
