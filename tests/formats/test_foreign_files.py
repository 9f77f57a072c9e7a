"""Small files written by hand as other tools write them: what they mean here, and how ours look to those tools."""

from __future__ import annotations

import json

import pytest
import torch
from foreign_files import (
    CIRCUIT,
    CSV,
    DOT,
    DST,
    EAP_IG_JSON,
    EDGES,
    EDGES_JSON,
    EDGES_JSON_GPT2,
    GRAPH,
    GRAPHML,
    SCORES,
    SRC,
    eap_ig_tensors,
)

from edge_pruning.circuit import Circuit
from edge_pruning.formats import convert, get_format
from edge_pruning.graph import Graph, ModelShape

SHAPE = {"layers": 1, "heads": 2}


@pytest.fixture
def read(tmp_path):
    """`read(name, content)`: what a file of this content holds."""

    def found(name, content, shape=(), **options):
        path = tmp_path / "file"
        if isinstance(content, str):
            path.write_text(content)
        else:
            torch.save(content, path)
        return get_format(name, **options).read(path, dict(shape))

    return found


# --- in ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "content", "shape"), [
    ("eap-ig-json", EAP_IG_JSON, {}), ("eap-ig-pt", eap_ig_tensors(), {}), ("edges-json", EDGES_JSON, SHAPE),
    ("csv", CSV, {}), ("graphml", GRAPHML, SHAPE), ("dot", DOT, {}),
])
def test_the_circuit_of_a_foreign_file(read, name, content, shape):
    assert read(name, content, shape).circuit == CIRCUIT


@pytest.mark.parametrize(("name", "content"), [("eap-ig-json", EAP_IG_JSON), ("eap-ig-pt", eap_ig_tensors())])
@pytest.mark.parametrize("signed", [False, True])
def test_scores_of_eap_ig_rank_by_absolute_value_unless_signed(read, name, content, signed):
    found = read(name, content, signed=signed)
    scores = {name: found.circuit.scores.values[GRAPH.mask([name])].item() for name in SCORES}
    assert scores == (SCORES if signed else {name: abs(score) for name, score in SCORES.items()})
    assert ["2 scores were negative" in notice for notice in found.notices] == ([] if signed else [True])


def test_eap_ig_s_older_nodes_are_plain_truth_values(read):
    content = json.loads(EAP_IG_JSON)
    content["nodes"] = {name: about["in_graph"] for name, about in content["nodes"].items()}
    assert read("eap-ig-json", json.dumps(content)).circuit == CIRCUIT


def test_binary_circuits_of_mib_have_no_scores(read):
    content = json.loads(EAP_IG_JSON)
    for about in content["edges"].values():
        del about["score"]
    assert read("eap-ig-json", json.dumps(content)).circuit.scores is None


def test_a_node_said_to_be_outside_although_it_has_edges_is_mentioned(read):
    content = json.loads(EAP_IG_JSON)
    content["nodes"]["m0"]["in_graph"] = False
    assert read("eap-ig-json", json.dumps(content)).notices[0] == (
        "1 nodes are marked as outside although they have edges: m0"
    )


def test_tensors_in_another_order_are_read_by_their_names(read):
    content = eap_ig_tensors()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    content["dst_nodes"] = [DST[i] for i in order]
    for key in ("edges_scores", "edges_in_graph"):
        content[key] = content[key][:, order]
    assert read("eap-ig-pt", content).circuit == CIRCUIT


def test_the_shape_of_grouped_heads_comes_from_the_user(read):
    content = json.loads(EAP_IG_JSON)
    circuit = read("eap-ig-json", json.dumps(content), {"kv_heads": 1}).circuit
    assert circuit.graph == Graph(ModelShape(1, 2, 1), kv="query")
    assert circuit.edges == EDGES


def test_edge_pruning_s_names_in_both_dialects(read):
    split = read("edges-json", EDGES_JSON_GPT2, SHAPE).circuit
    assert split.graph == Graph(ModelShape(1, 2), "split")
    assert split.edges == ["tok->a0.h1<v>", "pos->a0.h1<v>", "a0.h1->m0", "m0->logits"]
    assert read("edges-json", EDGES_JSON_GPT2.replace("tok_embeds", "token_embeds"), SHAPE).circuit == split


def test_embeddings_that_were_not_masked_are_mentioned(read):
    assert read("edges-json", '[["m0", "resid_post"]]', SHAPE).notices[0].startswith("no edge leaves an embedding")


def test_a_table_s_scores(read):
    scores = read("csv", CSV).circuit.scores
    known = {name: scores.values[GRAPH.mask([name])].item() for name in GRAPH.names(scores.values > -torch.inf)}
    assert known == {"input->a0.h0<v>": 0.5, "input->a0.h1<v>": 2.0, "a0.h1->m0": 1000.0, "m0->logits": -1.0}


def test_a_table_of_some_edges_needs_a_shape(read):
    part = "edge,in_circuit\nm0->logits,true\n"
    assert read("csv", part, SHAPE).circuit.edges == ["m0->logits"]
    with pytest.raises(ValueError, match=r"lists 1 edges, not all of a graph\); give the shape"):
        read("csv", part)


# --- out --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path):
    """`written(circuit, name)`: the path of the circuit in that format."""

    def path(circuit, name, **options):
        circuit.save(tmp_path / "mine.json")
        convert(tmp_path / "mine.json", tmp_path / "theirs", to=name, **options)
        return tmp_path / "theirs"

    return path


def test_eap_ig_finds_every_field_that_it_looks_for(written):
    """`cfg` makes the graph, `nodes` and `edges` are looked up in it by name, every edge has both fields."""
    content = json.loads(written(replace_provenance(CIRCUIT, d_model=8), "eap-ig-json").read_text())
    assert content["cfg"] == json.loads(EAP_IG_JSON)["cfg"]
    assert content["nodes"] == json.loads(EAP_IG_JSON)["nodes"]
    assert content["edges"].keys() == json.loads(EAP_IG_JSON)["edges"].keys()
    assert all(about == {"score": float(name in EDGES), "in_graph": name in EDGES}
               for name, about in content["edges"].items())


def test_eap_ig_tensors_open_with_weights_only_and_have_its_order(written):
    content = torch.load(written(CIRCUIT, "eap-ig-pt"), weights_only=True)
    expected = eap_ig_tensors()
    assert (content["src_nodes"], content["dst_nodes"]) == (SRC, DST)
    assert torch.equal(content["edges_in_graph"], expected["edges_in_graph"])
    assert torch.equal(content["nodes_in_graph"], expected["nodes_in_graph"])
    assert content["edges_scores"].dtype == torch.float32
    assert content.keys() == expected.keys()


def test_edge_pruning_s_pairs(written):
    assert json.loads(written(CIRCUIT, "edges-json").read_text()) == json.loads(EDGES_JSON)
    split = written(CIRCUIT, "edges-json", embeddings="split").read_text()
    assert sorted(json.loads(split)) == sorted(json.loads(EDGES_JSON_GPT2))


def test_dot_has_hues_and_runs_upward(written):
    text = written(CIRCUIT, "dot").read_text()
    assert "rankdir=BT" in text
    assert 'color="#009e73"' in text


@pytest.mark.parametrize(("name", "notice"), [
    ("eap-ig-json", "the circuit has no scores: edges in it got the score 1, all others 0"),
    ("eap-ig-pt", "the circuit does not say how wide its model is"),
    ("edges-json", "the input is called embeds"),
])
def test_what_a_file_cannot_say_is_said(tmp_path, name, notice):
    CIRCUIT.save(tmp_path / "mine.json")
    notices = convert(tmp_path / "mine.json", tmp_path / "theirs", to=name).notices
    assert any(text.startswith(notice) for text in notices)


def replace_provenance(circuit: Circuit, **model: object) -> Circuit:
    return Circuit(circuit.graph, circuit.mask, provenance={"model": model})
