"""What a large model takes in memory: the real code on tensors that have shapes and no contents.

    python benchmarks/memory.py [--shapes codellama-13b,llama-3.1-8b] [--pairs 4,16] [--length 72] [--json FILE]
    python benchmarks/memory.py --real llama-3.2-1b --pairs 2 --length 24        allocates, and runs

Runs a search step (forward and backward pass) and a judging pass (float32 arithmetic on the weights as they are) in
bfloat16 under torch's FakeTensorMode, and adds up the storages that are alive: nothing is allocated, so it runs on any
machine. It counts tensors, not what an allocator or a library (cuBLAS: some hundred MB) takes beside them. Frozen
values are counted for the batch; the cache holds those of 200 pairs, or of as many as its share of 80 GB allows.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, LlamaConfig

from edge_pruning import metrics
from edge_pruning.ablation import Patch
from edge_pruning.batch import Batch
from edge_pruning.graph import Graph, ModelShape
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.layout import Layout
from edge_pruning.masked_pass.memory import CACHE_SHARE
from edge_pruning.masked_pass.unmasked_pass import Frozen
from edge_pruning.models import adapt
from edge_pruning.pair import Pair

SHAPES = {
    "codellama-13b": {
        "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 40, "hidden_size": 5120,
        "intermediate_size": 13824, "vocab_size": 32016,
    },
    "llama-3.2-1b": {
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 2048,
        "intermediate_size": 8192, "vocab_size": 128256, "head_dim": 64, "tie_word_embeddings": True,
    },
    "llama-3.1-8b": {
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
        "intermediate_size": 14336, "vocab_size": 128256,
    },
}  # fmt: skip
CACHED_PAIRS = 200
CARD = 80e9  # bytes of the GPU that the cache is sized for


class Alive(TorchDispatchMode):
    """Adds up the storages of all tensors that operations make, as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return found

    def peak_of(self, work: Callable[[], Any]) -> int:
        self.peak = self.now
        work()
        return self.peak

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def batch_of(pairs: int, length: int) -> Batch:
    return Batch.of([pair_of(length, seed) for seed in range(pairs)])


def pair_of(length: int, seed: int) -> Pair:
    clean = tuple(range(seed, seed + length))
    return Pair(clean, clean[::-1], (length - 1,), ((1,),), ((2,),))


def graph_of(config: LlamaConfig) -> tuple[Graph, Layout]:
    """The graph of a shape and its full layout, with everything in them that is read as numbers."""
    graph = Graph(ModelShape(config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads))
    layout = Layout.full(graph)
    _ = layout.n_writers, layout.n_readers
    return graph, layout


def measure(shape: str, pairs: int, length: int, keep_reads: bool) -> dict[str, Any]:
    """Gigabytes (10^9 bytes) of each part, and at the peaks."""
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=4096)
    real, (graph, layout) = batch_of(pairs, length), graph_of(config)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, Alive() as alive:
        adapter = adapt(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16))
        gc.collect()
        weights = alive.now
        engine = FusedPass(adapter, graph, keep_reads=keep_reads, keep_maps=False)  # type: ignore[arg-type]
        engine.layout = layout
        at_rest = alive.now
        mask = fake.from_tensor(graph.edge_mask.float())
        fields = {name: fake.from_tensor(value) for name, value in vars(real).items() if isinstance(value, Tensor)}
        batch = Batch(**fields, width=real.width)
        before = alive.now
        frozen = Patch().freeze(engine, batch)
        of_frozen = alive.now - before
        search = alive.peak_of(partial(step, engine, mask, batch, frozen))
        buffers = engine.buffers.bytes
        del frozen
        engine.release()
        gc.collect()
        judging = alive.peak_of(partial(judge, engine.in_float32(), mask, batch))
    cache = min(CARD / CACHE_SHARE, CACHED_PAIRS * of_frozen / pairs)
    parts = {
        "weights": weights, "engine at rest": at_rest - weights, "buffers of a pass": buffers,
        "frozen values of the batch": of_frozen, f"cache of at most {CACHED_PAIRS} pairs": cache,
        "peak of a search step": search, "peak of a search step, with the cache": search + cache,
        "peak of judging": judging,
    }  # fmt: skip
    what = {"shape": shape, "pairs": pairs, "tokens": pairs * length, "reads": "kept" if keep_reads else "recomputed"}
    return what | {name: size / 1e9 for name, size in parts.items()}


def step(engine: FusedPass, mask: Tensor, batch: Batch, frozen: Frozen) -> None:
    leaf = mask.clone().requires_grad_()
    metrics.kl_divergence(frozen.logits, engine.logits(leaf, batch, frozen), batch).sum().backward()


@torch.no_grad()
def judge(engine: FusedPass, mask: Tensor, batch: Batch) -> None:
    frozen = Patch().freeze(engine, batch)
    metrics.kl_divergence(frozen.logits, engine.logits(mask, batch, frozen), batch)


def run_for_real(shape: str, pairs: int, length: int) -> dict[str, Any]:
    """Two search steps and a judging pass of a random model in bfloat16, with the memory that the process took."""
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=4096)
    torch.manual_seed(0)
    engine = FusedPass(adapt(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)))  # type: ignore[arg-type]
    batch = engine.batch([pair_of(length, seed) for seed in range(pairs)])
    mask, peaks = torch.rand(engine.graph.edge_mask.shape) * engine.graph.edge_mask, {"loaded": peak()}
    frozen = Patch().freeze(engine, batch)
    for _ in range(2):
        step(engine, mask, batch, frozen)
    peaks["two search steps"] = peak()
    del frozen
    judge(engine.in_float32(), (mask > 0.5).float(), batch)
    peaks["judging"] = peak()
    weights = sum(parameter.nbytes for parameter in engine.adapter.hf.parameters()) / 1e9
    what = {"shape": f"{shape}, run for real", "pairs": pairs, "tokens": pairs * length, "reads": "kept"}
    return what | {"weights": weights} | {f"peak of the process: {name}": size for name, size in peaks.items()}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="codellama-13b,llama-3.1-8b", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--real", choices=SHAPES, help="allocate a model of this shape and run it")
    parser.add_argument("--pairs", default="4,16")
    parser.add_argument("--length", type=int, default=72)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    counts = [int(pairs) for pairs in options.pairs.split(",")]
    if options.real:
        rows = [run_for_real(options.real, counts[0], options.length)]
    else:
        rows = [
            measure(shape, pairs, options.length, keep)
            for shape in options.shapes.split(",") for pairs in counts for keep in (True, False)
        ]  # fmt: skip
    for row in rows:
        print(f"{row['shape']}, {row['pairs']} pairs, {row['tokens']} tokens, reads {row['reads']} (GB)")
        for name, value in row.items():
            if isinstance(value, float):
                print(f"  {name:<40} {value:7.2f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
