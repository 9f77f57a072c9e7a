"""What a real model costs: loading it, a training step and a masked forward pass, against the plain Hugging Face model.

    OMP_NUM_THREADS=1 python benchmarks/real_model.py MODEL [--task ioi] [--pairs 16] [--rounds 4] [--json FILE]

MODEL is a folder or a hub id; the figures in `results/` are SmolLM2-135M-Instruct's. In one run, on the same tokens:

    loading         seconds, with the check at load time
    plain step      forward and backward of the Hugging Face model, no gradients of weights, at its best micro-batch
    step            the KL of a random mask and its gradient in every edge's mask, frozen values at hand
    plain forward   the Hugging Face model without gradients
    masked forward  one mask without gradients, frozen values at hand

Times are CPU seconds of the process on a CPU and wall seconds on a GPU: the best of the rounds, in which the candidates
take turns. `--profile` adds where a step's time goes, by operation.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from step_cost import batches, best_times
from torch.profiler import ProfilerActivity, profile

from edge_pruning.ablation import Patch
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.batch import Batch
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.loading import load_model
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.objectives import get_objective
from edge_pruning.tasks import get_task

PLAIN_TILES = (200, 400)  # tokens per micro-batch of the plain model; the fastest counts


def plain_step(hf: Any, parts: list[Batch]) -> None:
    for batch in parts:
        embedded = hf.get_input_embeddings()(batch.clean).detach().requires_grad_()
        final = hf.base_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        logits = hf.get_output_embeddings()(final.flatten(0, 1)[batch.positions])
        logits.float().log_softmax(-1)[:, 0].sum().backward()


@torch.no_grad()
def plain_forward(hf: Any, parts: list[Batch]) -> None:
    for batch in parts:
        final = hf.base_model(batch.clean, use_cache=False).last_hidden_state
        hf.get_output_embeddings()(final.flatten(0, 1)[batch.positions])


@torch.no_grad()
def masked_forward(engine: FusedPass, cache: FrozenCache, mask: torch.Tensor) -> None:
    for ids in engine.tiles(cache.pairs):
        engine.logits(mask, *cache.batch(ids))


def by_operation(work: Callable[[], Any], most: int = 8) -> dict[str, float]:
    """Shares of the time, by operation; the largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        work()
    taken: Counter[str] = Counter()
    for event in profiled.key_averages():
        taken[event.key] += event.self_cpu_time_total
    return {name: microseconds / taken.total() for name, microseconds in taken.most_common(most)}


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(name: str, task: str, n: int, rounds: int, device: str, profiled: bool) -> dict[str, Any]:
    start, cpu = time.perf_counter(), time.process_time()
    model = load_model(name, device=device)
    loading = {"wall_seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    engine = model.engine()
    assert isinstance(engine, FusedPass)
    pairs = get_task(task).pairs(model.tokenizer, "train", max_length=model.adapter.max_length).pairs[:n]
    cache, kl = FrozenCache(engine, pairs, Patch(), 1 << 40), get_objective("kl")
    drawn = torch.rand(engine.graph.edge_mask.shape, generator=torch.Generator().manual_seed(0))
    mask, hf = (drawn * engine.graph.edge_mask).to(engine.home), model.adapter.hf
    step = partial(mask_gradient, engine, cache, range(n), mask, kl)
    candidates: dict[str, Callable[[], Any]] = {"step": step}
    candidates["masked forward"] = partial(masked_forward, engine, cache, mask)
    for tokens in PLAIN_TILES:
        parts = batches(list(pairs), engine, tokens)
        candidates[f"plain step, {tokens} tokens at a time"] = partial(plain_step, hf, parts)
        candidates[f"plain forward, {tokens} tokens at a time"] = partial(plain_forward, hf, parts)
    step()
    faults = page_faults()
    step()
    faults = page_faults() - faults
    times = best_times(candidates, rounds, engine.home)
    plain = {kind: min(t for of, t in times.items() if of.startswith(f"plain {kind}")) for kind in ("step", "forward")}
    return {
        "model": Path(name).name,
        "edges": engine.graph.n_edges,
        "tokens": sum(map(engine.width, pairs)),
        "pairs": n,
        "loading": loading,
        "seconds": times,
        "step_to_plain": times["step"] / plain["step"],
        "masked_forward_to_plain": times["masked forward"] / plain["forward"],
        "page_faults_per_step": faults,
        "mib": {
            "weights": sum(parameter.nbytes for parameter in hf.parameters()) / 2**20,
            "maps kept": engine.weights.bytes / 2**20,
            "buffers": engine.buffers.bytes / 2**20,
            "frozen values": cache.bytes / 2**20,
            "peak of the process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
        },
        "profile": by_operation(step) if profiled else {},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--task", default="ioi")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measure(
        options.model, options.task, options.pairs, options.rounds, options.device, options.profile
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    print(f"{found['model']}: {found['edges']:,} edges, {found['pairs']} pairs, {found['tokens']} tokens")
    print(f"loading: {found['loading']['wall_seconds']:.1f} s ({found['loading']['cpu_seconds']:.1f} s of CPU)")
    for name, value in found["seconds"].items():
        print(f"  {name:<36} {value:8.2f} s")
    print(f"step / plain step: {found['step_to_plain']:.2f}; page faults per step: {found['page_faults_per_step']:,}")
    print(f"masked forward / plain forward: {found['masked_forward_to_plain']:.2f}")
    for name, value in found["mib"].items():
        print(f"  {name:<36} {value:8.0f} MiB")
    for name, share in found["profile"].items():
        print(f"  {name:<56} {share:6.1%}")


if __name__ == "__main__":
    main()
