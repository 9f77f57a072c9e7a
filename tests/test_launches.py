"""How many operations a micro-batch of a training step starts: each is one launch of a kernel on a GPU.

Counted on the CPU at GPT-2's depth, without those that only make views or allocate. The numbers are upper limits: fewer
are better. On a GPU, whose kernels for attention and others are split in other ways, they differ somewhat.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from random_models import answered, config_of, pair, random_mask, random_model
from torch.utils._python_dispatch import TorchDispatchMode

from edge_pruning.ablation import Patch
from edge_pruning.discovery.gradient import batch_gradient
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.objectives import OBJECTIVES

LAYERS = 12
FREE = set(
    """view _unsafe_view empty empty_like new_empty empty_strided as_strided slice select transpose permute expand t
    unsqueeze squeeze split split_with_sizes detach alias unbind _reshape_alias diagonal""".split()
)


class Launches(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counted = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = func._schema.name.partition("::")[2]
        if name not in FREE:
            self.counted[name] += 1
        return func(*args, **(kwargs or {}))


def launches(kind: str) -> Counter[str]:
    engine = FusedPass(random_model(config_of(kind, num_hidden_layers=LAYERS), torch.float32), keep_maps=True)
    batch = engine.batch([answered(pair(seed, 9, (8,)), seed) for seed in range(2)])
    frozen = Patch().freeze(engine, batch)
    mask = random_mask(engine.graph, dtype=torch.float32)
    batch_gradient(mask, engine, batch, frozen, OBJECTIVES["kl"])  # folds the maps, and allocates the buffers
    with Launches() as mode:
        batch_gradient(mask, engine, batch, frozen, OBJECTIVES["kl"])
    return mode.counted


@pytest.mark.parametrize(("kind", "most"), [("gpt2", 615), ("llama", 800)])
def test_a_micro_batch_starts_no_more_operations_than_it_did(kind: str, most: int) -> None:
    counted = launches(kind)
    assert sum(counted.values()) <= most, counted.most_common()
    assert counted["baddbmm_"] == 2 * LAYERS  # or nothing was counted
