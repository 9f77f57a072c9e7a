"""A model that is cut computes what the original computes with the removed weights at 0, also once it is saved."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import transformers
from cases import inputs, logits, model, some_kept, without
from random_models import VISION

from edge_pruning.loading import load_model
from edge_pruning.shrink import load_shrunk
from edge_pruning.shrink.cutting import cut, fill, gates_of, zero
from edge_pruning.shrink.folder import save_shrunk
from edge_pruning.shrink.gates import gated
from edge_pruning.shrink.kept import Kept
from edge_pruning.shrink.layout import MLPS, Layout

FAMILIES = [kind for kind in (*MLPS, "llama, biases, tied, odd heads, own head size") if VISION or kind != "vit"]
needs_vision = pytest.mark.skipif(not VISION, reason="this version of transformers is too old for ViT")


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_cut_model_computes_what_zeroed_weights_compute(kind: str) -> None:
    adapter = model(kind)
    x, kept = inputs(adapter), some_kept(adapter.hf)
    zeroed, small = copy.deepcopy(adapter.hf), copy.deepcopy(adapter.hf)
    zero(zeroed, kept)
    cut(small, kept)
    torch.testing.assert_close(logits(small, x), logits(zeroed, x), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits(small, x), logits(adapter.hf, x), atol=1e-2)


def test_zeroing_removes_the_output_of_a_group_of_heads_and_of_a_unit(exact_norm: None) -> None:
    """Said with hooks, and nothing of this package: a literal reading of "removed"."""
    adapter = model("llama", torch.float64)
    x, zeroed = inputs(adapter), copy.deepcopy(adapter.hf)
    zero(zeroed, without(adapter.hf, {0: [1]}, {1: [3, 4]}))

    def heads_gone(_: object, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (args[0].index_fill(-1, torch.arange(8, 16), 0),)  # heads 2 and 3, four numbers each

    def units_gone(_: object, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (args[0].index_fill(-1, torch.tensor([3, 4]), 0),)

    layers = adapter.hf.model.layers
    layers[0].self_attn.o_proj.register_forward_pre_hook(heads_gone)
    layers[1].mlp.down_proj.register_forward_pre_hook(units_gone)
    torch.testing.assert_close(logits(zeroed, x), logits(adapter.hf, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind in ("llama", "vit") or "," in kind])
def test_a_folder_holds_the_cut_model(kind: str, tmp_path: Path) -> None:
    adapter = model(kind)
    x, kept, small = inputs(adapter), some_kept(adapter.hf), copy.deepcopy(adapter.hf)
    cut(small, kept)
    save_shrunk(small, kept, {}, tmp_path / "small")
    opened = load_shrunk(tmp_path / "small")
    torch.testing.assert_close(logits(opened, x), logits(small, x), rtol=0, atol=1e-5)
    assert {name: tuple(p.shape) for name, p in opened.named_parameters()} == {
        name: tuple(p.shape) for name, p in small.named_parameters()
    }
    with pytest.raises(RuntimeError, match="mismatch"):  # plain tools refuse it rather than make up weights
        getattr(transformers, adapter.loader).from_pretrained(tmp_path / "small")


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind != "llama, biases, tied, odd heads, own head size"])
def test_plain_tools_open_a_uniform_model(kind: str, tmp_path: Path) -> None:
    adapter = model(kind)
    x, small = inputs(adapter), copy.deepcopy(adapter.hf)
    kept = without(adapter.hf, {0: [0], 1: [1]}, {0: [1, 2], 1: [0, 9]})
    assert kept.is_uniform
    cut(small, kept)
    save_shrunk(small, kept, {}, tmp_path / "small")
    opened = getattr(transformers, adapter.loader).from_pretrained(tmp_path / "small")
    torch.testing.assert_close(logits(opened, x), logits(small, x), rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(load_shrunk(tmp_path / "small"), x), logits(small, x), rtol=0, atol=1e-5)
    left = adapter.shape.heads - adapter.shape.heads // adapter.shape.kv_heads
    assert opened.config.num_attention_heads == left < adapter.shape.heads


@needs_vision
def test_circuits_can_be_found_in_a_uniform_model(tmp_path: Path) -> None:
    adapter = model("vit")
    small, kept = copy.deepcopy(adapter.hf), without(adapter.hf, {0: [0], 1: [1]}, {})
    cut(small, kept)
    save_shrunk(small, kept, {}, tmp_path / "small")
    processor = transformers.ViTImageProcessorPil(size={"height": 8, "width": 8})
    processor.save_pretrained(tmp_path / "small")
    assert load_model(str(tmp_path / "small"), device="cpu").adapter.shape.heads == 3  # it has checked itself


@needs_vision
def test_positions_that_are_dropped_are_those_that_nothing_attends_to() -> None:
    adapter = model("vit")
    x, small = inputs(adapter), copy.deepcopy(adapter.hf)
    positions = torch.tensor([[True, False, True, True, False], [True, True, True, False, True]])
    cut(small, Kept.all(Layout(adapter.hf).sizes).with_only(positions=positions))
    adapter.hf.set_attn_implementation("eager")
    for layer, there in zip(adapter.hf.vit.layers, positions, strict=True):
        blocked = torch.zeros(1, 1, 5, 5).masked_fill(~there, -torch.inf)
        layer.attention.register_forward_pre_hook(
            lambda _, args, options, blocked=blocked: ((args[0], blocked), options), with_kwargs=True
        )
    torch.testing.assert_close(logits(small, x), logits(adapter.hf, x), rtol=0, atol=1e-5)


@needs_vision
def test_positions_are_kept_in_the_folder(tmp_path: Path) -> None:
    adapter = model("vit")
    x, small, kept = inputs(adapter), copy.deepcopy(adapter.hf), some_kept(adapter.hf)
    kept = kept.with_only(positions=torch.tensor([[True, False, True, True, False], [True] * 5]))
    cut(small, kept)
    save_shrunk(small, kept, {}, tmp_path / "small")
    torch.testing.assert_close(logits(load_shrunk(tmp_path / "small"), x), logits(small, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind == "vit" or "biases" in kind])
def test_filling_puts_means_in_the_place_of_what_is_gone(kind: str) -> None:
    adapter = model(kind)
    x, kept, filled = inputs(adapter), some_kept(adapter.hf), copy.deepcopy(adapter.hf)
    layout = Layout(adapter.hf)
    means = {place: torch.randn(gate.shape) for place, gate in gates_of(kept, layout).items()}
    fill(filled, kept, means)
    with gated(layout, gates_of(kept, layout), means):
        expected = logits(adapter.hf, x)
    torch.testing.assert_close(logits(filled, x), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, logits(adapter.hf, x), atol=1e-2)


def test_a_shrunk_language_model_writes_text_with_a_cache() -> None:
    adapter = model("llama")
    small = copy.deepcopy(adapter.hf)
    cut(small, without(adapter.hf, {0: [0]}, {0: [1]}))
    tokens = inputs(adapter)[:1, :4]
    written = small.generate(tokens, max_new_tokens=4, do_sample=False, attention_mask=torch.ones_like(tokens))
    assert written.shape == (1, 8)
    assert written[0, -1] == logits(small, written[:, :-1])[0, -1].argmax()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("gpt2", "one fused map makes"), ("mixtral", "mixtures of experts"), ("olmo2", "norms that depend")],
)
def test_a_family_that_cannot_be_shrunk_is_refused_with_the_reason(kind: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"type '{kind}' cannot be shrunk: .*{reason}.*Families that can: .*llama"):
        Layout(model(kind).hf)


def test_a_layer_without_anything_is_refused() -> None:
    kept = Kept.all(Layout(model("llama").hf).sizes)
    units = kept.units.clone()
    units[1] = False
    with pytest.raises(ValueError, match=r"at least one of units in every layer; layers \[1\] have none"):
        kept.with_only(units=units)


def test_folders_that_hold_no_shrunk_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no shrunk model: expected a folder with shrunk.json"):
        load_shrunk(tmp_path)
    adapter = model("llama")
    kept = Kept.all(Layout(adapter.hf).sizes)
    save_shrunk(adapter.hf, kept, {}, tmp_path / "a")
    (tmp_path / "a" / "kept.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is truncated or not a safetensors file"):
        load_shrunk(tmp_path / "a")
    with pytest.raises(ValueError, match="exists already, and nothing is replaced"):
        save_shrunk(adapter.hf, kept, {}, tmp_path / "a")
