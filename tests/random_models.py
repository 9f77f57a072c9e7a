"""Random models of every kind that an adapter has to get right, in any dtype; no downloads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from edge_pruning.batch import Pair
from edge_pruning.graph import Graph
from edge_pruning.models import Adapter, adapt

VOCABULARY = 19
_COMMON = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
_GPT2 = {"n_positions": 12, "n_embd": 12, "n_layer": 2, "n_head": 3}
_LLAMA = {
    "max_position_embeddings": 12, "hidden_size": 16, "intermediate_size": 10, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt2, untied, exact gelu, scaled by layer": {
        "tie_word_embeddings": False, "activation_function": "gelu", "scale_attn_by_inverse_layer_idx": True,
        "n_head": 2, "n_inner": 7,
    },
    "gpt2, one head, unscaled, relu": {
        "n_head": 1, "n_layer": 3, "scale_attn_weights": False, "activation_function": "relu",
    },
    "llama": {},
    "llama, biases, tied, odd heads, own head size": {
        "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "hidden_act": "gelu",
        "hidden_size": 15, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 6,
    },
    "llama, no grouping": {"num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 3},
}


def config_of(kind: str, **changes: Any) -> GPT2Config | LlamaConfig:
    """The configuration called `kind`, with changes."""
    if kind.startswith("gpt2"):
        return GPT2Config(**{**_COMMON, **_GPT2, **CONFIGS[kind], **changes})
    return LlamaConfig(**{**_COMMON, **_LLAMA, **CONFIGS[kind], **changes})


def random_model(config: GPT2Config | LlamaConfig, dtype: torch.dtype = torch.float64, seed: int = 0) -> Adapter:
    """Weights and biases of standard deviation 0.3, gains around 1, so that nothing can be left out unnoticed."""
    hf = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            is_gain = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + is_gain)
    return adapt(hf.to(dtype))


def graphs_of(adapter: Adapter) -> list[Graph]:
    """Every counting convention that says something else about this model."""
    second = Graph(adapter.shape, "split") if adapter.model_type == "gpt2" else Graph(adapter.shape, "joint", "query")
    return [Graph(adapter.shape), second]


def pair(seed: int, length: int, positions: tuple[int, ...]) -> Pair:
    """Random tokens; the prompts share only their first one."""
    generator = torch.Generator().manual_seed(seed)
    clean, corrupted = torch.randint(VOCABULARY, (2, length), generator=generator).tolist()
    none = ((),) * len(positions)
    return Pair(tuple(clean), (clean[0], *corrupted[1:]), positions, none, none)


def answered(unanswered: Pair, seed: int) -> Pair:
    """The pair with a random right and a random wrong answer at every compared position."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randperm(VOCABULARY, generator=generator)[:2].tolist() for _ in unanswered.positions]
    right, wrong = (tuple((tokens[i],) for tokens in drawn) for i in (0, 1))
    return replace(unanswered, answers=right, wrong=wrong)


def mixed_pairs() -> list[Pair]:
    """All that may differ inside a batch: lengths, how many compared positions, where; text may go on after them."""
    return [pair(1, 5, (4,)), pair(2, 9, (2, 6)), pair(3, 6, (5, 3, 1)), pair(4, 4, (0,))]


def random_mask(graph: Graph, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Anything between 0 and 1 on the edges, exact zeros and ones among them; 0 off the graph."""
    drawn = torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return (2 * drawn - 0.5).clamp(0, 1) * graph.edge_mask
