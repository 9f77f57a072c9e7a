"""The scale of faithfulness: its error, pairs without a wrong answer, and the random circuits beside it."""

from __future__ import annotations

import pytest
import torch
from judging import PairFactory, answered_by, judged, seeded

from edge_pruning.evaluation.faithfulness import random_mask
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.models import Adapter
from edge_pruning.pair import Pair
from edge_pruning.tasks.task import PairSet

# --- faithfulness --------------------------------------------------------------------------------------------------


def test_shares_of_the_pairs_average_to_the_faithfulness(exact_model: Adapter, random_pairs: PairFactory) -> None:
    found = judged(exact_model, random_pairs())
    shares = found.scale.shares(found.runs["circuit"])
    assert float(shares.mean()) == pytest.approx(found["circuit"]["faithfulness"])


def test_the_error_of_faithfulness_is_that_of_resampled_pairs(
    exact_model: Adapter, random_pairs: PairFactory
) -> None:
    found = judged(exact_model, answered_by(exact_model, random_pairs(150)), 0.85, random_circuits=0)
    c, m, e = (found.runs[run].difference[0] for run in ("circuit", "model", "empty"))
    drawn = torch.randint(len(c), (4000, len(c)), generator=seeded(0))
    f = (c[drawn].mean(1) - e[drawn].mean(1)) / (m[drawn].mean(1) - e[drawn].mean(1))
    middle = float(f.quantile(0.84) - f.quantile(0.16)) / 2
    assert found["circuit"].standard_error["faithfulness"] == pytest.approx(middle, rel=0.15)


def test_without_wrong_answers_kl_takes_the_place_of_the_difference(
    exact_model: Adapter, random_pairs: PairFactory
) -> None:
    found = judged(exact_model, random_pairs(wrong=False))
    kl, empty = found["circuit"]["kl"], found["empty"]["kl"]
    assert found["circuit"]["faithfulness"] == pytest.approx(1 - kl / empty)
    assert found["model"]["faithfulness"] == 1
    assert found["empty"]["faithfulness"] == 0
    assert found.scale.span == pytest.approx(empty)
    content = found.to_json()
    assert "no pair has a wrong answer" in content["definitions"]["faithfulness"]
    assert content["circuit"]["logit_difference"] is None
    assert not any("no wrong answer" in warning for warning in found.warnings)


def test_pairs_without_a_wrong_answer_are_left_out_of_the_difference(
    exact_model: Adapter, random_pairs: PairFactory
) -> None:
    some, none = random_pairs(5), random_pairs(3, wrong=False, seed=9)
    both = PairSet("mixed", "test", some.metric, some.pairs + none.pairs, ())
    mixed, alone = judged(exact_model, both), judged(exact_model, some)
    for name in ("logit_difference", "faithfulness"):
        assert mixed["circuit"][name] == pytest.approx(alone["circuit"][name], abs=1e-10)
        assert mixed["circuit"].standard_error[name] == pytest.approx(alone["circuit"].standard_error[name], abs=1e-10)
        assert mixed["circuit"].quantiles[name] == pytest.approx(alone["circuit"].quantiles[name], abs=1e-10)
    assert any("3 of 8 pairs have no wrong answer, so no logit_difference" in warning for warning in mixed.warnings)


@pytest.mark.parametrize("wrong", [True, False])
def test_where_there_is_nothing_to_explain_faithfulness_is_null(
    exact_model: Adapter, random_pairs: PairFactory, wrong: bool
) -> None:
    same = [Pair(p.clean, p.clean, p.positions, p.answers, p.wrong) for p in random_pairs(wrong=wrong).pairs]
    found = judged(exact_model, PairSet("same", "test", "logit_difference", tuple(same), ()))
    content = found.to_json()
    for run in ("model", "circuit", "empty", "random"):
        assert content[run]["faithfulness"] is None
        assert content[run]["quantiles"]["faithfulness"] == dict.fromkeys(("5", "25", "50", "75", "95"))
    assert any("faithfulness is undefined" in warning for warning in content["warnings"])


# --- random circuits -----------------------------------------------------------------------------------------------


def test_random_circuits_have_the_size_of_the_circuit_and_a_seed_of_their_own() -> None:
    graph = Graph(ModelShape(2, 4, 2))
    masks = [random_mask(graph, 17, seeded(seed)) for seed in (0, 1)]
    assert [int(mask.sum()) for mask in masks] == [17, 17]
    assert not (masks[0] & ~graph.edge_mask).any()
    assert not torch.equal(*masks)
    assert torch.equal(random_mask(graph, 17, seeded(1)), masks[1])
    assert torch.equal(random_mask(graph, graph.n_edges, seeded(0)), graph.edge_mask)


def test_every_edge_is_drawn_equally_often() -> None:
    graph, generator = Graph(ModelShape(1, 2)), seeded(0)
    counts = torch.stack([random_mask(graph, 5, generator) for _ in range(2000)]).sum(0)[graph.edge_mask]
    expected = 2000 * 5 / graph.n_edges
    assert (counts - expected).abs().max() < 6 * expected**0.5


def test_random_numbers_follow_from_the_seed(exact_model: Adapter, random_pairs: PairFactory) -> None:
    pairs = random_pairs()
    state = torch.random.get_rng_state()
    a, b, c = (judged(exact_model, pairs, seed=seed) for seed in (0, 0, 1))
    assert a.to_json() == b.to_json()
    assert a["random"]["kl"] != c["random"]["kl"]
    assert torch.equal(torch.random.get_rng_state(), state)
