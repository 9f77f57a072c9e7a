"""A ranking comes back from its bytes, in Python and in the browser's code, and cuts there as it does here."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pytest
import torch
from under_node import needs_node, under_node

from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.view.packing import pack_ranking

GRAPHS = {
    "sequential": Graph(ModelShape(4, 3)),
    "parallel": Graph(ModelShape(3, 4, parallel=True)),
    "split embeddings": Graph(ModelShape(3, 2), "split"),
    "grouped": Graph(ModelShape(4, 6, 2)),
    "grouped, per query head": Graph(ModelShape(3, 4, 2), kv="query"),
}


def scored(graph: Graph, seed: int = 0, *, rounded: bool = False) -> EdgeScores:
    values = torch.randn(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    return EdgeScores(graph, values.round() if rounded else values)


def numbers(packed: str, count: int, planes: int) -> np.ndarray:
    """The literal inverse: one number at a time."""
    data = zlib.decompress(base64.b64decode(packed))
    return np.array([sum(data[plane * count + i] << (8 * plane) for plane in range(planes)) for i in range(count)])


def packed_json(circuit: Circuit) -> dict:
    graph = circuit.graph
    shape = {name: getattr(graph.shape, name) for name in ("layers", "heads", "kv_heads", "parallel")}
    return {"graph": {"shape": shape, "embeddings": graph.embeddings, "kv": graph.kv}, "ranking": pack_ranking(circuit)}


@pytest.mark.parametrize("rounded", [False, True])
def test_edges_come_back_in_their_order_with_their_scores(rounded):
    scores = scored(GRAPHS["grouped"], rounded=rounded)
    circuit = Circuit.from_scores(scores, edges=20)
    packed = pack_ranking(circuit)
    order = numbers(packed["ids"], packed["count"], packed["id_planes"])
    values = scores.values[scores.graph.edge_mask]
    assert order.tolist() == values.argsort(descending=True, stable=True).tolist()
    bits = (numbers(packed["scores"], packed["count"], 3) << 8).astype(np.uint32)
    assert bits.view(np.float32) == pytest.approx(values[order].numpy(), rel=1e-4)


@pytest.mark.parametrize("size", [0, 1, 7, 40])
def test_the_first_edges_are_those_that_a_cut_keeps_ties_included(size):
    circuit = Circuit.from_scores(scored(GRAPHS["sequential"], rounded=True), edges=size)
    packed = pack_ranking(circuit)
    first = set(numbers(packed["ids"], packed["count"], packed["id_planes"])[:size].tolist())
    assert first == set(circuit.mask[circuit.graph.edge_mask].nonzero().flatten().tolist())
    assert packed["found"] is None
    assert packed["size"] == size


def test_a_circuit_that_is_not_the_strongest_edges_is_stored_as_it_is():
    scores = scored(GRAPHS["sequential"])
    circuit = Circuit(scores.graph, ~scores.top(10) & scores.top(30), scores)
    packed = pack_ranking(circuit, most=20)
    found = packed["found"]
    own = set(circuit.mask[scores.graph.edge_mask].nonzero().flatten().tolist())
    assert set(numbers(found["ids"], found["count"], found["id_planes"]).tolist()) == own
    ranked = numbers(packed["ids"], packed["count"], packed["id_planes"]).tolist()
    assert own <= set(ranked)
    assert packed["count"] == len(set(ranked)) == 30


def test_edges_that_were_no_candidates_are_not_ranked():
    scores = scored(GRAPHS["sequential"])
    values = scores.values.clone()
    values[: 3] = -torch.inf
    packed = pack_ranking(Circuit.from_scores(EdgeScores(scores.graph, values), edges=5))
    assert packed["ranked"] == packed["count"] == int((values > -torch.inf).sum())


def test_a_circuit_without_scores_has_its_edges_in_graph_order():
    circuit = Circuit(GRAPHS["sequential"], scored(GRAPHS["sequential"]).top(12))
    packed = pack_ranking(circuit)
    assert packed["scores"] is None
    assert packed["count"] == packed["size"] == 12


def test_seventy_thousand_edges_take_less_than_half_a_megabyte():
    graph = Graph(ModelShape(30, 9, 3))
    circuit = Circuit.from_scores(scored(graph), edges=300)
    assert graph.n_edges == 70_651
    assert len(json.dumps(pack_ranking(circuit))) < 500_000


def test_of_a_large_graph_only_the_strongest_edges_are_stored():
    scores = scored(GRAPHS["grouped"])
    packed = pack_ranking(Circuit.from_scores(scores, edges=5), most=50)
    assert packed["count"] == 50
    assert packed["ranked"] == scores.n_candidates


def test_of_a_large_circuit_only_the_strongest_edges_are_stored():
    scores = scored(GRAPHS["grouped"])
    strongest = pack_ranking(Circuit.from_scores(scores, edges=80), most=50)
    assert (strongest["size"], strongest["held"], strongest["count"], strongest["found"]) == (80, 50, 50, None)
    other = pack_ranking(Circuit(scores.graph, ~scores.top(10) & scores.top(90), scores), most=50)
    assert (other["size"], other["held"], other["found"]["count"], other["count"]) == (80, 50, 50, 60)
    plain = pack_ranking(Circuit(scores.graph, scores.top(80)), most=50)
    assert (plain["size"], plain["held"], plain["count"]) == (80, 50, 50)


@needs_node
@pytest.mark.parametrize("name", GRAPHS)
def test_the_page_cuts_and_removes_dangling_edges_as_the_library_does(name):
    graph = GRAPHS[name]
    scores = scored(graph, seed=3, rounded=True)
    sizes = [0, 1, 2, 5, 10, 20, 33, 50, 80, graph.n_edges // 2, graph.n_edges - 1, graph.n_edges]
    body = """
        import { Graph } from "SRC/graph.js";
        import { Ranking, unpackRanking } from "SRC/ranking.js";
        const graph = new Graph(input.graph);
        const { order, scores } = unpackRanking(input.ranking, inflate);
        const ranking = new Ranking(graph, order, scores);
        const names = (size) => Array.from(ranking.connected(ranking.top(size)), (rank) => graph.edgeName(order[rank]));
        console.log(JSON.stringify({ edges: graph.edges, cuts: input.sizes.map(names) }));
    """
    found = under_node(body, {**packed_json(Circuit.from_scores(scores, edges=5)), "sizes": sizes})
    assert found["edges"] == graph.n_edges
    for size, names in zip(sizes, found["cuts"], strict=True):
        assert sorted(names) == sorted(graph.names(graph.without_dangling(scores.top(size)))), size


@needs_node
@pytest.mark.parametrize("name", GRAPHS)
def test_the_page_names_edges_as_the_library_does(name):
    graph = GRAPHS[name]
    body = """
        import { Graph } from "SRC/graph.js";
        const graph = new Graph(input.graph);
        const names = Array.from({ length: graph.edges }, (_, edge) => graph.edgeName(edge));
        const wrong = names.filter((name, edge) => graph.edgeNumber(name) !== edge);
        const none = ["logits->m0", "m9->m0", "m2->m1"].map((name) => graph.edgeNumber(name));
        console.log(JSON.stringify({ names, wrong, none }));
    """
    found = under_node(body, packed_json(Circuit.from_scores(scored(graph), edges=5)))
    assert found == {"names": graph.names(graph.edge_mask), "wrong": [], "none": [-1, -1, -1]}
