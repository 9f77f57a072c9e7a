"""A pass restricted to candidate edges gives what the whole pass gives, and computes less."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from random_models import CONFIGS, config_of, graphs_of, mixed_pairs, random_mask, random_model
from torch import Tensor

from edge_pruning.ablation import Ablation, Patch, Zero
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.layout import Layout
from edge_pruning.masked_pass.masked_pass import MaskedPass


def candidates(graph: Graph, share: float, seed: int = 0) -> Tensor:
    drawn = torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    return (drawn < share) & graph.edge_mask


def run(engine: MaskedPass, mask: Tensor, ablation: Ablation) -> tuple[Tensor, Tensor]:
    """Logits, and a gradient in every edge's mask."""
    leaf, batch = mask.clone().requires_grad_(), engine.batch(mixed_pairs())
    logits = engine.logits(leaf, batch, ablation.freeze(engine, batch))
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    (logits * weights).sum().backward()
    assert leaf.grad is not None
    return logits.detach(), leaf.grad


@pytest.mark.usefixtures("exact_norm")
@pytest.mark.parametrize("ablation", [Patch(), Zero()], ids=lambda a: a.name)
@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 0.3])
@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_left_out_changes_neither_logits_nor_gradients(kind: str, share: float, ablation: Ablation) -> None:
    adapter = random_model(config_of(kind))
    for cls, graph, seed in ((MaskedPass, 0, 0), (FusedPass, 0, 1), (FusedPass, 1, 2)):
        whole = cls(adapter, graphs_of(adapter)[graph])
        within = candidates(whole.graph, share, seed)
        restricted = whole.restricted(within, consistent=ablation.consistent)
        mask = random_mask(whole.graph, seed) * within
        (logits, gradient), (expected, its_gradient) = run(restricted, mask, ablation), run(whole, mask, ablation)
        torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(gradient[within], its_gradient[within], rtol=1e-9, atol=1e-10)


def test_only_the_heads_and_mlps_on_a_path_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = random_model(config_of("gpt2"))
    engine = FusedPass(adapter)
    within = engine.graph.mask(["input->a0.h1<v>", "a0.h1->m1", "m1->logits", "input->a1.h2<q>", "a0.h0->logits"])
    heads, mlps = [], []
    mix, finish = adapter.mix, adapter.mlp
    monkeypatch.setattr(adapter, "mix", lambda layer, q, *rest: heads.append((layer, len(q))) or mix(layer, q, *rest))
    monkeypatch.setattr(adapter, "mlp", lambda layer: mlps.append(layer) or finish(layer))
    restricted, batch = engine.restricted(within, consistent=True), engine.batch(mixed_pairs())
    frozen = Patch().freeze(restricted, batch)
    heads.clear()
    mlps.clear()
    restricted.logits(within.double(), batch, frozen)
    assert heads == [(0, 1)]
    assert set(mlps) == {1}
    computed, mixed = restricted.layout.computed.nonzero(), restricted.layout.mixed.nonzero()
    assert [engine.graph.writers[w] for w in computed] == ["input", "a0.h1", "m1"]
    assert [engine.graph.readers[r] for r in mixed] == ["a0.h1<v>", "m1", "logits"]


def test_an_unreached_head_is_computed_where_its_ablated_value_is_not_its_own() -> None:
    graph = Graph(ModelShape(2, 2))
    within = graph.mask(["a0.h1->logits"])
    kept = Layout.of(graph, within, consistent=True, heads_apart=True)
    assert (kept.heads(0), kept.n_writers) == ([], 1)
    zero = Layout.of(graph, within, consistent=False, heads_apart=True)
    assert (zero.heads(0), zero.heads(1), zero.has_mlp(0)) == ([1], [], False)


def test_one_head_means_all_where_heads_cannot_be_told_apart() -> None:
    graph = Graph(ModelShape(2, 4, 2))
    within = graph.mask(["input->a1.h1<v>", "a1.h2->logits"])  # heads 2 and 3 share key-value head 1
    apart, together = (Layout.of(graph, within, consistent=True, heads_apart=apart) for apart in (True, False))
    assert (apart.heads(0), apart.heads(1), apart.kv_heads(1)) == ([], [2], [1])
    assert (together.heads(0), together.heads(1), together.kv_heads(1)) == ([], [0, 1, 2, 3], [0, 1])


def test_what_reaches_the_logits_through_a_norm_that_heads_share_is_computed() -> None:
    graph = Graph(ModelShape(2, 2))
    within = graph.mask(["input->m0", "m0->a1.h0<q>", "a1.h1->logits"])  # head 0 changes the scale of head 1
    apart, together = (Layout.of(graph, within, consistent=True, heads_apart=apart) for apart in (True, False))
    assert (apart.has_mlp(0), apart.heads(1)) == (False, [])
    assert (together.has_mlp(0), together.heads(0), together.heads(1)) == (True, [], [0, 1])


def test_a_full_layout_is_the_graph_itself() -> None:
    graph = Graph(ModelShape(3, 4, 2), "split")
    layout: Any = Layout.full(graph)
    assert layout.is_full
    for layer in range(3):
        for name in ("attention_readers", "mlp_reader", "head_writers", "mlp_writer", "writers_before_attention",
                     "writers_before_mlp"):
            assert getattr(layout, name)(layer) == getattr(graph, name)(layer), name
    mask = torch.rand(graph.edge_mask.shape)
    assert layout.packed(mask) is mask
