"""Adapters give what Hugging Face gives, the check at load time notices when they do not, and refusals say why."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from random_models import CONFIGS, GPT2_SCALES, config_of, mixed_pairs, random_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import BertConfig, DeiTConfig, GPT2Config, MambaConfig, PreTrainedTokenizerFast, T5Config

from edge_pruning.ablation import Patch
from edge_pruning.batch import Batch
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.placement import pick_device
from edge_pruning.loading.self_check import LAWS, law_errors, self_check
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import ADAPTERS, Adapter, check_supported
from edge_pruning.models.attention import causal_attention
from edge_pruning.models.gpt2 import Gpt2
from edge_pruning.models.llama import Llama
from edge_pruning.models.parts import Attention, Linear, Mlp
from edge_pruning.models.rotary import rotate_halves, rotate_neighbours

ENGINES = [MaskedPass, FusedPass]
Break = Callable[[pytest.MonkeyPatch], None]

# --- what Hugging Face gives -----------------------------------------------------------------------------------------


def drawn_config(seed: int) -> Any:
    """Any configuration of any family."""
    rng = random.Random(seed)
    kv = rng.choice([1, 2, 3])
    heads, e, layers = kv * rng.choice([1, 2]), 2 * rng.choice([1, 2, 3]), rng.choice([1, 2, 3])
    if seed % 2:
        return config_of(
            "gpt2", n_head=heads, n_embd=heads * e, n_layer=layers, n_inner=rng.choice([None, 5]),
            activation_function=rng.choice(["gelu_new", "gelu", "relu", "silu", "gelu_pytorch_tanh", "quick_gelu"]),
            scale_attn_weights=rng.choice([True, not GPT2_SCALES]),
            scale_attn_by_inverse_layer_idx=rng.choice([GPT2_SCALES, False]),
            tie_word_embeddings=rng.choice([True, False]), layer_norm_epsilon=rng.choice([1e-5, 1e-2]),
        )  # fmt: skip
    rope = rng.choice([{"rope_type": "default"}, {"rope_type": "linear", "factor": 2.0}])
    return config_of(
        "llama", num_attention_heads=heads, num_key_value_heads=kv, hidden_size=heads * e, num_hidden_layers=layers,
        head_dim=rng.choice([e, 8]), attention_bias=rng.choice([True, False]), mlp_bias=rng.choice([True, False]),
        tie_word_embeddings=rng.choice([True, False]), hidden_act=rng.choice(["silu", "gelu", "relu"]),
        rms_norm_eps=rng.choice([1e-6, 1e-2]), rope_parameters={**rope, "rope_theta": rng.choice([100.0, 10000.0])},
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(16))
def test_the_laws_hold_for_any_configuration(seed: int) -> None:
    adapter = random_model(drawn_config(seed), torch.float64, seed)
    allowed = 1e-10 if adapter.model_type == "gpt2" else 1e-5  # Llama's RMSNorm computes in float32 in every dtype
    for kv in ("kv", "query"):
        for engine in ENGINES:
            assert max(law_errors(engine(adapter, Graph(adapter.shape, kv=kv)), seed=seed)) < allowed


def test_shapes_are_read_from_the_configuration() -> None:
    assert random_model(config_of("gpt2")).shape == ModelShape(2, 3)
    llama = random_model(config_of("llama"))
    assert llama.shape == ModelShape(2, 4, 2)
    assert (llama.d_model, llama.max_length, llama.vocabulary) == (16, 12, 19)


def test_a_llama_has_no_writer_of_positions() -> None:
    adapter = random_model(config_of("llama"))
    for engine in ENGINES:
        with pytest.raises(ValueError, match="rotary positions, so no node writes positions; use embeddings='joint'"):
            Patch().freeze(engine(adapter, Graph(adapter.shape, "split")), Batch.of(mixed_pairs()))


@pytest.mark.parametrize("turn", [rotate_halves, rotate_neighbours])
@pytest.mark.parametrize("turning", [6, 4])
def test_the_gradient_of_turned_queries_is_that_of_finite_differences(
    turn: Callable[[Tensor, Tensor, Tensor], Tensor], turning: int
) -> None:
    """No two numbers of the tables are equal. 4: a third of each head is not turned."""
    generator = torch.Generator().manual_seed(0)
    x, cos, sin = (torch.rand(*shape, dtype=torch.float64, generator=generator)
                   for shape in ((2, 1, 3, 6), (1, 3, turning), (1, 3, turning)))  # fmt: skip
    assert torch.autograd.gradcheck(lambda x: turn(x, cos, sin), x.requires_grad_())


# --- the check at load time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", CONFIGS)
def test_right_adapters_pass_the_check(kind: str, engine: type[MaskedPass], dtype: torch.dtype) -> None:
    errors = self_check(engine(random_model(config_of(kind), dtype)))
    assert len(errors) == len(LAWS)
    assert dtype == torch.bfloat16 or max(errors) < 1e-4


def _attention(cls: type[Adapter], change: Callable[[Attention], Attention]) -> Break:
    real = cls.attention
    return lambda patch: patch.setattr(cls, "attention", lambda self, layer: change(real(self, layer)))


def _mlp(cls: type[Adapter], change: Callable[[Mlp], Mlp]) -> Break:
    real = cls.mlp
    return lambda patch: patch.setattr(cls, "mlp", lambda self, layer: change(real(self, layer)))


def _mix(cls: type[Adapter], mix: Callable[..., Tensor]) -> Break:
    return lambda patch: patch.setattr(cls, "mix", lambda self, layer, q, k, v, context: mix(q, k, v))


def _rotary_off(patch: pytest.MonkeyPatch) -> None:
    real = Llama.context

    def context(self: Llama, width: int) -> tuple[Tensor, Tensor]:
        cos, sin = real(self, width)
        return torch.ones_like(cos), torch.zeros_like(sin)

    patch.setattr(Llama, "context", context)


def _positions_off(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Gpt2, "embed", lambda self, inputs, *, split: self.hf.transformer.wte(inputs)[None])


def _final_norm_off(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Llama, "unembed", lambda self, x: self.hf.lm_head(x))


def _no_bias(linear: Linear) -> Linear:
    assert linear.bias is not None
    return replace(linear, bias=torch.zeros_like(linear.bias))


def _wrong_group(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return causal_attention(q, k.flip(0), v.flip(0), q.shape[-1] ** -0.5)


BROKEN: dict[str, tuple[str, Break]] = {
    "attention without its scale": ("gpt2", _mix(Gpt2, lambda q, k, v: causal_attention(q, k, v, 1.0))),
    "no output bias of attention": ("gpt2", _attention(Gpt2, lambda a: replace(a, out_bias=None))),
    "no bias of the queries": ("gpt2", _attention(Gpt2, lambda a: replace(a, q=_no_bias(a.q)))),
    "keys and values swapped": ("gpt2", _attention(Gpt2, lambda a: replace(a, k=a.v, v=a.k))),
    "no bias into the MLP": ("gpt2", _mlp(Gpt2, lambda m: replace(m, inward=(_no_bias(m.inward[0]),)))),
    "no positions": ("gpt2", _positions_off),
    "rotary positions off": ("llama", _rotary_off),
    "heads of the wrong group": ("llama", _mix(Llama, _wrong_group)),
    "the norm of the other sublayer": ("llama", _attention(Llama, lambda a: replace(a, norm=replace(
        a.norm, module=torch.nn.Identity(), gain=torch.ones_like(a.norm.gain))))),
    "no final norm": ("llama", _final_norm_off),
}  # fmt: skip
BROKEN_PARTS: dict[str, tuple[str, Break]] = {
    "gate and up swapped": ("llama", _mlp(Llama, lambda m: replace(m, inward=m.inward[::-1]))),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN_PARTS)
def test_parts_that_are_not_what_the_verbs_say_are_refused(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, sabotage = BROKEN_PARTS[what]
    sabotage(monkeypatch)
    adapter = random_model(config_of(kind), torch.float32)
    assert self_check(MaskedPass(adapter))
    with pytest.raises(ValueError, match=f"{LAWS[0]}: off by "):
        self_check(FusedPass(adapter))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("what", BROKEN)
def test_an_adapter_that_is_wrong_is_refused_with_the_law_and_the_error(
    what: str, engine: type[MaskedPass], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, sabotage = BROKEN[what]
    sabotage(monkeypatch)
    with pytest.raises(ValueError, match=rf"this {kind} model is not run exactly .* so it is refused") as error:
        self_check(engine(random_model(config_of(kind), torch.float32)))
    for law in LAWS[:2]:
        assert f"{law}: off by " in str(error.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pass_whose_inner_reads_ignore_the_mask_breaks_the_third_law_alone(engine: type[MaskedPass]) -> None:
    class Careless(engine):  # type: ignore[misc,valid-type]
        def run(self, mask: Tensor, *rest: Any) -> Any:
            inner = torch.ones_like(mask)
            inner[:, -1] = mask[:, -1]
            return super().run(inner, *rest)

    with pytest.raises(ValueError, match="inner edges ablated: every writer's corrupted output: off by ") as error:
        self_check(Careless(random_model(config_of("gpt2"), torch.float32)))
    assert not any(law in str(error.value) for law in LAWS[:2])


def test_weights_that_are_not_numbers_are_refused() -> None:
    adapter = random_model(config_of("gpt2"), torch.float32)
    adapter.hf.transformer.h[1].mlp.c_fc.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="off by nan"):
        self_check(MaskedPass(adapter))


# --- what is not supported -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (BertConfig(), "model type 'bert' is not supported: its residual stream is renormalised .* no linear meaning"),
        (T5Config(), "model type 't5' is not supported: it is an encoder-decoder with two streams"),
        (MambaConfig(), "model type 'mamba' is not supported: it has recurrent layers"),
        (DeiTConfig(), "model type 'deit' is not supported: with its distillation token it reads classes at two"),
        (SimpleNamespace(model_type="gpt9"), "'gpt9' is not supported: no adapter has been written for it yet"),
        (SimpleNamespace(), "model type None is not supported: no adapter"),
        (GPT2Config(add_cross_attention=True), "this gpt2 model cannot be run exactly: it has cross-attention"),
    ],
    ids=["bert", "t5", "mamba", "deit", "unknown", "nothing", "cross-attention"],
)
def test_other_architectures_are_refused_with_the_reason(config: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        check_supported(config)
    assert "cross" in reason or all(name in str(error.value) for name in ADAPTERS)


# --- loading ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and its tokenizer, as `save_pretrained` leaves them."""
    folder = tmp_path_factory.mktemp("model")
    random_model(config_of("gpt2"), torch.float32).hf.save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    return folder


def without(folder: Path, tmp_path: Path, *patterns: str) -> str:
    """A copy of `folder` that lacks some files."""
    for file in folder.iterdir():
        if not any(file.match(pattern) for pattern in patterns):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    return str(tmp_path)


def test_a_saved_model_is_loaded_and_run_as_it_is(saved: Path) -> None:
    model = load_model(str(saved), device="cpu", dtype="float64")
    tokens = torch.arange(8)[None]
    expected = random_model(config_of("gpt2"), torch.float32).hf.double()(tokens).logits
    assert torch.equal(model.adapter.hf(tokens).logits, expected)
    assert model.adapter.dtype == torch.float64
    assert not model.adapter.hf.training
    assert model.tokenizer.convert_tokens_to_ids("a") == 1
    assert model.provenance["name"] == str(saved)
    assert model.provenance["shape"] == {"layers": 2, "heads": 3, "kv_heads": 3, "parallel": False}
    assert model.engine(Graph(ModelShape(2, 3), "split")).graph.writers[:2] == ("tok", "pos")


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    name = str(tmp_path / "absent")
    with pytest.raises(ValueError, match="could not load the configuration .*no such folder, and not found") as error:
        load_model(name, device="cpu")
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("missing", "what"),
    [("config.json", "configuration"), ("tokenizer*", "tokenizer"), ("*.safetensors", "weights")],
)
def test_a_folder_without_a_part_of_the_model_says_which_and_what_it_holds(
    saved: Path, tmp_path: Path, missing: str, what: str
) -> None:
    with pytest.raises(ValueError, match=rf"could not load the {what}") as error:
        load_model(without(saved, tmp_path, missing), device="cpu")
    assert f"the folder {tmp_path} holds: " in str(error.value)
    assert "expected config.json, tokenizer files and *.safetensors" in str(error.value)


def test_a_folder_with_no_files_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds: nothing"):
        load_model(str(tmp_path), device="cpu")


def test_cut_off_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    folder = without(saved, tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="could not load the weights"):
        load_model(folder, device="cpu")


def test_an_unsupported_model_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model type 'bert' is not supported"):
        load_model(str(tmp_path), device="cpu")


def test_a_model_that_is_not_run_exactly_is_not_loaded(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _positions_off(monkeypatch)
    with pytest.raises(ValueError, match="not run exactly"):
        load_model(str(saved), device="cpu")


def test_unknown_dtypes_and_devices_are_refused_with_those_that_work(saved: Path) -> None:
    with pytest.raises(ValueError, match="expected dtype float32, bfloat16, float64; got 'int8'"):
        load_model(str(saved), device="cpu", dtype="int8")
    for name in ("tpu", "meta", "", "cuda:99" if not torch.cuda.is_available() else "xla"):
        with pytest.raises(ValueError, match=rf"device '{name}' is not available here; use one of: auto, cpu"):
            load_model(str(saved), device=name)
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
