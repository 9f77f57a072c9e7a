"""Loading a model says what is wrong with it before anything is computed, and what to do about it."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import errors as hub
from random_models import VOCABULARY, config_of, mixed_pairs, pair, random_mask, random_model
from running import relative, runner
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, T5Config
from typer.testing import CliRunner

from edge_pruning.batch import Batch
from edge_pruning.cli.app import app
from edge_pruning.loading import model_source, pretrained
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.self_check import self_check
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import check_supported
from edge_pruning.models.gpt_neox import GptNeoX
from edge_pruning.models.parts import Mlp
from edge_pruning.models.registry import described
from edge_pruning.runs import RunConfig

ALIGNED = {"hidden_size": 16, "intermediate_size": 16}  # the fast kernel for experts takes rows of 16 bytes only


def save(folder: Path, kind: str, words: int = VOCABULARY, **changes: Any) -> str:
    """A model and a tokenizer with so many words, as `save_pretrained` leaves them."""
    random_model(config_of(kind, **changes), torch.float32).hf.save_pretrained(folder)
    vocabulary = {"<unk>": 0, **{f"w{i}": i for i in range(1, words)}}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    return str(folder)


def rewrite(folder: Path, **changes: Any) -> str:
    """Other settings in config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return str(folder)


# --- the hub ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (hub.GatedRepoError, "gated: open https://huggingface.co/someone/model, accept its licence, then log in"),
        (hub.RepositoryNotFoundError, "check the name; if the model is private, log in with `hf auth login`"),
        (hub.RevisionNotFoundError, "tags and commits are listed at https://huggingface.co/someone/model/tree/main"),
        (hub.LocalEntryNotFoundError, "cannot be reached and there is no local copy; .*hf download someone/mod"),
        (hub.OfflineModeIsEnabled, r"offline mode is on \(HF_HUB_OFFLINE\)"),
    ],
)
def test_what_the_hub_has_against_it_is_said_with_what_helps(
    cause: type[Exception], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("the words of\n\ntransformers\nand more") from cause.__new__(cause)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: None)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse)
    with pytest.raises(ValueError, match=rf"model 'someone/model': the words of transformers \(.*{advice}"):
        load_model("someone/model", device="cpu")


def test_without_a_network_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers would ask for every file six times, with half a minute of pauses."""
    asked: list[Any] = []

    def fail(*_: Any, **options: Any) -> Any:
        asked.append(options["timeout"])
        raise ConnectionError("no route")

    def read_locally(*_: Any, **options: Any) -> Any:
        assert options["local_files_only"]
        raise OSError("not here") from hub.LocalEntryNotFoundError("x")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", read_locally)
    with pytest.raises(ValueError, match="the hub cannot be reached and there is no local copy") as found:
        load_model("someone/model", device="cpu")
    assert "\n" not in str(found.value)
    assert len(asked) == 1
    assert asked[0] <= 5


def test_an_answer_of_the_hub_is_not_a_missing_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise hub.HfHubHTTPError.__new__(hub.HfHubHTTPError)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    assert not pretrained.only_local_files("someone/model")
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: None)
    assert not pretrained.only_local_files("someone/model")
    assert pretrained.only_local_files(str(tmp_path))


def test_transformers_says_nothing_while_it_reads_and_keeps_its_settings(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = save(tmp_path, "gpt2")
    transformers.utils.logging.enable_progress_bar()
    transformers.utils.logging.set_verbosity_info()
    capfd.readouterr()
    load_model(folder, device="cpu")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()
    assert transformers.utils.logging.get_verbosity() == transformers.utils.logging.INFO
    transformers.utils.logging.set_verbosity_warning()


def test_revision_and_trust_reach_every_part_and_trust_is_off_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen, real = save(tmp_path, "gpt2"), [], model_source.read

    def spy(*arguments: Any, **options: Any) -> Any:
        seen.append((options["revision"], options["trust_remote_code"]))
        return real(arguments[0], arguments[1], folder, *arguments[3:], **options)

    monkeypatch.setattr(model_source, "read", spy)
    monkeypatch.setattr(model_source, "only_local_files", lambda *_: False)
    load_model(folder, device="cpu")
    load_model("owner/on-the-hub", device="cpu", revision="v2", trust_remote_code=True)
    assert seen == [(None, False)] * 3 + [("v2", True)] * 3


def test_the_command_line_asks_for_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RunConfig] = []

    def stop(config: RunConfig, *_: Any, **__: Any) -> Any:
        asked.append(config)
        raise ValueError("stopped")

    monkeypatch.setattr("edge_pruning.runs.pipeline.setup_of", stop)
    for flags in ([], ["--trust-remote-code"]):
        assert CliRunner().invoke(app, ["discover", "ioi", *flags]).exit_code == 2
    assert [config.trust_remote_code for config in asked] == [False, True]


# --- configurations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("gpt2", {"n_head": 5}, r"its width of 12 does not divide into 5 heads; check config.json"),
        ("llama", {"num_attention_heads": 4, "num_key_value_heads": 3}, r"divisible by kv_heads; got"),
        ("llama", {"hidden_size": 18, "head_dim": None}, r"size \(18\) is not a multiple|could not load the weights"),
    ],
)
def test_heads_that_do_not_divide_are_refused(
    kind: str, changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    save(tmp_path, kind)
    with pytest.raises(ValueError, match=reason):
        load_model(rewrite(tmp_path, **changes), device="cpu")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (T5Config(), "it is an encoder-decoder with two streams"),
        (SimpleNamespace(model_type="speech9", is_encoder_decoder=True), "it is an encoder-decoder with two streams"),
        (SimpleNamespace(model_type="see9", text_config=None), "it joins several models, .* load its text model"),
        (config_of("opt", do_layer_norm_before=False), "this opt model .*: its residual stream is renormalised"),
        (config_of("bloom", apply_residual_connection_post_layernorm=True), "this bloom model .* is renormalised"),
        (config_of("gemma2", attention_bias=True), "the bias of its heads' output map goes through a norm"),
        (config_of("gemma3_text", use_bidirectional_attention=True), "its attention also sees later positions"),
    ],
    ids=["t5", "encoder-decoder", "vision and text", "opt-350m", "bloom", "gemma2", "gemma3"],
)
def test_what_cannot_be_run_exactly_is_refused_with_the_reason(config: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_supported(config)


def test_a_configuration_alone_describes_a_model() -> None:
    adapter = described(config_of("falcon, two norms, grouped"))
    assert (adapter.shape.kv_heads, adapter.shape.parallel, adapter.d_model) == (2, True, 16)


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq"])
def test_quantised_weights_are_refused_with_the_reason(method: str, tmp_path: Path) -> None:
    save(tmp_path, "llama")
    with pytest.raises(ValueError, match=rf"its weights are quantised \({method}\), so .* load the original model"):
        load_model(rewrite(tmp_path, quantization_config={"quant_method": method}), device="cpu")


def test_experts_that_were_packed_into_four_bits_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, "gpt_oss")
    asked: dict[str, Any] = {}

    def spy(*_: Any, **options: Any) -> Any:
        asked.update(options)
        raise OSError("stopped")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", spy)
    with pytest.raises(ValueError, match="stopped"):
        load_model(rewrite(tmp_path, quantization_config={"quant_method": "mxfp4"}), device="cpu")
    assert asked["quantization_config"].dequantize


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_mixtures_of_experts_load_in_every_dtype(dtype: str, tmp_path: Path) -> None:
    folder = save(tmp_path, "mixtral", **ALIGNED)
    assert load_model(folder, device="cpu", dtype=dtype).adapter.dtype == getattr(torch, dtype)


def test_the_gradient_through_the_fast_experts_is_that_of_the_plain_ones() -> None:
    found = []
    for implementation in ("eager", "grouped_mm"):
        adapter = random_model(config_of("mixtral", **ALIGNED), torch.float32, experts_implementation=implementation)
        engine = FusedPass(adapter)
        leaf = random_mask(engine.graph, dtype=torch.float32).requires_grad_()
        runner(engine, Batch.of(mixed_pairs()))(leaf).square().sum().backward()
        found.append(leaf.grad)
    assert relative(found[1], found[0]) < 1e-4


def test_a_model_that_does_not_fit_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path, "gpt2")

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(ValueError, match=r"does not fit on cpu \(CUDA out of memory. Tried .* 2.00 GiB.\); use"):
        load_model(folder, device="cpu")


# --- tokenizers -------------------------------------------------------------------------------------------------------


def test_a_tokenizer_of_a_larger_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"belongs to another model: 6 of its 24 tokens have ids beyond the 19"):
        load_model(save(tmp_path, "gpt2", words=25), device="cpu")


def test_a_tokenizer_of_a_much_smaller_model_is_doubted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "edge_pruning"):
        load_model(save(tmp_path, "gpt2", words=5), device="cpu")
    assert "has 4 tokens, the model 19: is it this model's?" in caplog.text


def test_no_pad_token_is_needed(tmp_path: Path) -> None:
    model = load_model(save(tmp_path, "gpt2"), device="cpu")
    assert model.tokenizer.pad_token_id is None
    engine = model.engine()
    assert runner(engine, engine.batch(mixed_pairs()))(engine.graph.edge_mask.float()).isfinite().all()


def test_a_text_beyond_the_context_is_refused() -> None:
    engine = FusedPass(random_model(config_of("llama")))
    assert engine.batch([pair(0, 12, (11,))]).width == 12
    with pytest.raises(ValueError, match="a pair has 13 tokens, but the model's context ends at 12"):
        engine.batch([pair(0, 13, (12,))])
    assert engine.batch([pair(0, 20, (11,))]).width == 12  # nothing behind the last compared position is computed


# --- an adapter that is wrong -----------------------------------------------------------------------------------------


def with_half_an_mlp_in(layer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = GptNeoX.feed_forward
    monkeypatch.setattr(GptNeoX, "feed_forward", lambda self, i, x: real(self, i, x) * (0.5 if i == layer else 1))


@pytest.mark.parametrize(
    ("broken", "where"),
    [(0, r"wrong after layer 0 \(relative error .*\)"), (2, "exact before layer 2; the error is in that layer")],
)
def test_the_check_says_at_which_layer_an_adapter_goes_wrong(
    broken: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_half_an_mlp_in(broken, monkeypatch)
    adapter = random_model(config_of("gpt_neox", num_hidden_layers=3), torch.float32)
    with pytest.raises(ValueError, match=rf"own logits: off by \d.*; its residual stream is {where}"):
        self_check(MaskedPass(adapter))


def test_embeddings_that_are_wrong_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = GptNeoX.embed
    monkeypatch.setattr(GptNeoX, "embed", lambda self, inputs, *, split: 2 * real(self, inputs, split=split))
    with pytest.raises(ValueError, match="its residual stream is wrong after the embeddings"):
        self_check(MaskedPass(random_model(config_of("gpt_neox"), torch.float32)))


def test_parts_that_are_wrong_are_told_from_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    real = GptNeoX.mlp

    def negated(self: GptNeoX, layer: int) -> Mlp:
        parts = real(self, layer)
        return replace(parts, finish=lambda hidden: -parts.finish(hidden))

    monkeypatch.setattr(GptNeoX, "mlp", negated)
    with pytest.raises(ValueError, match="`attend` and `feed_forward` are exact, so the error is in its parts"):
        self_check(FusedPass(random_model(config_of("gpt_neox"), torch.float32)))
