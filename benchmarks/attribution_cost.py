"""What attribution costs at GPT-2 small's shape, in plain forward and backward passes per batch.

    OMP_NUM_THREADS=1 python benchmarks/attribution_cost.py [--rounds 3] [--json]

Plain passes, pairs and clock are those of `step_cost.py` (random weights, one answer at the end of each pair). Methods
are run as a user runs them, everything counted: the ablated run, the gradients, and cutting the pairs into batches.
Beside them: what the pass that knows that all masks are 1 saves.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from step_cost import PLAIN_TILES, batches, best_times, pairs_of, plain_step
from transformers import GPT2Config, GPT2LMHeadModel

from edge_pruning.ablation import Patch
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.discovery import Method, Search, get_method
from edge_pruning.discovery.gradient import mask_gradient
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import adapt
from edge_pruning.objectives import get_objective
from edge_pruning.tasks import PairSet

METHODS: dict[str, Method] = {
    "eap": get_method("eap"),
    "eap-ig on inputs, 5 steps": get_method("eap-ig"),
    "eap-ig on inputs, 5 steps, kl": get_method("eap-ig", metric="kl"),
    "eap-ig on activations, 5 steps": get_method("eap-ig", path="activations"),
}


def parts_of_eap(engine: MaskedPass, data: PairSet) -> dict[str, Callable[[], Any]]:
    """The gradient of all masks in both passes, frozen runs at hand; and these runs alone."""
    pairs, objective = data.pairs, get_objective("logit_difference")
    kept = FrozenCache(engine, pairs, Patch(), 1 << 33)

    def frozen(logits: bool) -> None:
        for batch in batches(list(pairs), engine):
            Patch().freeze(engine, batch, logits=logits)

    steps: dict[str, Callable[[], Any]] = {
        name: partial(mask_gradient, run, kept, range(len(pairs)), engine.graph.edge_mask, objective)
        for name, run in (("gradient, any mask", engine), ("gradient, all ones", engine.whole()))
    }
    return steps | {"ablated run": partial(frozen, False), "ablated and clean run": partial(frozen, True)}


def measure(rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config())
    engine = FusedPass(adapt(hf))
    pairs = [replace(pair, wrong=((2,),)) for pair in pairs_of(32, 15, 22)]
    data = PairSet("random", "train", "logit_difference", tuple(pairs), ())
    steps: dict[str, Callable[[], Any]] = {}
    for tokens in PLAIN_TILES:
        steps[f"plain, {tokens} tokens at a time"] = partial(plain_step, hf, batches(pairs, engine, tokens))
    steps |= {name: partial(method.find, Search(engine, data, Patch())) for name, method in METHODS.items()}
    times = best_times(steps | parts_of_eap(engine, data), rounds, torch.device("cpu"))
    plain = min(value for name, value in times.items() if name.startswith("plain"))
    return {
        "in_plain_passes": {name: value / plain for name, value in times.items()},
        "seconds": times,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "tokens": sum(len(pair.clean) for pair in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.rounds)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"GPT-2 small's shape, 32 pairs, {found['tokens']} tokens, float32, one thread")
    for name, value in found["in_plain_passes"].items():
        print(f"  {name:<32} {found['seconds'][name]:8.2f} s   {value:5.2f} plain passes")


if __name__ == "__main__":
    main()
