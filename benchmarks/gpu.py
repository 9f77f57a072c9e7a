"""What a training step costs on a GPU, at the shapes of three models: run as usual, and captured as a CUDA graph.

    python benchmarks/gpu.py [--shapes gpt2,llama-3.2-1b,codellama-13b] [--pairs 32] [--tokens 20] [--json]

Weights are random: GPT-2's in float32, the others' in bfloat16. A step is `mask_gradient` over all pairs, with frozen
values at hand. For each way it prints the median of the seconds per step, the largest difference of the gradients, and
the peak of the memory that PyTorch has allocated. `--layers N` changes the depth; with it, and `--device cpu`, the
script can be tried without a GPU, where nothing is captured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedConfig

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.step_cost import pairs_of
from edge_pruning.ablation import Patch
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery.gradient import Capturing, mask_gradient
from edge_pruning.masked_pass.captured import why_not
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.models import adapt
from edge_pruning.objectives import KL

SHAPES: dict[str, tuple[PreTrainedConfig, torch.dtype]] = {
    "gpt2": (GPT2Config(), torch.float32),
    "llama-3.2-1b": (
        LlamaConfig(
            vocab_size=128_256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
            num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=True,
        ),
        torch.bfloat16,
    ),
    "codellama-13b": (
        LlamaConfig(
            vocab_size=32_016, hidden_size=5120, intermediate_size=13_824, num_hidden_layers=40,
            num_attention_heads=40,
        ),
        torch.bfloat16,
    ),
}  # fmt: skip
ROUNDS = 20


def engine_of(shape: str, layers: int | None, device: torch.device) -> FusedPass:
    config, dtype = SHAPES[shape]
    config.num_hidden_layers = layers or config.num_hidden_layers
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return FusedPass(adapt(model.eval()))


def measure(engine: FusedPass, pairs: int, tokens: int) -> dict[str, Any]:
    """Both ways on one engine, one after the other."""
    data, edges = pairs_of(pairs, max(2, tokens - 3), tokens), engine.graph.edge_mask
    cache = FrozenCache(engine, data, Patch())
    mask = torch.rand(edges.shape, generator=torch.Generator().manual_seed(0)).to(engine.home) * edges.to(engine.home)
    found: dict[str, Any] = {"edges": engine.graph.n_edges, "micro-batches": len(engine.tiles(data))}
    gradients: list[Tensor] = []
    for way in ("off", "auto"):
        if way == "auto" and (reason := why_not(engine)):
            return found | {"not captured": reason}
        engine.cuda_graph = way
        captured = Capturing(engine, KL, data)
        took, memory, gradient = timed(
            lambda captured=captured: mask_gradient(engine, cache, range(pairs), mask, KL, captured)[1], engine.home
        )
        gradients.append(gradient)
        found["captured" if way == "auto" else "as usual"] = {"seconds": took, "bytes": memory}
    return found | {"largest difference": float((gradients[0] - gradients[1]).abs().max())}


def timed(step: Callable[[], Tensor], device: torch.device) -> tuple[float, int, Tensor]:
    """The median of the seconds of a step, the peak of the memory, and its result."""
    on_gpu, seconds = device.type == "cuda", []
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(3):
        step()  # folds the weights; records
    for _ in range(ROUNDS if on_gpu else 3):
        start = time.perf_counter()
        gradient = step()
        if on_gpu:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return median(seconds), torch.cuda.max_memory_allocated(device) if on_gpu else 0, gradient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=20, help="length of the longest pair (default: 20)")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU here (torch.cuda.is_available() is false); --device cpu --layers 1 tries the script")
    unknown = [shape for shape in options.shapes.split(",") if shape not in SHAPES]
    if unknown:
        parser.error(f"--shapes: expected {', '.join(SHAPES)}; got {', '.join(unknown)}")
    found = {}
    for shape in options.shapes.split(","):
        found[shape] = measure(engine_of(shape, options.layers, device), options.pairs, options.tokens)
        if not options.json:
            print(f"{shape}: {', '.join(f'{name} {value}' for name, value in found[shape].items())}", flush=True)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    if options.json:
        print(json.dumps({"device": where, "torch": torch.__version__, **found}, indent=2))


if __name__ == "__main__":
    main()
