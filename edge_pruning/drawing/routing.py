"""Curves for edges: smooth, vertical at both ends, around the nodes they do not touch.

An edge between layers far apart would cross the nodes between them. So each edge takes the cheapest of several curves
that bow to either side. The cost is a weighted sum of the curve's length, its length over other nodes, its length along
edges already drawn, and its bow. Edges are routed one by one, the strongest first. Costs are looked up on a coarse
raster of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_pruning.drawing.layout import Box, Point, Port
from edge_pruning.drawing.svg import number

Array = NDArray[np.float64]

CELL = 4.0  # width of a raster cell
NODE_COST, CROWD_COST = 30.0, 0.2  # extra cost per unit of length over a node, and over each other edge
BOW_COST = 0.6  # cost per unit that a curve bows aside
LEANS = ((0.5, 0.5), (0.3, 0.7), (0.7, 0.3), (0.12, 0.88), (0.88, 0.12))  # handle lengths as shares of the rise
BOWS = tuple(side * bow for bow in (0.08, 0.16, 0.25, 0.4, 0.55, 0.75, 1.0) for side in (-1, 1))
TURNS = (0.5, 0.3, 0.7)  # the share of the rise at which a curve bows most
UP = np.array([0.0, -1.0])


def space_out(wanted: Sequence[float], port: Port, gap: float) -> list[float]:
    """Places on a port, `gap` apart where there is room, in the order of `wanted` and as close to it as possible.

    Least squares with the order kept: without the gaps this is isotonic regression, solved by pooling neighbours.
    """
    gap = min(gap, (port.right - port.left) / max(len(wanted) - 1, 1))
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    blocks: list[tuple[float, int]] = []  # (mean, count), means rising
    for position, i in enumerate(order):
        mean, count = wanted[i] - position * gap, 1
        while blocks and blocks[-1][0] > mean:
            other, others = blocks.pop()
            mean, count = (mean * count + other * others) / (count + others), count + others
        blocks.append((mean, count))
    fitted = [mean for mean, count in blocks for _ in range(count)]
    last = port.right - (len(wanted) - 1) * gap
    places = [0.0] * len(wanted)
    for position, i in enumerate(order):
        places[i] = min(max(fitted[position], port.left), last) + position * gap
    return places


class Router:
    """Finds curves one after the other. Each avoids nodes and, with less weight, earlier curves."""

    def __init__(self, frame: Box, nodes: Sequence[Box], reach: float) -> None:
        """frame: where curves may run. nodes: what they should avoid. reach: how far they may bow aside."""
        self._frame, self._reach = frame, reach
        self._nodes = np.ones((_cell(frame.bottom) + 2, _cell(frame.right) + 2))
        self._nodes[:, _cell(frame.left) : _cell(frame.right) + 1] = 0.0
        self._crowd = np.zeros_like(self._nodes)
        for box in nodes:
            self._nodes[_cell(box.top) : _cell(box.bottom) + 1, _cell(box.left - 3) : _cell(box.right + 3) + 1] = 1.0

    def route(self, start: Point, end: Point) -> str:
        """SVG path data of a curve from a writer's upper side to a reader's lower side."""
        curves, bows = self._candidates(start, end)
        points = _sample(curves, 8 + int((start[1] - end[1] + abs(start[0] - end[0])) / 10))
        rows, columns = self._cells(points)
        steps = np.hypot(*np.moveaxis(np.diff(points, axis=1), 2, 0))
        cost_here = 1 + NODE_COST * self._nodes[rows, columns] + CROWD_COST * self._crowd[rows, columns]
        best = int(((steps * cost_here[:, 1:]).sum(1) + BOW_COST * np.abs(bows)).round(6).argmin())
        self._crowd[rows[best], columns[best]] += 1
        return _path(curves[best])

    def _candidates(self, start: Point, end: Point) -> tuple[Array, Array]:
        """Curves as Bezier control points [curve, half, 4, xy], the straightest first, and how far each bows aside."""
        leaning = _leaning(np.array(start), np.array(end))
        bowed, bows = self._bowed(start, end)
        return np.concatenate([leaning, bowed]), np.concatenate([np.zeros(len(leaning)), bows])

    def _bowed(self, start: Point, end: Point) -> tuple[Array, Array]:
        """The S-shaped curve, pushed aside by a bow at some height; also the bows."""
        rise, aside = start[1] - end[1], end[0] - start[0]
        bow, turn = (grid.ravel() for grid in np.meshgrid(BOWS, TURNS, indexing="ij"))
        bow = bow * self._reach * min(1.0, 0.2 + rise / 480)
        middle_x = start[0] + aside * turn**2 * (3 - 2 * turn) + bow
        middle = np.stack([middle_x.clip(self._frame.left, self._frame.right), start[1] - turn * rise], 1)
        along = np.stack([6 * turn * (1 - turn) * aside / rise, -np.ones_like(turn)], 1)
        first, last = (np.broadcast_to(point, middle.shape) for point in (start, end))
        lower, upper = (turn * rise)[:, None], ((1 - turn) * rise)[:, None]
        below = np.stack([first, first + UP * lower / 2, middle - along * lower / 3, middle], 1)
        above = np.stack([middle, middle + along * upper / 3, last - UP * upper / 2, last], 1)
        return np.stack([below, above], 1), bow

    def _cells(self, points: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        cells = (points / CELL).astype(np.int64)
        return cells[..., 1].clip(0, self._nodes.shape[0] - 1), cells[..., 0].clip(0, self._nodes.shape[1] - 1)


def _leaning(start: Array, end: Array) -> Array:
    """S-shaped curves that turn halfway up, early or late; de Casteljau's rule splits each into two halves."""
    handles = (start[1] - end[1]) * np.array(LEANS)
    first, last = np.broadcast_to(start, handles.shape), np.broadcast_to(end, handles.shape)
    second, third = first + UP * handles[:, :1], last - UP * handles[:, 1:]
    lower, between, upper = (first + second) / 2, (second + third) / 2, (third + last) / 2
    lower_middle, upper_middle = (lower + between) / 2, (between + upper) / 2
    middle = (lower_middle + upper_middle) / 2
    below, above = [first, lower, lower_middle, middle], [middle, upper_middle, upper, last]
    return np.stack([np.stack(below, 1), np.stack(above, 1)], 1)


def _sample(curves: Array, samples: int) -> Array:
    """Points [curve, point, xy] along Bezier curves [curve, half, 4, xy]; with enough samples, no node is missed."""
    t = np.linspace(0, 1, samples)
    basis = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], 1)
    return (basis @ curves).reshape(len(curves), -1, 2)


def _path(curve: Array) -> str:
    points = [" ".join(map(number, point)) for point in curve.reshape(-1, 2).tolist()]
    return f"M{points[0]}C{points[1]} {points[2]} {points[3]}C{points[5]} {points[6]} {points[7]}"


def _cell(value: float) -> int:
    return max(0, int(value / CELL))
