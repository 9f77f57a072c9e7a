"""Runs in bfloat16: close to float32, with mask gradients in float32; and exact in float32 arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from random_models import FAMILIES, config_of, mixed_pairs, pairs_for, random_mask, random_model
from running import logits_and_gradient, relative, runner
from torch import Tensor

from edge_pruning.ablation import Patch
from edge_pruning.batch import Batch
from edge_pruning.masked_pass.arithmetic import Upcasting
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.rerun import Rerun
from edge_pruning.models import Adapter, attention
from edge_pruning.models.parts import PartsAdapter


@pytest.mark.parametrize("engine", [MaskedPass, FusedPass])
@pytest.mark.parametrize("kind", ["gpt2", "llama, biases, tied, odd heads, own head size"])
def test_bfloat16_is_close_to_float32_and_its_mask_gradients_are_float32(kind: str, engine: type[MaskedPass]) -> None:
    half = random_model(config_of(kind), torch.bfloat16)
    full = random_model(config_of(kind), torch.float32)
    full.hf.load_state_dict({name: value.float() for name, value in half.hf.state_dict().items()})
    batch, results = Batch.of(mixed_pairs()), []
    for adapter in (half, full):
        masked = engine(adapter)
        results.append(logits_and_gradient(runner(masked, batch), random_mask(masked.graph, dtype=torch.float32)))
    (logits, gradient), (expected, expected_gradient) = results
    assert logits.dtype == torch.bfloat16
    assert gradient.dtype == torch.float32
    assert relative(logits.float(), expected) < 0.05
    assert relative(gradient, expected_gradient) < 0.1
    assert torch.cosine_similarity(gradient.flatten(), expected_gradient.flatten(), dim=0) > 0.995


def half(adapter: Adapter) -> Adapter:
    """The model with its weights in bfloat16, in place; tables of positions stay float32."""
    for parameter in adapter.hf.parameters():
        parameter.data = parameter.data.bfloat16()
    return adapter


def rounded(adapter: Adapter) -> Adapter:
    """The model with its weights rounded to bfloat16 and kept in float32, in place."""
    for parameter in adapter.hf.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return adapter


@pytest.mark.parametrize("kind", FAMILIES)
def test_float32_arithmetic_on_half_precision_weights_is_the_model_in_float32(kind: str) -> None:
    in_half, in_full = (change(random_model(config_of(kind), torch.float32)) for change in (half, rounded))
    passes = [MaskedPass, FusedPass] if isinstance(in_half, PartsAdapter) else [MaskedPass]
    for of in passes:
        results = []
        for engine in (of(in_half).in_float32(), of(in_full)):
            batch = engine.batch(pairs_for(in_full))
            frozen = Patch().freeze(engine, batch)
            assert {tensor.dtype for tensor in vars(frozen).values()} == {torch.float32}
            mask = random_mask(engine.graph, dtype=torch.float32)
            results.append(logits_and_gradient(lambda z, e=engine, b=batch, f=frozen: e.logits(z, b, f), mask))
        for found, expected in zip(*results, strict=True):
            assert found.dtype == torch.float32
            assert relative(found, expected) < 1e-4
    assert {parameter.dtype for parameter in in_half.hf.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("of", [MaskedPass, FusedPass])
def test_a_float32_pass_reuses_no_buffers_of_the_half_precision_pass(of: type[MaskedPass]) -> None:
    engine, full = (of(change(random_model(config_of("gpt2"), torch.float32))) for change in (half, rounded))
    runner(engine, Batch.of(mixed_pairs()))(random_mask(engine.graph, dtype=torch.float32))
    assert engine.buffers.bytes > 0, "buffers of a finished pass in bfloat16 are there to be reused"
    found, expected = (
        runner(one, Batch.of(mixed_pairs()))(random_mask(full.graph, dtype=torch.float32))
        for one in (engine.in_float32(), full)
    )
    assert relative(found, expected) < 1e-4


def test_float32_arithmetic_writes_into_half_precision_tensors_that_are_there() -> None:
    """A write in place changes the tensor itself, never the float32 copy that other operations get."""
    x, ones = torch.zeros(2, 3, dtype=torch.bfloat16), torch.ones(3)
    with Upcasting():
        x[0] = ones
        x[1].copy_(ones).add_(ones)
        with pytest.raises(RuntimeError, match="dtype"):
            torch.mm(torch.ones(2, 3), torch.ones(3, 3), out=x)
    assert x.tolist() == [[1, 1, 1], [2, 2, 2]]


def test_float32_arithmetic_converts_some_weights_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No float32 copy outlives its operation: nothing is kept, and a large map is converted in parts."""
    monkeypatch.setattr("edge_pruning.masked_pass.arithmetic.PART_BYTES", 5 * 4 * 16)
    engine = FusedPass(half(random_model(config_of("llama"), torch.float32))).in_float32()
    logits, gradient = logits_and_gradient(runner(engine, Batch.of(mixed_pairs())), random_mask(engine.graph))
    assert engine.weights.bytes == 0
    monkeypatch.undo()
    whole = FusedPass(engine.adapter).in_float32()
    expected = logits_and_gradient(runner(whole, Batch.of(mixed_pairs())), random_mask(whole.graph))
    assert relative(logits, expected[0]) < 1e-5
    assert relative(gradient, expected[1]) < 1e-4


def test_a_float32_model_is_its_own_float32_pass() -> None:
    engine = FusedPass(random_model(config_of("llama"), torch.float32))
    assert engine.in_float32() is engine


def test_a_rerun_in_float32_arithmetic_is_the_masked_pass() -> None:
    engine = MaskedPass(half(random_model(config_of("llama"), torch.float32))).in_float32()
    batch, mask = engine.batch(mixed_pairs()), random_mask(engine.graph, dtype=torch.float32)
    frozen = Patch().freeze(engine, batch)
    rerun = Rerun(engine, mask, batch, frozen)
    assert relative(rerun.whole[0], engine.logits(mask, batch, frozen)) < 1e-5
    reader = engine.graph.readers.index("m1")
    assert relative(rerun.logits(reader, mask[None, :, reader])[0], rerun.whole[0]) < 1e-5


# --- attention --------------------------------------------------------------------------------------------------------

FUSED = "scaled_dot_product_attention"


def with_gradients(attend: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = attend(*leaves, leaves[0].shape[-1] ** -0.5)
    return [out.detach(), *torch.autograd.grad(out.float().square().sum(), leaves)]


@pytest.mark.parametrize("attend", [
    attention.causal_attention, partial(attention.causal_attention, window=3), attention.full_attention,
])  # fmt: skip
def test_short_attention_in_half_precision_is_written_out_and_rounded_once(
    attend: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in float32 on rounded numbers differs by one rounding of each result."""
    draw = torch.Generator().manual_seed(0)
    inputs = [torch.randn(heads, 2, 9, 8, generator=draw).bfloat16() for heads in (4, 2, 2)]
    expected = with_gradients(attend, *(x.float() for x in inputs))
    monkeypatch.delattr(attention.functional, FUSED)
    for found, exact in zip(with_gradients(attend, *inputs), expected, strict=True):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), exact, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize(("width", "dtype", "calls"), [
    (attention.SHORT, torch.bfloat16, 0), (attention.SHORT, torch.float16, 0),
    (attention.SHORT + 1, torch.bfloat16, 2), (attention.SHORT, torch.float32, 2),
])  # fmt: skip
def test_long_attention_and_float32_use_the_fused_kernel(
    width: int, dtype: torch.dtype, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    called, fused = [], getattr(attention.functional, FUSED)
    monkeypatch.setattr(attention.functional, FUSED, lambda *a, **k: called.append(a) or fused(*a, **k))
    q = torch.ones(1, 1, width, 2, dtype=dtype)
    attention.causal_attention(q, q, q, 1.0)
    attention.full_attention(q, q, q, 1.0)
    assert len(called) == calls
