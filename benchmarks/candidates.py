"""What a candidate set saves: the time of a training step within EAP's best edges, as a share of a full step.

    OMP_NUM_THREADS=1 python benchmarks/candidates.py bundled ioi [--shares 0.05,0.1,0.2,0.3]
    OMP_NUM_THREADS=1 python benchmarks/candidates.py random-gpt2 [--rounds 3]           GPT-2 small's shape, 12 pairs

Nodes and reads that no candidate needs are not computed (`edge_pruning/layout.py`). CPU seconds, the best of several
rounds in which all sizes take turns. `nodes alone`: the plain model's forward and backward pass over the same pairs,
which is about what is left of a step where every node has a candidate and reads cost nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from step_cost import batches, best_times, pairs_of, plain_step
from transformers import GPT2Config, GPT2LMHeadModel

from edge_pruning.ablation import Patch
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery import Search, get_method
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.loading.loading import load_model
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import adapt
from edge_pruning.objectives import KL
from edge_pruning.tasks import PairSet, get_task

BATCH, RANDOM_BATCH = 16, 12
RANDOM = "random-gpt2"


def setting(model: str, task: str | None) -> tuple[MaskedPass, PairSet]:
    """An engine, and the pairs that EAP looks at."""
    if model != RANDOM:
        loaded = load_model(model, device="cpu")
        return loaded.engine(), get_task(task or "ioi").pairs(loaded.tokenizer, "train")
    torch.manual_seed(0)
    pairs = tuple(replace(pair, wrong=((2,),)) for pair in pairs_of(RANDOM_BATCH, 15, 22))
    return FusedPass(adapt(GPT2LMHeadModel(GPT2Config()))), PairSet("random", "train", "logit_difference", pairs, ())


def step(engine: MaskedPass, data: PairSet, mask: torch.Tensor) -> Callable[[], Any]:
    """A forward and backward pass over a batch, frozen passes at hand."""
    cache = FrozenCache(engine, data.pairs[:BATCH], Patch(), 1 << 33)
    return partial(mask_gradient, engine, cache, range(len(cache.pairs)), mask, KL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("task", nargs="?")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--shares", type=lambda words: [float(word) for word in words.split(",")],
                        default=[0.05, 0.1, 0.2, 0.3, 0.5])
    options = parser.parse_args()
    torch.set_num_threads(1)
    engine, data = setting(options.model, options.task)
    scores, graph = get_method("eap").find(Search(engine, data, Patch())), engine.graph
    steps, sizes = {"full": step(engine, data, 0.5 * graph.edge_mask)}, {}
    if options.model == RANDOM:
        steps["nodes alone"] = partial(plain_step, engine.adapter.hf, batches(list(data.pairs), engine, 400))
    for share in options.shares:
        within = scores.top(round(share * graph.n_edges))
        restricted = engine.restricted(within, consistent=Patch.consistent)
        name = f"{share:.0%} candidates"
        steps[name] = step(restricted, data, 0.5 * within)
        nodes, reads = restricted.layout.n_writers, int(restricted.layout.mixed.sum())
        sizes[name] = f"{nodes} of {len(graph.writers)} writers, {reads} of {len(graph.readers)} readers"
    times = best_times(steps, options.rounds, torch.device("cpu"))
    print(f"{graph.n_edges:,} edges ({graph.convention}); a full step takes {1000 * times['full']:.0f} ms of CPU time")
    for name, seconds in times.items():
        print(f"{name:>16}: {seconds / times['full']:.2f} of a full step  {sizes.get(name, '')}")


if __name__ == "__main__":
    main()
