"""What an evaluation warns about, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from judging import PairFactory, answered_by, judged
from torch import Tensor

from edge_pruning.ablation import Patch
from edge_pruning.circuit import Circuit
from edge_pruning.evaluation import Evaluation, evaluate
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.models import Adapter
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet

# --- warnings ------------------------------------------------------------------------------------------------------


def _warned(found: Evaluation, text: str) -> bool:
    assert list(found.warnings) == found.to_json()["warnings"]
    return any(text in warning for warning in found.warnings)


def test_dangling_edges_are_warned_about(exact_model: Adapter, random_pairs: PairFactory) -> None:
    found = judged(exact_model, random_pairs(), 0.12)
    edges, kept = found.circuit.edges, found.circuit.edges_without_dangling
    assert _warned(found, f"({edges - kept} of {edges}) dangle")
    assert not _warned(judged(exact_model, random_pairs(), 1.1), "dangle")


def test_a_soft_mask_that_does_not_survive_cutting_is_warned_about(
    exact_model: Adapter, random_pairs: PairFactory
) -> None:
    graph, pairs = Graph(exact_model.shape), random_pairs()
    whole = graph.edge_mask.float()
    found = judged(exact_model, pairs, 0.05, soft_mask=whole)
    assert _warned(found, "rounding the mask to 0 and 1 loses much: KL")
    assert _warned(found, f"the soft mask sums to {graph.n_edges}.0 edges, the circuit has {found.circuit.edges}")
    fine = judged(exact_model, pairs, 1.1, soft_mask=whole)
    assert not _warned(fine, "soft mask")


def test_data_that_says_little_is_warned_about(exact_model: Adapter, random_pairs: PairFactory) -> None:
    few = judged(exact_model, random_pairs(6, split="train"))
    assert _warned(few, "only 6 pairs")
    assert _warned(few, "on the training split")
    many = judged(exact_model, random_pairs(40))
    right = many["model"]["accuracy"]
    assert right < 0.75  # random answers
    assert _warned(many, f"the model itself is right on only {100 * right:.0f} % of the pairs")
    assert not _warned(many, "pairs: the means")
    assert not _warned(many, "training split")


def test_circuits_of_no_edges_and_of_all_are_warned_about(exact_model: Adapter, random_pairs: PairFactory) -> None:
    assert _warned(judged(exact_model, random_pairs(), 0), "the circuit is empty: it has no edges")
    assert _warned(judged(exact_model, random_pairs(), 1.1), "the circuit is the whole model")
    assert not _warned(judged(exact_model, random_pairs(), 0.5), "nothing to judge")


def test_a_circuit_without_which_the_model_works_is_warned_about(
    exact_model: Adapter, random_pairs: PairFactory
) -> None:
    pairs = answered_by(exact_model, random_pairs(12))
    graph = Graph(exact_model.shape)
    little = Circuit.from_names(graph, ["input->m0"])
    found = evaluate(little, Setup(FusedPass(exact_model), pairs, Patch()), random_circuits=0)
    left = found["complement"]["faithfulness"]
    assert left > 0.2
    assert _warned(found, f"the circuit is incomplete: {100 * left:.0f} % of the faithfulness is left")
    assert not _warned(judged(exact_model, pairs, 1.1), "the circuit is incomplete")


def test_a_circuit_no_better_than_random_is_warned_about(exact_model: Adapter, random_pairs: PairFactory) -> None:
    graph = Graph(exact_model.shape)
    dangling = Circuit(graph, graph.mask([name for name in graph.names(graph.edge_mask) if "input->" not in name]))
    found = evaluate(dangling, Setup(FusedPass(exact_model), random_pairs(), Patch()), random_circuits=2)
    assert _warned(found, "no closer to the model than random circuits of its size")
    assert _warned(found, f"100 % of the circuit's edges ({len(dangling)} of {len(dangling)}) dangle")


def test_a_scale_that_is_noise_or_upside_down_is_warned_about(
    exact_model: Adapter, random_pairs: PairFactory
) -> None:
    pairs = random_pairs(40)
    model = judged(exact_model, pairs).runs
    behind = [i for i in range(40) if model["model"].difference[0, i] < model["empty"].difference[0, i]]
    worse = PairSet("worse", "test", pairs.metric, tuple(pairs.pairs[i] for i in behind), ())
    assert _warned(judged(exact_model, worse), "the model scores lower than the empty circuit")
    ahead = [i for i in range(40) if i not in behind][: len(behind)]
    mixed = PairSet("mixed", "test", pairs.metric, tuple(pairs.pairs[i] for i in behind + ahead), ())
    span = judged(exact_model, mixed)
    assert 0 < abs(span.scale.span) < 3 * span.scale.span_error
    assert _warned(span, "faithfulness is noise" if span.scale.span > 0 else "scores lower")


def test_half_precision_is_stated_and_warned_about(
    build_model: Callable[..., Adapter], random_pairs: PairFactory
) -> None:
    found = judged(build_model("gpt2", torch.bfloat16), random_pairs())
    assert found.to_json()["dtype"] == "bfloat16"
    assert _warned(found, "the model ran in bfloat16; quote numbers from float32 instead")


def test_logits_that_are_not_finite_are_warned_about(
    build_model: Callable[..., Adapter], random_pairs: PairFactory
) -> None:
    adapter = build_model("gpt2")
    adapter.hf.transformer.wpe.weight[4] = torch.nan
    found = judged(adapter, random_pairs())
    assert _warned(found, "the KL of some pairs is not finite (model")
    json.dumps(found.to_json(), allow_nan=False)


# --- refusals ------------------------------------------------------------------------------------------------------


def test_all_problems_are_reported_at_once(tiny_gpt2: Adapter, random_pairs: PairFactory) -> None:
    other = Graph(ModelShape(2, 3), "split")
    with pytest.raises(ValueError, match="the circuit is of another graph than the engine") as error:
        evaluate(
            Circuit(other, other.edge_mask), Setup(FusedPass(tiny_gpt2), random_pairs(0, metric="bleu"), Patch()),
            random_circuits=-1,
        )  # fmt: skip
    for text in ("build the engine with graph=circuit.graph", "has no pairs in split 'test'", "got 'bleu'", "got -1"):
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("soft", "message"),
    [
        (torch.ones(3, 4), r"expected a soft mask \[writer, reader\] of shape .*, got \(3, 4\)"),
        (torch.full(Graph(ModelShape(2, 3)).edge_mask.shape, 1.5), "expected a soft mask from 0 to 1 on every edge"),
        (torch.full(Graph(ModelShape(2, 3)).edge_mask.shape, torch.nan), "expected a soft mask from 0 to 1"),
    ],
)
def test_soft_masks_that_are_none_are_refused(
    tiny_gpt2: Adapter, random_pairs: PairFactory, soft: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        judged(tiny_gpt2, random_pairs(), soft_mask=soft)
