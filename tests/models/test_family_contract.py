"""The contract of a model family: whatever its adapter does, Hugging Face's own model and the literal formula agree.

Every registered adapter is enrolled with a tiny random model, and with the variants listed in `random_models.py`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from literal import literal_batch_logits
from random_models import FAMILIES, config_of, graphs_of, pairs_for, random_mask, random_model
from running import logits_and_gradient, relative, runner, weights
from torch import Tensor

from edge_pruning.ablation import Ablation, Patch, Zero
from edge_pruning.batch import Batch
from edge_pruning.graph import Graph
from edge_pruning.loading.self_check import law_errors, self_check
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import Adapter
from edge_pruning.models.parts import PartsAdapter

EXACT = 1e-9
WRONG_IN_TRANSFORMERS = "falcon, sequential, alibi, odd heads"  # with eager attention


@cache
def model(kind: str) -> Adapter:
    return random_model(config_of(kind))


def engines(adapter: Adapter, graph: Graph | None = None, **options: Any) -> list[MaskedPass]:
    """The general pass, and the fused one where the family has parts."""
    fused = [FusedPass(adapter, graph, **options)] if isinstance(adapter, PartsAdapter) else []
    return [MaskedPass(adapter, graph, **options), *fused]


def batch_for(adapter: Adapter) -> Batch:
    return MaskedPass(adapter).batch(pairs_for(adapter))


def conventions(adapter: Adapter) -> list[Graph]:
    """The ways to count edges that differ."""
    return list({graph.n_edges: graph for graph in graphs_of(adapter)}.values())


@pytest.fixture(params=FAMILIES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


# --- exact ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("exact_norm")
def test_the_three_laws_hold(kind: str) -> None:
    for graph in conventions(model(kind)):
        for engine in engines(model(kind), graph):
            assert max(law_errors(engine)) < EXACT


@pytest.mark.usefixtures("exact_norm")
def test_masked_logits_and_gradients_are_those_of_the_literal_formula(kind: str) -> None:
    adapter, batch = model(kind), batch_for(model(kind))
    for graph in conventions(adapter):
        mask = random_mask(graph)

        def literally(z: Tensor, graph: Graph = graph) -> Tensor:
            return literal_batch_logits(adapter, graph, z, batch)

        expected_logits, expected_gradient = logits_and_gradient(literally, mask)
        for engine in engines(adapter, graph, keep_reads=graph.kv == "kv"):
            logits, gradient = logits_and_gradient(runner(engine, batch), mask)
            assert relative(logits, expected_logits) < EXACT
            assert relative(gradient, expected_gradient) < EXACT
            assert gradient[graph.edge_mask].count_nonzero() > 0.5 * graph.n_edges


@pytest.mark.usefixtures("exact_norm")
def test_the_pass_that_knows_that_all_masks_are_one_gives_the_same(kind: str) -> None:
    adapter, batch = model(kind), batch_for(model(kind))
    for graph in conventions(adapter):
        ones = graph.edge_mask.double()
        for engine in engines(adapter, graph, keep_reads=graph.kv == "kv"):
            logits, gradient = logits_and_gradient(runner(engine.whole(), batch), ones)
            expected_logits, expected_gradient = logits_and_gradient(runner(engine, batch), ones)
            assert relative(logits, expected_logits) < EXACT
            assert relative(gradient, expected_gradient) < EXACT


@pytest.mark.usefixtures("exact_norm")
def test_the_gradient_is_the_slope_of_the_logits(kind: str) -> None:
    engine = engines(model(kind))[-1]
    run, mask = runner(engine, batch_for(engine.adapter)), 0.1 + 0.8 * random_mask(engine.graph, 3)
    logits, gradient = logits_and_gradient(run, mask)
    edges = engine.graph.edge_mask.nonzero()
    for w, r in edges[torch.randperm(len(edges), generator=torch.Generator().manual_seed(1))[:3]].tolist():
        step = torch.zeros_like(mask)
        step[w, r] = 1e-6
        slope = ((run(mask + step) - run(mask - step)) * weights(logits)).sum() / 2e-6
        torch.testing.assert_close(slope, gradient[w, r], rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("exact_norm")
def test_the_laws_hold_against_written_out_attention_too(kind: str) -> None:
    """Elsewhere transformers computes attention by the kernel it prefers."""
    errors = law_errors(engines(random_model(config_of(kind), attn_implementation="eager"))[-1])
    assert max(errors) > 1e-3 if kind == WRONG_IN_TRANSFORMERS else max(errors) < EXACT


def test_a_model_that_transformers_itself_runs_wrong_is_refused() -> None:
    """Its two ways to compute attention differ: the written-out one adds ALiBi's bias twice."""
    config = config_of(WRONG_IN_TRANSFORMERS)
    assert self_check(FusedPass(random_model(config, attn_implementation="sdpa")))
    with pytest.raises(ValueError, match="this falcon model is not run exactly"):
        self_check(FusedPass(random_model(config, attn_implementation="eager")))


@pytest.mark.usefixtures("exact_norm")
@pytest.mark.parametrize("ablation", [Patch(), Zero()], ids=lambda a: a.name)
def test_what_candidates_leave_out_changes_nothing(kind: str, ablation: Ablation) -> None:
    whole, batch = engines(model(kind))[-1], batch_for(model(kind))
    frozen = ablation.freeze(whole, batch)
    for seed in range(4):
        drawn = torch.rand(whole.graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
        within = (drawn < 0.05) & whole.graph.edge_mask
        mask, found = random_mask(whole.graph) * within, []
        for engine in (whole, whole.restricted(within, consistent=ablation.consistent)):
            logits, gradient = logits_and_gradient(lambda z, e=engine: e.logits(z, batch, frozen), mask)
            found.append((logits, gradient[within]))
        torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("exact_norm")
def test_a_pair_is_the_same_in_any_company(kind: str) -> None:
    for engine in engines(model(kind)):
        mask = random_mask(engine.graph)
        pairs = pairs_for(engine.adapter)
        together = runner(engine, engine.batch(pairs))(mask)
        alone = [runner(engine, engine.batch([pair]))(mask) for pair in pairs]
        assert relative(torch.cat(alone), together) < EXACT


def test_all_edges_in_bfloat16_are_the_model_up_to_rounding(kind: str) -> None:
    """As far from float32 as the model's own bfloat16 logits are, within a factor."""
    half, full = (random_model(config_of(kind), dtype) for dtype in (torch.bfloat16, torch.float32))
    full.hf.load_state_dict({name: value.float() for name, value in half.hf.state_dict().items()})
    batch = batch_for(full)
    exact = full.own_logits(batch.clean).flatten(0, 1)[batch.positions]
    own_error = relative(half.own_logits(batch.clean).flatten(0, 1)[batch.positions].float(), exact)
    for engine in engines(half):
        found = runner(engine, batch)(engine.graph.edge_mask.float())
        assert relative(found.float(), exact) < 4 * own_error + 0.02


# --- edges ------------------------------------------------------------------------------------------------------------


def test_edges_are_as_many_as_the_formula_says(kind: str) -> None:
    """Layer by layer: what q, k, v and the MLP can read; then what the logits can."""
    shape = model(kind).shape
    for graph in conventions(model(kind)):
        embeddings, kv = graph.n_embeddings, shape.kv_heads if graph.kv == "kv" else shape.heads
        before = [embeddings + layer * (shape.heads + 1) for layer in range(shape.layers)]
        heads = sum(writers * (shape.heads + 2 * kv) for writers in before)
        mlps = sum(writers + (0 if shape.parallel else shape.heads) for writers in before)
        assert graph.n_edges == heads + mlps + embeddings + shape.layers * (shape.heads + 1)


# --- what is left behind ----------------------------------------------------------------------------------------------


def traces(hf: Any) -> dict[str, Any]:
    """Everything in which a model could differ afterwards, but for the values of its tensors."""
    return {
        name: (set(vars(module)), module.forward.__func__, module.training, *(
            dict(getattr(module, hooks)) for hooks in vars(module) if hooks.endswith("_hooks")
        ))
        for name, module in hf.named_modules()
    }  # fmt: skip


@pytest.mark.parametrize("fails", [False, True], ids=["", "after an exception"])
def test_the_hugging_face_model_is_as_it_was(kind: str, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, batch = model(kind), batch_for(model(kind))
    logits = adapter.own_logits(batch.clean)
    state, before = {name: value.clone() for name, value in adapter.hf.state_dict().items()}, traces(adapter.hf)
    for engine in engines(adapter):
        run = runner(engine, batch)
        if fails:
            monkeypatch.setattr(adapter, "unembed", lambda x: x / "")
            with pytest.raises(TypeError):
                run(random_mask(engine.graph))
            monkeypatch.undo()
        else:
            logits_and_gradient(run, random_mask(engine.graph))
    assert torch.equal(adapter.own_logits(batch.clean), logits)
    assert all(torch.equal(value, state[name]) for name, value in adapter.hf.state_dict().items())
    assert traces(adapter.hf) == before
    assert all(parameter.grad is None for parameter in adapter.hf.parameters())
