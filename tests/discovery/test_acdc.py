"""ACDC against trying one edge after the other with the literal formula, and what its ranking means."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from literal import literal_batch_logits, together
from random_models import answered, config_of, pair, random_model
from torch import Tensor
from watching import DATA, Watcher, engine, find, search, some_edges

from edge_pruning.ablation import Mean
from edge_pruning.batch import Batch
from edge_pruning.circuit import Circuit
from edge_pruning.discovery import Search, acdc, circuit_loss, get_method
from edge_pruning.discovery.acdc import Acdc
from edge_pruning.discovery.circuit_loss import CircuitLoss
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.micro_batches import OutOfMemory, in_halves
from edge_pruning.masked_pass.rerun import Rerun
from edge_pruning.objectives import get_objective

FEW = replace(DATA, pairs=tuple(answered(pair(seed, 5 + seed % 2, (4,)), seed) for seed in range(4)))


def one_by_one(method: Acdc, objective: str, on: MaskedPass, within: Tensor) -> tuple[list[Tensor], Tensor]:
    """The circuit of every threshold, and what every removal has cost, in the order of the paper's algorithm."""
    graph, mask, costs = on.graph, within.clone(), torch.full(within.shape, math.nan, dtype=torch.float64)
    batch = Batch.of(FEW.pairs)

    @torch.no_grad()
    def run(mask: Tensor) -> Tensor:
        return literal_batch_logits(on.adapter, graph, mask.double(), batch, together)

    def loss(mask: Tensor) -> float:
        return float(get_objective(objective)(whole, run(mask), batch).mean())

    whole = run(graph.edge_mask)

    now, circuits = loss(mask), []
    for threshold in method.thresholds:
        for reader in reversed(range(len(graph.readers))):
            for writer in reversed(mask[:, reader].nonzero().squeeze(1).tolist()):
                mask[writer, reader] = False
                after = loss(mask)
                costs[writer, reader] = after - now
                if after - now < threshold:
                    now = after
                else:
                    mask[writer, reader] = True
        circuits.append(mask.clone())
    return circuits, costs


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize(
    ("settings", "objective", "share"),
    [
        ({"threshold": 0.02, "sweep": 3}, "kl", 1.0),
        ({"threshold": 0.001, "sweep": 1}, "kl", 0.6),
        ({"threshold": 0.05, "sweep": 2, "factor": 8.0, "metric": "difference"}, "logit_difference", 1.0),
    ],
)
def test_it_removes_what_trying_one_by_one_removes(
    settings: dict[str, Any], objective: str, share: float, kind: str
) -> None:
    on = FusedPass(random_model(config_of(kind)))
    within, method = some_edges(on.graph, share), Acdc(**settings)
    circuits, costs = one_by_one(method, objective, on, within)
    scores = method.find(search(on, FEW, within=within))
    for threshold, expected in zip(method.thresholds, circuits, strict=True):
        assert torch.equal(Circuit.from_scores(scores, threshold=threshold).mask, expected)
        assert 0 < int(expected.sum()) < int(within.sum())
    floors = torch.full(within.shape, -math.inf, dtype=torch.float64)
    for threshold, kept in zip(method.thresholds, circuits, strict=True):
        floors[kept] = threshold
    expected_scores = torch.maximum(costs, floors)[within].float()
    torch.testing.assert_close(scores.values[within], expected_scores, rtol=1e-5, atol=1e-9)
    if method.sweep == 1:
        assert scores.natural_size == int(circuits[0].sum())


@pytest.mark.parametrize("most", [1, 3, 100])
def test_how_many_run_side_by_side_changes_nothing(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    on, method = FusedPass(random_model(config_of("gpt2"))), Acdc(threshold=0.02, sweep=2)
    expected = method.find(search(on, FEW))
    monkeypatch.setattr(circuit_loss, "MOST_SIDE_BY_SIDE", most)
    found = method.find(search(on, FEW))
    assert torch.equal(found.values.argsort(), expected.values.argsort())
    assert all(torch.equal(found.values >= t, expected.values >= t) for t in method.thresholds)


def test_means_are_those_of_all_training_pairs() -> None:
    """ACDC runs on the reference pass, which stores the outputs of heads in another form than the fused pass."""
    adapter, method, found = random_model(config_of("gpt2")), Acdc(threshold=0.02, sweep=1), []
    for on in (FusedPass(adapter), MaskedPass(adapter)):
        found.append(method.find(Search(on, FEW, Mean().fitted(on, FEW.pairs))).values)
    assert torch.equal(*found)


def test_what_does_not_fit_side_by_side_is_cut_in_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs where a circuit begins, alternatives where it is run again; down to one of each, if need be."""
    on, method, real, most = FusedPass(random_model(config_of("gpt2"))), Acdc(threshold=0.02, sweep=1), Rerun._from, 1

    def small(self: Rerun, at: int, reads: Tensor, *, skip: bool) -> Any:
        if reads.shape[1] * self.batch.size > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(self, at, reads, skip=skip)

    def never(rows: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    expected = method.find(search(on, FEW))
    monkeypatch.setattr(Rerun, "_from", small)
    torch.testing.assert_close(method.find(search(on, FEW)).values, expected.values, rtol=1e-5, atol=1e-9)
    with pytest.raises(OutOfMemory, match=r"a single alternative \(CUDA out of memory.*--dtype bfloat16"):
        in_halves(never, torch.zeros(4))


def test_a_node_that_nothing_reads_loses_its_edges_without_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, asked, real = engine().graph, [], CircuitLoss.losses

    def losses(self: CircuitLoss, reader: int, columns: Tensor) -> list[float]:
        asked.append(reader)
        return real(self, reader, columns)

    monkeypatch.setattr(CircuitLoss, "losses", losses)
    within = graph.edge_mask.clone()
    within[graph.mlp_writer(0)] = False
    scores = find(Acdc(threshold=1e-6, sweep=1), within=within)
    unread = graph.readers.index("m0")
    assert unread not in asked
    assert len(set(asked)) > 5
    assert (scores.values[within[:, unread], unread] == 0).all()


def test_initial_scores_say_which_of_a_readers_edges_is_tried_first() -> None:
    on, method = FusedPass(random_model(config_of("gpt2"))), Acdc(threshold=0.02, sweep=1)
    graph = on.graph
    latest_first = torch.arange(graph.edge_mask.numel(), 0, -1).view_as(graph.edge_mask).float()
    as_usual, turned = (
        method.find(search(on, FEW, init_scores=EdgeScores(graph, sign * latest_first))) for sign in (1, -1)
    )
    assert torch.equal(as_usual.values, method.find(search(on, FEW)).values)
    assert not torch.equal(turned.values >= 0.02, as_usual.values >= 0.02)


def test_what_is_watched_is_the_circuit_as_it_shrinks() -> None:
    watcher, method = Watcher(), Acdc(threshold=0.01, sweep=2)
    scores, readers = find(method, watcher), len(engine().graph.readers)
    assert watcher.total == len(watcher.records) == len(watcher.states) == 2 * readers
    edges = [record["edges"] for record in watcher.records]
    assert edges == sorted(edges, reverse=True)
    assert edges[-1] == int((scores.values >= 0.01).sum())
    assert [record["threshold"] for record in watcher.records] == [0.01 / 3] * readers + [0.01] * readers


def test_a_graph_that_takes_very_many_passes_is_announced(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges, method = engine().graph.n_edges, Acdc(threshold=0.01, sweep=1, batch_size=2)
    for most in (2 * edges, 2 * edges - 1):
        assert not caplog.messages
        monkeypatch.setattr(acdc, "MANY_PASSES", most)
        with caplog.at_level(logging.WARNING, "edge_pruning"):
            find(method)
    (said,) = caplog.messages
    assert f"{edges:,} edges one by one, each on 2 pairs: up to {2 * edges:,} passes of one pair" in said


def test_thresholds_that_keep_nothing_or_everything_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "edge_pruning"):
        nothing = find(Acdc(threshold=1e4, sweep=1))
        find(Acdc(threshold=0.01, sweep=1))
    assert nothing.natural_size == 0
    assert [record.message for record in caplog.records] == [
        "method 'acdc': no edge is left at threshold 1e+04; smaller ones tell edges apart"
    ]
    within, caplog_text = engine().graph.edge_mask, ""
    while not caplog_text:  # until nothing more goes
        caplog.clear()
        with caplog.at_level(logging.WARNING, "edge_pruning"):
            within = find(Acdc(threshold=0.001, sweep=1), within=within).values >= 0.001
        caplog_text = caplog.text
    expected = f"all {int(within.sum())} candidate edges are left at threshold 0.001; larger ones tell edges apart"
    assert 0 < int(within.sum()) < engine().graph.n_edges
    assert expected in caplog_text


def test_pairs_are_drawn_by_the_seed() -> None:
    some, same, others = (find(Acdc(batch_size=3, sweep=1, seed=seed)).values for seed in (1, 1, 2))
    assert torch.equal(some, same)
    assert not torch.equal(some, others)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.0}, "threshold must be positive, got 0.0"),
        ({"threshold": math.inf}, "threshold must be positive, got inf"),
        ({"sweep": 0}, "sweep must be at least 1, got 0"),
        ({"factor": 1.0}, "factor must be above 1, got 1.0"),
        ({"metric": "loss"}, "metric must be one of difference, objective, kl, .*got 'loss'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"method 'acdc': {message}"):
        get_method("acdc", **settings)


def test_a_metric_that_needs_a_wrong_answer_where_there_is_none_is_refused() -> None:
    none = replace(DATA, pairs=tuple(replace(p, wrong=((),)) for p in DATA.pairs))
    with pytest.raises(ValueError, match="method 'acdc', metric 'difference': logit_difference needs wrong answers"):
        find(Acdc(metric="difference"), data=none)
