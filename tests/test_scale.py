"""What real models cost: graphs of 8B and 13B parameters, circuits of millions of edges, vocabularies of 256k words.

Nothing here measures seconds. Work is counted in function calls and memory in bytes that Python allocates; both are
compared at two sizes, and the exponent of the growth is bounded.
"""

from __future__ import annotations

import math
import re
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, GPT2Config, PreTrainedTokenizerFast

from edge_pruning.circuit import Circuit
from edge_pruning.drawing import draw_against_truth, draw_circuit, draw_overlap
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.formats import FORMATS, convert, get_format
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.loading import model_source
from edge_pruning.loading.model_source import ModelSource
from edge_pruning.recount import recount

SMALL, LLAMA_8B, LLAMA_13B = ModelShape(16, 16, 4), ModelShape(32, 32, 8), ModelShape(40, 40)
EDGES = 400
NODES = 0.75  # a graph's nodes grow with about the 0.6th power of its edges
# These files list the circuit's edges, or are tensors.
OF_THE_CIRCUIT = {"acdc", "auto-circuit", "circuit", "dot", "eap-ig-pt", "edges-json", "graphml", "neuronpedia"}
OF_THE_GRAPH = {"csv", "eap-ig-json"}  # these list all edges


def circuit_on(shape: ModelShape, edges: int = EDGES, seed: int = 0) -> Circuit:
    """Random scores, cut to that many edges. The graph is a new one, with nothing computed yet."""
    graph = Graph(shape)
    scores = torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    return Circuit.from_scores(EdgeScores(graph, scores), edges=edges)


def calls(work: Callable[[], Any]) -> int:
    """How many functions are called, of Python or of C."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def memory(work: Callable[[], Any]) -> int:
    """The peak of what Python allocates, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def exponent(cost: Callable[[ModelShape], int], small: ModelShape = SMALL, large: ModelShape = LLAMA_8B) -> float:
    """How the cost grows with the number of edges in the graph: 0 not at all, 1 in proportion."""
    cost(small)  # imports, and what else is done once
    return math.log(cost(large) / cost(small)) / math.log(Graph(large).n_edges / Graph(small).n_edges)


# --- a small circuit: nothing is done for each edge of the graph -----------------------------------------------------


def _saved(circuit: Circuit, folder: Path) -> None:
    circuit.save(folder / "circuit.json")
    assert Circuit.load(folder / "circuit.json") == circuit


OPERATIONS: dict[str, Callable[[Circuit, Path], Any]] = {
    "counts": lambda circuit, _: circuit.counts,
    "nodes": lambda circuit, _: circuit.nodes,
    "overlap": lambda circuit, _: (circuit.edge_iou(circuit), circuit.node_iou(circuit)),
    "names": lambda circuit, _: [edge in circuit for edge in circuit.edges],
    "top": lambda circuit, _: circuit.scores and circuit.scores.top(EDGES // 2),
    "save and load": _saved,
    "recount": lambda circuit, _: recount(circuit, embeddings="split"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_work_on_a_small_circuit_does_not_grow_with_its_graph(name: str, tmp_path: Path) -> None:
    def cost(shape: ModelShape) -> int:
        circuit = circuit_on(shape)
        return calls(lambda: OPERATIONS[name](circuit, tmp_path))

    assert exponent(cost) < NODES


@pytest.mark.parametrize("name", sorted(OF_THE_CIRCUIT))
def test_files_of_a_small_circuit_visit_its_edges_only(name: str, tmp_path: Path) -> None:
    def cost(shape: ModelShape) -> int:
        wanted, _ = recount(circuit_on(shape), kv=FORMATS[name].kv)
        edges = len(wanted)
        return calls(lambda: get_format(name).write(wanted, tmp_path / "x")) // edges

    assert exponent(cost) < NODES


def test_every_format_is_tested_here() -> None:
    assert set(FORMATS) == OF_THE_CIRCUIT | OF_THE_GRAPH


@pytest.mark.parametrize("name", sorted(OF_THE_GRAPH))
def test_files_of_all_edges_are_written_piece_by_piece(name: str, tmp_path: Path) -> None:
    def circuit(shape: ModelShape) -> Circuit:
        return recount(circuit_on(shape), embeddings=FORMATS[name].embeddings, kv=FORMATS[name].kv)[0]

    def work(shape: ModelShape) -> int:
        found = circuit(shape)
        return calls(lambda: get_format(name).write(found, tmp_path / "x"))

    def peak(shape: ModelShape) -> int:
        found = circuit(shape)
        return memory(lambda: get_format(name).write(found, tmp_path / "x"))

    small, middle = ModelShape(5, 5), ModelShape(12, 12)
    assert exponent(work, small, middle) < 1.1
    assert exponent(peak, small, middle) < 0.75  # one writer's edges at a time


@pytest.mark.parametrize("name", sorted(OF_THE_GRAPH))
def test_reading_all_edges_takes_little_memory_for_each(name: str, tmp_path: Path) -> None:
    circuit, _ = recount(circuit_on(ModelShape(12, 12)), embeddings=FORMATS[name].embeddings, kv=FORMATS[name].kv)
    get_format(name).write(circuit, tmp_path / "x.json")
    used = memory(lambda: get_format(name).read(tmp_path / "x.json", asdict(circuit.graph.shape)))
    assert used / circuit.graph.n_edges < 700  # bytes


# --- graphs of 8B and 13B, circuits of every size --------------------------------------------------------------------


@pytest.mark.parametrize("shape", [LLAMA_8B, LLAMA_13B], ids=["8B", "13B"])
def test_circuits_of_large_models_are_values_like_any_other(shape: ModelShape, tmp_path: Path) -> None:
    circuit, other = circuit_on(shape, 20_000), circuit_on(shape, 20_000, seed=1)
    assert 0 < circuit.counts["edges_without_dangling"] <= 20_000  # type: ignore[operator]
    assert 0 <= circuit.edge_iou(other) < 0.1
    _saved(circuit, tmp_path)
    convert(tmp_path / "circuit.json", tmp_path / "x.pt")
    assert convert(tmp_path / "x.pt", tmp_path / "back.json", shape=asdict(shape), heads="kv").circuit == circuit


def test_dangling_edges_of_13b_take_one_sweep() -> None:
    circuit = circuit_on(LLAMA_13B, 40_000)
    _ = circuit.graph.feeds, circuit.graph.edge_mask
    assert calls(lambda: circuit.graph.without_dangling(circuit.mask)) < 100 * LLAMA_13B.layers


@pytest.fixture(scope="module")
def two_million() -> Circuit:
    return circuit_on(LLAMA_13B, 2_000_000)


def test_of_two_million_edges_the_strongest_thousand_are_drawn(two_million: Circuit) -> None:
    drawn = draw_circuit(two_million)
    assert drawn.count('class="ep-edge"') == 1_000
    assert "Shown are the strongest 1,000 of 2,000,000 edges; a node whose edges are not among them is a dot." in drawn
    assert two_million.scores is not None
    strongest = two_million.graph.names(two_million.scores.top(1_000))
    assert all(f'data-edge="{name.replace(">", "&gt;").replace("<", "&lt;")}"' in drawn for name in strongest)


def test_two_million_edges_without_scores_are_sampled(two_million: Circuit) -> None:
    drawn = draw_circuit(Circuit(two_million.graph, two_million.mask))
    assert drawn.count('class="ep-edge"') == 1_000
    assert "Shown are a sample of 1,000 of 2,000,000 edges" in drawn
    assert len(set(re.findall(r'data-edge="[^"]*a(\d+)\.h', drawn))) == 40  # from all over the graph


@pytest.mark.parametrize(("name", "most"), [("dot", "20,000: Graphviz"), ("graphml", "200,000: networkx")])
def test_two_million_edges_are_too_many_for_some_formats(
    two_million: Circuit, name: str, most: str, tmp_path: Path
) -> None:
    message = f"2,000,000 edges are too many for {name}, which takes at most {most}.*Keep fewer.*: .*csv, eap-ig"
    with pytest.raises(ValueError, match=message):
        get_format(name).write(two_million, tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "text"), [
    ("dot", 'digraph {' + 'a -> b [edge="a->b"];\n' * 20_001 + '}'),
    ("graphml", "<graphml><graph>" + "<edge />" * 200_001 + "</graph></graphml>"),
])
def test_files_of_too_many_edges_are_refused_before_they_are_parsed(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(ValueError, match=f"00,?001|20,001 edges are too many for {name}"):
        get_format(name).read(tmp_path / "x", {})


def test_a_dot_file_that_takes_long_is_announced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    edges = 'input -> m0 [edge="input->m0"];\n' * 1_001  # refused when all is read: they are one edge
    (tmp_path / "x.dot").write_text("digraph {" + edges[:31] + "# " + edges[31:].replace("\n", " ") + "\n}")
    get_format("dot").read(tmp_path / "x.dot", {"layers": 1, "heads": 1})
    assert "reading 1,001 edges of a DOT file takes about 13 seconds" in caplog.text


def test_pictures_of_two_large_circuits_show_their_best_edges() -> None:
    first, second = circuit_on(SMALL, 3_000), circuit_on(SMALL, 3_000, seed=1)
    true = Circuit(second.graph, second.mask)  # without scores
    for drawn in (draw_overlap({"a": first, "b": second}), draw_against_truth(first, true)):
        assert drawn.count('class="ep-edge"') == 1_000
        assert f"Shown are the strongest 1,000 of {len(first | second):,} edges" in drawn


# --- vocabularies ----------------------------------------------------------------------------------------------------

WORDS = 256_000


@pytest.fixture(scope="module")
def many_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tokenizer of 256,000 words."""
    folder = tmp_path_factory.mktemp("words")
    vocabulary = {f"w{i}": i for i in range(WORDS)}
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(vocabulary, "w0"))).save_pretrained(folder)
    return folder


def test_a_tokenizer_of_256k_words_is_looked_at_once(many_words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    for name in ("get_vocab", "get_added_vocab"):
        method = getattr(PreTrainedTokenizerFast, name)
        monkeypatch.setattr(PreTrainedTokenizerFast, name, lambda self, m=method: looks.append(m) or m(self))
    tokenizer = AutoTokenizer.from_pretrained(many_words)
    monkeypatch.setattr(model_source, "read", lambda *_, **__: tokenizer)
    looks.clear()
    assert ModelSource("large", str(many_words), None, {}).tokenizer(GPT2Config(vocab_size=WORDS)) is tokenizer
    assert len(looks) == 2


def test_a_tokenizer_of_256k_words_that_belongs_to_another_model(many_words: Path) -> None:
    message = "the tokenizer of model 'small' belongs to another model: 124,000 of its 256,000 tokens have ids beyond"
    with pytest.raises(ValueError, match=f"{message} the 132,000 that the model knows"):
        ModelSource("small", str(many_words), None, {}).tokenizer(GPT2Config(vocab_size=132_000))
