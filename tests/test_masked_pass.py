"""The masked pass against the literal formula, its laws at 0 and 1, and what it leaves behind: nothing."""

from __future__ import annotations

import gc
import weakref
from functools import cache
from typing import Any

import pytest
import torch
from literal import literal_batch_logits
from random_models import CONFIGS, config_of, graphs_of, mixed_pairs, pair, random_mask, random_model
from running import logits_and_gradient, relative, runner, weights
from torch import Tensor

from edge_pruning.batch import Batch
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.stream import Stream
from edge_pruning.models import Adapter

ENGINES = [MaskedPass, FusedPass]
pytestmark = pytest.mark.usefixtures("exact_norm")
CASES = [(kind, graph) for kind in CONFIGS for graph in (0, 1)]


@cache
def model(kind: str) -> Adapter:
    return random_model(config_of(kind))


def setting(kind: str, convention: int) -> tuple[Adapter, Graph, Batch]:
    adapter = model(kind)
    return adapter, graphs_of(adapter)[convention], Batch.of(mixed_pairs())


@cache
def literally(kind: str, convention: int) -> tuple[Tensor, Tensor]:
    adapter, graph, batch = setting(kind, convention)
    return logits_and_gradient(lambda z: literal_batch_logits(adapter, graph, z, batch), random_mask(graph))


# --- the formula ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_reads", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("kind", "convention"), CASES)
def test_logits_and_mask_gradients_are_those_of_the_literal_formula(
    kind: str, convention: int, engine: type[MaskedPass], keep_reads: bool
) -> None:
    adapter, graph, batch = setting(kind, convention)
    run = runner(engine(adapter, graph, keep_reads=keep_reads), batch)
    logits, gradient = logits_and_gradient(run, random_mask(graph))
    expected_logits, expected_gradient = literally(kind, convention)
    assert relative(logits, expected_logits) < 1e-10
    assert relative(gradient, expected_gradient) < 1e-10
    assert gradient[graph.edge_mask].count_nonzero() > 0.5 * graph.n_edges
    assert not gradient[~graph.edge_mask].any()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("kind", "convention"), CASES)
def test_the_gradient_is_the_slope_of_the_logits(kind: str, convention: int, engine: type[MaskedPass]) -> None:
    adapter, graph, batch = setting(kind, convention)
    run, mask = runner(engine(adapter, graph), batch), 0.1 + 0.8 * random_mask(graph, 3)
    logits, gradient = logits_and_gradient(run, mask)
    edges = graph.edge_mask.nonzero()
    for w, r in edges[torch.randperm(len(edges), generator=torch.Generator().manual_seed(1))[:4]].tolist():
        up, down = mask.clone(), mask.clone()
        up[w, r] += 1e-5
        down[w, r] -= 1e-5
        slope = ((run(up) - run(down)) * weights(logits)).sum() / 2e-5
        torch.testing.assert_close(slope, gradient[w, r], rtol=1e-5, atol=1e-8)


# --- zeros and ones --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("kind", "convention"), CASES)
def test_all_edges_are_the_model_and_none_the_model_on_the_corrupted_prompts(
    kind: str, convention: int, engine: type[MaskedPass]
) -> None:
    adapter, graph, batch = setting(kind, convention)
    run, ones = runner(engine(adapter, graph), batch), graph.edge_mask.double()
    prompts = (batch.clean, batch.corrupted)
    clean, corrupted = (adapter.hf(tokens, use_cache=False).logits.flatten(0, 1)[batch.positions] for tokens in prompts)
    assert relative(run(ones), clean) < 1e-10
    assert relative(run(torch.zeros_like(ones)), corrupted) < 1e-10
    assert relative(clean, corrupted) > 0.1


def test_a_graph_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="of shape ModelShape.*, got one of another model: ModelShape"):
        MaskedPass(model("gpt2"), Graph(ModelShape(4, 4)))


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_batch_of_mixed_lengths_is_each_pair_alone(kind: str, engine: type[MaskedPass]) -> None:
    adapter = model(kind)
    masked, mask = engine(adapter), random_mask(Graph(adapter.shape))
    together = runner(masked, Batch.of(mixed_pairs()))
    logits, gradient = logits_and_gradient(together, mask)
    each, share, row = [], torch.zeros_like(gradient), 0
    for one in mixed_pairs():
        rows = slice(row, row := row + len(one.positions))
        leaf = mask.clone().requires_grad_()
        each.append(runner(masked, Batch.of([one]))(leaf))
        (each[-1] * weights(logits)[rows]).sum().backward()
        share += leaf.grad
    assert relative(torch.cat(each).detach(), logits) < 1e-12
    assert relative(share, gradient) < 1e-10


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_an_answer_in_the_middle_is_that_of_the_text_that_ends_there(kind: str, engine: type[MaskedPass]) -> None:
    masked, whole = engine(model(kind)), pair(5, 9, (3, 8))
    mask = random_mask(masked.graph)
    short = type(whole)(whole.clean[:4], whole.corrupted[:4], (3,), ((),), ((),))
    both, alone = (runner(masked, Batch.of([one]))(mask) for one in (whole, short))
    assert relative(both[:1], alone) < 1e-12


@pytest.mark.parametrize("engine", ENGINES)
def test_positions_are_compared_in_the_order_they_are_named(engine: type[MaskedPass]) -> None:
    masked = engine(model("llama"))
    mask = random_mask(masked.graph)
    forward, backward = (runner(masked, Batch.of([pair(5, 6, at)]))(mask) for at in ((1, 3, 5), (5, 3, 1)))
    assert relative(forward.flip(0), backward) < 1e-12


def test_two_passes_over_the_same_frozen_values_do_not_disturb_each_other() -> None:
    masked = FusedPass(model("gpt2"))
    run, masks = runner(masked, Batch.of(mixed_pairs())), [random_mask(masked.graph, seed) for seed in (1, 2)]
    alone = [logits_and_gradient(run, mask) for mask in masks]
    leaves = [mask.clone().requires_grad_() for mask in masks]
    logits = [run(leaf) for leaf in leaves]
    sum((y * weights(y)).sum() for y in logits).backward()
    for leaf, y, (expected, gradient) in zip(leaves, logits, alone, strict=True):
        assert torch.equal(y, expected)
        assert torch.equal(leaf.grad, gradient)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pass_has_one_backward_pass_and_no_second_derivatives(engine: type[MaskedPass]) -> None:
    masked = engine(model("llama"))
    run, leaf = runner(masked, Batch.of(mixed_pairs())), random_mask(masked.graph).requires_grad_()
    loss = run(leaf).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match=r"one backward pass, .* run the masked pass again"):
        loss.backward()
    with pytest.raises(RuntimeError, match=r"no second derivatives: .* without create_graph=True"):
        torch.autograd.grad(run(leaf).sum(), leaf, create_graph=True)


@pytest.mark.parametrize("keep_reads", [True, False])
def test_buffers_of_a_finished_pass_are_used_again(keep_reads: bool) -> None:
    """Differences, their gradients, reads, and gradients at the compared positions; for smaller batches, too."""
    masked = FusedPass(model("llama"), keep_reads=keep_reads)
    mask, small, large = random_mask(masked.graph), Batch.of(mixed_pairs()[:1]), Batch.of(mixed_pairs())
    taken = []
    for batch in (large, large, small, large):
        logits_and_gradient(runner(masked, batch), mask)
        taken.append(sorted(flat.data_ptr() for flat in masked.buffers._unused))
    assert len(taken[0]) == 4
    assert taken == [taken[0]] * 4
    assert masked.buffers.bytes == sum(flat.nbytes for flat in masked.buffers._unused)


def test_a_larger_batch_replaces_the_buffers() -> None:
    masked, sizes = FusedPass(model("llama")), []
    for pairs in (mixed_pairs()[:1], mixed_pairs()):
        logits_and_gradient(runner(masked, Batch.of(pairs)), random_mask(masked.graph))
        sizes.append(masked.buffers.bytes)
    assert len(masked.buffers._unused) == 4
    assert sizes[0] < sizes[1]


# --- what is left behind ---------------------------------------------------------------------------------------------


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Any:
    """How many streams are alive, counted without the garbage collector: what waits for it fills a GPU first."""
    alive: list[weakref.ref[Stream]] = []
    initialise = Stream.__init__

    def recorded(self: Stream, *arguments: Any, **options: Any) -> None:
        alive.append(weakref.ref(self))
        initialise(self, *arguments, **options)

    monkeypatch.setattr(Stream, "__init__", recorded)
    gc.collect()
    gc.disable()
    yield lambda: [bool(reference()) for reference in alive]
    gc.enable()


@pytest.mark.parametrize(("keep_reads", "whole"), [(True, False), (False, False), (True, True)])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_is_freed_after_backward_and_when_its_graph_is_dropped(
    streams: Any, engine: type[MaskedPass], keep_reads: bool, whole: bool
) -> None:
    masked = engine(model("llama"), keep_reads=keep_reads)
    masked = masked.whole() if whole else masked
    run, leaf = runner(masked, Batch.of(mixed_pairs())), random_mask(masked.graph).requires_grad_()
    logits = run(leaf)
    assert any(streams())
    logits.sum().backward()
    del logits
    assert streams()
    assert not any(streams())
    logits = run(leaf)
    assert any(streams())
    del logits
    assert not any(streams())
    with torch.no_grad():
        run(leaf)
    assert not any(streams())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_hugging_face_model_is_as_it_was(kind: str, engine: type[MaskedPass]) -> None:
    adapter, tokens = model(kind), torch.arange(8)[None]
    state = {name: value.clone() for name, value in adapter.hf.state_dict().items()}
    logits, attributes = adapter.hf(tokens).logits, {name: set(vars(m)) for name, m in adapter.hf.named_modules()}
    run = runner(engine(adapter), Batch.of(mixed_pairs()))
    logits_and_gradient(run, random_mask(Graph(adapter.shape)))
    assert torch.equal(adapter.hf(tokens).logits, logits)
    assert adapter.hf.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in adapter.hf.state_dict().items())
    for name, module in adapter.hf.named_modules():
        assert set(vars(module)) == attributes[name]
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        assert not any(hooks)
    assert all(parameter.grad is None for parameter in adapter.hf.parameters())
