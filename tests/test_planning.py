"""What a run costs is known before it starts."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from random_models import mixed_pairs
from torch import Tensor
from transformers import LlamaConfig, MixtralConfig
from typer.testing import CliRunner

from edge_pruning.ablation import Patch
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.cli.app import app
from edge_pruning.cli.progress import ProgressBar
from edge_pruning.discovery.cost import Cost
from edge_pruning.evaluation.measure import CIRCUIT_SHARE
from edge_pruning.graph import Graph
from edge_pruning.loading import load_model, placement
from edge_pruning.loading.loading import describe_model
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.models import Adapter
from edge_pruning.planning import Costs, Device, Plan, Work, named_device
from edge_pruning.planning.plan import OVERHEAD, duration, gigabytes
from edge_pruning.runs import RunObserver, discover, judging
from edge_pruning.runs.judging import cut_circuits
from edge_pruning.runs.planned import plan

GIGA, MEGA = 1e9, 1e6


def folder_of(path: Path, **sizes: Any) -> str:
    """A folder with a Llama's configuration and nothing else."""
    LlamaConfig(**sizes).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def llama_13b(tmp_path_factory: pytest.TempPathFactory) -> str:
    return folder_of(
        tmp_path_factory.mktemp("13b"), hidden_size=5120, num_attention_heads=40, num_hidden_layers=40,
        intermediate_size=13824, vocab_size=32016, max_position_embeddings=16384,
    )  # fmt: skip


@pytest.fixture(scope="module")
def costs_13b(llama_13b: str) -> Costs:
    return Costs.of(describe_model(llama_13b, dtype="bfloat16").engine())


# --- arithmetic ------------------------------------------------------------------------------------------------------


def test_what_13b_holds_is_what_was_measured(costs_13b: Costs) -> None:
    """Measured with the real code at the real shape, without weights, in bfloat16."""
    assert costs_13b.weights * 2 == pytest.approx(26.0 * GIGA, rel=0.01)
    assert costs_13b.folded * 2 == pytest.approx(17.6 * GIGA, rel=0.01)
    assert costs_13b.step(1, 0, keep_reads=False) == pytest.approx(42.9 * MEGA, rel=0.02)
    assert costs_13b.step(1, 0, keep_reads=True) == pytest.approx(91.2 * MEGA, rel=0.02)
    assert costs_13b.train(keep_reads=True) == pytest.approx(169 * GIGA, rel=0.02)
    assert costs_13b.train(keep_reads=False) == pytest.approx(209 * GIGA, rel=0.02)
    assert costs_13b.whole == pytest.approx(90 * GIGA, rel=0.02)
    assert costs_13b.traffic == pytest.approx(2.3 * GIGA, rel=0.05)


def test_logits_count_where_answers_are_compared(costs_13b: Costs) -> None:
    without, with_one = costs_13b.step(72, 0, keep_reads=True), costs_13b.step(72, 1, keep_reads=True)
    assert with_one - without == 32016 * 4 * 6


@pytest.mark.parametrize("convention", [{}, {"embeddings": "split"}])
def test_frozen_values_take_what_is_planned(tiny_gpt2: Adapter, convention: dict[str, Any]) -> None:
    engine, pairs = FusedPass(tiny_gpt2, Graph(tiny_gpt2.shape, **convention)), mixed_pairs()  # type: ignore[arg-type]
    cache = FrozenCache(engine, pairs, Patch(), 1 << 30, logits=False)
    assert cache.kept == len(pairs)
    assert Costs.of(engine).cache(sum(map(engine.tokens, pairs))) == cache.bytes


def test_the_peak_is_that_of_the_stage_that_takes_most(costs_13b: Costs) -> None:
    steps = made(costs_13b, 400 * GIGA)
    assert steps.peak == steps.at_rest + steps.cache + costs_13b.step(16 * 72, 16, keep_reads=True)
    ranked = replace(steps, work=replace(steps.work, search=replace(steps.work.search, whole=4_000)), tile=60)
    assert ranked.peak == steps.at_rest + costs_13b.step(60 * 72, 60, keep_reads=False) > steps.peak
    judged = replace(steps, work=replace(steps.work, compared=100), judged_tile=100)
    in_float32 = replace(costs_13b, itemsize=4)
    kept = in_float32.cache(100 * 72) + in_float32.forward_pass(100 * 72, 100)
    assert judged.peak == steps._rest(keep_maps=False) + kept > steps.peak
    copied = replace(judged, of_judging=4 * costs_13b.weights)
    with_maps = copied.peak - judged.peak - copied.of_judging + steps._rest(keep_maps=False) - OVERHEAD["cuda"]
    assert with_maps == 4 * costs_13b.folded, "a model in float32 keeps its maps; its copy is gone"


def test_costs_do_not_depend_on_weights_being_there(tiny_llama: Adapter) -> None:
    costs = Costs.of(FusedPass(tiny_llama))  # type: ignore[arg-type]
    assert costs.weights == sum(parameter.numel() for parameter in tiny_llama.hf.parameters())
    embeddings = tiny_llama.hf.get_input_embeddings().weight.numel()
    assert costs.weights - costs.weights_used in (embeddings, 2 * embeddings)


# --- plans -----------------------------------------------------------------------------------------------------------


def test_a_13b_model_fits_on_one_gpu_of_80_gb(llama_13b: str) -> None:
    found = plan("ioi", model=llama_13b, dtype="bfloat16", device="h100")
    assert found.fits
    assert found.peak < 72 * GIGA
    assert found.pairs_at_once >= 4
    assert found.work.guessed
    assert found.speed.source.startswith("estimated")
    assert found.edges["one embedding writer; q per head, k and v per key-value head"] == 3_877_661


def test_a_task_that_the_bundled_tokenizer_cannot_read_needs_the_tokenizer_of_the_model(llama_13b: str) -> None:
    with pytest.raises(ValueError, match=r"has no tokenizer here, .* such as '\('.*\n.*own tokenizer \(such as"):
        plan("boolean-expressions", model=llama_13b, device="h100")


def test_captured_steps_take_at_most_another_micro_batch(tmp_path: Path) -> None:
    found = plan("ioi", device="h100")
    inputs = found.costs.cache(math.ceil(found.pairs_at_once * found.work.tokens))
    tokens = math.ceil(found.pairs_at_once * found.work.tokens)
    assert found.captured == found.costs.step(tokens, found.pairs_at_once, keep_reads=True) + inputs
    assert plan("ioi", device="h100", cuda_graph="off").captured == 0
    attribution = replace(found.work, search=replace(found.work.search, whole=found.work.search.gradients))
    for other in ({"shared": True, "ranks": 2}, {"work": attribution}, {"device": replace(found.device, kind="cpu")}):
        assert replace(found, **other).captured == 0  # type: ignore[arg-type]
    MixtralConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        num_local_experts=2, vocab_size=32016,
    ).save_pretrained(tmp_path)  # fmt: skip
    assert plan("ioi", model=str(tmp_path), device="h100").captured == 0


def test_shared_out_weights_take_a_rank_its_share_and_what_is_gathered(llama_13b: str, costs_13b: Costs) -> None:
    block, ends = 317.2e6, 2 * 32016 * 5120
    for ranks in (2, 8):
        gathered = 2 * ends + block + costs_13b.folded / 40  # three blocks are less
        assert costs_13b.at_rest_shared(ranks) == pytest.approx(2 * (13.016e9 / ranks + gathered), rel=0.001)
    shared = plan("ioi", model=llama_13b, dtype="bfloat16", device="rtx-4090", ranks=8, shard=True)
    assert shared.fits
    assert shared.least < 10 * GIGA
    assert shared.peak < shared.device.free
    assert not shared.keep_maps
    assert shared.to_json()["ranks"] == 8


def test_ranks_share_the_pairs_of_a_step_and_of_judging(costs_13b: Costs) -> None:
    alone = made(costs_13b, 80 * GIGA)
    several = replace(alone, work=replace(alone.work, judged=5), ranks=4)
    assert several.pairs_of_rank == 4
    assert several.step_seconds == pytest.approx(alone.step_seconds / 4)
    assert several.judging_seconds == pytest.approx(replace(several, ranks=1).judging_seconds / 4)
    assert replace(alone, ranks=64).pairs_of_rank == 1, "ranks without a pair wait"


@pytest.mark.parametrize(("settings", "message"), [
    ({"shard": True}, r"say over how many \(--ranks 8\)"),
    ({"device": "shard"}, r"say over how many \(--ranks 8\)"),
    ({"ranks": 0}, "a number of ranks, at least 1, got 0"),
    ({"ranks": 2, "shard": True, "calibrate": True}, "cannot be timed in one process; leave out --calibrate"),
])
def test_ranks_that_cannot_be_planned_for_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan("ioi", **settings)


@pytest.mark.parametrize(("dtype", "advice"), [
    ("float32", ["--dtype bfloat16 needs 29.. GB instead of 5... GB, which does not fit either"]),
    ("bfloat16", [
        r"several GPUs \(--device spread\) need 29.. GB together",
        r"2 GPUs that share out the weights \(torchrun, --shard\) need 18 GB each",
    ]),
])
def test_what_does_not_fit_is_said_with_numbers(llama_13b: str, dtype: str, advice: list[str]) -> None:
    found = plan("ioi", model=llama_13b, dtype=dtype, device="rtx-4090")
    assert not found.fits
    assert "does not fit: " in found.line
    for expected in advice:
        assert any(re.search(expected, words) for words in found.advice), found.advice


def made(costs: Costs, free: float, gradients: int = 4_800) -> Plan:
    """A plan for a device with so much free memory."""
    device = Device("a device", "cuda", int(free), int(free), 1e14, 1e12, False)
    search = Cost(gradients, forwards=0, frozen=200, step_pairs=16, kept=200)
    work = Work(search, judged=0, tokens=72.0, positions=1.0, train=200)
    return Plan.estimated("m", "bfloat16", device, costs, work, 64, {})


def test_less_memory_means_no_maps_then_fewer_pairs_then_nothing(costs_13b: Costs) -> None:
    plans = [made(costs_13b, free * GIGA) for free in (400, 80, 45, 36, 30)]
    assert [found.keep_maps for found in plans] == [True, False, False, False, False]
    assert [found.fits for found in plans] == [True, True, True, False, False]
    assert plans[0].pairs_at_once == 16
    at_once = [found.pairs_at_once for found in plans]
    assert at_once == sorted(at_once, reverse=True)
    assert all(found.peak <= found.device.free for found in plans[:3])
    assert ["reads recomputed" in " ".join(found.advice) for found in plans] == [False, False, False, True, False]


def test_a_run_of_days_is_said_to_be(costs_13b: Costs) -> None:
    found = made(costs_13b, 80 * GIGA, gradients=10**9)
    assert "this takes days" in found.advice[0]
    assert "days" in found.line


@pytest.mark.parametrize(("dtype", "gain", "other"), [
    ("float32", 4.0, "--dtype bfloat16 is faster: this CPU multiplies 4.0 times as fast in it as in float32"),
    ("bfloat16", 0.25, "--dtype float32 is faster: this CPU multiplies 4.0 times as fast in it as in bfloat16"),
    ("float32", 1.9, ""),
    ("float32", 0.1, ""),
    ("bfloat16", 4.0, ""),
    ("float64", 4.0, ""),
])
def test_the_dtype_in_which_a_cpu_is_much_faster_is_named(
    costs_13b: Costs, dtype: str, gain: float, other: str
) -> None:
    long = replace(made(costs_13b, 400 * GIGA), dtype=dtype)
    long = replace(long, device=replace(long.device, kind="cpu", bfloat16=gain))
    assert 120 < (long.seconds or 0) < 86_400
    assert long.advice == ([other] if other else [])
    assert long.line.endswith(other or long.speed.source)
    short = replace(long, work=replace(long.work, search=replace(long.work.search, gradients=1, frozen=1)))
    assert 0 < (short.seconds or 0) < 120
    assert short.advice == []
    assert short.line.endswith(short.speed.source)


def test_judging_is_planned_in_float32(costs_13b: Costs) -> None:
    half = made(costs_13b, 400 * GIGA)  # in bfloat16
    device = replace(half.device, bfloat16=10.0, traffic=None)
    slower, half, full = (
        Plan.estimated("m", dtype, on, costs_13b, half.work, 64, {}).speed
        for dtype, on in (("bfloat16", device), ("bfloat16", replace(device, bfloat16=1.0)), ("float32", device))
    )
    assert slower.forward == pytest.approx(10 * half.forward)
    assert (slower.step, slower.whole) == (half.step, half.whole)
    assert full.forward == half.forward


def test_the_work_of_a_run_is_counted_from_its_settings() -> None:
    settings: dict[str, Any] = {"calibrate": False, "train": 40, "test": 30}

    def work(**more: Any) -> Work:
        return plan("ioi", **settings, **more).work

    soft = work(method="soft-top-k", steps=8, batch_size=8, edges=50, settings={"attributed": 10, "batch_uses": 2})
    assert (soft.search.gradients, soft.search.step_pairs) == (8 * 8 + 5 * 10, 8)
    published = work(preset="paper", edges=(20, 50))
    assert (published.search.gradients, published.search.frozen) == (2 * 3_000 * 32, 2 * 40)
    of_test = (3 + CIRCUIT_SHARE) * 30  # a frozen pass, the complement, the soft mask; and the circuit
    assert work(edges=50).judged == of_test
    assert work().judged == pytest.approx((1 + 12 * CIRCUIT_SHARE) * 200 + of_test)  # a dozen sizes
    without = plan("ioi", method="acdc", edges=50, **settings)
    assert without.seconds is None
    assert "no estimate of the time" in without.line


def test_judging_takes_as_many_passes_as_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in full passes: a pass counts by the reads that it mixes, and a frozen pass as one."""
    passes = [0.0, 0.0]  # of the search, of judging
    run, freeze = FusedPass.run, FusedPass.freeze

    def counted_run(self: FusedPass, mask: Tensor, batch: Any, *rest: Any) -> Any:
        passes[1] += batch.size * (self.layout.n_readers - 1) / (len(self.graph.readers) - 1)
        return run(self, mask, batch, *rest)

    def counted_freeze(self: FusedPass, batch: Any, *rest: Any, **options: Any) -> Any:
        passes[1] += batch.size
        return freeze(self, batch, *rest, **options)

    def cut(*arguments: Any) -> Any:
        passes[:] = [sum(passes), 0.0]
        return cut_circuits(*arguments)

    monkeypatch.setattr(FusedPass, "run", counted_run)
    monkeypatch.setattr(FusedPass, "freeze", counted_freeze)
    monkeypatch.setattr(judging, "cut_circuits", cut)
    settings = {"steps": 2, "train": 32, "test": 40, "validation": 40, "fresh": False, "attributed": 16}
    discover("ioi", draw=False, patterns=0, **settings)
    judged = plan("ioi", calibrate=False, **settings).work.judged
    assert passes[0] > 0
    assert passes[1] == pytest.approx(judged, rel=0.3)


def test_devices_that_are_not_here_are_known_by_name() -> None:
    assert named_device("auto", "float32") is None
    h100 = named_device("h100", "bfloat16")
    assert h100 is not None
    assert h100.seconds(h100.operations, 0) == 1
    with pytest.raises(ValueError, match="no figures for float64 on h100; expected bfloat16 or float32"):
        named_device("h100", "float64")


def test_programs_need_no_plan() -> None:
    with pytest.raises(ValueError, match="tracr:reverse is a compiled program: it takes seconds .* needs no plan"):
        plan("tracr:reverse")


def test_numbers_in_words() -> None:
    assert [duration(s) for s in (3, 45, 200, 7_200, 200_000)] == [
        "3 seconds", "45 seconds", "3.3 minutes", "2.0 hours", "2.3 days"
    ]
    assert [gigabytes(count) for count in (5.5e8, 2.61e10, 1.5e11)] == ["0.55 GB", "26.1 GB", "150 GB"]


# --- loading and the commands ----------------------------------------------------------------------------------------


def test_a_model_that_will_not_fit_is_refused_before_it_is_loaded(
    llama_13b: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "total_and_free", lambda _: (24 * 10**9, 20 * 10**9))
    message = r"does not fit: its 13\.0 billion weights take 52\.1 GB in float32, cpu has 24\.0 GB\. Use"
    with pytest.raises(ValueError, match=rf"{message} --dtype bfloat16 \(then 26\.0 GB\), .*edge-pruning plan"):
        load_model(llama_13b, device="cpu")
    with pytest.raises(ValueError, match="take 26.0 GB in bfloat16, cpu has 24.0 GB. Use a device with more memory"):
        load_model(llama_13b, device="cpu", dtype="bfloat16")


def command(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), prog_name="edge-pruning")


def test_the_command_prints_the_plan(llama_13b: str) -> None:
    result = command("plan", "ioi", "--model", llama_13b, "--device", "h100", "--dtype", "bfloat16")
    assert result.exit_code == 0, result.stderr
    for words in ("13 billion weights, 26 GB in bfloat16", "3,877,661", "peak (weights folded at use)", "free on h100"):
        assert words in result.stdout
    shared = command("plan", "ioi", "--model", llama_13b, "--device", "l4", "--dtype", "bfloat16", "--ranks", "8",
                     "--shard").stdout  # fmt: skip
    for words in ("shared out over 8 ranks", "each rank receives 45.6 GB", "without what ranks send to each other"):
        assert words in shared
    refused = command("plan", "ioi", "--model", llama_13b, "--device", "l4")
    assert "no: a step on one pair needs" in refused.stdout
    assert "to do" in refused.stdout
    as_json = json.loads(command("plan", "ioi", "--no-calibrate", "--method", "random", "--json").stdout)
    assert as_json["edges"] == {
        "one embedding writer; q per head, k and v per key-value head": 1_519,
        "tok and pos as two writers; q per head, k and v per key-value head": 1_620,
    }
    assert as_json["seconds"]["run"] == as_json["seconds"]["search"] + as_json["seconds"]["judging"]


def test_the_command_says_where_there_is_no_estimate() -> None:
    assert "depends on its intermediate results" in command("plan", "ioi", "--method", "acdc", "--no-calibrate").stdout
    assert command("plan", "iio").exit_code == 2


def test_discover_says_its_plan_in_one_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Said(RunObserver):
        def forecast(self, words: str) -> None:
            said.append(words)

    said: list[str] = []
    discover("ioi", edges=5, steps=2, batch_size=2, train=4, test=4, observer=Said())
    assert len(said) == 1
    assert "of memory" in said[0]
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, for rich
    with ProgressBar() as bar, bar.bar.console.capture() as shown:
        bar.forecast("about [3] hours")
    assert "Plan: about [3] hours" in shown.get()
