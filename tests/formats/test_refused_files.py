"""What is malformed, foreign or dangerous is refused with the reason, all problems at once, and nothing is written."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from foreign_files import ACDC_JSON, AUTO_CIRCUIT, CIRCUIT, CSV, DOT, EAP_IG_JSON, EDGES_JSON, GRAPHML, eap_ig_tensors
from typer.testing import CliRunner

from edge_pruning.circuit import Circuit
from edge_pruning.cli.app import app
from edge_pruning.formats import convert, get_format

SHAPE = {"layers": 1, "heads": 2}


def json_with(**changes):
    return json.dumps(json.loads(EAP_IG_JSON) | changes)


def tensors_with(**changes):
    return eap_ig_tensors() | changes


def edges_with(**edges):
    return json_with(edges=json.loads(EAP_IG_JSON)["edges"] | edges)


TEXTS = {
    "not JSON": ("eap-ig-json", "{", "truncated or not JSON"),
    "a list": ("eap-ig-json", "[]", "expected an object with cfg, nodes, edges, each of them an object; got list"),
    "no nodes": ("eap-ig-json", '{"cfg": {}, "edges": {}}', "expected an object with cfg, nodes, edges"),
    "cfg without a size": ("eap-ig-json", json_with(cfg={"n_layers": 1}), "does not contain the number of heads"),
    "cfg with words": ("eap-ig-json", json_with(cfg={"n_layers": "one", "n_heads": 2}), "for layers, got 'one'"),
    "a cfg that fills the memory": (
        "eap-ig-json", json_with(cfg={"n_layers": 10**9, "n_heads": 2}), "a whole number from 1 to 1,000 for layers"
    ),
    "no in_graph": ("eap-ig-json", edges_with(**{"m0->logits": {"score": 1.0}}),
                    "expected 'in_graph' for every edge, 1 have none: m0->logits"),
    "in_graph that is no truth value": (
        "eap-ig-json", edges_with(**{"m0->logits": {"score": 1.0, "in_graph": 2}}),
        r"expected true or false for each edge; 1 have other values: m0->logits \(2\)",
    ),
    "a score that is none": ("eap-ig-json", edges_with(**{"m0->logits": {"score": "high", "in_graph": True}}),
                             r"expected a finite number as score; 1 edges have none: m0->logits \('high'\)"),
    "NaN": ("eap-ig-json", EAP_IG_JSON.replace("3.0", "NaN"), r"1 edges have none: m0->logits \(nan\)"),
    "unknown nodes": (
        "eap-ig-json", json_with(nodes={"m7": True, "a": False}), "2 names are not nodes of this model: m7, a"
    ),
    "a node that says nothing": ("eap-ig-json", json_with(nodes={"m0": {}, "logits": {"in_graph": 2}}),
                                 "expected 'in_graph', true or false, for every node, 2 have none: m0, logits"),
    "neurons": ("eap-ig-json", json_with(nodes={"m0": {"in_graph": True, "neurons": [True]}}), "a circuit of neurons"),
    "an object": ("edges-json", "{}", "expected a list of pairs of names, got dict"),
    "no pairs": ("edges-json", '[["m0"], ["m0", "resid_post"], [1, 2]]',
                 r"2 entries are none: entry 1 \(\['m0'\]\), entry 3"),
    "both kinds of embeddings": (
        "edges-json", '[["embeds", "m0"], ["tok_embeds", "m0"]]', "expected one embedding writer .* got both kinds"
    ),
    "no entries of ACDC": ("acdc", '[["m0", "resid_post"], [["a", [], "b", [true]], 1]]',
                           r"2 entries are none: entry 1 \(\['m0', 'resid_post'\]\), entry 2"),
    "a circuit of positions": ("acdc", ACDC_JSON.replace("[null]", "[null, 3]", 1), "this circuit has token positions"),
    "places that ACDC has not": ("acdc", ACDC_JSON.replace("hook_mlp_in", "mlp.hook_pre"),
                                 "expected a place that reads, .*; got blocks.0.mlp.hook_pre"),
    "a head without number": ("acdc", ACDC_JSON.replace("[null, null, 1]", "[null]", 1), "the number of a head"),
    "modules of something else": ("auto-circuit", '{"blocks.0.hook_mlp_in": [1], "lm_head": [2]}',
                                  "1 names are no modules that read: lm_head"),
    "too few modules": ("auto-circuit", '{"blocks.0.hook_mlp_in": [1, 2, 3]}', "4 are missing: blocks.0.hook_k_input"),
    "modules of another shape": ("auto-circuit", AUTO_CIRCUIT.replace("[0.5, 0, 1.5]", "[0.5, 0]"),
                                 r"blocks.0.hook_mlp_in: expected scores of shape \[1, 3\], got \[2\]"),
    "scores of each position": ("auto-circuit", AUTO_CIRCUIT.replace("[[0], [0]]", "[[[0], [0]], [[0], [0]]]"),
                                "scores for each position of a prompt cannot be read"),
    "scores that are no numbers": ("auto-circuit", AUTO_CIRCUIT.replace("1.5", '"x"'),
                                   "hook_mlp_in: expected a matrix of finite numbers"),
    "a graph of features": ("neuronpedia", '{"nodes": [], "links": [{"source": "0_1_2", "target": "27_3_4"}]}',
                            "a graph of features is not one of heads and MLPs"),
    "an edge twice": (
        "edges-json", '[["m0", "resid_post"], ["m0", "resid_post"]]', "expected every edge once; 1 are listed"
    ),
    "an empty table": ("csv", "", "expected the columns .* found none, without edge, in_circuit"),
    "a table of something else": ("csv", "a,b\n1,2\n", "found a, b, without edge, in_circuit"),
    "a table with odd values": ("csv", CSV.replace("TRUE,2", "maybe,much"),
                                r"1 have other values: input->a0.h1<v> \('maybe'\); expected a finite .* \('much'\)"),
    "not XML": ("graphml", "<graphml", "not a GraphML file: ParseError"),
    "other XML": ("graphml", "<html></html>", "not a GraphML file: NetworkXError"),
    "a graph of something else": ("graphml", GRAPHML.replace("<data", "<desc").replace("</data", "</desc"),
                                  "expected the attribute 'edge' on every edge, .* 3 have none: input to a0.h1"),
    "not DOT": ("dot", "digraph {{", "not a DOT file: digraph {{"),
    "an empty DOT file": ("dot", "", "not a DOT file"),
    "DOT with odd scores": ("dot", DOT.replace("2.5", "much"), r"input->a0.h1<v> \('much'\)"),
}
TENSORS = {
    "a list": ([1, 2], "expected a dictionary with cfg, .* got list"),
    "missing parts": ({"cfg": {}}, "src_nodes, dst_nodes, edges_scores, edges_in_graph, nodes_in_graph are missing"),
    "wrong kinds": (tensors_with(src_nodes=3, edges_scores=[1]),
                    "expected src_nodes to be a list of names, got int; expected edges_scores to be a tensor"),
    "wrong sizes": (tensors_with(edges_in_graph=torch.zeros(2, 2)),
                    r"edges_in_graph .* of shape \[4, 8\].*; got \[2, 2\]"),
    "unknown names": (tensors_with(src_nodes=["input", "a0.h0", "a0.h9", "mlp"]),
                      r"2 unknown \(a0.h9, mlp\); 2 missing \(a0.h1, m0\)"),
    "a name twice": (tensors_with(dst_nodes=["logits"] * 8), "missing"),
    "edges that are none": (tensors_with(edges_in_graph=torch.ones(4, 8)), "are not edges of the graph"),
    "NaN": (tensors_with(edges_scores=torch.full((4, 8), torch.nan)), "13 edge scores are not finite numbers"),
    "neurons": (tensors_with(neurons_in_graph=torch.ones(4, 8)), "a circuit of neurons"),
}


@pytest.mark.parametrize(("name", "content", "reason"), TEXTS.values(), ids=TEXTS)
def test_malformed_files(tmp_path, name, content, reason):
    (tmp_path / "file").write_text(content)
    with pytest.raises(ValueError, match=f"(?s){reason}"):
        convert(tmp_path / "file", tmp_path / "out.json", read_as=name, to="circuit", shape=size_for(name))
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(("content", "reason"), TENSORS.values(), ids=TENSORS)
def test_malformed_tensor_files(tmp_path, content, reason):
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(ValueError, match=f"file.pt.*{reason}"):
        convert(tmp_path / "file.pt", tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def size_for(name):
    return SHAPE if name in ("edges-json", "graphml", "dot", "acdc") else {}


@pytest.mark.parametrize("name", ["eap-ig-json", "edges-json", "csv", "graphml", "dot"])
def test_every_unknown_name_is_reported_at_once(tmp_path, name):
    content = {"eap-ig-json": EAP_IG_JSON, "edges-json": EDGES_JSON, "csv": CSV, "graphml": GRAPHML, "dot": DOT}[name]
    for arrow in ("->", "-&gt;", '", "'):
        content = content.replace(f"m0{arrow}", f"m8{arrow}").replace(f"a0.h1{arrow}m0", f"b{arrow}m0")
    (tmp_path / "file").write_text(content)
    with pytest.raises(ValueError, match="2 names are not edges of this graph") as refused:
        get_format(name).read(tmp_path / "file", SHAPE)
    assert "b->m0" in str(refused.value)
    assert "m8->logits" in str(refused.value)


class Malicious:
    """What a pickle can do: run anything when it is opened."""

    def __reduce__(self):
        return print, ("this must never be printed",)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_torch_file_with_code_in_it_is_refused(tmp_path, capsys, legacy):
    torch.save(tensors_with(cfg=Malicious()), tmp_path / "file.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match="refused: it holds more than tensors .* opening it would run"):
        convert(tmp_path / "file.pt", tmp_path / "out.json")
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".pickle"])
def test_pickles_are_refused(tmp_path, capsys, suffix):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ValueError, match="would run code|runs code"):
        convert(path, tmp_path / "out.json")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x80\x02", b"plain text"])
def test_broken_torch_files(tmp_path, content):
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(ValueError, match="file.pt .*(not a torch file|refused)"):
        convert(tmp_path / "file.pt", tmp_path / "out.json")


# --- what was asked for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "options", "reason"), [
    ("x.json", {"to": "eap-json"}, "there is no format 'eap-json'; nearest: eap-ig-json"),
    ("x.json", {}, "x.json would be circuit again; choose another one with --to: acdc, auto-circuit, eap-ig-json"),
    ("x.xml", {}, "no format has this suffix"),
    ("mine.json", {"to": "csv"}, "would be overwritten by its own conversion"),
    ("x.csv", {"signed": True}, "signed applies to scores of EAP-IG and MIB, but this is from circuit to csv"),
    ("x.csv", {"edges": 3}, "expected scores to choose 3 edges by, but the file has none"),
    ("x.csv", {"shape": {"layers": 2, "heads": 2, "size": 1}},
     "a shape has no field 'size' .*; the file says layers=1, but layers=2 was given"),
    ("x.csv", {"heads": "all"}, "expected embeddings 'joint' or 'split' and kv 'kv' or 'query'"),
    ("x.csv", {"read_as": "dot"}, r"mine.json \(read as dot\): not a DOT file"),
    ("x.csv", {"like": "missing.json"}, "missing.json does not exist"),
])
def test_requests_that_make_no_sense(tmp_path, target, options, reason):
    CIRCUIT.save(tmp_path / "mine.json")
    with pytest.raises(ValueError, match=f"(?s){reason}"):
        convert(tmp_path / "mine.json", tmp_path / target, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]


@pytest.mark.parametrize(("name", "reason"), [("gone.json", "does not exist"), ("x.txt", "unknown format")])
def test_files_that_are_not_there_or_of_no_known_kind(tmp_path, name, reason):
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(ValueError, match=f"{name}.*{reason}"):
        convert(tmp_path / name, tmp_path / "out.csv")


def test_a_json_file_of_no_known_kind(tmp_path):
    (tmp_path / "x.json").write_text('{"format": "edge-pruning/evaluation"}')
    with pytest.raises(ValueError, match=r"x.json: unknown format; .* name it with --from"):
        convert(tmp_path / "x.json", tmp_path / "out.csv")


# --- the command ------------------------------------------------------------------------------------------------------


def command(*arguments):
    return CliRunner().invoke(app, ["convert", *map(str, arguments)], prog_name="edge-pruning")


def test_the_command_says_what_it_wrote_and_notes_on_stderr(tmp_path):
    (tmp_path / "mib.json").write_text(EAP_IG_JSON)
    shape = ("--shape", "kv_heads=1,parallel=false", "--heads", "kv")
    result = command(tmp_path / "mib.json", tmp_path / "c.json", *shape)
    assert result.exit_code == 0, result.stderr
    assert "circuit, read as eap-ig-json. 3 edges, 3 without dangling ones, of 11" in result.stdout
    assert "Note: 2 scores were negative" in result.stderr
    assert Circuit.load(tmp_path / "c.json").edges == ["input->a0.h0<v>", "a0.h1->m0", "m0->logits"]


def test_the_command_reports_errors_without_a_traceback(tmp_path):
    (tmp_path / "mib.json").write_text(EAP_IG_JSON)
    result = command(tmp_path / "mib.json", tmp_path / "c.json", "--shape", "12")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--shape: expected NAME=VALUE, got '12'" in result.stderr
    assert "Traceback" not in result.stderr
