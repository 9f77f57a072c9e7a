"""What an evaluation holds: its JSON, its rows, its tables, and how often it runs the model."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from judging import NUMBERS, SHOWN, PairFactory, drawn_circuit, judged
from rich.console import Console
from torch import Tensor

from edge_pruning.ablation import Patch, Zero
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.cli.report import print_evaluation
from edge_pruning.evaluation import Evaluation, faithfulness
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.metrics import kl_divergence
from edge_pruning.models import Adapter
from edge_pruning.numbers import NUMBERS as NUMBER_TABLE
from edge_pruning.numbers import Comparison, Number


def test_the_json_is_plain_and_holds_what_was_promised(tiny_llama: Adapter, random_pairs: PairFactory) -> None:
    pairs = random_pairs(6)
    found = judged(tiny_llama, pairs, 0.4, seed=7, random_circuits=10)
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    for run in ("model", "circuit", "empty", "random", "without_dangling", "complement"):
        for name in NUMBERS:
            assert isinstance(content[run][name], float), (run, name)
            assert [type(end) for end in content[run]["interval"][name]] == [float, float]
            assert list(content[run]["quantiles"][name]) == ["5", "25", "50", "75", "95"]
        assert content[run]["standard_error"].keys() == SHOWN
    counts = drawn_circuit(Graph(tiny_llama.shape), 0.4).counts
    assert {key: content["circuit"][key] for key in counts} == counts
    assert content["circuit"]["examples"] == content["random"]["examples"] == 6
    facts = {"task": "random", "split": "test", "metric": "logit_difference", "examples": 6, "data_hash": pairs.hash,
             "ablation": "patch", "dtype": "float32", "seed": 7}  # fmt: skip
    assert {key: content[key] for key in facts} == facts
    assert content["convention"] == found.circuit.convention
    assert content["definitions"].keys() >= {*NUMBERS, "standard_error", "quantiles", "spread", "discretisation_gap"}
    assert content["random"]["circuits"] == 10
    assert content["random"]["edges"] == content["circuit"]["edges"]
    assert content["random"]["spread"].keys() == SHOWN
    assert content["soft"] is None
    assert content["discretisation_gap"] is None


def test_an_evaluation_comes_back_from_its_json(exact_model: Adapter, random_pairs: PairFactory) -> None:
    soft = torch.full(Graph(exact_model.shape).edge_mask.shape, 0.5)
    for pairs in (random_pairs(6), random_pairs(6, wrong=False)):
        found = judged(exact_model, pairs, soft_mask=soft)
        content = json.loads(json.dumps(found.to_json(), allow_nan=False))
        loaded = Evaluation.from_json(content)
        assert json.dumps(loaded.to_json()) == json.dumps(content), "the same bits, in the same order"
        assert (loaded == found, loaded == content) == (True, True)
        assert loaded.circuit.kl == found.circuit.kl == loaded["circuit"]["kl"] == content["circuit"]["kl"]
        assert (loaded.circuit.edges, loaded["split"], loaded.get("nothing")) == (found.circuit.edges, "test", None)
        assert loaded.random is not None
        assert loaded.random.circuits == 2


def test_files_of_earlier_versions_still_load(tiny_gpt2: Adapter, random_pairs: PairFactory) -> None:
    """They do not say how many examples stood behind each run."""
    content = json.loads(json.dumps(judged(tiny_gpt2, random_pairs()).to_json()))
    for run in ("model", "circuit", "empty", "random", "without_dangling", "complement"):
        del content[run]["examples"]
    assert Evaluation.from_json(content).to_json() == content


@pytest.mark.parametrize("changed", [{"format": "edge-pruning/curve"}, {"version": 99}])
def test_other_files_are_no_evaluations(tiny_gpt2: Adapter, random_pairs: PairFactory, changed: dict[str, Any]) -> None:
    content = judged(tiny_gpt2, random_pairs()).to_json() | changed
    with pytest.raises(ValueError, match="expected an evaluation"):
        Evaluation.from_json(content)
    with pytest.raises(AttributeError, match="there is no number 'bleu'; choose from accuracy, .*kl"):
        _ = judged(tiny_gpt2, random_pairs()).circuit.bleu


def test_masks_that_differ_in_dangling_edges_only_are_one_run(
    exact_model: Adapter, random_pairs: PairFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under patch they change nothing; under zero they do."""
    ran: list[int] = []
    logits = FusedPass.logits
    monkeypatch.setattr(FusedPass, "logits", lambda self, *a, **k: ran.append(1) or logits(self, *a, **k))
    pairs = random_pairs(3, lengths=(6,))
    for ablation, runs in ((Patch(), 3), (Zero(), 4)):
        ran.clear()
        found = judged(exact_model, pairs, 0.12, ablation=ablation, random_circuits=0)
        assert found.circuit.edges > found.circuit.edges_without_dangling
        assert len(ran) == runs, "circuit, complement, empty (and without dangling edges)"


def test_on_large_graphs_baselines_are_measured_until_they_are_known_well_enough(
    exact_model: Adapter, random_pairs: PairFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = random_pairs(12)
    soft = torch.rand(Graph(exact_model.shape).edge_mask.shape, generator=torch.Generator().manual_seed(1))
    whole = judged(exact_model, pairs, 0.3, random_circuits=9, soft_mask=soft)
    for name, value in {"LARGE": 0, "LARGE_PAIRS": 5, "BASELINE_ERROR": 1e9}.items():
        monkeypatch.setattr(faithfulness, name, value)
    few = judged(exact_model, pairs, 0.3, random_circuits=9, soft_mask=soft)
    assert few.random is not None
    assert (few.random.circuits, few.random.examples, few.circuit.examples) == (3, 5, 12)
    assert few.circuit.mean == whole.circuit.mean
    assert few.soft is not None
    assert few.soft.examples == few.complement.examples == 5
    for name in ("soft", "complement"):
        some = few.runs[name]
        torch.testing.assert_close(some.kl, whole.runs[name].kl[:, some.ids])
    gap = whole.runs["circuit"].kl[:, some.ids].mean() - few.soft.kl
    assert few.discretisation_gap == pytest.approx(float(gap))
    assert Evaluation.from_json(few.to_json()) == few
    out = Console(record=True, width=200)
    print_evaluation(few, out)
    assert "all edges but the circuit's: on 5 of the 12 pairs" in out.export_text(clear=False)
    assert "random circuits of the same size: 3 of them on 5 of the 12 pairs" in out.export_text()
    run = few.runs["random"]
    assert run.ids is not None
    assert whole.random is not None
    torch.testing.assert_close(run.kl, whole.runs["random"].kl[:3, run.ids])
    expected = (run.difference - whole.runs["empty"].difference[:, run.ids]).mean() / whole.scale.span
    assert few.random.faithfulness == pytest.approx(float(expected))
    monkeypatch.setattr(faithfulness, "BASELINE_ERROR", 0)
    every = judged(exact_model, pairs, 0.3, random_circuits=9)
    assert every.random is not None
    assert every.random.circuits == 9, "they are never known well enough"


def test_on_large_graphs_baselines_share_frozen_values_and_keep_none(
    exact_model: Adapter, random_pairs: PairFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen, kept = [], []
    freeze, keep = Patch.freeze, FrozenCache._keep
    monkeypatch.setattr(Patch, "freeze", lambda *a, **k: frozen.append(a[2].size) or freeze(*a, **k))
    monkeypatch.setattr(FrozenCache, "_keep", lambda *a: kept.append(a) or keep(*a))
    for name, value in {"LARGE": 0, "LARGE_PAIRS": 5, "BASELINE_ERROR": 0.0}.items():
        monkeypatch.setattr(faithfulness, name, value)
    judged(exact_model, random_pairs(12), 0.3, random_circuits=9)
    assert sum(frozen) == 12 + 3 * 5, "all pairs once; some of them with the complement and three baselines, then twice"
    assert not kept


def test_a_new_number_is_one_entry_of_the_table(
    tiny_gpt2: Adapter, random_pairs: PairFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reversed_kl(run: Comparison) -> Tensor:
        return kl_divergence(run.logits, run.reference.logits, run.batch)

    entry = Number("reversed_kl", "reversed KL", "Reversed KL", "nats", "KL(run || model)", lambda metric: reversed_kl)
    monkeypatch.setitem(NUMBER_TABLE, "reversed_kl", entry)
    found = judged(tiny_gpt2, random_pairs())
    assert found.model.reversed_kl == 0
    assert found.circuit.reversed_kl > 0
    assert found.to_json()["definitions"]["reversed_kl"] == "KL(run || model)"
    assert Evaluation.from_json(found.to_json()).circuit.reversed_kl == found.circuit.reversed_kl
    out = Console(record=True, width=200)
    print_evaluation(found, out)
    assert "reversed KL" in out.export_text()


def test_templates_are_broken_down(exact_model: Adapter, random_pairs: PairFactory) -> None:
    found = judged(exact_model, random_pairs(8))
    assert {name: numbers["n"] for name, numbers in found.templates.items()} == {"t0": 3, "t1": 3, "t2": 2}
    for name, run in (("kl", "circuit"), ("accuracy", "circuit"), ("model_accuracy", "model")):
        total = sum(numbers["n"] * numbers[name] for numbers in found.templates.values())
        assert total / 8 == pytest.approx(found[run][name.removeprefix("model_")])
    assert found.to_json()["templates"]["t2"]["n"] == 2


def test_rows_stand_side_by_side(exact_model: Adapter, random_pairs: PairFactory) -> None:
    soft = torch.full(Graph(exact_model.shape).edge_mask.shape, 0.5)
    found = judged(exact_model, random_pairs(), soft_mask=soft)
    rows = found.rows()
    runs = ["model", "soft", "circuit", "without_dangling", "complement", "random", "empty"]
    assert [row["run"] for row in rows] == runs
    n = found.circuit.edges_total
    k = found.circuit.edges
    sizes = [n, n / 2, k, found.circuit.edges_without_dangling, n - k, k, 0]
    assert [row["edges"] for row in rows] == sizes
    assert rows[2]["kl"] == found["circuit"]["kl"]


def test_progress_counts_pairs(exact_model: Adapter, random_pairs: PairFactory) -> None:
    seen: list[tuple[int, int]] = []
    judged(exact_model, random_pairs(5), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)
    assert seen == sorted(seen)


def test_no_random_circuits_is_null(exact_model: Adapter, random_pairs: PairFactory) -> None:
    found = judged(exact_model, random_pairs(), random_circuits=0)
    assert found.to_json()["random"] is None


def test_a_soft_mask_of_zeros_and_ones_is_the_circuit(exact_model: Adapter, random_pairs: PairFactory) -> None:
    soft = drawn_circuit(Graph(exact_model.shape), 0.6).mask.float()
    found = judged(exact_model, random_pairs(), soft_mask=soft)
    assert found.discretisation_gap == 0
    assert found["soft"].mean == found["circuit"].mean
