"""How cost grows: one pass over 200, 2,000 and 20,000 training pairs, and one step on deeper and deeper models.

    python benchmarks/cost_scaling.py [--pairs 200,2000,20000] [--out FILE]

Each line is a process of its own, so that its peak memory is its own. The first table trains on the bundled model for
one epoch with a cache of 64 MiB; the second takes steps on random GPT-2 models of 2 to 16 layers (d_model 128, 8
heads), whose edges grow with the square of the depth while their weights grow in proportion to it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.step_cost import OurStep, pairs_of
from edge_pruning import files
from edge_pruning.ablation import Patch
from edge_pruning.discovery import Search
from edge_pruning.discovery.soft_top_k import SoftTopK, SoftTopKMasks
from edge_pruning.discovery.training import train
from edge_pruning.loading.loading import load_model
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.models import adapt
from edge_pruning.tasks import get_task

BATCH = 16
CACHE = 64 << 20


def epoch(n: int) -> dict[str, Any]:
    """Seconds of the process for every pair once, and the peak memory before and after."""
    model = load_model()
    engine = model.engine()
    pairs = get_task("ioi", train=n).pairs(model.tokenizer, "train")
    settings = SoftTopK(steps=max(1, n // BATCH), batch_size=BATCH)
    masks = SoftTopKMasks(settings, engine.graph.edge_mask, torch.device("cpu"))
    masks.set_range(0.01 * engine.graph.n_edges, 0.35 * engine.graph.n_edges)
    before, start = peak_mib(), time.process_time()
    search = Search(engine, pairs, Patch())
    train(masks, search, steps=settings.steps, batch_size=BATCH, seed=0, cache_bytes=CACHE)
    seconds = time.process_time() - start
    return {
        "pairs": n, "seconds": seconds, "ms_per_pair": 1000 * seconds / n,
        "peak_mib": peak_mib(), "peak_mib_before_training": before,
    }


def step(layers: int) -> dict[str, Any]:
    """Seconds of the process per training step; the best of several."""
    torch.manual_seed(0)
    config = GPT2Config(n_layer=layers, n_head=8, n_embd=128, vocab_size=50_257, n_positions=64)
    engine = FusedPass(adapt(GPT2LMHeadModel(config)))
    ours = OurStep(engine, pairs_of(32, 15, 22), torch.rand(engine.graph.edge_mask.shape) * engine.graph.edge_mask)
    times = []
    for _ in range(6):
        start = time.process_time()
        ours()
        times.append(time.process_time() - start)
    edges = engine.graph.n_edges
    return {"layers": layers, "edges": edges, "ms": 1000 * min(times), "us_per_edge": 1e6 * min(times) / edges}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default="200,2000,20000")
    parser.add_argument("--layers", default="2,4,8,16")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one:
        print(json.dumps({"epoch": epoch, "step": step}[options.one[0]](int(options.one[1]))))
        return
    wanted = [("epoch", n) for n in options.pairs.split(",")] + [("step", n) for n in options.layers.split(",")]
    found = []
    for kind, n in wanted:
        done = subprocess.run([sys.executable, __file__, "--one", kind, n], capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print("  ".join(f"{name} {value:,.2f}" for name, value in found[-1].items()), flush=True)
    if options.out:
        about = {"command": "python benchmarks/cost_scaling.py", "date": time.strftime("%Y-%m-%d"), "threads": 1}
        files.write_json(options.out, {**about, "rows": found})


if __name__ == "__main__":
    main()
