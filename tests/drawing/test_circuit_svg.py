"""Laws of the picture of a circuit: complete, well formed, safe, stable. Read with an XML parser, never by pixel."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections import Counter

import pytest
import torch

from edge_pruning.circuit import Circuit
from edge_pruning.drawing import draw_circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph, ModelShape

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert('1')</script> \" & ]]> \x00\x1b\ud800\ufffe \u202e reversed\n\tend"
GRAPHS = {
    "gpt2": Graph(ModelShape(4, 6)),
    "parallel": Graph(ModelShape(3, 5, parallel=True)),
    "grouped": Graph(ModelShape(4, 6, kv_heads=2)),
    "grouped parallel": Graph(ModelShape(3, 4, kv_heads=1, parallel=True)),
    "grouped, per query head": Graph(ModelShape(4, 6, kv_heads=2), kv="query"),
    "tok and pos": Graph(ModelShape(3, 4), embeddings="split"),
    "one head": Graph(ModelShape(1, 1)),
}


def random_circuit(graph: Graph, edges: int, seed: int = 0) -> Circuit:
    values = torch.randn(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    return Circuit.from_scores(EdgeScores(graph, values), edges=min(edges, graph.n_edges))


def parse(text: str) -> ET.Element:
    return ET.fromstring(text.encode())


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [element for element in root.iter() if element.get("class") == name]


def words(root: ET.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def numbers(element: ET.Element) -> list[float]:
    return [float(x) for x in re.findall(r"-?\d+\.?\d*", element.get("d", ""))]


@pytest.fixture(params=GRAPHS, ids=list(GRAPHS))
def circuit(request: pytest.FixtureRequest) -> Circuit:
    return random_circuit(GRAPHS[request.param], 40)


def test_every_edge_is_drawn_once(circuit: Circuit) -> None:
    drawn = Counter(element.get("data-edge") for element in of_class(parse(draw_circuit(circuit)), "ep-edge"))
    assert drawn == Counter(circuit.edges)


def test_every_edge_shows_its_name_and_score_to_the_pointer(circuit: Circuit) -> None:
    assert circuit.scores is not None
    scores = dict(zip(circuit.edges, circuit.scores.values[circuit.mask].tolist(), strict=True))
    for element in of_class(parse(draw_circuit(circuit)), "ep-edge"):
        name = element.get("data-edge")
        tooltip = element.findtext(f"{SVG}title")
        assert name is not None
        assert tooltip is not None
        assert tooltip.startswith(f"{name}, score {scores[name]:.4g}")


def test_nodes_with_an_edge_are_named_and_the_others_are_not(circuit: Circuit) -> None:
    graph = circuit.graph
    drawn = {element.get("data-node") for element in of_class(parse(draw_circuit(circuit)), "ep-node")}
    shared = graph.kv_readers < graph.shape.heads
    readers = [edge.partition("->")[2] for edge in circuit.edges]
    reading = {r.partition("<")[0] for r in readers if not (shared and r.endswith(("<k>", "<v>")))}
    expected = {edge.partition("->")[0] for edge in circuit.edges} | reading
    assert drawn == expected | {"logits", *graph.writers[: graph.n_embeddings]}


def test_edges_run_upward_from_their_writer_to_their_reader(circuit: Circuit) -> None:
    for element in of_class(parse(draw_circuit(circuit)), "ep-edge"):
        heights = numbers(element[-1])[1::2]
        assert heights == sorted(heights, reverse=True), element.get("data-edge")
        assert heights[0] > heights[-1]


def test_edges_leave_and_enter_vertically(circuit: Circuit) -> None:
    for element in of_class(parse(draw_circuit(circuit)), "ep-edge"):
        across = numbers(element[-1])[::2]
        assert across[0] == pytest.approx(across[1], abs=0.02)
        assert across[-1] == pytest.approx(across[-2], abs=0.02)


def test_all_coordinates_are_numbers_inside_the_picture(circuit: Circuit) -> None:
    text = draw_circuit(circuit)
    root = parse(text)
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    assert not re.search(r"[\"\s](nan|inf|-inf)[\"\s]", text, re.IGNORECASE)
    for element in of_class(root, "ep-edge"):
        x, y = numbers(element[-1])[::2], numbers(element[-1])[1::2]
        assert 0 <= min(x) <= max(x) <= width
        assert 0 <= min(y) <= max(y) <= height


def test_queries_enter_at_the_left_keys_in_the_middle_values_at_the_right() -> None:
    circuit = Circuit.from_names(GRAPHS["gpt2"], [f"input->a2.h3<{kind}>" for kind in "qkv"])
    ends = {e.get("data-edge"): numbers(e[-1])[-2] for e in of_class(parse(draw_circuit(circuit)), "ep-edge")}
    assert ends["input->a2.h3<q>"] < ends["input->a2.h3<k>"] < ends["input->a2.h3<v>"]


def test_a_shared_key_value_head_is_one_bar_for_its_group() -> None:
    circuit = Circuit.from_names(GRAPHS["grouped"], ["input->a2.h1<k>", "input->a2.h1<v>", "input->a0.h0<v>"])
    bars = of_class(parse(draw_circuit(circuit)), "ep-shared")
    assert [bar.findtext(f"{SVG}title") for bar in bars] == [
        "key-value head 0 of layer 0, read by heads 0 to 2",
        "key-value head 1 of layer 2, read by heads 3 to 5",
    ]


def test_a_node_stands_at_the_same_place_in_every_circuit_of_its_model() -> None:
    def place(circuit: Circuit) -> str | None:
        nodes = {e.get("data-node"): e for e in of_class(parse(draw_circuit(circuit)), "ep-node")}
        rectangle = nodes["a2.h3"].find(f"{SVG}rect")
        assert rectangle is not None
        return rectangle.get("x")

    graph = GRAPHS["gpt2"]
    assert place(Circuit.from_names(graph, ["a2.h3->logits"])) == place(Circuit(graph, graph.edge_mask))


def test_the_empty_circuit_is_a_picture_too() -> None:
    graph = GRAPHS["gpt2"]
    root = parse(draw_circuit(Circuit.from_names(graph, [])))
    assert not of_class(root, "ep-edge")
    assert any(line.startswith("0 edges kept, 0 without dangling ones, of ") for line in words(root))


def test_the_same_circuit_gives_the_same_text(circuit: Circuit) -> None:
    assert draw_circuit(circuit, title="twice") == draw_circuit(circuit, title="twice")


def test_dangling_edges_are_dashed_and_explained() -> None:
    circuit = Circuit.from_names(GRAPHS["gpt2"], ["input->a0.h0<v>", "a0.h0->logits", "a1.h2->logits"])
    root = parse(draw_circuit(circuit))
    dashed = [e.get("data-edge") for e in of_class(root, "ep-edge") if e[-1].get("stroke-dasharray")]
    assert dashed == ["a1.h2->logits"]
    assert any("dangling (" in line for line in words(root))


def test_stronger_edges_are_thicker_and_drawn_later(circuit: Circuit) -> None:
    assert circuit.scores is not None
    scores = dict(zip(circuit.edges, circuit.scores.values[circuit.mask].tolist(), strict=True))
    edges = of_class(parse(draw_circuit(circuit)), "ep-edge")
    assert [scores[str(edge.get("data-edge"))] for edge in edges] == sorted(scores.values())
    widths = [float(edge[-1].get("stroke-width", "")) for edge in edges]
    assert widths == sorted(widths)
    assert len(edges) == 1 or widths[0] < widths[-1]


@pytest.mark.parametrize("scores", [None, torch.ones(())], ids=["no scores", "equal scores"])
def test_edges_without_a_difference_look_alike(scores: torch.Tensor | None) -> None:
    graph = GRAPHS["gpt2"]
    values = None if scores is None else EdgeScores(graph, scores.expand(graph.edge_mask.shape))
    circuit = Circuit(graph, random_circuit(graph, 20).mask, values)
    root = parse(draw_circuit(circuit))
    assert len({edge[-1].get("stroke-width") for edge in of_class(root, "ep-edge")}) == 1
    assert not any("weakest" in line for line in words(root))


@pytest.mark.parametrize("odd", [math.inf, -math.inf, 1e38])
def test_scores_that_are_no_ordinary_numbers_do_not_break_the_picture(odd: float) -> None:
    graph = GRAPHS["gpt2"]
    circuit = random_circuit(graph, 20)
    assert circuit.scores is not None
    values = circuit.scores.values.clone()
    values[-1, -1] = odd
    mask = circuit.mask.clone()
    mask[-1, -1] = True
    edges = of_class(parse(draw_circuit(Circuit(graph, mask, EdgeScores(graph, values)))), "ep-edge")
    assert all(math.isfinite(float(edge[-1].get("stroke-width", ""))) for edge in edges)


def test_the_caption_tells_origin_size_and_convention() -> None:
    named = {"model": {"name": "gpt2"}, "task": {"name": "ioi"}, "method": {"name": "edge-pruning"}}
    origin = {**named, "ablation": "patch", "seed": 0}
    circuit = Circuit(GRAPHS["gpt2"], random_circuit(GRAPHS["gpt2"], 7).mask, provenance=origin)
    caption = " ".join(words(parse(draw_circuit(circuit, caption="Figure 3."))))
    assert "Figure 3." in caption
    assert "model: gpt2, task: ioi, method: edge-pruning, ablation: patch, seed: 0." in caption
    assert f"7 edges kept, {len(circuit.without_dangling())} without dangling ones, of 927 in the graph" in caption
    assert circuit.graph.convention in caption


def test_a_union_names_both_origins() -> None:
    one = Circuit.from_names(GRAPHS["gpt2"], ["input->logits"], task="ioi")
    other = Circuit.from_names(GRAPHS["gpt2"], ["m0->logits"], task="greater-than")
    assert "Union of task: ioi; and of task: greater-than." in words(parse(draw_circuit(one | other)))


def test_foreign_text_cannot_become_markup() -> None:
    origin = {"model": {"name": HOSTILE}, "task": HOSTILE, "method": {"settings": [HOSTILE]}, "seed": HOSTILE}
    circuit = Circuit.from_names(GRAPHS["gpt2"], ["input->logits"], **origin)
    text = draw_circuit(circuit, title=HOSTILE, caption=HOSTILE)
    root = parse(text)
    assert not list(root.iter(f"{SVG}script"))
    assert "<script" not in text
    assert not set(text) & set("\x00\x1b\ud800\ufffe\u202e")
    assert any("<script>alert('1')</script>" in line for line in words(root))


def test_long_text_is_cut_with_an_ellipsis_and_stays_inside() -> None:
    circuit = Circuit.from_names(GRAPHS["gpt2"], ["input->logits"], model="x" * 5000)
    root = parse(draw_circuit(circuit, title="long title " * 200, caption="W" * 3000))
    lines = words(root)
    assert sum(line.endswith("…") for line in lines) == 3
    assert max(map(len, lines)) < 150
    bottom = max(float(element.get("y", "0")) for element in root.iter(f"{SVG}text"))
    assert bottom < float(root.get("height", ""))


def test_the_background_is_drawn_so_that_dark_pages_do_not_show_through() -> None:
    root = parse(draw_circuit(random_circuit(GRAPHS["gpt2"], 5)))
    background = next(root.iter(f"{SVG}rect"))
    assert background.get("fill") == "#ffffff"
    assert all(background.get(side) == root.get(side) for side in ("width", "height"))
