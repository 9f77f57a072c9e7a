"""What a candidate set saves: the time of a training step within EAP's best edges, as a share of a full step.

    OMP_NUM_THREADS=1 python benchmarks/candidates.py bundled ioi [--shares 0.05,0.1,0.2,0.3]

Nodes and reads that no candidate needs are not computed (`edge_pruning/layout.py`). Best of several steps by CPU time.
"""

from __future__ import annotations

import argparse
import time

import torch

from edge_pruning.ablation import Patch
from edge_pruning.discovery import get_method
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.forward import MaskedPass
from edge_pruning.frozen_cache import FrozenCache
from edge_pruning.loading import load_model
from edge_pruning.objectives import KL
from edge_pruning.tasks import PairSet, get_task

BATCH, STEPS = 16, 12


def step_seconds(engine: MaskedPass, data: PairSet, mask: torch.Tensor) -> float:
    """CPU seconds of a forward and backward pass over 16 pairs, frozen passes kept."""
    cache, times = FrozenCache(engine, data.pairs[:BATCH], Patch(), 1 << 30), []
    for _ in range(STEPS):
        start = time.process_time()
        mask_gradient(engine, cache, range(BATCH), mask, KL)
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("--shares", type=lambda words: [float(word) for word in words.split(",")],
                        default=[0.05, 0.1, 0.2, 0.3, 0.5])
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model, device="cpu")
    engine, data = model.engine(), get_task(options.task).pairs(model.tokenizer, "train")
    scores, graph = get_method("eap").find(engine, data, Patch()), engine.graph
    full = step_seconds(engine, data, 0.5 * graph.edge_mask)
    print(f"{graph.n_edges:,} edges ({graph.convention}); a full step takes {1000 * full:.0f} ms of CPU time")
    for share in options.shares:
        within = scores.top(round(share * graph.n_edges))
        restricted = engine.restricted(within, consistent=Patch.consistent)
        ratio = step_seconds(restricted, data, 0.5 * within) / full
        nodes, reads = restricted.layout.n_writers, int(restricted.layout.mixed.sum())
        print(
            f"{share:6.0%} candidates: {nodes} of {len(graph.writers)} writers, {reads} of {len(graph.readers)} "
            f"readers, {ratio:.2f} of a full step"
        )


if __name__ == "__main__":
    main()
