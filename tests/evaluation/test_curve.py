"""Curves: every point is the evaluation of its circuit, levels are found, and the JSON says what was done."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from edge_pruning.ablation import Mean, Patch, Zero
from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.evaluation import Curve, curve, evaluate, evaluate_curve
from edge_pruning.evaluation.curve import Ranking, default_sizes
from edge_pruning.evaluation.curve_numbers import SHARES, Level, first_reached, levels_of, mib_sizes, size_between
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.models import Adapter
from edge_pruning.pair import Pair
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet

PairFactory = Callable[..., PairSet]
NUMBERS = ("kl", "logit_difference", "accuracy", "exact_match", "faithfulness")


def _scores(graph: Graph, seed: int = 0) -> EdgeScores:
    return EdgeScores(graph, torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed)))


def _curve(adapter: Adapter, pairs: PairSet, **options: Any) -> Curve:
    engine = FusedPass(adapter)
    setup = Setup(engine, pairs, options.pop("ablation", Patch()), seed=options.pop("seed", 0))
    return evaluate_curve(_scores(engine.graph), setup, **options)


@pytest.mark.parametrize("ablation", [Patch(), Zero(), Mean()], ids=["patch", "zero", "mean"])
def test_every_point_is_the_evaluation_of_its_circuit_without_dangling_edges(
    exact_model: Adapter, random_pairs: PairFactory, ablation: Any
) -> None:
    engine, pairs = FusedPass(exact_model), random_pairs(9)
    ablation = ablation.fitted(engine, random_pairs(12, seed=5).pairs)
    found = _curve(exact_model, pairs, ablation=ablation, sizes=[5, 40, 75], seed=2)
    for row in found.rows():
        circuit = Circuit.from_scores(_scores(engine.graph), edges=row["edges"])
        expected = evaluate(circuit, Setup(engine, pairs, ablation, seed=2), random_circuits=0)
        assert row["edges_without_dangling"] == circuit.counts["edges_without_dangling"]
        for name in NUMBERS:
            assert row[name] == pytest.approx(expected["without_dangling"][name], abs=1e-9)
        interval = found.summaries[row["edges"]].interval["faithfulness"]
        assert interval == pytest.approx(expected["without_dangling"].interval["faithfulness"], abs=1e-9)


def test_areas_are_those_of_the_faithfulness_at_mibs_sizes(exact_model: Adapter, random_pairs: PairFactory) -> None:
    """Written out once more, from one evaluation per size; a share below one edge is the empty circuit."""
    engine, pairs = FusedPass(exact_model), random_pairs(9)
    found = _curve(exact_model, pairs)
    f = []
    for size in mib_sizes(engine.graph.n_edges):
        circuit = Circuit.from_scores(_scores(engine.graph), edges=size)
        f.append(evaluate(circuit, Setup(engine, pairs, Patch()), random_circuits=0)["circuit"]["faithfulness"])
    assert f[:2] == [0, 0]
    widths = [after - before for before, after in zip(SHARES, SHARES[1:], strict=False)]
    heights = [(before + after) / 2 for before, after in zip(f, f[1:], strict=False)]
    distances = [(abs(1 - before) + abs(1 - after)) / 2 for before, after in zip(f, f[1:], strict=False)]
    assert found.areas is not None
    assert found.areas["cpr"] == pytest.approx(sum(w * h for w, h in zip(widths, heights, strict=True)))
    assert found.areas["cmd"] == pytest.approx(sum(w * d for w, d in zip(widths, distances, strict=True)))


def test_all_edges_are_the_model_and_its_empty_end_is_nothing(exact_model: Adapter, random_pairs: PairFactory) -> None:
    found = _curve(exact_model, random_pairs())
    assert found.summaries[found.ranking.graph.n_edges]["faithfulness"] == pytest.approx(1, abs=1e-5)
    assert found.summaries[0]["faithfulness"] == 0
    assert found.sizes[-1] == found.ranking.graph.n_edges
    assert found.sizes == sorted(set(found.sizes))


# --- levels ----------------------------------------------------------------------------------------------------------


def test_levels_are_reached_where_they_say_and_not_before(exact_model: Adapter, random_pairs: PairFactory) -> None:
    """Against every size there is."""
    pairs = random_pairs(12)
    found = _curve(exact_model, pairs)
    n = found.ranking.graph.n_edges
    all_sizes = _curve(exact_model, pairs, sizes=range(1, n + 1))
    empty = all_sizes.summaries[0]["kl"]
    for level, row in zip(levels_of("kl"), found.levels(), strict=True):
        size = row["edges"]
        assert level.reached(all_sizes.summaries[size].mean, empty)
        below = max([k for k in found.sizes if k < size], default=0)
        assert size - below <= max(1, 0.05 * size)
        assert below == 0 or not level.reached(all_sizes.summaries[below].mean, empty)
        assert row["stays"] == all(level.reached(all_sizes.summaries[k].mean, empty) for k in found.sizes if k > size)
        assert row["edges_without_dangling"] <= size


@pytest.mark.parametrize("target", [1, 2, 17, 99, 100])
def test_halving_closes_in_on_the_size(target: int) -> None:
    sizes, steps = [1, 10, 100], 0
    while (size := size_between(sizes, lambda k: k >= target)) is not None:
        assert size not in sizes
        sizes, steps = sorted([*sizes, size]), steps + 1
    found = first_reached(sizes, lambda k: k >= target)
    assert found is not None
    assert target <= found <= max(target + 1, 1.06 * target)
    assert steps <= 7


def test_a_level_that_is_not_reached_has_no_size() -> None:
    assert first_reached([1, 2, 3], lambda k: False) is None
    assert size_between([1, 2, 3], lambda k: False) is None
    assert not Level("faithfulness", 0.9).reached({"faithfulness": float("nan"), "kl": 0.0}, 1.0)
    assert Level("kl", 0.1).reached({"faithfulness": 0.0, "kl": 0.1}, 1.0)
    assert not Level("kl", 0.1).reached({"faithfulness": 0.0, "kl": 0.11}, 1.0)


# --- sizes and order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 9, 300, 32_491, 3_877_661])
def test_default_sizes_reach_from_few_edges_to_all(n: int) -> None:
    sizes = default_sizes(n)
    assert max(sizes) == n
    assert set(mib_sizes(n)) <= sizes
    ordered = sorted(sizes - {0})
    assert all(high / low < 1.5 or high - low == 1 for low, high in zip(ordered, ordered[1:], strict=False) if low > 8)
    assert len(sizes) < 45


def test_edges_are_ranked_by_score_then_in_graph_order_and_non_candidates_come_last() -> None:
    graph = Graph(ModelShape(1, 2))
    places = graph.edge_mask.nonzero().tolist()
    values = torch.full(graph.edge_mask.shape, -torch.inf)
    for place, value in zip(places, [1.0, 3.0, 3.0, -5.0], strict=False):
        values[tuple(place)] = value
    ranking = Ranking(EdgeScores(graph, values))
    added = [(ranking.mask(k + 1) ^ ranking.mask(k)).nonzero().tolist()[0] for k in range(graph.n_edges)]
    assert added == [places[i] for i in [1, 2, 0, 3, *range(4, len(places))]]
    assert torch.equal(ranking.mask(graph.n_edges), graph.edge_mask)
    assert ranking.ties == 2


def test_scores_of_some_edges_only_are_warned_about(exact_model: Adapter, random_pairs: PairFactory) -> None:
    engine = FusedPass(exact_model)
    values = _scores(engine.graph).values
    few = EdgeScores(engine.graph, values.masked_fill(values < 0.5, -torch.inf))
    found = evaluate_curve(few, Setup(engine, random_pairs(), Patch()))
    assert any(f"only {few.n_candidates} of {engine.graph.n_edges} edges have a score" in w for w in found.warnings)
    assert found.areas is not None
    ties = EdgeScores(engine.graph, (values > 0.5).float())
    assert any("share their score" in w for w in evaluate_curve(ties, Setup(engine, random_pairs(), Patch())).warnings)


# --- the report ------------------------------------------------------------------------------------------------------


def test_the_json_is_plain_and_says_conditions_and_both_counts(tiny_llama: Adapter, random_pairs: PairFactory) -> None:
    pairs = random_pairs(6)
    content = json.loads(json.dumps(_curve(tiny_llama, pairs).to_json(), allow_nan=False))
    assert content["format"] == "edge-pruning/curve"
    assert (content["ablation"], content["data_hash"], content["dtype"]) == ("patch", pairs.hash, "float32")
    assert content["convention"] == Graph(tiny_llama.shape).convention
    for point in content["points"]:
        assert {"edges", "edges_without_dangling", "interval", *NUMBERS} <= point.keys()
    assert content["points"][0]["edges"] == 0
    assert {"cpr", "cmd", "log_cpr", "log_cmd", "levels", "kl", "ablation"} <= content["definitions"].keys()
    assert [row["level"] for row in content["levels"]] == [level.name for level in levels_of("kl")]
    assert any("only 6 pairs" in warning for warning in content["warnings"])


def test_without_mibs_sizes_there_are_no_areas(tiny_gpt2: Adapter, random_pairs: PairFactory) -> None:
    found = _curve(tiny_gpt2, random_pairs(), sizes=[10, 20])
    assert found.areas is None
    assert found.to_json()["cpr"] is None
    assert found.sizes == [10, 20]


def test_where_there_is_nothing_to_explain_areas_are_null(exact_model: Adapter, random_pairs: PairFactory) -> None:
    same = [Pair(p.clean, p.clean, p.positions, p.answers, p.wrong) for p in random_pairs().pairs]
    found = _curve(exact_model, PairSet("same", "test", "logit_difference", tuple(same), ()))
    assert found.to_json()["cpr"] is None
    assert found.levels()[0]["edges"] is None
    assert any("faithfulness is undefined" in warning for warning in found.warnings)


@pytest.mark.parametrize("sizes", [[0], [-3, 5], [10_000], []])
def test_impossible_sizes_and_other_graphs_are_refused_together(
    tiny_gpt2: Adapter, random_pairs: PairFactory, sizes: list[int]
) -> None:
    other = Graph(ModelShape(1, 3))
    with pytest.raises(ValueError, match="the scores are of another graph than the engine") as error:
        evaluate_curve(_scores(other), Setup(FusedPass(tiny_gpt2), random_pairs(0), Patch()), sizes=sizes)
    for words in ("expected sizes from 1 to", "has no pairs"):
        assert words in str(error.value)


def test_scores_that_are_not_numbers_are_refused() -> None:
    graph = Graph(ModelShape(1, 3))
    values = torch.zeros(graph.edge_mask.shape)
    values[0, 0] = torch.nan
    with pytest.raises(ValueError, match="1 edge scores are NaN"):
        EdgeScores(graph, values)


def test_curves_of_large_graphs_are_measured_on_some_of_the_pairs_and_say_so(
    exact_model: Adapter, random_pairs: PairFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curve, "LARGE", 0)
    monkeypatch.setattr(curve, "LARGE_PAIRS", 5)
    found = _curve(exact_model, random_pairs(12), sizes=[5, 40])
    assert found.to_json()["examples"] == found.runs[5].examples == 5
    assert _curve(exact_model, random_pairs(4), sizes=[5]).protocol.examples == 4
