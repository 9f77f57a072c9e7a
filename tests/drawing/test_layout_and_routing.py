"""Places of nodes, places on ports, and curves around nodes."""

from __future__ import annotations

import itertools
import re

import pytest

from edge_pruning.drawing.layout import Box, Layout, Port
from edge_pruning.drawing.routing import Router, space_out
from edge_pruning.graph import Graph, ModelShape

SHAPES = [
    ModelShape(12, 12),
    ModelShape(6, 8, parallel=True),
    ModelShape(5, 8, kv_heads=4),
    ModelShape(3, 6, kv_heads=1, parallel=True),
    ModelShape(3, 40),
    ModelShape(1, 1),
]


def overlap(one: Box, other: Box) -> bool:
    return one.left < other.right and other.left < one.right and one.top < other.bottom and other.top < one.bottom


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_two_nodes_overlap(shape: ModelShape) -> None:
    layout = Layout(Graph(shape))
    layers = [
        [layout.mlp(i), *(layout.head(i, h) for h in range(shape.heads))]
        + [layout.kv_group(i, g) for g in range(shape.kv_heads) if layout.grouped]
        for i in range(shape.layers)
    ]
    for boxes in [*layers, *(a + b for a, b in itertools.pairwise(layers))]:
        assert not any(overlap(one, other) for one, other in itertools.combinations(boxes, 2))
    for box in [*layers[0], *layers[-1]]:
        assert not overlap(box, layout.logits())
        assert not overlap(box, layout.embedding("input"))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("embeddings", ["joint", "split"])
def test_every_edge_has_room_to_rise(shape: ModelShape, embeddings: str) -> None:
    graph = Graph(shape, embeddings=embeddings)  # type: ignore[arg-type]
    layout = Layout(graph)
    leaves = [layout.leaves(writer).y for writer in graph.writers]
    enters = [layout.enters(reader).y for reader in graph.readers]
    assert all(leaves[w] - enters[r] >= 9 for w, r in graph.edge_mask.nonzero().tolist())


def test_an_mlp_stands_above_its_heads_unless_the_block_is_parallel() -> None:
    sequential, parallel = (Layout(Graph(ModelShape(2, 4, parallel=flag))) for flag in (False, True))
    assert sequential.mlp(1).bottom < sequential.head(1, 0).top
    assert parallel.mlp(1).y == parallel.head(1, 0).y


def test_spread_keeps_a_place_where_there_is_room() -> None:
    assert space_out([70.0, 10.0, 40.0], Port(0, 100, 0), gap=5) == [70.0, 10.0, 40.0]


def test_spread_separates_equal_wishes_around_their_place() -> None:
    assert space_out([50.0, 50.0, 50.0], Port(0, 100, 0), gap=4) == [46.0, 50.0, 54.0]


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_spread_stays_on_the_port_in_order(count: int) -> None:
    wanted = [(37.0 * i) % 300 - 100 for i in range(count)]
    places = space_out(wanted, Port(10, 60, 0), gap=4.5)
    assert all(10 - 1e-6 <= place <= 60 + 1e-6 for place in places)
    in_order = [place for _, place in sorted(zip(wanted, places, strict=True))]
    assert in_order == sorted(in_order)


def middles(path: str) -> float:
    """Where a curve crosses from its first to its second half."""
    return [float(x) for x in re.findall(r"-?\d+\.?\d*", path)][6]


def test_a_curve_without_obstacles_is_straight() -> None:
    router = Router(Box(200, 200, 400, 400), [], reach=150)
    assert middles(router.route((200.0, 380.0), (200.0, 20.0))) == 200


def test_a_curve_goes_around_a_node_in_its_way() -> None:
    node = Box(200, 200, 40, 20)
    router = Router(Box(200, 200, 400, 400), [node], reach=150)
    assert abs(middles(router.route((200.0, 380.0), (200.0, 20.0))) - 200) > node.width / 2


def test_a_second_curve_keeps_away_from_the_first() -> None:
    router = Router(Box(200, 200, 400, 400), [Box(200, 200, 40, 20)], reach=150)
    first, second = (middles(router.route((200.0, 380.0), (200.0, 20.0))) for _ in range(2))
    assert first != second


def test_a_curve_stays_inside_its_frame() -> None:
    router = Router(Box(200, 200, 60, 400), [Box(200, 200, 400, 20)], reach=900)
    assert 170 <= middles(router.route((175.0, 380.0), (225.0, 20.0))) <= 230
