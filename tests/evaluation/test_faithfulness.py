"""Evaluation: laws at both ends, an oracle in between, and what it says about itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from edge_pruning.ablation import Ablation, Patch, Zero
from edge_pruning.batch import Batch
from edge_pruning.circuit import Circuit
from edge_pruning.cli.report import print_evaluation
from edge_pruning.evaluation import Evaluation, evaluate, faithfulness
from edge_pruning.evaluation.faithfulness import random_mask
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.metrics import kl_divergence
from edge_pruning.models import Adapter
from edge_pruning.numbers import NUMBERS as NUMBER_TABLE
from edge_pruning.numbers import Comparison, Number, numbers_for
from edge_pruning.pair import Pair
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet
from tests.literal import literal_batch_logits

PairFactory = Callable[..., PairSet]
NUMBERS = ("kl", "logit_difference", "accuracy", "exact_match", "faithfulness")
SHOWN = {number.name for number in numbers_for("kl", "logit_difference")}  # these, and whatever was added to the table
ROUNDING = 1e-5  # Hugging Face's RMSNorm works in float32 whatever the model's dtype
BOTH = pytest.mark.parametrize("ablation", [Patch(), Zero()], ids=["patch", "zero"])


def _circuit(graph: Graph, density: float, seed: int = 0) -> Circuit:
    drawn = torch.rand(graph.edge_mask.shape, generator=_seeded(seed))
    return Circuit(graph, (drawn < density) & graph.edge_mask)


def _evaluate(adapter: Adapter, pairs: PairSet, density: float = 0.6, **options: Any) -> Evaluation:
    engine = FusedPass(adapter)
    options = {"ablation": Patch(), "random_circuits": 2} | options
    setup = Setup(engine, pairs, options.pop("ablation"), seed=options.pop("seed", 0))
    return evaluate(_circuit(engine.graph, density), setup, **options)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _answered(adapter: Adapter, pairs: PairSet) -> PairSet:
    """The same prompts with answers that the model gives: right on the clean prompt, wrong on the corrupted one."""
    answered = []
    for pair in pairs.pairs:
        logits = adapter.hf(torch.tensor([pair.clean, pair.corrupted])).logits[:, pair.positions[0]]
        right, wrong = logits.argmax(-1).tolist()
        if right != wrong:
            answered.append(Pair(pair.clean, pair.corrupted, pair.positions, ((right,),), ((wrong,),), pair.template))
    return PairSet("answered", pairs.split, pairs.metric, tuple(answered), ())


def _same(found: Evaluation, other: Evaluation, runs: tuple[str, ...], tolerance: float = 1e-10) -> None:
    for run in runs:
        for name in NUMBERS:
            assert found[run][name] == pytest.approx(other[run][name], abs=tolerance, nan_ok=True), (run, name)


# --- laws ----------------------------------------------------------------------------------------------------------


@BOTH
def test_the_circuit_of_all_edges_is_the_model(
    exact_model: Adapter, random_pairs: PairFactory, ablation: Ablation
) -> None:
    pairs = _answered(exact_model, random_pairs(12))
    found = _evaluate(exact_model, pairs, 1.1, ablation=ablation, random_circuits=1)
    for run in ("circuit", "without_dangling", "random"):
        assert found[run]["kl"] == pytest.approx(0, abs=1e-9)
        assert found[run]["exact_match"] == found[run]["accuracy"] == 1
        assert found[run]["faithfulness"] == pytest.approx(1, abs=ROUNDING)
        assert found[run]["logit_difference"] == pytest.approx(found["model"]["logit_difference"], abs=ROUNDING)


@BOTH
def test_the_circuit_of_no_edges_is_the_empty_one(
    exact_model: Adapter, random_pairs: PairFactory, ablation: Ablation
) -> None:
    found = _evaluate(exact_model, random_pairs(), 0, ablation=ablation)
    for run in ("circuit", "without_dangling", "random"):
        assert found[run]["faithfulness"] == pytest.approx(0, abs=1e-12)
        for name in NUMBERS:
            assert found[run][name] == pytest.approx(found["empty"][name], abs=1e-12)
    assert found["empty"]["kl"] > 0.01


def test_laws_hold_to_rounding_in_float32(
    tiny_gpt2: Adapter, tiny_llama: Adapter, random_pairs: PairFactory
) -> None:
    for adapter in (tiny_gpt2, tiny_llama):
        full, none = (_evaluate(adapter, random_pairs(), density, random_circuits=0) for density in (1.1, 0))
        assert full["circuit"]["kl"] == pytest.approx(0, abs=1e-5)
        assert full["circuit"]["faithfulness"] == pytest.approx(1, abs=1e-3)
        assert none["circuit"]["faithfulness"] == pytest.approx(0, abs=1e-3)
        assert full.protocol.dtype == "float32"


def test_the_model_is_what_hugging_face_computes(exact_model: Adapter, random_pairs: PairFactory) -> None:
    pairs = random_pairs()
    found = _evaluate(exact_model, pairs)
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
    empty, model = _evaluate(exact_model, pairs)["empty"], _evaluate(exact_model, other)["model"]
    assert empty["logit_difference"] == pytest.approx(model["logit_difference"], abs=1e-9)
    assert empty["accuracy"] == model["accuracy"]


def test_dangling_edges_change_nothing_under_patch(exact_model: Adapter, random_pairs: PairFactory) -> None:
    found = _evaluate(exact_model, random_pairs(), 0.12)
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
    soft = torch.rand(engine.graph.edge_mask.shape, generator=_seeded(5))
    circuit, options = _circuit(engine.graph, 0.6), {"soft_mask": soft, "random_circuits": 2}
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
    pairs = _answered(exact_model, random_pairs(12))
    circuit = _circuit(Graph(exact_model.shape), 0.5)
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
    everything, nothing = (_evaluate(exact_model, random_pairs(), density, ablation=ablation) for density in (1.1, 0))
    for name in NUMBERS:
        assert everything["complement"][name] == pytest.approx(everything["empty"][name], abs=1e-12)
        assert nothing["complement"][name] == pytest.approx(nothing["model"][name], abs=ROUNDING)
    circuit = _circuit(Graph(exact_model.shape), 0.6)
    rest = Circuit(circuit.graph, circuit.graph.edge_mask & ~circuit.mask)
    one, other = (evaluate(c, Setup(FusedPass(exact_model), random_pairs(), ablation)) for c in (circuit, rest))
    assert one["complement"].mean == other["circuit"].mean
    assert one["circuit"].mean == other["complement"].mean
    assert one.complement.edges == len(rest)


# --- oracle --------------------------------------------------------------------------------------------------------


def test_every_number_is_the_literal_one(exact_model: Adapter, random_pairs: PairFactory) -> None:
    """Pair by pair through the literal masked pass, with plain loops for the statistics."""
    pairs, graph = random_pairs(5, positions=2), Graph(exact_model.shape)
    soft = torch.rand(graph.edge_mask.shape, generator=_seeded(3))
    circuit, generator = _circuit(graph, 0.6), _seeded(4)
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


# --- faithfulness --------------------------------------------------------------------------------------------------


def test_shares_of_the_pairs_average_to_the_faithfulness(exact_model: Adapter, random_pairs: PairFactory) -> None:
    found = _evaluate(exact_model, random_pairs())
    shares = found.scale.shares(found.runs["circuit"])
    assert float(shares.mean()) == pytest.approx(found["circuit"]["faithfulness"])


def test_the_error_of_faithfulness_is_that_of_resampled_pairs(
    exact_model: Adapter, random_pairs: PairFactory
) -> None:
    found = _evaluate(exact_model, _answered(exact_model, random_pairs(150)), 0.85, random_circuits=0)
    c, m, e = (found.runs[run].difference[0] for run in ("circuit", "model", "empty"))
    drawn = torch.randint(len(c), (4000, len(c)), generator=_seeded(0))
    f = (c[drawn].mean(1) - e[drawn].mean(1)) / (m[drawn].mean(1) - e[drawn].mean(1))
    middle = float(f.quantile(0.84) - f.quantile(0.16)) / 2
    assert found["circuit"].standard_error["faithfulness"] == pytest.approx(middle, rel=0.15)


def test_without_wrong_answers_kl_takes_the_place_of_the_difference(
    exact_model: Adapter, random_pairs: PairFactory
) -> None:
    found = _evaluate(exact_model, random_pairs(wrong=False))
    kl, empty = found["circuit"]["kl"], found["empty"]["kl"]
    assert found["circuit"]["faithfulness"] == pytest.approx(1 - kl / empty)
    assert found["model"]["faithfulness"] == 1
    assert found["empty"]["faithfulness"] == 0
    assert found.scale.span == pytest.approx(empty)
    content = found.to_json()
    assert "no pair has a wrong answer" in content["definitions"]["faithfulness"]
    assert content["circuit"]["logit_difference"] is None
    assert not any("no wrong answer" in warning for warning in found.warnings)


def test_pairs_without_a_wrong_answer_are_left_out_of_the_difference(
    exact_model: Adapter, random_pairs: PairFactory
) -> None:
    some, none = random_pairs(5), random_pairs(3, wrong=False, seed=9)
    both = PairSet("mixed", "test", some.metric, some.pairs + none.pairs, ())
    mixed, alone = _evaluate(exact_model, both), _evaluate(exact_model, some)
    for name in ("logit_difference", "faithfulness"):
        assert mixed["circuit"][name] == pytest.approx(alone["circuit"][name], abs=1e-10)
        assert mixed["circuit"].standard_error[name] == pytest.approx(alone["circuit"].standard_error[name], abs=1e-10)
        assert mixed["circuit"].quantiles[name] == pytest.approx(alone["circuit"].quantiles[name], abs=1e-10)
    assert any("3 of 8 pairs have no wrong answer, so no logit_difference" in warning for warning in mixed.warnings)


@pytest.mark.parametrize("wrong", [True, False])
def test_where_there_is_nothing_to_explain_faithfulness_is_null(
    exact_model: Adapter, random_pairs: PairFactory, wrong: bool
) -> None:
    same = [Pair(p.clean, p.clean, p.positions, p.answers, p.wrong) for p in random_pairs(wrong=wrong).pairs]
    found = _evaluate(exact_model, PairSet("same", "test", "logit_difference", tuple(same), ()))
    content = found.to_json()
    for run in ("model", "circuit", "empty", "random"):
        assert content[run]["faithfulness"] is None
        assert content[run]["quantiles"]["faithfulness"] == dict.fromkeys(("5", "25", "50", "75", "95"))
    assert any("faithfulness is undefined" in warning for warning in content["warnings"])


# --- random circuits -----------------------------------------------------------------------------------------------


def test_random_circuits_have_the_size_of_the_circuit_and_a_seed_of_their_own() -> None:
    graph = Graph(ModelShape(2, 4, 2))
    masks = [random_mask(graph, 17, _seeded(seed)) for seed in (0, 1)]
    assert [int(mask.sum()) for mask in masks] == [17, 17]
    assert not (masks[0] & ~graph.edge_mask).any()
    assert not torch.equal(*masks)
    assert torch.equal(random_mask(graph, 17, _seeded(1)), masks[1])
    assert torch.equal(random_mask(graph, graph.n_edges, _seeded(0)), graph.edge_mask)


def test_every_edge_is_drawn_equally_often() -> None:
    graph, generator = Graph(ModelShape(1, 2)), _seeded(0)
    counts = torch.stack([random_mask(graph, 5, generator) for _ in range(2000)]).sum(0)[graph.edge_mask]
    expected = 2000 * 5 / graph.n_edges
    assert (counts - expected).abs().max() < 6 * expected**0.5


def test_random_numbers_follow_from_the_seed(exact_model: Adapter, random_pairs: PairFactory) -> None:
    pairs = random_pairs()
    state = torch.random.get_rng_state()
    a, b, c = (_evaluate(exact_model, pairs, seed=seed) for seed in (0, 0, 1))
    assert a.to_json() == b.to_json()
    assert a["random"]["kl"] != c["random"]["kl"]
    assert torch.equal(torch.random.get_rng_state(), state)


# --- the report ----------------------------------------------------------------------------------------------------


def test_the_json_is_plain_and_holds_what_was_promised(tiny_llama: Adapter, random_pairs: PairFactory) -> None:
    pairs = random_pairs(6)
    found = _evaluate(tiny_llama, pairs, 0.4, seed=7, random_circuits=10)
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    for run in ("model", "circuit", "empty", "random", "without_dangling", "complement"):
        for name in NUMBERS:
            assert isinstance(content[run][name], float), (run, name)
            assert [type(end) for end in content[run]["interval"][name]] == [float, float]
            assert list(content[run]["quantiles"][name]) == ["5", "25", "50", "75", "95"]
        assert content[run]["standard_error"].keys() == SHOWN
    counts = _circuit(Graph(tiny_llama.shape), 0.4).counts
    assert {key: content["circuit"][key] for key in counts} == counts
    assert content["circuit"]["examples"] == content["random"]["examples"] == 6
    facts = {"task": "random", "split": "test", "metric": "logit_difference", "examples": 6, "data_hash": pairs.hash,
             "ablation": "patch", "dtype": "float32", "seed": 7}  # fmt: skip
    assert {key: content[key] for key in facts} == facts
    assert content["convention"] == found.circuit.convention
    assert content["definitions"].keys() >= {*NUMBERS, "standard_error", "quantiles", "spread", "discretisation_gap"}
    assert content["random"]["circuits"] == 10
    assert content["random"]["edges"] == content["circuit"]["edges"]
    assert content["random"]["spread"].keys() == SHOWN
    assert content["soft"] is None
    assert content["discretisation_gap"] is None


def test_an_evaluation_comes_back_from_its_json(exact_model: Adapter, random_pairs: PairFactory) -> None:
    soft = torch.full(Graph(exact_model.shape).edge_mask.shape, 0.5)
    for pairs in (random_pairs(6), random_pairs(6, wrong=False)):
        found = _evaluate(exact_model, pairs, soft_mask=soft)
        content = json.loads(json.dumps(found.to_json(), allow_nan=False))
        loaded = Evaluation.from_json(content)
        assert json.dumps(loaded.to_json()) == json.dumps(content), "the same bits, in the same order"
        assert (loaded == found, loaded == content) == (True, True)
        assert loaded.circuit.kl == found.circuit.kl == loaded["circuit"]["kl"] == content["circuit"]["kl"]
        assert (loaded.circuit.edges, loaded["split"], loaded.get("nothing")) == (found.circuit.edges, "test", None)
        assert loaded.random is not None
        assert loaded.random.circuits == 2


def test_files_of_earlier_versions_still_load(tiny_gpt2: Adapter, random_pairs: PairFactory) -> None:
    """They do not say how many examples stood behind each run."""
    content = json.loads(json.dumps(_evaluate(tiny_gpt2, random_pairs()).to_json()))
    for run in ("model", "circuit", "empty", "random", "without_dangling", "complement"):
        del content[run]["examples"]
    assert Evaluation.from_json(content).to_json() == content


@pytest.mark.parametrize("changed", [{"format": "edge-pruning/curve"}, {"version": 99}])
def test_other_files_are_no_evaluations(tiny_gpt2: Adapter, random_pairs: PairFactory, changed: dict[str, Any]) -> None:
    content = _evaluate(tiny_gpt2, random_pairs()).to_json() | changed
    with pytest.raises(ValueError, match="expected an evaluation"):
        Evaluation.from_json(content)
    with pytest.raises(AttributeError, match="there is no number 'bleu'; choose from accuracy, .*kl"):
        _ = _evaluate(tiny_gpt2, random_pairs()).circuit.bleu


def test_masks_that_differ_in_dangling_edges_only_are_one_run(
    exact_model: Adapter, random_pairs: PairFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under patch they change nothing; under zero they do."""
    ran: list[int] = []
    logits = FusedPass.logits
    monkeypatch.setattr(FusedPass, "logits", lambda self, *a, **k: ran.append(1) or logits(self, *a, **k))
    pairs = random_pairs(3, lengths=(6,))
    for ablation, runs in ((Patch(), 3), (Zero(), 4)):
        ran.clear()
        found = _evaluate(exact_model, pairs, 0.12, ablation=ablation, random_circuits=0)
        assert found.circuit.edges > found.circuit.edges_without_dangling
        assert len(ran) == runs, "circuit, complement, empty (and without dangling edges)"


def test_on_large_graphs_baselines_are_measured_until_they_are_known_well_enough(
    exact_model: Adapter, random_pairs: PairFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = random_pairs(12)
    soft = torch.rand(Graph(exact_model.shape).edge_mask.shape, generator=torch.Generator().manual_seed(1))
    whole = _evaluate(exact_model, pairs, 0.3, random_circuits=9, soft_mask=soft)
    for name, value in {"LARGE": 0, "LARGE_PAIRS": 5, "BASELINE_ERROR": 1e9}.items():
        monkeypatch.setattr(faithfulness, name, value)
    few = _evaluate(exact_model, pairs, 0.3, random_circuits=9, soft_mask=soft)
    assert few.random is not None
    assert (few.random.circuits, few.random.examples, few.circuit.examples) == (3, 5, 12)
    assert few.circuit.mean == whole.circuit.mean
    assert few.soft is not None
    assert few.soft.examples == few.complement.examples == 5
    for name in ("soft", "complement"):
        some = few.runs[name]
        torch.testing.assert_close(some.kl, whole.runs[name].kl[:, some.ids])
    gap = whole.runs["circuit"].kl[:, some.ids].mean() - few.soft.kl
    assert few.discretisation_gap == pytest.approx(float(gap))
    assert Evaluation.from_json(few.to_json()) == few
    out = Console(record=True, width=200)
    print_evaluation(few, out)
    assert "all edges but the circuit's: on 5 of the 12 pairs" in out.export_text(clear=False)
    assert "random circuits of the same size: 3 of them on 5 of the 12 pairs" in out.export_text()
    run = few.runs["random"]
    assert run.ids is not None
    assert whole.random is not None
    torch.testing.assert_close(run.kl, whole.runs["random"].kl[:3, run.ids])
    expected = (run.difference - whole.runs["empty"].difference[:, run.ids]).mean() / whole.scale.span
    assert few.random.faithfulness == pytest.approx(float(expected))
    monkeypatch.setattr(faithfulness, "BASELINE_ERROR", 0)
    every = _evaluate(exact_model, pairs, 0.3, random_circuits=9)
    assert every.random is not None
    assert every.random.circuits == 9, "they are never known well enough"


def test_a_new_number_is_one_entry_of_the_table(
    tiny_gpt2: Adapter, random_pairs: PairFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reversed_kl(run: Comparison) -> Tensor:
        return kl_divergence(run.logits, run.reference.logits, run.batch)

    entry = Number("reversed_kl", "reversed KL", "Reversed KL", "nats", "KL(run || model)", lambda metric: reversed_kl)
    monkeypatch.setitem(NUMBER_TABLE, "reversed_kl", entry)
    found = _evaluate(tiny_gpt2, random_pairs())
    assert found.model.reversed_kl == 0
    assert found.circuit.reversed_kl > 0
    assert found.to_json()["definitions"]["reversed_kl"] == "KL(run || model)"
    assert Evaluation.from_json(found.to_json()).circuit.reversed_kl == found.circuit.reversed_kl
    out = Console(record=True, width=200)
    print_evaluation(found, out)
    assert "reversed KL" in out.export_text()


def test_templates_are_broken_down(exact_model: Adapter, random_pairs: PairFactory) -> None:
    found = _evaluate(exact_model, random_pairs(8))
    assert {name: numbers["n"] for name, numbers in found.templates.items()} == {"t0": 3, "t1": 3, "t2": 2}
    for name, run in (("kl", "circuit"), ("accuracy", "circuit"), ("model_accuracy", "model")):
        total = sum(numbers["n"] * numbers[name] for numbers in found.templates.values())
        assert total / 8 == pytest.approx(found[run][name.removeprefix("model_")])
    assert found.to_json()["templates"]["t2"]["n"] == 2


def test_rows_stand_side_by_side(exact_model: Adapter, random_pairs: PairFactory) -> None:
    soft = torch.full(Graph(exact_model.shape).edge_mask.shape, 0.5)
    found = _evaluate(exact_model, random_pairs(), soft_mask=soft)
    rows = found.rows()
    runs = ["model", "soft", "circuit", "without_dangling", "complement", "random", "empty"]
    assert [row["run"] for row in rows] == runs
    n = found.circuit.edges_total
    k = found.circuit.edges
    sizes = [n, n / 2, k, found.circuit.edges_without_dangling, n - k, k, 0]
    assert [row["edges"] for row in rows] == sizes
    assert rows[2]["kl"] == found["circuit"]["kl"]


def test_progress_counts_pairs(exact_model: Adapter, random_pairs: PairFactory) -> None:
    seen: list[tuple[int, int]] = []
    _evaluate(exact_model, random_pairs(5), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)
    assert seen == sorted(seen)


def test_no_random_circuits_is_null(exact_model: Adapter, random_pairs: PairFactory) -> None:
    found = _evaluate(exact_model, random_pairs(), random_circuits=0)
    assert found.to_json()["random"] is None


def test_a_soft_mask_of_zeros_and_ones_is_the_circuit(exact_model: Adapter, random_pairs: PairFactory) -> None:
    soft = _circuit(Graph(exact_model.shape), 0.6).mask.float()
    found = _evaluate(exact_model, random_pairs(), soft_mask=soft)
    assert found.discretisation_gap == 0
    assert found["soft"].mean == found["circuit"].mean


# --- warnings ------------------------------------------------------------------------------------------------------


def _warned(found: Evaluation, text: str) -> bool:
    assert list(found.warnings) == found.to_json()["warnings"]
    return any(text in warning for warning in found.warnings)


def test_dangling_edges_are_warned_about(exact_model: Adapter, random_pairs: PairFactory) -> None:
    found = _evaluate(exact_model, random_pairs(), 0.12)
    edges, kept = found.circuit.edges, found.circuit.edges_without_dangling
    assert _warned(found, f"({edges - kept} of {edges}) dangle")
    assert not _warned(_evaluate(exact_model, random_pairs(), 1.1), "dangle")


def test_a_soft_mask_that_does_not_survive_cutting_is_warned_about(
    exact_model: Adapter, random_pairs: PairFactory
) -> None:
    graph, pairs = Graph(exact_model.shape), random_pairs()
    whole = graph.edge_mask.float()
    found = _evaluate(exact_model, pairs, 0.05, soft_mask=whole)
    assert _warned(found, "rounding the mask to 0 and 1 loses much: KL")
    assert _warned(found, f"the soft mask sums to {graph.n_edges}.0 edges, the circuit has {found.circuit.edges}")
    fine = _evaluate(exact_model, pairs, 1.1, soft_mask=whole)
    assert not _warned(fine, "soft mask")


def test_data_that_says_little_is_warned_about(exact_model: Adapter, random_pairs: PairFactory) -> None:
    few = _evaluate(exact_model, random_pairs(6, split="train"))
    assert _warned(few, "only 6 pairs")
    assert _warned(few, "on the training split")
    many = _evaluate(exact_model, random_pairs(40))
    right = many["model"]["accuracy"]
    assert right < 0.75  # random answers
    assert _warned(many, f"the model itself is right on only {100 * right:.0f} % of the pairs")
    assert not _warned(many, "pairs: the means")
    assert not _warned(many, "training split")


def test_circuits_of_no_edges_and_of_all_are_warned_about(exact_model: Adapter, random_pairs: PairFactory) -> None:
    assert _warned(_evaluate(exact_model, random_pairs(), 0), "the circuit is empty: it has no edges")
    assert _warned(_evaluate(exact_model, random_pairs(), 1.1), "the circuit is the whole model")
    assert not _warned(_evaluate(exact_model, random_pairs(), 0.5), "nothing to judge")


def test_a_circuit_without_which_the_model_works_is_warned_about(
    exact_model: Adapter, random_pairs: PairFactory
) -> None:
    pairs = _answered(exact_model, random_pairs(12))
    graph = Graph(exact_model.shape)
    little = Circuit.from_names(graph, ["input->m0"])
    found = evaluate(little, Setup(FusedPass(exact_model), pairs, Patch()), random_circuits=0)
    left = found["complement"]["faithfulness"]
    assert left > 0.2
    assert _warned(found, f"the circuit is incomplete: {100 * left:.0f} % of the faithfulness is left")
    assert not _warned(_evaluate(exact_model, pairs, 1.1), "the circuit is incomplete")


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
    model = _evaluate(exact_model, pairs).runs
    behind = [i for i in range(40) if model["model"].difference[0, i] < model["empty"].difference[0, i]]
    worse = PairSet("worse", "test", pairs.metric, tuple(pairs.pairs[i] for i in behind), ())
    assert _warned(_evaluate(exact_model, worse), "the model scores lower than the empty circuit")
    ahead = [i for i in range(40) if i not in behind][: len(behind)]
    mixed = PairSet("mixed", "test", pairs.metric, tuple(pairs.pairs[i] for i in behind + ahead), ())
    span = _evaluate(exact_model, mixed)
    assert 0 < abs(span.scale.span) < 3 * span.scale.span_error
    assert _warned(span, "faithfulness is noise" if span.scale.span > 0 else "scores lower")


def test_half_precision_is_stated_and_warned_about(
    build_model: Callable[..., Adapter], random_pairs: PairFactory
) -> None:
    found = _evaluate(build_model("gpt2", torch.bfloat16), random_pairs())
    assert found.to_json()["dtype"] == "bfloat16"
    assert _warned(found, "the model ran in bfloat16; quote numbers from float32 instead")


def test_logits_that_are_not_finite_are_warned_about(
    build_model: Callable[..., Adapter], random_pairs: PairFactory
) -> None:
    adapter = build_model("gpt2")
    adapter.hf.transformer.wpe.weight[4] = torch.nan
    found = _evaluate(adapter, random_pairs())
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
        _evaluate(tiny_gpt2, random_pairs(), soft_mask=soft)
