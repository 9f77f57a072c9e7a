"""What is written comes back. Every format in the registry runs through this by itself."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.formats import FORMATS, convert, get_format, load
from edge_pruning.formats.networkx_graph import to_networkx
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.recount import recount

SHAPES = (ModelShape(1, 1), ModelShape(2, 3), ModelShape(2, 4, 2), ModelShape(2, 4, 1, parallel=True))
HOLDS_ALL_SCORES = {"circuit", "eap-ig-json", "eap-ig-pt", "csv"}
HOLDS_SHAPE = {"circuit", "graphml", "dot"}  # the others cannot say everything about heads that share keys and values

conventions = st.sampled_from(["joint", "split"]), st.sampled_from(["kv", "query"])
graphs = st.builds(Graph, st.sampled_from(SHAPES), *conventions)
circuits = st.builds(
    lambda graph, seed, share, low, scored: random_circuit(graph, seed, share, low, scored),
    graphs, st.integers(0, 10_000), st.sampled_from([0.0, 0.2, 1.0]), st.sampled_from([0.0, -1.0]), st.booleans(),
)


def random_circuit(graph: Graph, seed: int, share: float, low: float = 0.0, scored: bool = True) -> Circuit:
    values = low + torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    circuit = Circuit.from_scores(EdgeScores(graph, values), edges=int(share * graph.n_edges))
    return circuit if scored else Circuit(graph, circuit.mask)


def through(name: str, circuit: Circuit, **options: bool) -> Circuit:
    """Written and read again, in the way of counting that the format has."""
    cls = FORMATS[name]
    wanted, _ = recount(circuit, embeddings=cls.embeddings, kv=cls.kv)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x" + cls.suffixes[0])
        get_format(name, **options).write(wanted, path)
        shape = {} if name in HOLDS_SHAPE else asdict(wanted.graph.shape)
        return get_format(name, **options).read(path, shape).circuit


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=15)
@given(circuit=circuits)
def test_the_edges_come_back(name, circuit):
    wanted, _ = recount(circuit, embeddings=FORMATS[name].embeddings, kv=FORMATS[name].kv)
    found = through(name, wanted)
    assert found.edges == wanted.edges
    if name not in ("edges-json", "acdc"):  # without an edge from an embedding, they do not say how many there are
        assert found == wanted


@pytest.mark.parametrize("name", sorted(HOLDS_ALL_SCORES))
@settings(deadline=None, max_examples=15)
@given(circuit=circuits)
def test_the_scores_come_back(name, circuit):
    wanted, _ = recount(circuit, embeddings=FORMATS[name].embeddings, kv=FORMATS[name].kv)
    found = through(name, wanted, signed=True)
    if wanted.scores is None:
        assert found.scores is None
    else:
        edges = wanted.graph.edge_mask
        assert torch.equal(found.scores.values[edges], wanted.scores.values[edges])


@pytest.mark.parametrize("name", ["graphml", "dot"])
def test_networks_hold_the_scores_of_the_circuit(name):
    circuit = random_circuit(Graph(ModelShape(2, 3)), 5, 0.3, -0.5)
    found = through(name, circuit)
    assert torch.equal(found.scores.values[circuit.mask], circuit.scores.values[circuit.mask])
    assert (found.scores.values[~circuit.mask] == -torch.inf).all()


@pytest.mark.parametrize("name", ["eap-ig-json", "eap-ig-pt"])
def test_the_best_edges_are_the_best_by_absolute_value_too(name):
    """Scores with a sign, and edges that were no candidates: EAP-IG ranks by absolute value and must find ours."""
    graph = Graph(ModelShape(2, 3))
    values = torch.randn(graph.edge_mask.shape, generator=torch.Generator().manual_seed(0)) - 1
    values[0] = -torch.inf
    circuit = Circuit.from_scores(EdgeScores(graph, values), edges=20)
    found = through(name, circuit)
    assert found == circuit
    assert (found.scores.values[graph.edge_mask] >= 0).all()
    assert torch.equal(EdgeScores(graph, found.scores.values.abs()).top(20), circuit.mask)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_what_it_is_and_is_known_by_its_suffix(name):
    cls = FORMATS[name]
    assert cls.name == name
    assert cls.summary
    assert all("." in suffix and suffix == suffix.lower() for suffix in cls.suffixes)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_written_whole_or_not_at_all(name, tmp_path, monkeypatch):
    """Every format goes through `files`, which replaces a file only when the new one is complete."""
    circuit = random_circuit(Graph(ModelShape(2, 3)), 1, 0.3, scored=False)
    path = tmp_path / ("x" + FORMATS[name].suffixes[0])
    path.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="previous version was kept"):
        get_format(name).write(circuit, path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_json_files_are_told_apart_by_what_is_in_them(tmp_path):
    circuit = random_circuit(Graph(ModelShape(2, 3)), 2, 0.4)
    circuit.save(tmp_path / "circuit.json")
    for name in ("eap-ig-json", "edges-json"):
        first = convert(tmp_path / "circuit.json", tmp_path / "other.json", to=name)
        back = convert(tmp_path / "other.json", tmp_path / "back.json", like=tmp_path / "circuit.json")
        assert (first.written_as, back.read_as, back.written_as) == (name, name, "circuit")
        assert Circuit.load(tmp_path / "back.json") == circuit


def test_a_circuit_does_not_overwrite_the_scores_of_a_run_in_the_same_folder(tmp_path):
    circuit = random_circuit(Graph(ModelShape(2, 3)), 2, 0.4)
    circuit.save(tmp_path / "circuit.json")
    before = (tmp_path / "scores.safetensors").read_bytes()
    random_circuit(Graph(ModelShape(1, 2)), 2, 0.4).save(tmp_path / "elsewhere" / "circuit.json")
    convert(tmp_path / "elsewhere" / "circuit.json", tmp_path / "x.csv")
    convert(tmp_path / "x.csv", tmp_path / "x.json")
    assert (tmp_path / "scores.safetensors").read_bytes() == before
    assert load(tmp_path / "x.json").graph.shape == ModelShape(1, 2)


def test_scores_of_a_foreign_file_can_be_cut_anew(tmp_path):
    circuit = random_circuit(Graph(ModelShape(2, 3)), 2, 0.4)
    circuit.save(tmp_path / "circuit.json")
    convert(tmp_path / "circuit.json", tmp_path / "x.pt")
    found = convert(tmp_path / "x.pt", tmp_path / "seven.json", edges=7).circuit
    assert torch.equal(found.mask, circuit.scores.top(7))


def test_recounting_a_circuit_of_ours_is_a_conversion_too(tmp_path):
    circuit = random_circuit(Graph(ModelShape(1, 4, 2)), 2, 0.4)
    circuit.save(tmp_path / "circuit.json")
    done = convert(tmp_path / "circuit.json", tmp_path / "wide.json", embeddings="split", heads="query")
    assert load(tmp_path / "wide.json").graph == Graph(ModelShape(1, 4, 2), "split", "query")
    assert len(done.notices) == 2


def test_the_networkx_graph_has_paths_from_the_input_to_the_logits():
    import networkx

    circuit = random_circuit(Graph(ModelShape(2, 4, 2)), 4, 0.5)
    multigraph = to_networkx(circuit)
    expanded, _ = recount(circuit, kv="query")
    assert {key for _, _, key in multigraph.edges(keys=True)} == set(expanded.edges)
    assert set(multigraph) == circuit.nodes
    on_a_path = networkx.descendants(multigraph, "input") & networkx.ancestors(multigraph, "logits")
    assert on_a_path == circuit.without_dangling().nodes - {"input", "logits"}
