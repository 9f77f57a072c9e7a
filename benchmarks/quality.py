"""How good circuits are for their size: KL and accuracy against edges, several seeds, both mask parameterisations.

    python benchmarks/quality.py MODEL TASK --sizes 20,50,100 [--seeds 3] [--methods default,paper-short] [--out FILE]

Everything is measured on held-out test pairs with patch ablation; `train_` values are on the pairs that the circuit was
found with. A method that ranks all edges in one run is run once per seed; one that aims at a size is run once per seed
and size. Random circuits are the null.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from edge_pruning import files, metrics
from edge_pruning.ablation import Patch
from edge_pruning.ablation.frozen_cache import FrozenCache
from edge_pruning.circuit import Circuit
from edge_pruning.discovery import Search, get_preset
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.loading.loading import load_model
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.pair import Pair
from edge_pruning.tasks import PairSet, get_task

MEANS = ("kl", "accuracy", "train_kl", "edges_without_dangling", "seconds")


class Judge:
    """Mean KL (nats) and accuracy of a mask on some pairs."""

    def __init__(self, engine: MaskedPass, pairs: tuple[Pair, ...], metric: str) -> None:
        self.engine, self.metric, self.n = engine, metric, len(pairs)
        cache = FrozenCache(engine, pairs, Patch(), 2 << 30)
        self.parts = [cache.batch(ids) for ids in engine.tiles(pairs)]

    @torch.no_grad()
    def __call__(self, mask: torch.Tensor) -> dict[str, float]:
        kl = right = 0.0
        for batch, frozen in self.parts:
            logits = self.engine.logits(mask.float().to(batch.clean.device), batch, frozen)
            kl += float(metrics.kl_divergence(frozen.logits, logits, batch).sum())
            right += float(metrics.accuracy(logits, batch, self.metric).sum())
        return {"kl": kl / self.n, "accuracy": right / self.n}


def find(
    engine: MaskedPass, preset: str, pairs: PairSet, sizes: list[int], seed: int
) -> dict[int, EdgeScores]:
    """Scores to cut each size from."""
    settings = {**vars(get_preset(preset)), "seed": seed}
    method = type(get_preset(preset))(**settings)
    if method.one_run_ranks_all:
        return dict.fromkeys(sizes, method.find(Search(engine, pairs, Patch(), sizes)))
    return {size: method.find(Search(engine, pairs, Patch(), [size])) for size in sizes}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    model = load_model(options.model, device=options.device)
    engine, task = model.engine(), get_task(options.task)
    train, test = (task.pairs(model.tokenizer, split) for split in ("train", "test"))
    judge = Judge(engine, test.pairs, test.metric)
    judges = {"": judge, "train_": Judge(engine, train.pairs, test.metric)}
    rows = []
    for preset, seed in itertools.product(options.methods, range(options.seeds)):
        start = time.perf_counter()
        scores = find(engine, preset, train, options.sizes, seed)
        seconds = time.perf_counter() - start
        for size in options.sizes:
            circuit = Circuit.from_scores(scores[size], edges=size)
            row: dict[str, Any] = {"method": preset, "seed": seed, **circuit.counts, "seconds": seconds}
            for prefix, by in judges.items():
                row |= {prefix + name: value for name, value in by(circuit.mask).items()}
            rows.append((row, circuit))
        print(f"{preset} seed {seed}: {seconds:.0f} s", file=sys.stderr)
    return {
        "model": Path(options.model).name, "task": options.task, "convention": engine.graph.convention,
        "edges_total": engine.graph.n_edges, "pairs": {"train": len(train.pairs), "test": len(test.pairs)},
        "empty": judge(engine.graph.edge_mask & False), "whole_model": judge(engine.graph.edge_mask),
        "summary": summary(rows, options), "random": [random_circuits(engine, judge, k) for k in options.sizes],
        "rows": [row for row, _ in rows],
    }


def summary(rows: list[tuple[dict[str, Any], Circuit]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Means over seeds, and how far the seeds agree (mean pairwise edge IoU)."""
    found = []
    for preset, size in itertools.product(options.methods, options.sizes):
        own = [(row, circuit) for row, circuit in rows if (row["method"], row["edges"]) == (preset, size)]
        pairs = list(itertools.combinations([circuit for _, circuit in own], 2))
        iou = sum(a.edge_iou(b) for a, b in pairs) / len(pairs) if pairs else None
        means = {name: sum(row[name] for row, _ in own) / len(own) for name in MEANS}
        found.append({"method": preset, "edges": size, **means, "edge_iou": iou})
    return found


def random_circuits(engine: MaskedPass, judge: Judge, edges: int, n: int = 10) -> dict[str, float]:
    """Mean of `n` circuits of random edges: the null."""
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(n):
        scores = EdgeScores(engine.graph, torch.rand(engine.graph.edge_mask.shape, generator=generator))
        found.append(judge(scores.top(edges)))
    return {"edges": edges, **{name: sum(one[name] for one in found) / n for name in found[0]}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", type=lambda words: [int(word) for word in words.split(",")], required=True)
    parser.add_argument("--methods", type=lambda words: words.split(","), default=["default"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    about = {"command": "python benchmarks/quality.py " + " ".join(sys.argv[1:]), "date": time.strftime("%Y-%m-%d")}
    found = {**about, "threads": options.threads, **measure(options)}
    print(f"{'method':<12} {'edges':>6} {'no dangling':>11} {'KL':>7} {'accuracy':>9} {'KL on train':>11} {'IoU':>5}")
    for row in found["summary"]:
        iou = "" if row["edge_iou"] is None else f"{row['edge_iou']:.2f}"
        print(
            f"{row['method']:<12} {row['edges']:>6} {row['edges_without_dangling']:>11.0f} {row['kl']:>7.3f} "
            f"{row['accuracy']:>9.3f} {row['train_kl']:>11.3f} {iou:>5}"
        )
    if options.out:
        files.write_text(options.out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
