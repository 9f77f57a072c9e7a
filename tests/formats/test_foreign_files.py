"""Small files written by hand as other tools write them: what they mean here, and how ours look to those tools."""

from __future__ import annotations

import json
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
import torch
from foreign_files import (
    ACDC_JSON,
    AUTO_CIRCUIT,
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
from typer.testing import CliRunner

from edge_pruning.circuit import Circuit
from edge_pruning.cli.app import app
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.formats import convert, get_format, load
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
    ("csv", CSV, {}), ("graphml", GRAPHML, SHAPE), ("dot", DOT, {}), ("acdc", ACDC_JSON, SHAPE),
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


class TorchIndex:
    """As ACDC has it: pickled with both of its fields."""

    def __init__(self, parts: list[int | None]) -> None:
        self.as_index = tuple(slice(None) if part is None else part for part in parts)
        self.hashable_tuple = tuple(parts)


@pytest.fixture
def acdc_pickle(tmp_path, monkeypatch):
    """`acdc_pickle(entries)`: a file as ACDC's `save_edges` writes it. The class is not there when it is read."""

    def write(entries):
        module = types.ModuleType("acdc.TLACDCEdge")
        module.TorchIndex = TorchIndex
        with monkeypatch.context() as there:
            there.setattr(TorchIndex, "__module__", "acdc.TLACDCEdge")
            there.setitem(sys.modules, "acdc", types.ModuleType("acdc"))
            there.setitem(sys.modules, "acdc.TLACDCEdge", module)
            edges = [((a, TorchIndex(i), b, TorchIndex(j)), effect) for (a, i, b, j), effect in entries]
            (tmp_path / "edges.pkl").write_bytes(pickle.dumps(edges))
        return tmp_path / "edges.pkl"

    return write


@pytest.mark.parametrize("effect", [float, torch.tensor, np.float32])
def test_acdc_s_pickles_are_read_without_its_classes(acdc_pickle, effect):
    entries = [(edge, effect(score)) for edge, score in json.loads(ACDC_JSON)]
    circuit = load(acdc_pickle(entries), SHAPE)
    assert circuit == CIRCUIT
    if effect is float:
        assert circuit.scores.values[circuit.mask].tolist() == [2.5, 1.5, 3.0]


def test_acdc_s_subgraphs_are_read_and_not_mistaken_for_tensors(tmp_path):
    listed = [edge for edge, _ in json.loads(ACDC_JSON)]
    edges = [tuple(tuple(part) if isinstance(part, list) else part for part in edge) for edge in listed]
    gone = ("blocks.0.hook_mlp_in", (None,), "hook_embed", (None,))
    torch.save(OrderedDict([(gone, False), *((edge, True) for edge in edges)]), tmp_path / "subgraph.pth")
    found = load(tmp_path / "subgraph.pth", SHAPE)
    assert (found.edges, found.scores) == (CIRCUIT.edges, None)
    torch.save({edges[0]: 2.5}, tmp_path / "effects.pth")
    with pytest.raises(ValueError, match=r"effects.pth \(read as acdc\): expected a dictionary from edges to true"):
        load(tmp_path / "effects.pth", SHAPE)


def test_edges_into_a_head_that_acdc_cut_off_inside_are_left_out(acdc_pickle):
    def inside(head):
        return [f"blocks.0.attn.hook_{'qv'[head]}", [None, None, head], f"blocks.0.hook_{'qv'[head]}_input", [None] * 3]

    entries = [*json.loads(ACDC_JSON), ([*inside(0)], 1.0)]
    found = get_format("acdc").read(acdc_pickle(entries), SHAPE)
    assert found.circuit.edges == ["a0.h1->m0", "m0->logits"]
    assert found.notices[0] == "1 edges inside heads are no edges here"
    assert "1 edges lead to a query, key or value that was cut off" in found.notices[1]
    assert load(acdc_pickle([*entries, ([*inside(1)], 1.0)]), SHAPE) == CIRCUIT


def test_auto_circuit_ranks_by_absolute_value_and_says_no_size(read):
    found = read("auto-circuit", AUTO_CIRCUIT)
    assert found.circuit.edges == ["input->a0.h1<v>", "input->m0", "a0.h1->m0", "m0->logits"]
    assert found.circuit.scores.values[found.circuit.mask].tolist() == [2.5, 0.5, 1.5, 3.0]
    assert found.notices[0].startswith("the file contains no size: its 4 edges with a score other than 0")


def test_auto_circuit_s_truth_values_are_a_circuit(read):
    content = {name: torch.tensor(rows).abs() > 1 for name, rows in json.loads(AUTO_CIRCUIT).items()}
    assert (found := read("auto-circuit", content)).circuit == CIRCUIT
    assert (found.circuit.scores, found.notices) == (None, ())


def test_heads_that_auto_circuit_did_not_divide(read):
    content = json.loads(AUTO_CIRCUIT)
    rest = {name: rows for name, rows in content.items() if "mlp" in name or "resid" in name}
    undivided = {"blocks.0.hook_attn_in": [[0], [1.0]], **rest}
    found = read("auto-circuit", json.dumps(undivided))
    assert [edge for edge in found.circuit.edges if "<" in edge] == [f"input->a0.h1<{kind}>" for kind in "qkv"]
    assert "an edge into a head stands for three" in found.notices[0]


@pytest.mark.parametrize(("name", "content"), [
    ("x-graph.json", ACDC_JSON), ("x.json", ACDC_JSON), ("x.json", EDGES_JSON), ("x.json", EAP_IG_JSON),
])
def test_json_files_are_told_apart_by_what_is_in_them(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert load(tmp_path / name, SHAPE) == CIRCUIT


def test_torch_files_are_told_apart_by_what_is_in_them(tmp_path):
    torch.save(eap_ig_tensors(), tmp_path / "a.pt")
    torch.save({n: torch.tensor(rows) for n, rows in json.loads(AUTO_CIRCUIT).items()}, tmp_path / "b.pt")
    torch.save({n: torch.tensor(rows) for n, rows in json.loads(AUTO_CIRCUIT).items()}, tmp_path / "c.pkl")
    assert load(tmp_path / "a.pt") == CIRCUIT
    assert len(load(tmp_path / "b.pt")) == len(load(tmp_path / "c.pkl")) == 4


def test_commands_take_a_foreign_file_and_say_what_it_leaves_open(tmp_path, caplog):
    (tmp_path / "x-graph.json").write_text(ACDC_JSON)
    (tmp_path / "scores.json").write_text(AUTO_CIRCUIT)
    with pytest.raises(ValueError, match=r"not contain the number of layers and heads .* at least layers=1,heads=2"):
        load(tmp_path / "x-graph.json")
    CIRCUIT.save(tmp_path / "mine.json")
    assert load(tmp_path / "x-graph.json", like=tmp_path / "mine.json") == CIRCUIT
    load(tmp_path / "scores.json")
    assert "scores.json: the file contains no size" in caplog.text
    picture = CliRunner().invoke(app, ["draw", str(tmp_path / "x-graph.json"), "--shape", "layers=1,heads=2"])
    assert picture.exit_code == 0, picture.stderr
    assert "a0.h1" in (tmp_path / "x-graph.svg").read_text()


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


def test_acdc_s_list(written):
    entries = json.loads(written(CIRCUIT, "acdc").read_text())
    assert [edge for edge, _ in entries] == [edge for edge, _ in json.loads(ACDC_JSON)]


def test_auto_circuit_s_modules(written):
    content = torch.load(written(CIRCUIT, "auto-circuit"), weights_only=True)
    assert {name: list(matrix.shape) for name, matrix in content.items()} == {
        name: list(torch.tensor(rows).shape) for name, rows in json.loads(AUTO_CIRCUIT).items()
    }
    assert content["blocks.0.hook_v_input"].tolist() == [[0], [1]]


def test_neuronpedia_s_graph(written):
    scores = EdgeScores(GRAPH, torch.arange(32.0).view(4, 8))
    content = json.loads(written(Circuit(GRAPH, CIRCUIT.mask | GRAPH.mask(["input->a0.h1<q>"]), scores),
                                 "neuronpedia").read_text())
    assert [node["node_id"] for node in content["nodes"]] == ["input", "a0.h1", "m0", "logits"]
    assert [node["layer"] for node in content["nodes"]] == ["E", "0", "0", "1"]
    assert {(link["source"], link["target"]): link["weight"] for link in content["links"]} == {
        ("input", "a0.h1"): 5.0, ("a0.h1", "m0"): 22.0, ("m0", "logits"): 31.0
    }
    assert {"slug", "scan", "prompt", "prompt_tokens"} <= content["metadata"].keys()


def test_dot_has_hues_and_runs_upward(written):
    text = written(CIRCUIT, "dot").read_text()
    assert "rankdir=BT" in text
    assert 'color="#009e73"' in text


@pytest.mark.parametrize(("name", "notice"), [
    ("eap-ig-json", "the circuit has no scores: edges in it got the score 1, all others 0"),
    ("eap-ig-pt", "the width of the model is unknown"),
    ("edges-json", "the input is called embeds"),
])
def test_what_a_file_cannot_say_is_said(tmp_path, name, notice):
    CIRCUIT.save(tmp_path / "mine.json")
    notices = convert(tmp_path / "mine.json", tmp_path / "theirs", to=name).notices
    assert any(text.startswith(notice) for text in notices)


def replace_provenance(circuit: Circuit, **model: object) -> Circuit:
    return Circuit(circuit.graph, circuit.mask, provenance={"model": model})
