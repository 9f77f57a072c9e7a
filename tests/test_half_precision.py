"""Runs in bfloat16: close to float32, with mask gradients in float32."""

from __future__ import annotations

import pytest
import torch
from random_models import config_of, mixed_pairs, random_mask, random_model
from running import logits_and_gradient, relative, runner

from edge_pruning.batch import Batch
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass


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
