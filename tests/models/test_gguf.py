"""Models in GGUF files: a tiny one is written here and unpacked; what is broken or foreign is refused with a reason."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_pruning.loading import load_model
from edge_pruning.loading.loading import describe_model

gguf = pytest.importorskip("gguf", reason="GGUF files take the package gguf: pip install 'edge-pruning[gguf]'")

WORDS = ["<s>", "</s>", *(chr(ord("a") + i) for i in range(26)), "th", "the", "an", "and"]
D, HEADS, KV_HEADS, WIDTH, LAYERS = 64, 4, 2, 96, 2


def write(path: Path, architecture: str = "llama") -> dict[str, Any]:
    """A random Llama of two layers with 8 bits per weight; returns the weights before they were rounded."""
    file = gguf.GGUFWriter(path, architecture)
    file.add_block_count(LAYERS)
    file.add_context_length(32)
    file.add_embedding_length(D)
    file.add_feed_forward_length(WIDTH)
    file.add_head_count(HEADS)
    file.add_head_count_kv(KV_HEADS)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_rope_freq_base(10_000.0)
    file.add_vocab_size(len(WORDS))
    file.add_tokenizer_model("gpt2")
    file.add_token_list(WORDS)
    file.add_token_types([3, 3, *[1] * (len(WORDS) - 2)])
    file.add_token_merges(["t h", "th e", "a n", "an d"])
    file.add_bos_token_id(0)
    file.add_eos_token_id(1)
    weights = dict(_weights(np.random.default_rng(0)))
    for name, values in weights.items():
        if values.ndim == 1:
            file.add_tensor(name, values)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            file.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return weights


def _weights(generator: Any) -> Any:
    kv = D // HEADS * KV_HEADS
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (len(WORDS), D), "output_norm": (D,), "output": (len(WORDS), D)}
    for i in range(LAYERS):
        shapes |= {f"blk.{i}.attn_norm": (D,), f"blk.{i}.ffn_norm": (D,), f"blk.{i}.attn_q": (D, D),
                   f"blk.{i}.attn_k": (kv, D), f"blk.{i}.attn_v": (kv, D), f"blk.{i}.attn_output": (D, D),
                   f"blk.{i}.ffn_gate": (WIDTH, D), f"blk.{i}.ffn_up": (WIDTH, D), f"blk.{i}.ffn_down": (D, WIDTH)}
    for name, shape in shapes.items():
        values = generator.standard_normal(shape) * 0.3 + (len(shape) == 1)
        yield f"{name}.weight", values.astype(np.float32)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, write(path)


def test_a_gguf_file_is_unpacked_and_says_so(
    packed: tuple[Path, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    path, weights = packed
    model = load_model(str(path), device="cpu")
    state = model.adapter.hf.state_dict()
    for ours, theirs in (("mlp.down_proj", "ffn_down"), ("self_attn.v_proj", "attn_v")):
        off = state[f"model.layers.1.{ours}.weight"] - torch.from_numpy(weights[f"blk.1.{theirs}.weight"])
        assert 0 < float(off.abs().max()) < 0.02  # rounded to 8 bits
    bits = 8 * path.stat().st_size / model.adapter.hf.num_parameters()
    assert model.provenance["weights_unpacked_from_bits"] == pytest.approx(bits, abs=0.05)
    assert f"unpacked from about {bits:.1f} bits per weight" in caplog.text
    assert model.tokenizer("theand").input_ids[-2:] == [WORDS.index("the"), WORDS.index("and")]
    assert model.engine().graph.shape.kv_heads == KV_HEADS


def test_the_configuration_alone_can_be_read(packed: tuple[Path, dict[str, Any]]) -> None:
    model = describe_model(str(packed[0]))
    assert model.adapter.shape.layers == LAYERS
    assert model.tokenizer is not None


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_a_truncated_file(packed: tuple[Path, dict[str, Any]], share: float, tmp_path: Path) -> None:
    content = packed[0].read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"cut\.gguf is truncated, or not a complete GGUF file .*; download it again"):
        load_model(str(tmp_path / "cut.gguf"), device="cpu")


def test_an_architecture_that_is_not_unpacked(tmp_path: Path) -> None:
    write(tmp_path / "odd.gguf", "rwkv6")
    with pytest.raises(ValueError, match=r"odd\.gguf holds a model of the architecture 'rwkv6', which transformers"):
        load_model(str(tmp_path / "odd.gguf"), device="cpu")


def test_an_architecture_without_an_adapter(packed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    write(tmp_path / "other.gguf", "nemotron")
    with pytest.raises(ValueError, match="model type 'nemotron' is not supported"):
        load_model(str(tmp_path / "other.gguf"), device="cpu")


def test_what_is_no_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.gguf is not a GGUF file: expected it to begin with GGUF"):
        load_model(str(tmp_path / "text.gguf"), device="cpu")
    with pytest.raises(ValueError, match=r"gone\.gguf does not exist; expected a GGUF file, or owner/repository/"):
        load_model(str(tmp_path / "gone.gguf"), device="cpu")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"package gguf, which is not installed: pip install 'edge-pruning\[gguf\]'"):
        load_model(str(tmp_path / "text.gguf"), device="cpu")


def test_a_file_on_the_hub(packed: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, file: str, *, revision: str | None) -> str:
        asked.append((repository, file, revision))
        if file == "none.gguf":
            raise OSError("404")
        return str(packed[0])

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert describe_model("someone/tiny-GGUF/tiny.gguf", revision="v2").adapter.shape.layers == LAYERS
    assert asked == [("someone/tiny-GGUF", "tiny.gguf", "v2")]
    with pytest.raises(ValueError, match=r"could not load the file none\.gguf of model 'someone/tiny-GGUF': 404"):
        describe_model("someone/tiny-GGUF/none.gguf")
