"""A rerun is the masked pass with another column of the mask, and computes only what comes after."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from random_models import CONFIGS, config_of, graphs_of, mixed_pairs, random_mask, random_model
from torch import Tensor

from edge_pruning.ablation import Patch
from edge_pruning.batch import Batch
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.rerun import Rerun
from edge_pruning.models import Adapter


def rerun_of(adapter: Adapter, graph: Graph, mask: Tensor) -> tuple[Rerun, Any]:
    """And the masked pass, as a function of the mask."""
    engine = MaskedPass(adapter, graph)
    batch = engine.batch(mixed_pairs())
    frozen = Patch().freeze(engine, batch)
    return Rerun(engine, mask, batch, frozen), lambda other: engine.logits(other, batch, frozen)


def columns_of(graph: Graph, reader: int, n: int = 3) -> Tensor:
    return torch.stack([random_mask(graph, seed)[:, reader] for seed in range(n)])


def with_column(mask: Tensor, reader: int, column: Tensor) -> Tensor:
    return torch.cat([mask[:, :reader], column[:, None].to(mask), mask[:, reader + 1 :]], 1)


OTHERS = ("stablelm, parallel", "gptj", "gemma2", "mixtral", "falcon, sequential, alibi, odd heads")


@pytest.mark.parametrize("convention", [0, 1])
@pytest.mark.parametrize("kind", [*CONFIGS, *OTHERS])
def test_every_reader_can_be_run_again_with_other_edges(kind: str, convention: int) -> None:
    adapter = random_model(config_of(kind))
    graph = graphs_of(adapter)[convention]
    mask = random_mask(graph)
    rerun, logits = rerun_of(adapter, graph, mask)
    torch.testing.assert_close(rerun.whole[0], logits(mask), rtol=0, atol=1e-12)
    for reader in range(len(graph.readers)):
        columns = columns_of(graph, reader)
        found = rerun.logits(reader, columns)
        for column, one in zip(columns, found, strict=True):
            torch.testing.assert_close(one, logits(with_column(mask, reader, column)), rtol=0, atol=1e-12)


def test_later_readers_may_be_changed_on_the_way_back() -> None:
    adapter = random_model(config_of("gpt2"))
    graph = Graph(adapter.shape)
    mask = random_mask(graph)
    rerun, logits = rerun_of(adapter, graph, mask)
    for reader in reversed(range(len(graph.readers))):
        column = columns_of(graph, reader, 1)[0] * (torch.arange(len(graph.writers)) % 3 == 0)
        mask = with_column(mask, reader, column)
        torch.testing.assert_close(rerun.logits(reader, column[None])[0], logits(mask), rtol=0, atol=1e-12)
        rerun.mask[:, reader] = column


def test_what_comes_before_the_reader_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = random_model(config_of("gpt2, one head, unscaled, relu"))
    graph, computed = Graph(adapter.shape), []
    rerun, _ = rerun_of(adapter, graph, graph.edge_mask.double())
    for verb in ("attend", "feed_forward"):
        real = getattr(adapter, verb)

        def counted(layer: int, *rest: Any, verb: str = verb, real: Any = real) -> Tensor:
            computed.append((verb, layer))
            return real(layer, *rest)

        monkeypatch.setattr(adapter, verb, counted)

    def computed_for(name: str) -> list[Any]:
        computed.clear()
        reader = graph.readers.index(name)
        rerun.logits(reader, columns_of(graph, reader))
        return list(computed)

    assert computed_for("logits") == []
    assert computed_for("m2") == [("feed_forward", 2)]
    assert computed_for("a2.h0<k>") == [("attend", 2), ("feed_forward", 2)]
    assert computed_for("m1") == [("feed_forward", 1), ("attend", 2), ("feed_forward", 2)]
    rerun.mask[graph.mlp_writer(2)] = 0
    rerun.mask[graph.head_writers(2)] = 0
    assert computed_for("m1") == [("feed_forward", 1)]


def test_a_batch_of_one_is_a_batch() -> None:
    adapter = random_model(config_of("llama"))
    graph = Graph(adapter.shape)
    engine, mask = MaskedPass(adapter, graph), random_mask(graph)
    batch = Batch.of(mixed_pairs()[:1])
    frozen = Patch().freeze(engine, batch)
    rerun = Rerun(engine, mask, batch, frozen)
    assert rerun.all_tokens.shape[1] == 5
    torch.testing.assert_close(rerun.whole[0], engine.logits(mask, batch, frozen), rtol=0, atol=1e-12)
