"""The registry of model families, and the adapter that fits a Hugging Face model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from edge_pruning.models.adapter import Adapter
from edge_pruning.registry import Registry

ADAPTERS: Registry[type[Adapter]] = Registry("model family", key="model_type")
adapter = ADAPTERS.register

RENORMALISED = "its residual stream is renormalised after every sublayer (post-norm), so an edge has no linear meaning"
_POST_NORM = (
    "bert", "roberta", "distilbert", "albert", "electra", "xlm-roberta", "camembert", "mpnet", "deberta", "deberta-v2",
    "xlm", "openai-gpt",
)
_RECURRENT = ("mamba", "mamba2", "falcon_mamba", "rwkv", "jamba", "recurrent_gemma", "xlstm")


def check_supported(config: Any) -> type[Adapter]:
    """The adapter class for a Hugging Face configuration. Raises ValueError with the reason if none fits."""
    kind: Any = getattr(config, "model_type", None)
    if kind not in ADAPTERS:
        known = ", ".join(sorted(ADAPTERS))
        raise ValueError(f"model type {kind!r} is not supported: {_reason(config, kind)}. Supported: {known}.")
    refusal = ADAPTERS[kind].refusal(config) or _indivisible(config)
    if refusal:
        raise ValueError(f"this {kind} model cannot be run exactly: {refusal}")
    return ADAPTERS[kind]


def described(config: Any) -> Adapter:
    """An adapter without a model, for its shape and other facts. Raises ValueError as `check_supported` does."""
    return check_supported(config)(SimpleNamespace(config=config))


def _reason(config: Any, kind: str) -> str:
    """Why there is no adapter for a kind of model."""
    if kind in _POST_NORM:
        return RENORMALISED
    if kind in _RECURRENT:
        return "it has recurrent layers, not attention heads that read a stream"
    if kind == "deit":
        return (
            "with its distillation token it reads classes at two positions and averages them; a DeiT without one, such "
            "as facebook/deit-base-patch16-224, is of type 'vit' and is supported"
        )
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder-decoder with two streams"
    if hasattr(config, "text_config"):
        return "it joins several models, for text and for something else; load its text model by itself"
    return "no adapter has been written for it yet"


def _indivisible(config: Any) -> str | None:
    """Why the numbers of heads do not fit each other or the width; None if they do."""
    heads, d = config.num_attention_heads, config.hidden_size
    if getattr(config, "head_dim", None) is None and d % heads:
        return f"its width of {d} does not divide into {heads} heads; check config.json"
    try:
        _ = ADAPTERS[config.model_type](SimpleNamespace(config=config)).shape
    except ValueError as error:
        return f"{error}; check config.json"
    return None


def adapt(hf: Any) -> Adapter:
    """The adapter of a loaded Hugging Face model, which is frozen and put into evaluation mode."""
    cls = check_supported(hf.config)
    return cls(hf.eval().requires_grad_(False))
