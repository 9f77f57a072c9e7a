"""Large models are searched in a copy in bfloat16, where the device is faster in it, and judged in themselves."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from random_models import FAMILIES, config_of, mixed_pairs, random_model

import edge_pruning as ep
from edge_pruning import files
from edge_pruning.ablation import Patch
from edge_pruning.evaluation import evaluate_curve
from edge_pruning.loading import search_dtype
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model
from edge_pruning.loading.self_check import TOLERANCE, law_errors
from edge_pruning.planning.plan import gigabytes
from edge_pruning.runs import RunConfig, RunObserver, pipeline, planned
from edge_pruning.runs.pipeline import setup_of
from edge_pruning.runs.two_settings import study
from edge_pruning.setup import Setup
from edge_pruning.sweep import Worker, open_sweep

FEW = {"steps": 4, "edges": 20, "draw": False, "patterns": 0, "device": "cpu"}
CPU, GIB = torch.device("cpu"), 2**30


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any model is large, and this CPU is fast in bfloat16."""
    monkeypatch.setattr(search_dtype, "LARGE", 1)
    for module in (search_dtype, planned):
        monkeypatch.setattr(module, "multiplies_bfloat16", lambda device: True)


def slower(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (search_dtype, planned):
        monkeypatch.setattr(module, "multiplies_bfloat16", lambda device: False)


def of_weights(n: int, dtype: str = "float32") -> Any:
    """Stands for a model of so many weights."""
    return SimpleNamespace(adapter=SimpleNamespace(hf=torch.nn.Linear(n, 1, bias=False, device="meta")), dtype=dtype)


# --- the decision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("supported", "amx", "found"), [(False, False, False), (True, False, True), (False, True, True)]
)
def test_a_cpu_needs_the_instructions(monkeypatch, supported, amx, found):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert search_dtype.multiplies_bfloat16(CPU) is found


def test_a_cpu_of_which_torch_says_nothing_is_taken_to_have_none(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not search_dtype.multiplies_bfloat16(CPU)


@pytest.mark.parametrize(("capability", "found"), [((7, 5), False), ((8, 0), True)])
def test_a_gpu_needs_the_instructions(monkeypatch, capability, found):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert search_dtype.multiplies_bfloat16(torch.device("cuda")) is found
    assert not search_dtype.multiplies_bfloat16(torch.device("mps"))


@pytest.mark.parametrize(("weights", "own", "memory", "found"), [
    (search_dtype.LARGE, "float32", 18 * search_dtype.LARGE, True),
    (search_dtype.LARGE - 1, "float32", 64 * GIB, False),  # small
    (search_dtype.LARGE, "float32", 18 * search_dtype.LARGE - 3, False),  # too little memory for both
    (search_dtype.LARGE, "float64", 64 * GIB, False),
    (search_dtype.LARGE, "bfloat16", 64 * GIB, False),
])
def test_only_large_float32_models_with_room_for_a_copy_are_copied(weights, own, memory, found):
    assert search_dtype.pays(of_weights(weights, own), memory) is found


def test_ranks_share_the_memory_of_a_cpu(monkeypatch):
    monkeypatch.setattr(search_dtype, "total_and_free", lambda device: (800, 700))
    assert search_dtype.memory_of_each(CPU, 4) == 200
    assert search_dtype.memory_of_each(torch.device("cuda"), 4) == 800


# --- the copy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_copy_has_rounded_weights_and_its_tables_in_float32(kind):
    model = Model(random_model(config_of(kind), torch.float32), None, kind)
    before = {name: x.clone() for name, x in model.adapter.hf.state_dict().items()}
    copy = search_dtype.copied(model, "bfloat16")
    own, computed = copy.adapter.hf.state_dict(), dict(model.adapter.hf.named_buffers()).keys() - before.keys()
    assert all(torch.equal(own[name], x.bfloat16()) for name, x in before.items() if x.is_floating_point())
    assert all(torch.equal(x, before[name]) for name, x in model.adapter.hf.state_dict().items())
    buffers = dict(copy.adapter.hf.named_buffers())
    assert all(buffers[name].dtype == x.dtype for name, x in model.adapter.hf.named_buffers() if name in computed)
    assert max(law_errors(copy.engine())) < 0.2
    assert copy.dtype == "bfloat16"
    assert model.dtype == "float32"


def test_a_copy_is_the_model_loaded_in_bfloat16(model_folder):
    """Bit for bit."""
    copy = search_dtype.copied(load_model(str(model_folder), device="cpu"), "bfloat16").engine()
    loaded = load_model(str(model_folder), device="cpu", dtype="bfloat16").engine()
    batch = loaded.batch(mixed_pairs())
    assert torch.equal(copy.own_logits(batch), loaded.own_logits(batch))


def test_a_copy_that_is_not_exact_enough_is_not_used(model_folder, faster, monkeypatch, caplog):
    model = load_model(str(model_folder), device="cpu")
    monkeypatch.setitem(TOLERANCE, torch.bfloat16, 1e-9)
    assert search_dtype.model_to_search(model, "auto") is model
    assert "is searched in float32, not in a copy in bfloat16: this gpt2 model is not run exactly" in caplog.text
    with pytest.raises(ValueError, match="is not run exactly"):
        search_dtype.model_to_search(model, "bfloat16")


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_is_searched_in_the_copy_and_judged_in_the_model(model_folder, pairs_file, tmp_path, faster):
    out = tmp_path / "run"
    run = ep.discover(str(pairs_file), model=str(model_folder), out=out, **FEW)
    stored = files.read_json(out / "config.json")
    assert (stored["settings"]["dtype"], stored["dtype"]) == ("auto", "bfloat16")
    assert json.loads((out / "circuit.json").read_text())["provenance"]["dtype"] == "bfloat16"
    in_bfloat16 = ep.discover(str(pairs_file), model=str(model_folder), dtype="bfloat16", **FEW)
    in_float32 = ep.discover(str(pairs_file), model=str(model_folder), dtype="float32", **FEW)
    assert torch.equal(run.circuit.scores.values, in_bfloat16.circuit.scores.values)
    assert not torch.equal(run.circuit.scores.values, in_float32.circuit.scores.values)
    whole = load_model(str(model_folder), device="cpu")
    assert run.circuit.provenance["model"]["weights"]["fingerprint"] == whole.fingerprint
    setup = Setup.of(whole, ep.get_task(str(pairs_file)), Patch())
    (again,) = evaluate_curve(run.circuit.scores, setup, sizes=[20]).rows()
    assert run.evaluation is not None
    assert run.evaluation.circuit.mean["kl"] == pytest.approx(again["kl"], rel=1e-6)
    assert run.evaluation.protocol.dtype == "float32"


def test_a_resumed_run_keeps_its_dtype_on_a_machine_that_would_choose_another(
    model_folder, pairs_file, tmp_path, faster, monkeypatch
):
    class Stop(Exception):
        pass

    def stop(record: Any) -> None:
        if record["step"] == 12:
            raise Stop

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings: dict[str, Any] = {**FEW, "steps": 15, "model": str(model_folder)}
    ep.discover(str(pairs_file), out=whole, **settings)
    with pytest.raises(Stop):
        ep.discover(str(pairs_file), out=cut, callback=stop, **settings)
    slower(monkeypatch)
    ep.discover(str(pairs_file), out=cut, resume=True, draw=False, patterns=0)
    assert files.read_json(cut / "config.json")["dtype"] == "bfloat16"
    assert (cut / "scores.safetensors").read_bytes() == (whole / "scores.safetensors").read_bytes()


def test_resumed_seeds_keep_their_dtype(model_folder, pairs_file, tmp_path, faster, monkeypatch):
    out = tmp_path / "seeds"
    ep.discover_seeds(str(pairs_file), seeds=2, model=str(model_folder), out=out, **FEW)
    (out / "stability.json").unlink()
    for file in (out / "seed-1").iterdir():
        file.unlink()
    (out / "seed-1").rmdir()
    slower(monkeypatch)
    ep.discover_seeds(str(pairs_file), seeds=2, out=out, resume=True, draw=False, patterns=0)
    dtypes = [files.read_json(out / f"seed-{seed}" / "config.json")["dtype"] for seed in (0, 1)]
    assert dtypes == ["bfloat16", "bfloat16"]


def test_a_cell_of_a_sweep_that_is_resumed_keeps_its_dtype(model_folder, pairs_file, tmp_path, faster, monkeypatch):
    file = tmp_path / "sweep.toml"
    file.write_text(
        f"task = '{pairs_file}'\nmodel = '{model_folder}'\ndraw = false\npatterns = 0\nedges = 20\n"
        f"out = '{tmp_path}/out'\nsettings = {{steps = 4}}\n[grid]\nseed = [0]\n"
    )
    folder = open_sweep(file)
    Worker(folder).work()
    place = folder.run_folder(folder.cells[0])
    (place / "evaluation.json").unlink()
    slower(monkeypatch)
    Worker(folder).work()
    assert folder.is_finished(folder.cells[0])
    assert files.read_json(place / "config.json")["dtype"] == "bfloat16"


def test_a_float32_model_in_memory_is_copied_and_one_in_bfloat16_is_not(model_folder, pairs_file, faster):
    for dtype in ("float32", "bfloat16"):
        model = load_model(str(model_folder), device="cpu", dtype=dtype)
        run = ep.discover(str(pairs_file), model=model, **FEW)
        assert run.circuit.provenance["dtype"] == "bfloat16"
        assert model.dtype == dtype


def test_the_plan_counts_both_models(model_folder, faster, monkeypatch):
    found = planned.plan("ioi", calibrate=False)
    slower(monkeypatch)
    alone = planned.plan("ioi", calibrate=False)
    weights = alone.costs.weights
    assert (found.dtype, alone.dtype) == ("bfloat16", "float32")
    assert found.to_json()["bytes"]["weights"] == 6 * weights
    assert alone.to_json()["bytes"]["weights"] == 4 * weights
    assert "searched in bfloat16, judged in float32" in found.line
    assert "searched in" not in alone.line


@pytest.mark.parametrize("settings", [{"dtype": "float32"}, {"shard": True, "ranks": 2}])
def test_no_copy_is_planned_for_shared_weights_or_a_dtype_that_was_asked_for(settings, faster):
    assert planned.plan("ioi", calibrate=False, **settings).dtype == "float32"


def test_the_decision_is_about_the_device_that_was_named(monkeypatch):
    monkeypatch.setattr(search_dtype, "LARGE", 1)
    slower(monkeypatch)
    assert planned.plan("ioi", device="h100").dtype == "bfloat16"
    assert planned.plan("ioi", device="cpu", calibrate=False).dtype == "float32"


@pytest.mark.parametrize(("settings", "found"), [
    ({}, "bfloat16"), ({"preset": "hap"}, "bfloat16"), ({"preset": "thorough"}, "bfloat16"),
    ({"method": "eap"}, "float32"), ({"preset": "paper"}, "float32"), ({"preset": "exact"}, "float32"),
    ({"method": "hap", "pruning": "edge-pruning"}, "float32"),
])
def test_only_methods_that_were_measured_so_search_a_copy(settings, found, faster):
    assert planned.plan("ioi", calibrate=False, **settings).dtype == found


def test_a_plan_that_does_not_fit_offers_one_model_alone(faster, monkeypatch):
    found = planned.plan("ioi", calibrate=False)
    least = found.least - found.costs.weights
    tight = replace(found, device=replace(found.device, free=least))
    half = tight._of_one_model(2)
    assert not tight.fits
    assert half.fits
    assert f"--dtype bfloat16 needs {gigabytes(half.least)} instead of {gigabytes(tight.least)}" in tight.advice


def test_a_plan_with_a_copy_that_is_not_exact_enough_is_of_the_model_alone(faster, monkeypatch):
    monkeypatch.setitem(TOLERANCE, torch.bfloat16, 1e-9)
    found = planned.plan("ioi", calibrate=True, device="cpu")
    assert (found.dtype, found.of_judging) == ("float32", 0)
    assert "measured" in found.speed.source


def test_a_bfloat16_model_in_memory_is_planned_as_one(model_folder, pairs_file, faster):
    lines: list[str] = []

    class Listening(RunObserver):
        def forecast(self, words: str) -> None:
            lines.append(words)

    model = load_model(str(model_folder), device="cpu", dtype="bfloat16")
    ep.discover(str(pairs_file), model=model, dtype="auto", observer=Listening(), **FEW)
    (line,) = lines
    assert "judged in float32" not in line


def test_a_study_copies_no_model_that_it_does_not_search(model_folder, pairs_file, tmp_path, faster, monkeypatch):
    """Two sides, two seeds each: one copy per search."""
    copies: list[str] = []

    def counted(model: Model, dtype: str) -> Model:
        copies.append(dtype)
        return copied(model, dtype)

    copied = search_dtype.copied
    monkeypatch.setattr(search_dtype, "copied", counted)
    other = tmp_path / "other.jsonl"
    other.write_text("".join(reversed(pairs_file.read_text().splitlines(keepends=True))))
    study(str(pairs_file), against=str(other), model=str(model_folder), out=tmp_path / "study", seeds=2, anyway=True,
          **{name: value for name, value in FEW.items() if name in ("steps", "edges", "device")})  # fmt: skip
    assert copies == ["bfloat16"] * 4


def test_the_copy_is_gone_while_circuits_are_judged(model_folder, pairs_file, faster, monkeypatch):
    """Its memory is needed then. A second seed searches in a copy of its own."""
    copies: list[weakref.ref[Any]] = []
    alive: list[list[bool]] = []

    def counted(model: Model, dtype: str) -> Model:
        made = copied(model, dtype)
        copies.append(weakref.ref(made.adapter.hf))
        return made

    def judged(*arguments: Any) -> Any:
        alive.append([copy() is not None for copy in copies])
        return judge(*arguments)

    copied, judge = search_dtype.copied, pipeline.judge
    monkeypatch.setattr(search_dtype, "copied", counted)
    monkeypatch.setattr(pipeline, "judge", judged)
    found = ep.discover_seeds(str(pairs_file), model=str(model_folder), seeds=2, **FEW)
    assert alive == [[False], [False, False]]
    assert [run.circuit.provenance["dtype"] for run in found.runs] == ["bfloat16"] * 2


def test_what_judging_says_of_the_search_is_its_dtype(model_folder, pairs_file, tmp_path):
    """Also if the model itself is in bfloat16, and judged in float32."""
    out = tmp_path / "run"
    run = ep.discover(str(pairs_file), model=str(model_folder), dtype="bfloat16", out=out, **FEW)
    assert run.circuit.provenance["dtype"] == files.read_json(out / "config.json")["dtype"] == "bfloat16"
    assert run.config["dtype"] == "bfloat16"
    assert run.evaluation is not None
    assert run.evaluation.protocol.dtype == "float32"


def test_a_copy_captures_as_it_was_asked_to(model_folder, pairs_file, faster):
    setup = setup_of(RunConfig(task=str(pairs_file), model=str(model_folder), device="cpu", cuda_graph="off"))
    setup.end_search()
    assert setup.searching is not setup
    assert setup.searching.engine.cuda_graph == "off"


def test_the_copy_does_not_outlive_its_run(model_folder, pairs_file, faster):
    """Without waiting for the garbage collection."""
    model = load_model(str(model_folder), device="cpu")
    config = RunConfig(task=str(pairs_file), model=str(model_folder), device="cpu")
    gc.collect()
    gc.disable()
    try:
        setup = setup_of(config, model)
        copy = weakref.ref(setup.searching.engine.adapter)
        assert copy() is not None
        _ = setup.searching.train, setup.searching.ablation
        del setup
        assert copy() is None
    finally:
        gc.enable()
