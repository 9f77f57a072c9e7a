"""The speed of this machine, measured before a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from random_models import config_of, mixed_pairs, random_model
from torch import Tensor

from edge_pruning.ablation import Mean, Patch
from edge_pruning.loading.model_source import weights_at_hand
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.whole_stream import WholeStream
from edge_pruning.models import Adapter
from edge_pruning.planning import devices
from edge_pruning.planning.calibration import measured
from edge_pruning.runs.planned import plan


def test_a_model_on_this_machine_is_timed() -> None:
    assert weights_at_hand("bundled")
    assert not weights_at_hand("someone/never-downloaded")
    found = plan("ioi")
    assert f"measured just now with {found.pairs_at_once} pairs on this machine" in found.line
    assert plan("ioi", calibrate=False).speed.source.startswith("estimated")


def test_calibration_measures_steps_and_forward_passes(tiny_gpt2: Adapter, random_pairs: Any) -> None:
    counted: dict[str, list[int]] = {"step": [], "whole": [], "forward": []}

    class Counting(FusedPass):
        def run(self, mask: Tensor, batch: Any, *rest: Any) -> Any:
            step = "whole" if self.stream is WholeStream else "step"
            counted[step if torch.is_grad_enabled() else "forward"].append(batch.size)
            return super().run(mask, batch, *rest)

    engine = Counting(tiny_gpt2)  # type: ignore[arg-type]
    speed = measured(engine, engine, random_pairs(40).pairs, 4, 50, Patch(), "kl")
    assert speed.source == "measured just now with 4 pairs on this machine"
    assert set(counted["step"]) == {4}
    assert set(counted["forward"]) == set(counted["whole"]) == {32}, "their micro-batches are larger than a step's"
    assert 0 < speed.forward < speed.step
    assert speed.whole > 0


def test_calibration_judges_in_float32() -> None:
    dtypes: dict[str, set[torch.dtype]] = {"search": set(), "judging": set()}

    class Watched(FusedPass):
        def run(self, *arguments: Any) -> Any:
            dtypes["search" if torch.is_grad_enabled() else "judging"].add(self.dtype)
            return super().run(*arguments)

    half = Watched(random_model(config_of("llama"), torch.bfloat16))
    measured(half, half.in_float32(), mixed_pairs(), 4, 4, Mean(), "kl")
    assert dtypes == {"search": {torch.bfloat16}, "judging": {torch.float32}}


def test_a_cpu_is_asked_in_which_dtype_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {torch.float32: 1e9, torch.bfloat16: 3e9, torch.float64: 5e8}
    monkeypatch.setattr(devices, "_rate", lambda device, dtype, *_: rates[dtype])
    for dtype, rate in rates.items():
        found = devices.this_device(torch.device("cpu"), dtype)
        assert (found.bfloat16, found.operations) == (3.0, devices.ON_CPU * rate)
