"""Which model families there are, and which adapter fits a Hugging Face model."""

from __future__ import annotations

from typing import Any

from edge_pruning.models.adapter import Adapter

ADAPTERS: dict[str, type[Adapter]] = {}

RENORMALISED = "its residual stream is renormalised after every sublayer (post-norm), so an edge has no linear meaning"
_REASONS = {
    RENORMALISED:
        ("bert", "roberta", "distilbert", "albert", "electra", "xlm-roberta", "openai-gpt"),
    "it is an encoder-decoder with two streams": ("t5", "bart", "mbart", "pegasus", "marian", "mt5"),
    "it has recurrent layers, not attention heads that read a stream": ("mamba", "mamba2", "rwkv", "jamba"),
}


def adapter(cls: type[Adapter]) -> type[Adapter]:
    """Register an adapter under its `model_type`."""
    ADAPTERS[cls.model_type] = cls
    return cls


def check_supported(config: Any) -> type[Adapter]:
    """The adapter class for a Hugging Face configuration. Raises ValueError with the reason where there is none."""
    kind = getattr(config, "model_type", None)
    if kind not in ADAPTERS:
        reasons = (why for why, kinds in _REASONS.items() if kind in kinds)
        reason = next(reasons, "no adapter has been written for it yet")
        raise ValueError(f"model type {kind!r} is not supported: {reason}. Supported: {', '.join(sorted(ADAPTERS))}.")
    refusal = ADAPTERS[kind].refusal(config)
    if refusal:
        raise ValueError(f"this {kind} model cannot be run exactly: {refusal}")
    return ADAPTERS[kind]


def adapt(hf: Any) -> Adapter:
    """The adapter of a loaded Hugging Face model, frozen and in evaluation mode."""
    cls = check_supported(hf.config)
    return cls(hf.eval().requires_grad_(False))
