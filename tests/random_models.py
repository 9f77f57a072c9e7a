"""Random models of every kind that an adapter has to get right, in any dtype; no downloads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoConfig, GPT2Config, PreTrainedConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

from edge_pruning.graph import Graph
from edge_pruning.models import ADAPTERS, Adapter, adapt
from edge_pruning.pair import Pair

VOCABULARY = 19
_COMMON = {
    "vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    "max_position_embeddings": 12, "hidden_size": 16, "intermediate_size": 10, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}
_OF_FAMILY: dict[str, dict[str, Any]] = {
    "gpt2": {"hidden_size": 12, "num_attention_heads": 3},
    "qwen3": {"head_dim": 4},
    "qwen3_moe": {"head_dim": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 6},
    "stablelm": {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}},
    "phi3": {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}},
    "gpt_neox": {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}},
    "granite": {
        "embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.7, "attention_multiplier": 0.4,
    },
    "cohere": {"logit_scale": 0.7},
    "gptj": {"rotary_dim": 2},
    "gemma": {"head_dim": 6},
    "gemma2": {
        "head_dim": 6, "sliding_window": 3, "query_pre_attn_scalar": 3, "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 4.0,
    },
    "gemma3_text": {
        "head_dim": 6, "sliding_window": 3, "query_pre_attn_scalar": 3,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "vit": {"image_size": 8, "patch_size": 4, "num_channels": 2, "num_labels": VOCABULARY},
    "mixtral": {"num_local_experts": 3, "num_experts_per_tok": 2},
    "gpt_oss": {
        "head_dim": 4, "num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": 3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
    },
}  # fmt: skip
_ODD = {"num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 18}

# Early 5.x releases of transformers ignore GPT-2's settings for the scale of attention unless it runs eagerly; such a
# model is refused there, because its own logits are not those of its configuration.
GPT2_SCALES = hasattr(GPT2Attention(GPT2Config()), "scaling")

# The two families that every test about the masked pass itself is run on.
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt2, untied, exact gelu, scaled by layer": {
        "tie_word_embeddings": False, "activation_function": "gelu", "scale_attn_by_inverse_layer_idx": GPT2_SCALES,
        "n_head": 2, "n_inner": 7,
    },
    "gpt2, one head, unscaled, relu": {
        "n_head": 1, "n_layer": 3, "scale_attn_weights": not GPT2_SCALES, "activation_function": "relu",
    },
    "llama": {},
    "llama, biases, tied, odd heads, own head size": {
        "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "hidden_act": "gelu",
        "hidden_size": 15, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 6,
    },
    "llama, no grouping": {"num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 3},
}

# Settings of a family beyond its plain one that an adapter has to get right. Every registered family has a plain one.
VARIANTS: dict[str, dict[str, Any]] = {
    "mistral, no window, tied": {"sliding_window": None, "tie_word_embeddings": True},
    "mistral, window": {"sliding_window": 3},
    "qwen2, windows, odd heads": {
        **_ODD, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1,
    },
    "qwen3, biases, odd heads": {**_ODD, "attention_bias": True, "head_dim": 4, "tie_word_embeddings": True},
    "starcoder2, window, no biases": {"sliding_window": 3, "use_bias": False},
    "stablelm, parallel": {"use_parallel_residual": True, "use_qkv_bias": True},
    "stablelm, norms of q and k": {"qk_layernorm": True, "tie_word_embeddings": True},
    "phi3, window, odd heads": {**_ODD, "sliding_window": 3},
    "phi, norms of q and k, odd heads": {**_ODD, "hidden_size": 24, "qk_layernorm": True},
    "olmo2, odd heads": {**_ODD, "tie_word_embeddings": True},
    "granite, biases": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False},
    "cohere, norms of q and k, biases": {"use_qk_norm": True, "attention_bias": True, "tie_word_embeddings": False},
    "gpt_neox, sequential, no biases, odd heads": {
        "use_parallel_residual": False, "attention_bias": False, "num_attention_heads": 3, "hidden_size": 12,
    },
    "falcon, two norms, grouped": {"new_decoder_architecture": True, "num_kv_heads": 2, "bias": True},
    "falcon, grouped, one norm": {
        "new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1,
    },
    "falcon, sequential, alibi, odd heads": {
        "parallel_attn": False, "multi_query": False, "alibi": True, "bias": True, "num_attention_heads": 3,
        "hidden_size": 12,
    },
    "gemma, untied, odd heads": {**_ODD, "tie_word_embeddings": False, "attention_bias": True},
    "gemma2, no caps, odd heads": {**_ODD, "attn_logit_softcapping": None, "final_logit_softcapping": None},
    "gemma3_text, capped logits, odd heads": {**_ODD, "final_logit_softcapping": 4.0},
    "mixtral, window": {"sliding_window": 3, "tie_word_embeddings": True},
    "qwen3_moe, one plain layer": {"mlp_only_layers": [1], "norm_topk_prob": True},
    "gpt_oss, no biases, odd heads": {**_ODD, "attention_bias": False},
    "opt, projected, no biases, odd heads": {
        "word_embed_proj_dim": 6, "enable_bias": False, "num_attention_heads": 3, "hidden_size": 12,
        "layer_norm_elementwise_affine": False, "tie_word_embeddings": False,
    },
    "bloom, odd heads": {"num_attention_heads": 3, "hidden_size": 12},
    "vit, wide images, no biases, odd heads": {
        "image_size": [8, 12], "num_attention_heads": 3, "hidden_size": 12, "qkv_bias": False, "hidden_act": "relu",
    },
}  # fmt: skip
VISION = ADAPTERS["vit"].refusal(None) is None  # not with old versions of transformers
FAMILIES = {
    kind: settings for kind, settings in {**{kind: {} for kind in ADAPTERS}, **CONFIGS, **VARIANTS}.items()
    if VISION or not kind.startswith("vit")
}  # fmt: skip


def config_of(kind: str, **changes: Any) -> PreTrainedConfig:
    """The configuration called `kind`, with changes."""
    family = kind.partition(",")[0]
    own_name = CONFIG_MAPPING[family].attribute_map  # hidden_size is n_embd for some
    parts = (_COMMON, _OF_FAMILY.get(family, {}), FAMILIES[kind], changes)
    settings = {own_name.get(name, name): value for part in parts for name, value in part.items()}
    return AutoConfig.for_model(family, **settings)


def random_model(
    config: PreTrainedConfig, dtype: torch.dtype = torch.float64, seed: int = 0, **options: Any
) -> Adapter:
    """Weights and biases of standard deviation 0.3, gains around 1, so that nothing can be left out unnoticed."""
    family = ADAPTERS[config.model_type]
    options = {"experts_implementation": "eager"} | options  # the fast one has no float64
    options = {"attn_implementation": family.attn_implementation} | options
    hf = getattr(transformers, family.loader).from_config(config, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            is_gain = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + is_gain)
    return adapt(hf.to(dtype))


def graphs_of(adapter: Adapter) -> list[Graph]:
    """Every counting convention that says something else about this model."""
    split = adapter.model_type in ("gpt2", "opt", "vit")
    second = Graph(adapter.shape, "split") if split else Graph(adapter.shape, "joint", "query")
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


def pairs_for(adapter: Adapter) -> list[Pair]:
    """The same for the family that reads images: those of its sample, and what may differ inside a batch of them."""
    if adapter.causal:
        return mixed_pairs()
    return [replace(pair, answers=((seed,),)) for seed in range(3) for pair in adapter.sample(seed)]


def random_mask(graph: Graph, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Anything between 0 and 1 on the edges, exact zeros and ones among them; 0 off the graph."""
    drawn = torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return (2 * drawn - 0.5).clamp(0, 1) * graph.edge_mask
