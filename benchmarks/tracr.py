"""Are the circuits of compiled programs recovered exactly? Every bundled program, ten seeds, one preset for all.

    python benchmarks/tracr.py                          # all programs; writes benchmarks/results/tracr.json as it goes
    python benchmarks/tracr.py --programs reverse,xproportion --seeds 3 --method eap-ig --set metric=objective

No size is given: `iterative-pruning` finds one, other methods get the smallest that keeps every output. Nor does any
method know the truth. Seconds are CPU time of the search alone, on one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from edge_pruning import files
from edge_pruning.ablation import Zero
from edge_pruning.circuit import Circuit
from edge_pruning.discovery import METHODS, Search, get_method
from edge_pruning.graph import Graph
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model
from edge_pruning.models.tracr import bundled_programs
from edge_pruning.tasks import get_task
from edge_pruning.truth.outputs import Outputs
from edge_pruning.truth.recovery import GroundTruth
from edge_pruning.truth.truths import truth_for

RESULTS = Path(__file__).parent / "results" / "tracr.json"


def recover(model: Model, method: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One search, and how its circuit compares with the truth."""
    graph = Graph(model.adapter.shape, "split")
    engine, data = model.engine(graph), get_task(model.name).pairs(model.tokenizer, "train")
    start = time.process_time()
    scores = get_method(method, **settings).find(Search(engine, data, Zero()))
    size = scores.natural_size or Outputs(engine, data, Zero()).smallest_size(scores) or scores.n_candidates
    seconds = time.process_time() - start
    truth = truth_for(model, "zero", graph)
    assert truth is not None, f"no truth of {model.name}"
    found = GroundTruth.of(Circuit(graph, scores.top(size), scores), truth, data.hash).to_json()
    kept = ("exact", "true_edges", "missed", "extra", "auc", "other_minimal_circuits")
    about = {"edges": size, "seconds": seconds, "nodes_exact": found["nodes"]["exact"]}
    return {name: found[name] for name in kept} | about


def summary(model: Model, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of the table, with how often each edge was wrong."""
    shape = model.adapter.shape
    wrong = {
        kind: dict(Counter(edge for run in runs for edge in run[kind]).most_common()) for kind in ("missed", "extra")
    }
    return {
        "program": model.name.removeprefix("tracr:"),
        "layers": shape.layers,
        "heads": shape.heads,
        "edges": Graph(shape, "split").n_edges,
        "true_edges": runs[0]["true_edges"],
        "other_minimal_circuits": runs[0]["other_minimal_circuits"],
        "seeds": len(runs),
        "exact": sum(run["exact"] for run in runs),
        "nodes_exact": sum(run["nodes_exact"] for run in runs),
        "found": sorted(run["edges"] for run in runs),
        "auc": sum(run["auc"] for run in runs) / len(runs),
        "seconds": sum(run["seconds"] for run in runs) / len(runs),
        **wrong,
    }


def line(row: dict[str, Any]) -> str:
    found = f"{row['found'][0]} to {row['found'][-1]}" if row["found"][0] < row["found"][-1] else str(row["found"][0])
    cells = [row["program"], row["layers"], row["edges"], row["true_edges"], f"{row['exact']} of {row['seeds']}", found]
    return "| " + " | ".join(map(str, [*cells, f"{row['auc']:.3f}", f"{row['seconds']:.1f}"])) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", default=",".join(bundled_programs()))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--method", default="iterative-pruning")
    parser.add_argument("--set", nargs="*", default=[], help="settings of the method, NAME=VALUE")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = {name: _value(value) for name, _, value in (word.partition("=") for word in given.set)}
    stored = files.read_json(given.out) if given.out.exists() else {}
    print("| program | layers | edges | true edges | exact | edges found | AUC | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for program in given.programs.split(","):
        model = load_model(f"tracr:{program}", device="cpu")
        seeds = range(given.first_seed, given.first_seed + given.seeds)
        runs = [recover(model, given.method, seeded(given.method, seed) | settings) for seed in seeds]
        row = {"first_seed": given.first_seed, **summary(model, runs)}
        print(line(row), flush=True)
        words = " ".join([given.method, *given.set])
        stored.setdefault(words, {})[program] = row
        files.write_json(given.out, stored)


def seeded(method: str, seed: int) -> dict[str, Any]:
    """The seed as a setting, of a method that has one."""
    return {"seed": seed} if any(field.name == "seed" for field in fields(METHODS[method])) else {}


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        return word


if __name__ == "__main__":
    main()
