"""HAP is attribution, a cut, and Edge Pruning within it, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from watching import DATA, SIZE, Watcher, engine, find, search, some_edges

from edge_pruning.discovery import get_method, get_preset
from edge_pruning.discovery.eap import Eap
from edge_pruning.discovery.eap_ig import EapIg
from edge_pruning.discovery.hap import Hap
from edge_pruning.discovery.hard_concrete import HardConcrete
from edge_pruning.discovery.soft_top_k import SoftTopK
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.masked_pass.fused import FusedPass

SHORT: dict[str, Any] = {"steps": 12, "batch_size": 4}


def test_with_every_edge_a_candidate_it_is_edge_pruning() -> None:
    soft_top_k = find(SoftTopK(**SHORT, seed=3))
    assert torch.equal(find(Hap(**SHORT, candidates=1.0, seed=3)).values, soft_top_k.values)


def test_it_runs_the_method_that_it_is_given() -> None:
    settings: dict[str, Any] = {"steps": 2700, "batch_size": 5, "learning_rate": 0.3}
    hap = Hap(pruning="edge-pruning", seed=2, **settings)
    assert hap.pruning_value == HardConcrete(seed=2, **settings)
    assert Hap().pruning_value == get_preset("default")
    assert (Hap().one_run_ranks_all, hap.one_run_ranks_all) == (True, False)


@pytest.mark.parametrize("attribution", [Eap(), EapIg(metric="kl")])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_candidates_are_the_attributions_best_within_the_given_ones(attribution: Any, share: float) -> None:
    within = some_edges(engine().graph, 0.8)
    hap = Hap(attribution.name, attribution.metric, share, **SHORT)
    wanted = round(share * int(within.sum()))
    kept = attribution.find(search(within=within)).top(wanted)
    scores = hap.find(search(within=within))
    assert torch.equal(scores.values.isfinite(), kept)
    assert not (kept & ~within).any()
    assert torch.equal(scores.values, SoftTopK(**SHORT).find(search(within=kept)).values)
    few = replace(DATA, pairs=DATA.pairs[:4])
    of_few = attribution.find(search(data=few, within=within)).top(wanted)
    assert not torch.equal(of_few, kept)
    hap = replace(hap, attributed=4, steps=1)
    assert torch.equal(hap.find(search(within=within)).values.isfinite(), of_few)


def test_what_is_no_candidate_is_never_run_while_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    masks, real = [], FusedPass.run

    def run(self: FusedPass, mask: Tensor, *rest: Any) -> Any:
        masks.append(mask.detach().clone() > 0)
        return real(self, mask, *rest)

    monkeypatch.setattr(FusedPass, "run", run)
    kept = Hap(candidates=0.3, **SHORT).find(search()).values.isfinite()
    trained = masks[-SHORT["steps"] :]
    assert len(masks) > len(trained)
    assert all(torch.equal(mask, kept) for mask in trained)


def test_a_warm_start_begins_with_the_attributions_ranking() -> None:
    hap = Hap(warm_start=True, candidates=0.4, steps=1, learning_rate=1e-4)
    best = find(Eap()).top(SIZE)
    assert torch.equal(find(hap).top(SIZE), best)
    assert not torch.equal(find(Hap(candidates=0.4, steps=1, learning_rate=1e-4)).top(SIZE), best)


def test_initial_scores_take_the_place_of_the_attribution() -> None:
    graph = engine().graph
    drawn = EdgeScores(graph, torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(5)))
    found = find(Hap(candidates=0.4, steps=1, learning_rate=1e-4), init_scores=drawn)
    assert torch.equal(found.values.isfinite(), drawn.top(round(0.4 * graph.n_edges)))
    assert torch.equal(found.top(SIZE), drawn.top(SIZE))
    with pytest.raises(ValueError, match="the initial scores are of another graph"):
        find(Hap(), init_scores=EdgeScores(Graph(ModelShape(1, 1)), torch.zeros(3, 5)))


def test_where_everything_is_a_candidate_nothing_is_attributed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Eap, "find", None)
    assert find(Hap(**SHORT, candidates=1.0)).n_candidates == engine().graph.n_edges


def test_training_is_what_is_watched() -> None:
    watcher = Watcher()
    find(Hap(**SHORT), watcher)
    assert [record["step"] for record in watcher.records] == list(range(1, 13))


def test_a_size_that_does_not_fit_into_the_candidates_is_refused() -> None:
    with pytest.raises(ValueError, match="method 'hap': candidates=0.1 keeps 8 edges, fewer than the wanted 12; raise"):
        find(Hap(candidates=0.1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": 0.0}, "candidates must be above 0 and at most 1 .a share of all edges., got 0.0"),
        ({"attributed": 0}, "attributed must be at least 1 .pairs., got 0"),
        ({"candidates": 1.1}, "candidates must be above 0 and at most 1"),
        ({"attribution": "acdc"}, "attribution must be eap or eap-ig, got 'acdc'"),
        ({"pruning": "best"}, "pruning must be soft-top-k or edge-pruning, got 'best'"),
        ({"attribution": "eap", "metric": "kl"}, "method 'eap': metric must be one of .*where their gradient is 0"),
        ({"steps": 100, "pruning": "edge-pruning"}, "method 'edge-pruning': target_steps must be"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_method("hap", **settings)
