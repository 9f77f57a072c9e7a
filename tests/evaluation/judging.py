"""What the tests of evaluations share: random circuits, and what is found about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from edge_pruning.ablation import Patch, Zero
from edge_pruning.circuit import Circuit
from edge_pruning.evaluation import Evaluation, evaluate
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.models import Adapter
from edge_pruning.numbers import numbers_for
from edge_pruning.pair import Pair
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet

PairFactory = Callable[..., PairSet]
NUMBERS = ("kl", "logit_difference", "accuracy", "exact_match", "faithfulness")
SHOWN = {number.name for number in numbers_for("kl", "logit_difference")}  # these, and whatever was added to the table
ROUNDING = 1e-5  # Hugging Face's RMSNorm works in float32 whatever the model's dtype
BOTH = pytest.mark.parametrize("ablation", [Patch(), Zero()], ids=["patch", "zero"])


def drawn_circuit(graph: Graph, density: float, seed: int = 0) -> Circuit:
    drawn = torch.rand(graph.edge_mask.shape, generator=seeded(seed))
    return Circuit(graph, (drawn < density) & graph.edge_mask)


def judged(adapter: Adapter, pairs: PairSet, density: float = 0.6, **options: Any) -> Evaluation:
    engine = FusedPass(adapter)
    options = {"ablation": Patch(), "random_circuits": 2} | options
    setup = Setup(engine, pairs, options.pop("ablation"), seed=options.pop("seed", 0))
    return evaluate(drawn_circuit(engine.graph, density), setup, **options)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def answered_by(adapter: Adapter, pairs: PairSet) -> PairSet:
    """The same prompts with answers that the model gives: right on the clean prompt, wrong on the corrupted one."""
    answered = []
    for pair in pairs.pairs:
        logits = adapter.hf(torch.tensor([pair.clean, pair.corrupted])).logits[:, pair.positions[0]]
        right, wrong = logits.argmax(-1).tolist()
        if right != wrong:
            answered.append(Pair(pair.clean, pair.corrupted, pair.positions, ((right,),), ((wrong,),), pair.template))
    return PairSet("answered", pairs.split, pairs.metric, tuple(answered), ())
