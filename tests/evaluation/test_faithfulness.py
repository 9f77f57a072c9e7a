"""Faithfulness and the numbers beside it: laws at both ends, and literal loops in between."""

from __future__ import annotations

import math

import pytest
import torch
from judging import BOTH, NUMBERS, ROUNDING, PairFactory, answered_by, drawn_circuit, judged, seeded
from torch import Tensor

from edge_pruning.ablation import Ablation, Patch, Zero
from edge_pruning.batch import Batch
from edge_pruning.circuit import Circuit
from edge_pruning.evaluation import Evaluation, evaluate
from edge_pruning.evaluation.faithfulness import random_mask
from edge_pruning.graph import Graph
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import Adapter
from edge_pruning.pair import Pair
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet
from tests.literal import literal_batch_logits


def _same(found: Evaluation, other: Evaluation, runs: tuple[str, ...], tolerance: float = 1e-10) -> None:
    for run in runs:
        for name in NUMBERS:
            assert found[run][name] == pytest.approx(other[run][name], abs=tolerance, nan_ok=True), (run, name)


# --- laws ----------------------------------------------------------------------------------------------------------


@BOTH
def test_the_circuit_of_all_edges_is_the_model(
    exact_model: Adapter, random_pairs: PairFactory, ablation: Ablation
) -> None:
    pairs = answered_by(exact_model, random_pairs(12))
    found = judged(exact_model, pairs, 1.1, ablation=ablation, random_circuits=1)
    for run in ("circuit", "without_dangling", "random"):
        assert found[run]["kl"] == pytest.approx(0, abs=1e-9)
        assert found[run]["exact_match"] == found[run]["accuracy"] == 1
        assert found[run]["faithfulness"] == pytest.approx(1, abs=ROUNDING)
        assert found[run]["logit_difference"] == pytest.approx(found["model"]["logit_difference"], abs=ROUNDING)


@BOTH
def test_the_circuit_of_no_edges_is_the_empty_one(
    exact_model: Adapter, random_pairs: PairFactory, ablation: Ablation
) -> None:
    found = judged(exact_model, random_pairs(), 0, ablation=ablation)
    for run in ("circuit", "without_dangling", "random"):
        assert found[run]["faithfulness"] == pytest.approx(0, abs=1e-12)
        for name in NUMBERS:
            assert found[run][name] == pytest.approx(found["empty"][name], abs=1e-12)
    assert found["empty"]["kl"] > 0.01


def test_laws_hold_to_rounding_in_float32(
    tiny_gpt2: Adapter, tiny_llama: Adapter, random_pairs: PairFactory
) -> None:
    for adapter in (tiny_gpt2, tiny_llama):
        full, none = (judged(adapter, random_pairs(), density, random_circuits=0) for density in (1.1, 0))
        assert full["circuit"]["kl"] == pytest.approx(0, abs=1e-5)
        assert full["circuit"]["faithfulness"] == pytest.approx(1, abs=1e-3)
        assert none["circuit"]["faithfulness"] == pytest.approx(0, abs=1e-3)
        assert full.protocol.dtype == "float32"


def test_the_model_is_what_hugging_face_computes(exact_model: Adapter, random_pairs: PairFactory) -> None:
    pairs = random_pairs()
    found = judged(exact_model, pairs)
    for i, pair in enumerate(pairs.pairs):
        logits = exact_model.hf(torch.tensor([pair.clean])).logits[0, pair.positions[0]]
        difference = float(logits[pair.answers[0][0]] - logits[pair.wrong[0][0]])
        assert float(found.runs["model"].difference[0, i]) == pytest.approx(difference, abs=ROUNDING)
    assert found["model"]["kl"] == 0
    assert found["model"]["exact_match"] == found["model"]["faithfulness"] == 1
    assert found["model"].standard_error["faithfulness"] == pytest.approx(0, abs=1e-12)


def test_the_empty_circuit_is_the_model_on_the_corrupted_prompt(
    exact_model: Adapter, random_pairs: PairFactory
) -> None:
    pairs = random_pairs()
    swapped = [Pair(p.corrupted, p.clean, p.positions, p.answers, p.wrong) for p in pairs.pairs]
    other = PairSet("swapped", "test", pairs.metric, tuple(swapped), ())
    empty, model = judged(exact_model, pairs)["empty"], judged(exact_model, other)["model"]
    assert empty["logit_difference"] == pytest.approx(model["logit_difference"], abs=1e-9)
    assert empty["accuracy"] == model["accuracy"]


def test_dangling_edges_change_nothing_under_patch(exact_model: Adapter, random_pairs: PairFactory) -> None:
    found = judged(exact_model, random_pairs(), 0.12)
    assert found.without_dangling.edges < found.circuit.edges
    for name in NUMBERS:
        assert found["circuit"][name] == pytest.approx(found["without_dangling"][name], abs=1e-10)


def test_dangling_edges_do_change_the_run_under_zero(tiny_gpt2: Adapter, random_pairs: PairFactory) -> None:
    """An MLP that reads nothing still writes what its biases make it write."""
    graph = Graph(tiny_gpt2.shape)
    circuit = Circuit.from_names(graph, ["input->logits", "m0->logits"])
    found = evaluate(circuit, Setup(FusedPass(tiny_gpt2), random_pairs(), Zero()))
    assert found.without_dangling.edges == 1
    assert abs(found["circuit"]["kl"] - found["without_dangling"]["kl"]) > 0.01


@pytest.mark.parametrize("tokens", [1, 20, 10_000])
@BOTH
def test_numbers_do_not_depend_on_tiles_or_order(
    exact_model: Adapter, random_pairs: PairFactory, ablation: Ablation, tokens: int
) -> None:
    class OtherTiles(FusedPass):
        @property
        def tile_tokens(self) -> int:
            return tokens

    pairs, engine = random_pairs(9), FusedPass(exact_model)
    soft = torch.rand(engine.graph.edge_mask.shape, generator=seeded(5))
    circuit, options = drawn_circuit(engine.graph, 0.6), {"soft_mask": soft, "random_circuits": 2}
    expected = evaluate(circuit, Setup(engine, pairs, ablation), **options)  # type: ignore[arg-type]
    found = evaluate(circuit, Setup(OtherTiles(exact_model), pairs, ablation), **options)  # type: ignore[arg-type]
    reversed_pairs = PairSet("reversed", "test", pairs.metric, pairs.pairs[::-1], ())
    backwards = evaluate(circuit, Setup(engine, reversed_pairs, ablation), **options)  # type: ignore[arg-type]
    _same(found, expected, tuple(expected.runs))
    _same(backwards, expected, tuple(expected.runs))
    for run, measured in expected.runs.items():
        torch.testing.assert_close(found.runs[run].kl, measured.kl)
        torch.testing.assert_close(backwards.runs[run].kl, measured.kl.flip(-1))
    assert backwards.templates == {
        name: pytest.approx(numbers) for name, numbers in expected.templates.items()
    }


def test_both_engines_agree(exact_model: Adapter, random_pairs: PairFactory) -> None:
    pairs = answered_by(exact_model, random_pairs(12))
    circuit = drawn_circuit(Graph(exact_model.shape), 0.5)
    fused, reference = (
        evaluate(circuit, Setup(engine(exact_model), pairs, Patch()), random_circuits=2)
        for engine in (FusedPass, MaskedPass)
    )
    _same(fused, reference, tuple(fused.runs), 1e-4)


@BOTH
def test_without_any_edge_of_the_circuit_the_rest_is_left(
    exact_model: Adapter, random_pairs: PairFactory, ablation: Ablation
) -> None:
    """The complement of everything is nothing, that of nothing the model, and twice the complement the circuit."""
    everything, nothing = (judged(exact_model, random_pairs(), density, ablation=ablation) for density in (1.1, 0))
    for name in NUMBERS:
        assert everything["complement"][name] == pytest.approx(everything["empty"][name], abs=1e-12)
        assert nothing["complement"][name] == pytest.approx(nothing["model"][name], abs=ROUNDING)
    circuit = drawn_circuit(Graph(exact_model.shape), 0.6)
    rest = Circuit(circuit.graph, circuit.graph.edge_mask & ~circuit.mask)
    one, other = (evaluate(c, Setup(FusedPass(exact_model), random_pairs(), ablation)) for c in (circuit, rest))
    assert one["complement"].mean == other["circuit"].mean
    assert one["circuit"].mean == other["complement"].mean
    assert one.complement.edges == len(rest)


# --- oracle --------------------------------------------------------------------------------------------------------


def test_every_number_is_the_literal_one(exact_model: Adapter, random_pairs: PairFactory) -> None:
    """Pair by pair through the literal masked pass, with plain loops for the statistics."""
    pairs, graph = random_pairs(5, positions=2), Graph(exact_model.shape)
    soft = torch.rand(graph.edge_mask.shape, generator=seeded(3))
    circuit, generator = drawn_circuit(graph, 0.6), seeded(4)
    found = evaluate(circuit, Setup(MaskedPass(exact_model), pairs, Patch(), seed=4), soft_mask=soft, random_circuits=3)
    masks = {
        "model": [graph.edge_mask], "circuit": [circuit.mask], "soft": [soft],
        "complement": [graph.edge_mask & ~circuit.mask], "empty": [torch.zeros_like(circuit.mask)],
        "random": [random_mask(graph, len(circuit), generator) for _ in range(3)],
    }  # fmt: skip
    model = [_logits(exact_model, graph, graph.edge_mask, pair) for pair in pairs.pairs]
    loops = {run: [_loops(exact_model, graph, mask, pairs, model) for mask in group] for run, group in masks.items()}
    nothing, everything = (_mean(loops[run][0]["logit_difference"]) for run in ("empty", "model"))
    for run, circuits in loops.items():
        for name in NUMBERS[:-1]:
            flat = [value for numbers in circuits for value in numbers[name]]
            per_pair = [_mean(list(values)) for values in zip(*(numbers[name] for numbers in circuits), strict=True)]
            assert found[run][name] == pytest.approx(_mean(flat), abs=1e-8), (run, name)
            assert found[run].standard_error[name] == pytest.approx(_deviation(per_pair) / 5**0.5, abs=1e-8)
            low, high = found[run].interval[name]
            assert low - 1e-8 <= _mean(flat) <= high + 1e-8
            for percent, value in found[run].quantiles[name].items():
                assert value == pytest.approx(_quantile(flat, int(percent) / 100), abs=1e-8), (run, name, percent)
        m = _mean([_mean(numbers["logit_difference"]) for numbers in circuits])
        assert found[run]["faithfulness"] == pytest.approx((m - nothing) / (everything - nothing), abs=1e-7)
    spread = _deviation([_mean(numbers["kl"]) for numbers in loops["random"]])
    assert found["random"].spread["kl"] == pytest.approx(spread, abs=1e-8)
    assert found.discretisation_gap == pytest.approx(
        _mean(loops["circuit"][0]["kl"]) - _mean(loops["soft"][0]["kl"]), abs=1e-8
    )


def _loops(
    adapter: Adapter, graph: Graph, mask: Tensor, pairs: PairSet, model: list[tuple[Tensor, ...]]
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in NUMBERS[:-1]}
    for pair, reference in zip(pairs.pairs, model, strict=True):
        rows = _logits(adapter, graph, mask.double() * graph.edge_mask, pair)
        margins = [float(r[a[0]] - r[w[0]]) for r, a, w in zip(rows, pair.answers, pair.wrong, strict=True)]
        each = [(p.log_softmax(-1), q.log_softmax(-1)) for p, q in zip(reference, rows, strict=True)]
        found["kl"].append(_mean([float((p.exp() * (p - q)).sum()) for p, q in each]))
        found["logit_difference"].append(_mean(margins))
        found["accuracy"].append(float(all(margin > 0 for margin in margins)))
        found["exact_match"].append(float(all(int(p.argmax()) == int(q.argmax()) for p, q in each)))
    return found


def _logits(adapter: Adapter, graph: Graph, mask: Tensor, pair: Pair) -> tuple[Tensor, ...]:
    return literal_batch_logits(adapter, graph, mask, Batch.of([pair])).unbind(0)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _deviation(values: list[float]) -> float:
    return math.sqrt(sum((value - _mean(values)) ** 2 for value in values) / (len(values) - 1))


def _quantile(values: list[float], share: float) -> float:
    """Linear interpolation between the two nearest of the sorted values."""
    ordered, at = sorted(values), share * (len(values) - 1)
    below = math.floor(at)
    above = min(below + 1, len(values) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])
