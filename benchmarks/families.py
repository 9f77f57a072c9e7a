"""What a training step and an evaluation cost in every model family, against the plain Hugging Face model.

    python benchmarks/families.py [--families llama,gemma2] [--rounds 3] [--json]
    python benchmarks/families.py --full pythia-160m,qwen3-0.6b,llama-3.2-1b [--dtype bfloat16]

All families at one small size (6 layers, 8 heads that share 4 key-value heads where the family has that, width 512,
random weights), on the same 32 pairs of 15 to 22 tokens (images of 17 patches), float32. Per family it times

    step      the KL and its gradient in every edge's mask, over forward and backward of the plain model
    forward   a masked forward pass with all edges kept, over a forward pass of the plain model

with frozen passes at hand, as in training, and the plain model at its best micro-batch. Times are CPU seconds of the
process; the best of several rounds, in which all candidates take turns. Kept: bytes for the backward pass per token.
With --full it does the same for random models of the size of public ones, on 8 pairs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.step_cost import OurStep, batches, best_times, pairs_of
from edge_pruning.batch import Batch
from edge_pruning.loading.model import Model
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import ADAPTERS, adapt
from edge_pruning.pair import ImagePair, Pair

SIZE = {
    "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4, "hidden_size": 512,
    "intermediate_size": 2048, "vocab_size": 8192, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "gptj": {"rotary_dim": 32},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 2048},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "vit": {"image_size": 32, "patch_size": 8, "num_labels": 100},
}
FULL: dict[str, tuple[str, dict[str, Any]]] = {
    "pythia-160m": ("gpt_neox", {
        "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768, "intermediate_size": 3072,
        "vocab_size": 50304,
    }),
    "qwen3-0.6b": ("qwen3", {
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "hidden_size": 1024,
        "intermediate_size": 3072, "vocab_size": 151936, "head_dim": 128, "tie_word_embeddings": True,
    }),
    "llama-3.2-1b": ("llama", {
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 2048,
        "intermediate_size": 8192, "vocab_size": 128256, "head_dim": 64, "tie_word_embeddings": True,
    }),
    "gemma-2-2b": ("gemma2", {
        "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "hidden_size": 2304,
        "intermediate_size": 9216, "vocab_size": 256000, "head_dim": 256,
    }),
}  # fmt: skip
HEAD_DIM = {"qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "gpt_oss"}  # those that do not divide the width
PLAIN_TILES = (100, 200, 400, 1000)  # tokens per micro-batch


def small(kind: str) -> dict[str, Any]:
    return SIZE | OWN.get(kind, {}) | ({"head_dim": 64} if kind in HEAD_DIM else {})


def model_of(kind: str, sizes: dict[str, Any], dtype: torch.dtype) -> MaskedPass:
    family, config = ADAPTERS[kind], transformers.AutoConfig.for_model(kind, **sizes)
    options = {"attn_implementation": family.attn_implementation} if family.attn_implementation else {}
    hf = getattr(transformers, family.loader).from_config(config, dtype=dtype, **options)
    return Model(adapt(hf), None, kind).engine()


def pairs_for(engine: MaskedPass, n: int) -> list[Pair]:
    if engine.adapter.causal:
        return [_within(pair) for pair in pairs_of(n, 15, 22)]
    shape = engine.adapter.sample(0)[0].clean.shape
    return [ImagePair(torch.randn(shape), torch.randn(shape), answers=((1,),)) for _ in range(n)]


def _within(pair: Pair) -> Pair:
    """The same pair in a smaller vocabulary."""
    clean, corrupted = (tuple(t % SIZE["vocab_size"] for t in prompt) for prompt in (pair.clean, pair.corrupted))
    return Pair(clean, corrupted, pair.positions, pair.answers, pair.wrong)


def plain_logits(hf: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """What the model says at the compared positions, and what its gradient is taken in."""
    if batch.clean.dim() > 2:
        images = batch.clean.clone().requires_grad_()
        return hf(images).logits, images
    words = hf.get_input_embeddings()(batch.clean).detach().requires_grad_()
    final = hf.base_model(inputs_embeds=words, use_cache=False).last_hidden_state
    return hf.get_output_embeddings()(final.flatten(0, 1)[batch.positions]), words


def plain_step(hf: Any, parts: list[Batch]) -> None:
    for batch in parts:
        plain_logits(hf, batch)[0].log_softmax(-1)[:, 0].sum().backward()


@torch.no_grad()
def plain_forward(hf: Any, parts: list[Batch]) -> None:
    for batch in parts:
        plain_logits(hf, batch)


@torch.no_grad()
def forward(ours: OurStep, ones: Tensor) -> None:
    for batch, frozen in ours.parts:
        ours.engine.logits(ones, batch, frozen)


def measure(
    name: str, engine: MaskedPass, pairs: list[Pair], rounds: int, tiles: tuple[int, ...] = PLAIN_TILES
) -> dict[str, Any]:
    ones = engine.graph.edge_mask.float()
    ours = OurStep(engine, pairs, torch.rand(ones.shape) * ones)
    steps: dict[str, Callable[[], Any]] = {"step": ours, "forward": lambda: forward(ours, ones)}
    for tokens in tiles:
        parts = batches(pairs, engine, tokens)
        steps[f"plain step {tokens}"] = lambda parts=parts: plain_step(engine.adapter.hf, parts)  # type: ignore[misc]
        steps[f"plain forward {tokens}"] = lambda parts=parts: plain_forward(engine.adapter.hf, parts)  # type: ignore[misc]
    times = best_times(steps, rounds, torch.device("cpu"))
    best = {what: min(times[f"plain {what} {tokens}"] for tokens in tiles) for what in ("step", "forward")}
    return {
        "model": name,
        "edges": engine.graph.n_edges,
        "step_ratio": times["step"] / best["step"],
        "forward_ratio": times["forward"] / best["forward"],
        "bytes_per_token": ours.bytes_per_token(),
        "seconds": {"step": times["step"], "forward": times["forward"], **{f"plain {k}": v for k, v in best.items()}},
        "tokens": sum(map(engine.width, pairs)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(sorted(ADAPTERS)))
    parser.add_argument("--full", help="instead of families: models of full size")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    rows, names = [], (options.full or options.families).split(",")
    for name in names:
        torch.manual_seed(0)
        kind, sizes = FULL[name] if options.full else (name, small(name))
        engine = model_of(kind, sizes, getattr(torch, options.dtype))
        pairs, tiles = pairs_for(engine, 8 if options.full else 32), (200,) if options.full else PLAIN_TILES
        row = measure(name, engine, pairs, options.rounds, tiles)
        said = f"{name:<12} step / plain {row['step_ratio']:5.2f}   forward / plain {row['forward_ratio']:5.2f}   "
        said += f"{row['bytes_per_token'] / 2**20:5.2f} MiB per token"
        print(said, file=sys.stderr if options.json else sys.stdout, flush=True)
        rows.append(row)
    if options.json:
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        about = {**versions, "threads": options.threads, "dtype": options.dtype}
        print(json.dumps({**about, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
