"""The script's own parts under node: what lies between measured sizes, searches, paths, states from links."""

from __future__ import annotations

import base64
import math
import zlib

import pytest
from under_node import needs_node, under_node

pytestmark = needs_node
SHAPE = {"shape": {"layers": 13, "heads": 2, "kv_heads": 2, "parallel": False}, "embeddings": "joint", "kv": "kv"}


def test_between_two_measured_sizes_numbers_are_interpolated_and_say_so():
    body = """
        import { at } from "SRC/measured.js";
        console.log(JSON.stringify(input.sizes.map((size) => at(input.points, size, ["kl", "accuracy"]))));
    """
    points = [
        {"edges": 10, "kl": 4.0, "accuracy": 0.5, "split": "test"},
        {"edges": 1000, "kl": 2.0, "accuracy": None, "split": "test"},
    ]
    below, exact, between, above = under_node(body, {"points": points, "sizes": [5, 10, 100, 2000]})
    assert (below, above) == (None, None)
    assert exact["measured"] is True
    assert between["measured"] is False
    assert between["from"] == [10, 1000]
    assert math.isclose(between["point"]["kl"], 3.0)
    assert between["point"]["accuracy"] is None


@pytest.mark.parametrize(("text", "found"), [
    ("a1", ["a1.h0->m1", "m0->a1.h0<q>"]),
    ("a12", ["m0->a12.h1<v>"]),
    ("m0->", ["m0->a1.h0<q>", "m0->a12.h1<v>"]),
    ("->logits", ["m12->logits"]),
    ("<v>", ["m0->a12.h1<v>"]),
    ("h1", ["m0->a12.h1<v>"]),
    ("a1.h0->m1", ["a1.h0->m1"]),
    ("nothing", []),
])  # fmt: skip
def test_a_search_finds_edges_by_the_beginnings_of_their_nodes(text, found):
    body = """
        import { searched } from "SRC/paths.js";
        const fits = searched(input.text);
        console.log(JSON.stringify(input.edges.filter((edge) => fits(...edge.split("->"))).sort()));
    """
    edges = ["a1.h0->m1", "m0->a1.h0<q>", "m0->a12.h1<v>", "m12->logits"]
    assert under_node(body, {"text": text, "edges": edges}) == found


def test_paths_between_two_nodes_are_all_edges_on_any_of_them_in_either_order():
    body = """
        import { Graph } from "SRC/graph.js";
        import { around, between } from "SRC/paths.js";
        const graph = new Graph(input.graph);
        const edges = input.edges.map((name) => {
            const edge = graph.edgeNumber(name);
            const from = graph.writerOf(edge);
            return { name, from, to: graph.readerOf(edge, from) };
        });
        const node = (name) => graph.nodeIndex.get(name);
        const names = (found) => found.map(({ name }) => name).sort();
        console.log(JSON.stringify([
            names(between(graph, edges, node("m0"), node("m3"))),
            names(between(graph, edges, node("m3"), node("m0"))),
            names(between(graph, edges, node("a1.h1"), node("m3"))),
            names(around(graph, edges, node("a1.h0"))),
        ]));
    """
    edges = "input->m0 m0->a1.h0<k> a1.h0->m2 m2->m3 m0->m3 m0->a1.h1<q> m3->logits a1.h0->logits".split()
    paths, backward, none, near = under_node(body, {"graph": SHAPE, "edges": edges})
    assert paths == backward == ["a1.h0->m2", "m0->a1.h0<k>", "m0->m3", "m2->m3"]
    assert none == []
    assert near == ["a1.h0->logits", "a1.h0->m2", "m0->a1.h0<k>"]


def test_a_state_from_a_link_keeps_what_is_valid_and_drops_the_rest():
    body = """
        import { checkedState, startState } from "SRC/model.js";
        const circuits = [{ kind: "found" }, { kind: "truth" }];
        console.log(JSON.stringify([...input.map((given) => checkedState(given, circuits)), startState()]));
    """
    good = {"circuit": 0, "other": 1, "size": 50, "hide": ["q"], "pins": ["m0"], "labels": {"m0": "copies"}}
    bad = {"circuit": 1, "other": 7, "size": "50", "hide": ["x"], "show": 10**9, "groups": [{}], "what": 1}
    bad["labels"] = {"m0": {}}
    kept, dropped, nothing, start = under_node(body, [good, bad, "text"])
    assert kept == {**start, **good}
    assert dropped == nothing == start


def test_rows_of_texts_end_at_the_query_and_rows_of_images_hold_every_position():
    body = """
        import { Patterns } from "SRC/heads.js";
        const patterns = new Patterns(input, inflate);
        console.log(JSON.stringify([
            [0, 1, 2].map((pair) => patterns.queries(pair)),
            patterns.row(0, "circuit", 0, 1), patterns.row(1, "model", 1, 1), patterns.row(1, "circuit", 2, 0),
        ]));
    """
    many, few = ({"grid": [1, 2], "queries": n, "pictures": ["", ""]} for n in (3, 1))
    three = ["x", "y", "z"]
    pairs = [{"clean": ["a", "b"]}, {"clean": three, "images": many}, {"clean": three, "images": few}]
    data = bytes(range(2 * 2 * (3 + 9 + 3)))
    weights = base64.b64encode(zlib.compress(data)).decode()
    given = {"runs": ["model", "circuit"], "heads": [{}, {}], "pairs": pairs, "weights": weights}
    queries, text, image, only = under_node(body, given)
    assert queries == [2, 3, 1]
    for row, start, length in ((text, 15 + 1, 2), (image, 2 * 15 + 3 + 3, 3), (only, 3 * 15 + 3 + 9, 3)):
        assert [round(255 * weight) for weight in row] == list(range(start, start + length))
