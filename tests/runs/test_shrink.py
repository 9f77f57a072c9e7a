"""`edge-pruning shrink`: from a name to a folder that opens, and what it refuses before the work."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import edge_pruning as ep
from edge_pruning.loading import load_model
from edge_pruning.models import ADAPTERS
from edge_pruning.shrink import Original, ShrinkConfig
from edge_pruning.shrink.measuring import quality
from edge_pruning.tasks import get_task

pytestmark = pytest.mark.skipif(
    ADAPTERS["vit"].refusal(None) is not None, reason="this version of transformers is too old for ViT"
)
SHORT = ("--set", "steps=10", "--set", "batch_size=8", "--test", "40")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def digits() -> Original:
    return Original(load_model("digits", device="cpu"), get_task("digits", test=100))


def test_a_smaller_model_is_written_measured_and_opened(cli: Any, tmp_path: Path) -> None:
    result = cli("shrink", "digits", "--task", "digits", *SHORT, "--keep", "0.6", "--out", tmp_path / "small")
    assert result.exit_code == 0, result.stderr
    assert "keep 0.6" in result.stdout
    assert "edge_pruning.load_shrunk" in result.stdout
    content = json.loads((tmp_path / "small" / "shrunk.json").read_text())
    before, after = content["before"], content["after"]
    assert before["kl"] == pytest.approx(0, abs=1e-6)
    assert after["kl"] > 0
    assert before["agreement"] == 1
    assert after["flops"] < 0.62 * before["flops"]
    assert after["parameters"] == sum(p.numel() for p in ep.load_shrunk(tmp_path / "small").parameters())
    assert all(seconds > 0 for which in (before, after) for seconds in which["seconds"].values())
    assert len(content["layers"]) == 4
    with pytest.raises(ValueError, match=r"a shrunk model whose layers keep different .* make it with --uniform"):
        load_model(str(tmp_path / "small"), device="cpu")


def test_uniform_models_of_several_sizes_are_opened_by_plain_tools(cli: Any, tmp_path: Path) -> None:
    result = cli("shrink", "digits", "--task", "digits", "--method", "eap", "--uniform", "--test", "40",
                 "--keep", "0.75,0.5", "--json", "--out", tmp_path / "small")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    larger, smaller = json.loads(result.stdout)
    assert "KL divergence" in (tmp_path / "small" / "curve.svg").read_text()
    assert smaller["after"]["flops"] < larger["after"]["flops"] < larger["before"]["flops"]
    folder = tmp_path / "small" / "keep-0.5"
    hf = transformers.AutoModelForImageClassification.from_pretrained(folder)
    assert (hf.config.num_attention_heads, hf.config.intermediate_size) == (4, smaller["layers"][0]["units"])
    again = load_model(str(folder), device="cpu")  # its image processor came along
    found = quality(again.adapter.hf, again.engine(), get_task("digits", test=40).pairs(again.tokenizer, "test"))
    assert found["accuracy"] == pytest.approx(smaller["after"]["accuracy"])


def test_half_of_a_vision_model_still_reads_digits(digits: Original) -> None:
    """Golden: without fine-tuning, half the FLOPs keep the accuracy within a few points, and chance is a tenth."""
    config = ShrinkConfig(keep=0.5, settings={"steps": 40, "batch_size": 16})
    small, setup = digits.shrunk(config), digits.setup
    found = quality(small.hf, setup.engine, setup.pairs)
    assert found["accuracy"] > 0.9


def test_fine_tuning_brings_a_smaller_model_nearer_to_the_original(digits: Original) -> None:
    settings = {"method": "attention-entropy", "keep": 0.4, "batch_size": 16, "learning_rate": 1e-3}
    kl = {}
    for steps in (0, 30):
        small = digits.shrunk(ShrinkConfig(finetune=steps, settings={"rounds": 2, "tokens": 0.7}, **settings))
        assert small.kept.positions is not None
        assert small.kept.positions.sum() == 4 + round(0.7 * 4 * 16)
        kl[steps] = quality(small.hf, digits.setup.engine, digits.setup.pairs)["kl"]
    assert kl[30] < 0.5 * kl[0]


def test_the_original_is_left_as_it_was(digits: Original) -> None:
    before = {name: weights.clone() for name, weights in digits.hf.named_parameters()}
    digits.shrunk(ShrinkConfig(method="learned-dimensions", settings={"steps": 3}, finetune=2))
    assert all(torch.equal(weights, before[name]) for name, weights in digits.hf.named_parameters())
    assert quality(digits.hf, digits.setup.engine, digits.setup.pairs)["kl"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digits", "--task", "digits", "--keep", "0"), ["expected keep above 0 and below 1", "got 0"]),
        (("digits", "--task", "digits", "--keep", "2"), ["expected keep above 0 and below 1", "got 2"]),
        (("digits", "--task", "digits", "--keep", "half"), ["--keep: expected numbers", "'half'"]),
        (("digits", "--task", "digits", "--keep", "0.5,0.5"), ["expected different shares to keep"]),
        (("digits", "--task", "digits", "--method", "nodes"), ["no shrinking method 'nodes'", "node-masks"]),
        (("digits", "--task", "digts"), ["there is no task 'digts'", "digits"]),
        (
            ("digits", "--task", "digits", "--keep", "2", "--ablation", "patch", "--finetune", "-1"),
            ["3 problems", "got 2", "mean or zero", "at least 0 steps"],
        ),
        (("bundled", "--task", "ioi"), ["'gpt2' cannot be shrunk", "one fused map", "Families that can"]),
        (("tracr:reverse", "--task", "ioi"), ["compiled program, which cannot be shrunk"]),
        (("digits", "--task", "ioi"), ["reads images"]),
        (
            ("digits", "--task", "digits", "--method", "attention-entropy", "--keep", "0.05"),
            ["keep 0.05 is too small", "share of 0.125"],
        ),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    cli: Any, tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    result = cli("shrink", *arguments, "--test", "20", "--out", tmp_path / "small")
    assert result.exit_code == 2, (result.stderr, result.exception)
    assert all(word in result.stderr for word in words), result.stderr
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_exists_is_kept(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = cli("shrink", "digits", "--task", "digits", "--out", tmp_path)
    assert result.exit_code == 2
    assert "exists already, and nothing is replaced" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_text_model_is_refused_with_a_task_of_images(cli: Any, tmp_path: Path) -> None:
    small = transformers.LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
                                     vocab_size=1000, num_key_value_heads=1)  # fmt: skip
    transformers.LlamaForCausalLM(small).save_pretrained(tmp_path / "llama")
    transformers.AutoTokenizer.from_pretrained(ep.loading.model_source.source_of("bundled")).save_pretrained(
        tmp_path / "llama"
    )
    result = cli("shrink", tmp_path / "llama", "--task", "digits", "--out", tmp_path / "small")
    assert result.exit_code == 2, (result.stderr, result.exception)
    assert "image" in result.stderr
    assert not (tmp_path / "small").exists()


def test_onnx_says_what_to_install(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else sys)
    result = cli("shrink", "digits", "--task", "digits", "--onnx", "--out", tmp_path / "small")
    assert result.exit_code == 2
    assert "--onnx needs onnxruntime; install with: pip install 'edge-pruning[onnx]'" in result.stderr
