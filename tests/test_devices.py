"""On an accelerator everything is as on the CPU, no operation mixes devices, and nothing waits in the hot loop.

There is none here: see `pretend_devices.py` for what is proven in its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pretend_devices import pretending
from random_models import FAMILIES, answered, config_of, pair, pairs_for, random_mask, random_model
from running import logits_and_gradient, runner
from torch import Tensor

from edge_pruning.ablation import Ablation, Patch, Zero
from edge_pruning.discovery import Method, Search, training
from edge_pruning.discovery.eap import Eap
from edge_pruning.discovery.hard_concrete import HardConcrete
from edge_pruning.discovery.soft_top_k import SoftTopK
from edge_pruning.evaluation.measure import measure
from edge_pruning.loading.self_check import law_errors
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models.parts import PartsAdapter
from edge_pruning.runs.inspection import predictions
from edge_pruning.setup import Setup
from edge_pruning.tasks.task import PairSet

DEVICE = "lazy:0"
KINDS = ["gpt2", "llama", "gemma2"]
PASSES = [MaskedPass, FusedPass]
REPORTS = {"training._checked", "training._check_parameters"}
Pass = Callable[[Any], MaskedPass]


def engine_of(kind: str, of: Pass, device: str) -> MaskedPass:
    """On a device, with micro-batches of at most 20 tokens."""
    adapter = random_model(config_of(kind))
    adapter.hf.to(device)
    engine = of(adapter)
    engine.largest_tile = 20
    return engine


def data(n: int) -> PairSet:
    pairs = tuple(answered(pair(seed, 5 + seed % 3, (3,)), seed) for seed in range(n))
    return PairSet("random", "train", "logit_difference", pairs, ())


def on_both(work: Callable[[str], Tensor]) -> tuple[Tensor, Tensor, Counter[str]]:
    """What comes out on the CPU and on the device, and what the package has waited for there."""
    return work("cpu"), *on_device(work)


def on_device(work: Callable[[str], Tensor]) -> tuple[Tensor, Counter[str]]:
    with pretending() as pretended:
        found = work(DEVICE)
    return found, pretended.places


def test_pretended_devices_have_the_rules_of_real_ones() -> None:
    with pretending() as pretended:
        x, here, there = torch.ones(2), torch.ones(2, device="lazy:0"), torch.ones(2, device="lazy:1")
        for mixed in (lambda: here + x, lambda: here + there, lambda: here[torch.tensor([0])]):
            with pytest.raises(RuntimeError, match="operands on"):
                mixed()
        assert pretended.waits == []
        for look in (
            lambda: float(here[0]), here.cpu, here.tolist, lambda: bool((here > 0).all()), here.nonzero,
            lambda: here[here > 0], lambda: x.to(DEVICE), lambda: torch.tensor([1], device=DEVICE),
        ):  # fmt: skip
            before = len(pretended.waits)
            look()
            assert len(pretended.waits) > before
        waits = len(pretended.waits)
        moved = x.to(DEVICE, non_blocking=True) + here.to("lazy:0") + there.to("lazy:0") + torch.tensor(1.0)
        assert (len(pretended.waits), len(pretended.crossings)) == (waits, 1)
        assert moved.tolist() == [4.0, 4.0]


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_runs_there_as_on_the_cpu(kind: str) -> None:
    """Forward and backward, whole and restricted to candidates; only mixtures of experts wait, to route tokens."""

    def work(device: str) -> Tensor:
        adapter = random_model(config_of(kind))
        adapter.hf.to(device)
        found = []
        for engine in [of(adapter) for of in PASSES if of is MaskedPass or isinstance(adapter, PartsAdapter)]:
            mask, batch = random_mask(engine.graph).to(device), engine.batch(pairs_for(adapter))
            within = random_mask(engine.graph, 1) > 0.7
            for run in (engine, engine.restricted(within, consistent=True)):
                found += logits_and_gradient(runner(run, batch), mask * (mask if run is engine else within.to(device)))
        if device != "cpu":
            assert all(value.device == torch.device(device) for value in found)
        return torch.cat([value.flatten().to("cpu") for value in found])

    here, there, waits = on_both(work)
    torch.testing.assert_close(there, here, rtol=1e-9, atol=1e-9)
    assert set(waits) <= {"experts.ExpertsDecoder.mlp_module"}


@pytest.mark.parametrize(("pairs_at_once", "batches"), [(4, 3), (12, 1)])
def test_inspecting_pairs_waits_once_per_micro_batch(pairs_at_once: int, batches: int) -> None:
    pairs = [answered(pair(seed, 5, (2, 4)), seed) for seed in range(12)]

    def work(device: str) -> Tensor:
        engine = engine_of("gpt2", FusedPass, device)
        engine.largest_tile = 5 * pairs_at_once
        made = predictions(engine, pairs, "logit_difference")
        return torch.tensor([[*(n for entry in one.top for n in entry), one.right] for one in made])

    here, there, waits = on_both(work)
    torch.testing.assert_close(there, here, rtol=1e-6, atol=1e-6)
    assert waits == {"inspection.predictions": batches}


@pytest.mark.parametrize("kind", KINDS)
def test_the_laws_are_checked_there_when_a_model_is_loaded(kind: str) -> None:
    for of in PASSES:
        _, there, _ = on_both(lambda device, of=of: torch.tensor(law_errors(engine_of(kind, of, device))))
        assert there.max() < 1e-5


SOFT = SoftTopK(steps=12, attribute_first=False)
HARD = HardConcrete(steps=12, target_steps=5, warmup_steps=2, initial_log_alpha=1.0, node_masks=True)


@pytest.mark.parametrize(("kind", "of", "method", "ablation", "share"), [
    ("gpt2", FusedPass, SOFT, Patch(), None),
    ("llama", MaskedPass, SOFT, Patch(), None),
    ("gemma2", FusedPass, SOFT, Patch(), None),
    ("gpt2", FusedPass, SOFT, Zero(), 0.3),
    ("llama", FusedPass, HARD, Patch(), None),
], ids=["gpt2", "llama, reference pass", "gemma2", "gpt2, within candidates", "llama, hard concrete"])  # fmt: skip
def test_training_waits_for_its_reports_only(
    kind: str, of: Pass, method: Method, ablation: Ablation, share: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its two reports, and a few times before and after; no more if a step has more pairs and micro-batches."""
    monkeypatch.setattr(training, "REPORT_EVERY", 5)

    def work(device: str, batch_size: int = 3) -> Tensor:
        engine = engine_of(kind, of, device)
        candidates = None if share is None else random_mask(engine.graph, 1) > 1 - share
        step = replace(method, batch_size=batch_size, steps=6)  # type: ignore[type-var]
        return step.find(Search(engine, data(6), ablation, [20], candidates)).values

    here, there, waits = on_both(work)
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-6)
    assert on_device(lambda device: work(device, 6))[1] == waits
    assert waits["training._checked"] == 2
    assert all(count <= 2 for place, count in waits.items() if place not in REPORTS)


@pytest.mark.parametrize("of", PASSES, ids=lambda of: of.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_attribution_waits_at_its_end_only(kind: str, of: Pass) -> None:
    def work(device: str) -> Tensor:
        return Eap().find(Search(engine_of(kind, of, device), data(6), Patch())).values

    here, there, waits = on_both(work)
    torch.testing.assert_close(there, here)
    assert waits == {"gradient.mask_gradient": 1, "eap.first_order_effects": 1}  # the mask there, the scores back


@pytest.mark.parametrize("of", PASSES, ids=lambda of: of.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_waits_at_its_end_only(kind: str, of: Pass) -> None:
    """But for the masks, which are sent there once."""

    def work(device: str) -> Tensor:
        engine = engine_of(kind, of, device)
        masks = [random_mask(engine.graph, seed) > 0.5 for seed in range(3)]
        return torch.cat([run.kl for run in measure(Setup(engine, data(6), Patch()), masks, data(6))])

    here, there, waits = on_both(work)
    torch.testing.assert_close(there, here)
    assert waits == {"measure._runs": 3, "measure.measure": 1}
