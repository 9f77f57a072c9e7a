"""Where the nodes of a graph stand in a picture of it.

Layers are stacked upward, embeddings below and logits above. Heads stand in columns by their index; the MLPs form a
spine in the middle, a little above the heads of their layer (level with them in parallel blocks). A node's place
depends on the graph only, never on the circuit, so two circuits of one model can be compared by eye.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from edge_pruning.drawing.text import text_width
from edge_pruning.graph import EMBEDDING_WRITERS, Graph

Point = tuple[float, float]
LABEL_SIZE = 11.0
NODE_HEIGHT = 20.0
BAR_HEIGHT = 22.0
KV_HEIGHT = 8.0
NAME = re.compile(r"(?P<kind>[a-z]+)(?P<layer>\d+)?(?:\.h(?P<head>\d+))?(?:<(?P<reads>[qkv])>)?")


@dataclass(frozen=True)
class Box:
    """A rectangle given by its centre; y grows downward, as in SVG."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2


@dataclass(frozen=True)
class Port:
    """A stretch of a node's upper or lower side at which edges leave or enter."""

    left: float
    right: float
    y: float

    @property
    def x(self) -> float:
        return (self.left + self.right) / 2


@dataclass(frozen=True)
class Layout:
    """Positions for every node of a graph, in a picture whose layers begin at (`left`, `top`)."""

    graph: Graph
    left: float = 0.0
    top: float = 0.0

    # --- measures --------------------------------------------------------------------------------------------------

    @cached_property
    def node_width(self) -> float:
        shape = self.graph.shape
        return round(text_width(f"{shape.layers - 1}.{shape.heads - 1}", LABEL_SIZE) + 9)

    @cached_property
    def column(self) -> float:
        """Distance between the centres of neighbouring heads; the more heads a layer has, the smaller."""
        return self.node_width + min(44.0, max(16.0, 420.0 / self.graph.shape.heads))

    @cached_property
    def row(self) -> float:
        """Distance between layers."""
        return min(112.0, max(80.0, 1150.0 / self.graph.shape.layers)) + (14.0 if self.grouped else 0.0)

    @property
    def frame(self) -> Box:
        """The area of the layers, embeddings and logits. All edges stay inside it."""
        return Box(self.left + self.width / 2, self.top + self.height / 2, self.width, self.height)

    @property
    def spine(self) -> float:
        """Width of the strip in the middle that holds the MLPs."""
        return self.node_width + 2 * max(34.0, self.column - self.node_width)

    @property
    def width(self) -> float:
        return self.graph.shape.heads * self.column + self.spine

    @property
    def height(self) -> float:
        return self.graph.shape.layers * self.row + 2 * self._bar_space

    @property
    def grouped(self) -> bool:
        """Whether several heads share one key reader and one value reader."""
        return self.graph.kv_readers < self.graph.shape.heads

    @property
    def _bar_space(self) -> float:
        return BAR_HEIGHT + 26.0

    # --- nodes -----------------------------------------------------------------------------------------------------

    def layer_top(self, layer: int) -> float:
        return self.top + self._bar_space + (self.graph.shape.layers - 1 - layer) * self.row

    def head(self, layer: int, head: int) -> Box:
        heads = self.graph.shape.heads
        beyond_spine = self.spine if head >= (heads + 1) // 2 else 0.0
        x = self.left + (head + 0.5) * self.column + beyond_spine
        return Box(x, self._heads_y(layer), self.node_width, NODE_HEIGHT)

    def mlp(self, layer: int) -> Box:
        above = 0.0 if self.graph.shape.parallel else 0.4 * self.row
        x = self.left + (self.graph.shape.heads + 1) // 2 * self.column + self.spine / 2
        return Box(x, self._heads_y(layer) - above, self.node_width + 4, NODE_HEIGHT)

    def kv_group(self, layer: int, group: int) -> Box:
        """The bar below the heads that share a key-value head. Edges into keys end on its left half, values right."""
        size = self.graph.shape.heads // self.graph.kv_readers
        first, last = self.head(layer, group * size), self.head(layer, (group + 1) * size - 1)
        return Box((first.x + last.x) / 2, first.bottom + 13, last.right - first.left, KV_HEIGHT)

    def embedding(self, name: str) -> Box:
        names = EMBEDDING_WRITERS[self.graph.embeddings]
        width = (self.width - 16.0 * (len(names) - 1)) / len(names)
        x = self.left + width / 2 + names.index(name) * (width + 16.0)
        return Box(x, self.top + self.height - BAR_HEIGHT / 2, width, BAR_HEIGHT)

    def logits(self) -> Box:
        return Box(self.left + self.width / 2, self.top + BAR_HEIGHT / 2, self.width, BAR_HEIGHT)

    def writer(self, name: str) -> Box:
        """The box of a writer by its name, such as `input`, `a5.h7` or `m3`."""
        match = NAME.fullmatch(name)
        assert match
        if match["head"]:
            return self.head(int(match["layer"]), int(match["head"]))
        return self.mlp(int(match["layer"])) if match["layer"] else self.embedding(name)

    def _heads_y(self, layer: int) -> float:
        above_band = 36.0 if self.grouped else 22.0
        if self.graph.shape.parallel:
            above_band = max(above_band, self.row / 2)
        return self.layer_top(layer) + self.row - above_band

    # --- ports -----------------------------------------------------------------------------------------------------

    def leaves(self, writer: str) -> Port:
        """Where edges leave a writer."""
        box = self.writer(writer)
        return Port(box.left + 10, box.right - 10, box.top)

    def enters(self, reader: str) -> Port:
        """Where edges enter a reader: queries at the left of a head, keys in its middle, values at its right."""
        match = NAME.fullmatch(reader)
        assert match
        if reader == "logits":
            return Port(self.logits().left + 8, self.logits().right - 8, self.logits().bottom)
        layer = int(match["layer"])
        if not match["reads"]:
            box = self.mlp(layer)
            return Port(box.left + 8, box.right - 8, box.bottom)
        if self.grouped and match["reads"] in "kv":
            return self._half_of(self.kv_group(layer, int(match["head"])), match["reads"])
        box = self.head(layer, int(match["head"]))
        middle = box.x + {"q": -1, "k": 0, "v": 1}[match["reads"]] * box.width * 0.3
        return Port(middle - 2.5, middle + 2.5, box.bottom)

    @staticmethod
    def _half_of(box: Box, reads: str) -> Port:
        if reads == "k":
            return Port(box.left + 4, box.x - 4, box.bottom)
        return Port(box.x + 4, box.right - 4, box.bottom)
