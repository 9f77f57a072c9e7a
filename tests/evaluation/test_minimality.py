"""Minimality: losses against evaluations of their own, verdicts against known truths, and the correction by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edge_pruning.ablation import Patch, Zero
from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.evaluation import Minimality, evaluate, evaluate_minimality
from edge_pruning.evaluation.minimality import corrected_p
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.layout import Layout
from edge_pruning.models import Adapter
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet

PairFactory = Callable[..., PairSet]


def _circuit(graph: Graph, density: float, seed: int = 0) -> Circuit:
    drawn = torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    return Circuit(graph, (drawn < density) & graph.edge_mask)


def _found(losses: Tensor, edges: int | None = None) -> Minimality:
    graph = Graph(ModelShape(1, 2))
    mask = torch.zeros_like(graph.edge_mask)
    for w, r in graph.edge_mask.nonzero().tolist()[: len(losses)]:
        mask[w, r] = True
    return Minimality(Circuit(graph, mask), losses, "kl", 0.1, 0.2)


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- what is measured ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ablation", [Patch(), Zero()], ids=["patch", "zero"])
def test_the_loss_of_an_edge_is_the_difference_of_two_evaluations(
    exact_model: Adapter, random_pairs: PairFactory, ablation: Any
) -> None:
    engine, pairs = FusedPass(exact_model), random_pairs(9)
    circuit = _circuit(engine.graph, 0.5)
    found = evaluate_minimality(circuit, Setup(engine, pairs, ablation))
    whole = evaluate(circuit, Setup(engine, pairs, ablation), random_circuits=0).runs["circuit"].kl[0]
    for edge, losses in zip(circuit.edges, found.losses, strict=True):
        without = circuit - Circuit.from_names(engine.graph, [edge])
        assert len(without) == len(circuit) - 1
        expected = evaluate(without, Setup(engine, pairs, ablation), random_circuits=0).runs["circuit"].kl[0] - whole
        torch.testing.assert_close(losses, expected, atol=1e-10, rtol=0)
    idle = [row["edge"] for row in found.rows() if row["verdict"] == "idle"]
    rest = circuit - Circuit.from_names(engine.graph, idle)
    expected = evaluate(rest, Setup(engine, pairs, ablation), random_circuits=0)["circuit"]["kl"]
    assert found.without_idle == pytest.approx(expected, abs=1e-10)
    assert found.of_circuit == pytest.approx(float(whole.mean()), abs=1e-10)


def test_progress_counts_pairs_over_all_parts(
    exact_model: Adapter, random_pairs: PairFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, pairs, circuit = FusedPass(exact_model), random_pairs(9), _circuit(Graph(exact_model.shape), 0.5)
    seen: list[tuple[int, int]] = []
    whole = evaluate_minimality(circuit, Setup(engine, pairs, Patch()))
    monkeypatch.setattr("edge_pruning.evaluation.minimality.AT_ONCE", 7)
    setup = Setup(engine, pairs, Patch())
    parts = evaluate_minimality(circuit, setup, progress=lambda done, all: seen.append((done, all)))
    torch.testing.assert_close(parts.losses, whole.losses)
    assert seen == sorted(seen)
    assert seen[-1] == (9, 9)


def test_dangling_edges_are_idle_under_patch(exact_model: Adapter, random_pairs: PairFactory) -> None:
    engine = FusedPass(exact_model)
    circuit = _circuit(engine.graph, 0.2)
    dangling = set(circuit.edges) - set(circuit.without_dangling().edges)
    assert dangling
    rows = {row["edge"]: row for row in evaluate_minimality(circuit, Setup(engine, random_pairs(9), Patch())).rows()}
    for edge in dangling:
        assert (rows[edge]["verdict"], rows[edge]["p"]) == ("idle", 1)
        assert rows[edge]["loss"] == pytest.approx(0, abs=1e-9)


def test_large_circuits_are_judged_on_fewer_pairs_and_say_so(exact_model: Adapter, random_pairs: PairFactory) -> None:
    engine, circuit = FusedPass(exact_model), _circuit(Graph(exact_model.shape), 0.5)
    pairs = random_pairs(50)
    few = evaluate_minimality(circuit, Setup(engine, pairs, Patch()), max_runs=35 * len(circuit))
    assert few.losses.shape[1] == few.to_json()["examples"] == 35
    everything = evaluate_minimality(circuit, Setup(engine, pairs, Patch()))
    assert everything.losses.shape == (len(circuit), 50)
    again = evaluate_minimality(circuit, Setup(engine, pairs, Patch()), max_runs=35 * len(circuit))
    other = evaluate_minimality(circuit, Setup(engine, pairs, Patch(), seed=1), max_runs=35 * len(circuit))
    assert torch.equal(few.losses, again.losses)
    assert not torch.equal(few.losses, other.losses)


def test_the_cap_on_runs_is_a_cap_kept_by_judging_some_of_the_edges(
    exact_model: Adapter, random_pairs: PairFactory
) -> None:
    """Half of them are the strongest, the others a random sample; the losses are those of the same edges."""
    engine, pairs = FusedPass(exact_model), random_pairs(50)
    drawn = torch.rand(engine.graph.edge_mask.shape, generator=torch.Generator().manual_seed(1))
    circuit = Circuit.from_scores(EdgeScores(engine.graph, drawn), edges=40)
    some = evaluate_minimality(circuit, Setup(engine, pairs, Patch()), max_runs=30 * 12 + 1)
    assert some.losses.shape == (12, 30)
    by_strength = sorted(circuit.edges, key=lambda edge: -drawn[engine.graph.mask([edge])].item())
    assert set(by_strength[:6]) < set(some.edges)
    assert any(edge in by_strength[12:] for edge in some.edges), "the others are drawn from all of the rest"
    content = some.to_json()
    assert (content["edges"], content["of_edges"], len(content["rows"])) == (12, 40, 12)
    assert any("12 of the circuit's 40 edges were removed one at a time" in warning for warning in some.warnings)
    everything = {row["edge"]: row for row in evaluate_minimality(circuit, Setup(engine, pairs, Patch())).rows()}
    assert not set(some.edges) - set(everything)


def test_one_pass_over_the_circuit_s_nodes_serves_all_of_its_edges(
    exact_model: Adapter, random_pairs: PairFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts: list[int] = []
    of = Layout.of
    monkeypatch.setattr(Layout, "of", lambda *a, **k: layouts.append(1) or of(*a, **k))
    engine = FusedPass(exact_model)
    for density in (0.3, 0.8):
        layouts.clear()
        evaluate_minimality(_circuit(engine.graph, density), Setup(engine, random_pairs(3), Patch()))
        assert len(layouts) == 1, "however many edges there are"


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_edges_are_needed_harmful_or_idle() -> None:
    losses = torch.stack([0.5 + _noise(40), -0.8 + _noise(40, seed=1), 0.01 * _noise(40, seed=2), torch.zeros(40)])
    losses[3] = 1e-9  # within rounding, though always on the same side
    found = _found(losses.double())
    assert found.counts == {"needed": 1, "idle": 2, "harmful": 1}
    verdicts = {row["edge"]: row["verdict"] for row in found.rows()}
    assert [verdicts[edge] for edge in found.circuit.edges] == ["needed", "harmful", "idle", "idle"]
    assert [row["loss"] for row in found.rows()] == sorted((row["loss"] for row in found.rows()), reverse=True)
    assert found.rows()[0]["verdict"] == "needed"


def test_p_values_are_corrected_for_their_number() -> None:
    """Benjamini and Hochberg by hand: the i-th smallest of m is multiplied by m / i, then made monotone."""
    from scipy import stats

    losses = _noise(12, 30) + torch.linspace(0, 0.8, 12, dtype=torch.float64)[:, None]
    uncorrected = [float(stats.ttest_1samp(row, 0).pvalue) for row in losses.numpy()]
    order = sorted(range(12), key=uncorrected.__getitem__)
    expected, smallest = [0.0] * 12, 1.0
    for rank in range(12, 0, -1):
        smallest = min(smallest, uncorrected[order[rank - 1]] * 12 / rank)
        expected[order[rank - 1]] = smallest
    assert corrected_p(losses).tolist() == pytest.approx(expected)


def test_a_thousand_idle_edges_are_called_idle() -> None:
    """Without the correction about 50 of them would be called something else."""
    assert (corrected_p(_noise(1000, 100)) < 0.05).sum() <= 2


def test_a_difference_that_is_always_the_same_is_certain_and_one_pair_tells_nothing() -> None:
    assert corrected_p(torch.full((1, 9), 0.3, dtype=torch.float64)).tolist() == pytest.approx([0])
    assert corrected_p(torch.full((2, 1), 0.3, dtype=torch.float64)).tolist() == [1, 1]


def test_idle_and_harmful_edges_are_warned_about() -> None:
    idle = _found(torch.cat([0.9 + _noise(2, 40), 0.0 * _noise(1, 40)]))
    assert idle.warnings[0].startswith("33 % of the kept edges (1 of 3) have no effect that 40 pairs can show")
    assert "the KL is 0.2 instead of 0.1" in idle.warnings[0]
    assert "1 of 2 edges do harm" in _found(torch.stack([0.9 + _noise(40), -0.9 + _noise(40)])).warnings[0]
    assert not _found(0.9 + _noise(3, 60)).warnings


def test_the_json_is_plain(exact_model: Adapter, random_pairs: PairFactory) -> None:
    engine = FusedPass(exact_model)
    found = evaluate_minimality(_circuit(engine.graph, 0.4), Setup(engine, random_pairs(1), Patch()))
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["needed"] + content["idle"] + content["harmful"] == content["edges"] == len(content["rows"])
    assert content["idle_share"] == 1
    assert content["rows"][0]["standard_error"] is None
    assert "false discovery rate 0.05" in content["definition"]


def test_all_problems_are_reported_at_once(tiny_gpt2: Adapter, random_pairs: PairFactory) -> None:
    other = Graph(ModelShape(1, 3))
    with pytest.raises(ValueError, match="the circuit is of another graph") as error:
        evaluate_minimality(
            Circuit(other, torch.zeros_like(other.edge_mask)), Setup(FusedPass(tiny_gpt2), random_pairs(0), Patch()),
            max_runs=0,
        )  # fmt: skip
    for words in ("has no edges", "no pairs in split 'test'", "max_runs to be at least 1, got 0"):
        assert words in str(error.value)
