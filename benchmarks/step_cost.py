"""What one training step costs at GPT-2 small's shape: against the plain model, and against the literal formula.

    python benchmarks/step_cost.py [--dtype bfloat16] [--threads 1] [--json]

In one run, on the same tokens (32 pairs of 15 to 22 tokens, one answer at the end of each, random weights), it times

    plain     forward and backward of the Hugging Face model, no gradients of weights, at its best micro-batch
    ours      one training step: the KL and its gradient in every edge's mask
    literal   one step of the literal formula (tests/literal.py) at equal length: 4 pairs of 20 tokens, against ours;
              every read a weighted sum of its own, and (batched) all reads of a sublayer as one product

and reads off the bytes kept for the backward pass per token. Times are CPU seconds of the process on a CPU and wall
seconds on a GPU; the best of several rounds, in which the candidates take turns, because machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

sys.path.insert(0, str(Path(__file__).parents[1]))

from edge_pruning import metrics
from edge_pruning.ablation import Patch
from edge_pruning.batch import Batch
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import adapt
from edge_pruning.pair import Pair
from tests.literal import Sum, literal_batch_logits, one_by_one, together

PLAIN_TILES = (100, 200, 400, 1000)  # tokens per micro-batch; the fastest counts
EQUAL_LENGTHS = (20, 64)


def pairs_of(n: int, shortest: int, longest: int, seed: int = 0) -> list[Pair]:
    rng = random.Random(seed)
    lengths = [rng.randint(shortest, longest) for _ in range(n)]
    prompts = [[tuple(rng.choices(range(50_000), k=k)) for _ in range(2)] for k in lengths]
    return [Pair(clean, corrupted, (len(clean) - 1,), ((1,),), ((),)) for clean, corrupted in prompts]


def batches(pairs: list[Pair], engine: MaskedPass, tokens: int | None = None) -> list[Batch]:
    return [engine.batch([pairs[i] for i in ids]) for ids in engine.tiles(pairs, tokens)]


def plain_step(hf: Any, parts: list[Batch]) -> None:
    """Forward and backward through every module, as a method without masks would need it at least."""
    for batch in parts:
        embedded = hf.transformer.wte(batch.clean).detach().requires_grad_()
        final = hf.transformer(inputs_embeds=embedded, use_cache=False).last_hidden_state
        hf.lm_head(final.flatten(0, 1)[batch.positions]).float().log_softmax(-1)[:, 0].sum().backward()


class OurStep:
    """One training step with its frozen values at hand, as in `discovery.training`."""

    def __init__(self, engine: MaskedPass, pairs: list[Pair], mask: Tensor) -> None:
        self.engine, self.mask = engine, mask
        parts = batches(pairs, engine)
        self.parts = [(batch, Patch().freeze(engine, batch)) for batch in parts]

    def __call__(self) -> Tensor:
        leaf = self.mask.clone().requires_grad_()
        for batch, frozen in self.parts:
            metrics.kl_divergence(frozen.logits, self.engine.logits(leaf, batch, frozen), batch).sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    def bytes_per_token(self) -> float:
        """Everything allocated between the start of a forward pass and its end, and the gradient buffer, per token."""
        batch, frozen = self.parts[0]
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            known = {id(value) for value in vars(frozen).values()} | {p.data_ptr() for p in self.weights()}
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known | self._frozen_storages(frozen):
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        leaf = self.mask.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            stream = self.engine.run(leaf, batch, frozen)
        differences = len(self.engine.graph.writers) * self.engine.adapter.d_model * self.engine.adapter.dtype.itemsize
        stream.close()
        return sum(kept.values()) / (batch.size * batch.width) + 2 * differences  # differences and their gradients

    def weights(self) -> list[Tensor]:
        return list(self.engine.adapter.hf.parameters())

    def _frozen_storages(self, frozen: Any) -> set[int]:
        return {value.untyped_storage().data_ptr() for value in vars(frozen).values()}


def literal_step(engine: MaskedPass, batch: Batch, mask: Tensor, clean_logits: Tensor, sum_up: Sum) -> Tensor:
    leaf = mask.clone().requires_grad_()
    logits = literal_batch_logits(engine.adapter, engine.graph, leaf, batch, sum_up)
    metrics.kl_divergence(clean_logits, logits, batch).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def at_equal_length(engine: FusedPass, mask: torch.Tensor, length: int, device: torch.device) -> dict[str, float]:
    """Seconds of a step of ours and of the literal formula on 4 pairs of one length."""
    pairs = pairs_of(4, length, length)
    batch = engine.batch(pairs)
    logits = Patch().freeze(engine, batch).logits
    steps: dict[str, Callable[[], Any]] = {
        "ours": OurStep(engine, pairs, mask),
        "literal": lambda: literal_step(engine, batch, mask, logits, one_by_one),
        "literal, batched": lambda: literal_step(engine, batch, mask, logits, together),
    }
    return best_times(steps, 2, device)


def best_times(steps: dict[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, float]:
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for name, step in steps.items():
            best[name] = min(best[name], seconds(step, device))
    return best


def seconds(step: Callable[[], Any], device: torch.device) -> float:
    clock = time.process_time
    if device.type == "cuda":
        torch.cuda.synchronize()
        clock = time.perf_counter
    start = clock()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def measure(dtype: torch.dtype, device: torch.device, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config()).to(device, dtype)
    adapter = adapt(hf)
    keep, recompute = FusedPass(adapter), FusedPass(adapter, keep_reads=False)
    mask = torch.rand(keep.graph.edge_mask.shape).to(device) * keep.graph.edge_mask.to(device)
    pairs = pairs_of(32, 15, 22)
    ours, again = OurStep(keep, pairs, mask), OurStep(recompute, pairs, mask)
    steps: dict[str, Callable[[], Any]] = {"ours": ours, "ours, reads recomputed": again}
    for tokens in PLAIN_TILES:
        parts = batches(pairs, keep, tokens)
        steps[f"plain, {tokens} tokens at a time"] = lambda parts=parts: plain_step(hf, parts)  # type: ignore[misc]
    times = best_times(steps, rounds, device)
    by_length = {length: at_equal_length(keep, mask, length, device) for length in EQUAL_LENGTHS}
    literal = by_length[EQUAL_LENGTHS[-1]]
    plain = min(value for name, value in times.items() if name.startswith("plain"))
    return {
        "ratio_to_plain": times["ours"] / plain,
        "ratio_to_plain_recomputed": times["ours, reads recomputed"] / plain,
        "ratio_to_literal": literal["literal"] / literal["ours"],
        "ratio_to_batched_literal": literal["literal, batched"] / literal["ours"],
        "bytes_per_token": ours.bytes_per_token(),
        "bytes_per_token_recomputed": again.bytes_per_token(),
        "seconds": times,
        "seconds_equal_length": by_length,
        "dtype": str(dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()} CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "tokens": sum(len(pair.clean) for pair in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measure(getattr(torch, options.dtype), torch.device(options.device), options.rounds)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"GPT-2 small's shape, 32 pairs, {found['tokens']} tokens, {found['dtype']}, {found['threads']} threads")
    for name, value in found["seconds"].items():
        print(f"  {name:<32} {value:8.2f} s")
    for length, times in found["seconds_equal_length"].items():
        for name, value in times.items():
            print(f"  {f'{name}, 4 x {length} tokens':<32} {value:8.2f} s   {value / times['ours']:5.1f} x ours")
    print(f"ours / plain: {found['ratio_to_plain']:.2f} (reads recomputed: {found['ratio_to_plain_recomputed']:.2f})")
    kept, less = (found[key] / 2**20 for key in ("bytes_per_token", "bytes_per_token_recomputed"))
    print(f"kept for the backward pass: {kept:.2f} MiB per token (reads recomputed: {less:.2f})")


if __name__ == "__main__":
    main()
