"""Edge Pruning beside its rivals: one graph, one masked pass, one ablation, the same held-out pairs.

    python benchmarks/rivals.py MODEL TASK [--seeds 3] [--only eap+acdc] [--out STEM]        all methods
    python benchmarks/rivals.py MODEL TASK --hap [--seeds 3] [--out STEM]                    candidate sets, warm starts

Seed s draws the training pairs (the task's seed s) and is the method's own seed, if it has one; test pairs are the
same for all. Every ranking is cut at several sizes; dangling edges are removed before a circuit is run. Hard concrete
is trained for one size, the middle one of --sizes, and its ranking is cut at all.

Each method and seed is a cell, in a file of its own in the folder STEM.cells. A search that is killed goes on from its
last checkpoint, and a cell whose search is done only has its circuits run. STEM.json and STEM.svg (KL against edges, a
line per method) show all cells that are there, and are written again after each one: --only adds cells and drops none.
Seconds are CPU seconds of the search alone (of the last part, if it was continued); memory is its peak above what the
process had before.

With --passes, methods that learn get as many masked passes of a pair as it says, forward and backward, instead of the
number that they were published with: their steps are cut down. `edges needed` is read off between two sizes on
logarithmic axes, at the first one that is good enough; means of seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Self

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from edge_pruning import files
from edge_pruning.ablation import Patch
from edge_pruning.discovery import Method, Observer, Search, get_method, get_preset
from edge_pruning.drawing.panels import Line, Panel, draw_panels
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.evaluation import evaluate_curve
from edge_pruning.files import json_values
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.search_dtype import model_to_search
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.runs.checkpoints import Recorder
from edge_pruning.setup import Setup
from edge_pruning.tasks import PairSet, get_task

Row = dict[str, Any]
SHARES = (0.25, 0.1, 0.05, 0.02)  # of the empty circuit's KL: the levels at which edges are counted
OURS, HAP = "edge pruning", "hap"
RIVALS: dict[str, Callable[[int], Method]] = {
    OURS: lambda seed: dataclasses.replace(get_preset("default"), seed=seed),  # type: ignore[call-arg]
    "hard concrete": lambda seed: dataclasses.replace(get_preset("paper-short"), seed=seed),  # type: ignore[call-arg]
    HAP: lambda seed: dataclasses.replace(get_preset("hap"), seed=seed),  # type: ignore[call-arg]
    "acdc": lambda seed: get_method("acdc", seed=seed),
    "eap": lambda seed: get_method("eap"),
    "eap, answer loss": lambda seed: get_method("eap", metric="answer_loss"),
    "eap-ig": lambda seed: get_method("eap-ig"),
    "eap-ig, kl": lambda seed: get_method("eap-ig", metric="kl"),
    "eap-ig on activations, kl": lambda seed: get_method("eap-ig", metric="kl", path="activations"),
    "mean gradient": lambda seed: get_method("mean-gradient"),
    "mattr, uniform": lambda seed: dataclasses.replace(get_preset("mattr"), seed=seed),  # type: ignore[call-arg]
    "mattr, log-uniform": lambda seed: dataclasses.replace(get_preset("mattr-log"), seed=seed),  # type: ignore[call-arg]
    "ugs": lambda seed: get_method("ugs", seed=seed),
    "node": lambda seed: get_method("node-attribution"),
    "magnitude": lambda seed: get_method("magnitude"),
    "random": lambda seed: get_method("random", seed=seed),
}
BASELINES = ("node", "magnitude", "random")
EARLIER = tuple(name for name in RIVALS if name.startswith(("acdc", "eap", "mean", "mattr", "ugs")))


def hap_variants() -> dict[str, Callable[[int], Method]]:
    """Edge Pruning and HAP with candidate sets and warm starts, at several numbers of steps."""

    def hap(share: float, steps: int, **settings: Any) -> Callable[[int], Method]:
        return lambda seed: get_method("hap", seed=seed, candidates=share, steps=steps, **settings)

    found = {f"all edges, {steps} steps": hap(1.0, steps) for steps in (300, 150, 75)}
    found |= {f"all edges, {steps} steps, warm": hap(1.0, steps, warm_start=True) for steps in (150, 75)}
    found |= {f"{share:.0%}, 300 steps": hap(share, 300) for share in (0.05, 0.1, 0.2, 0.3, 0.5)}
    for share, steps in itertools.product((0.1, 0.2, 0.3), (150, 75)):
        found[f"{share:.0%}, {steps} steps, warm"] = hap(share, steps, warm_start=True)
    by_ig = {"attribution": "eap-ig", "metric": "kl", "warm_start": True}
    return found | {"30% by eap-ig, 150 steps, warm": hap(0.3, 150, **by_ig)}


# --- measuring --------------------------------------------------------------------------------------------------------


class PeakMemory:
    """The most resident memory inside the block, above what there was at its start, in MiB; looked at every 5 ms."""

    def __enter__(self) -> Self:
        self.start = self.peak = self._now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def mib(self) -> float:
        return (self.peak - self.start) / 2**20

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.peak = max(self.peak, self._now())

    @staticmethod
    def _now() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all cells have in common. `folder`: where their files are, or None to keep nothing."""

    engine: MaskedPass  # in which circuits are run
    searching: MaskedPass  # the same model in the dtype of the search
    test: PairSet
    sizes: Sequence[int]
    folder: Path | None
    target: int  # edges, for methods that are trained for one size

    def cell(self, name: str, seed: int, method: Method, train: PairSet) -> Row:
        """Run a cell, or read it if it is done."""
        file = self.folder and self.folder / f"{re.sub('[^a-z0-9]+', '-', name.lower())}-{seed}"
        done = file and file.with_suffix(".json")
        asked = {"dtype": str(self.searching.dtype).removeprefix("torch."), "settings": json_values(vars(method))}
        if done and done.exists():
            row: Row = json.loads(done.read_text())
            if {"dtype": row.get("dtype", "float32"), "settings": row["settings"]} != asked:
                raise ValueError(f"{done} has other settings than {asked}; choose another --out")
            return row
        scores, cost = self._scores(method, train, file)
        row = json_values({
            "method": name, "seed": seed, "train_pairs": len(train.pairs), "test_hash": self.test.hash,
            **asked, **cost, "curve": self._curve(scores),
        })
        if done:
            files.write_text(done, json.dumps(row, indent=1) + "\n")
        return row

    def _scores(self, method: Method, train: PairSet, file: Path | None) -> tuple[EdgeScores, Row]:
        """Search, or read the scores of a search that is done: only its circuits are to be run."""
        kept = file and file.with_suffix(".safetensors")
        if kept and kept.exists():
            tensors = files.read_tensors(kept)
            cost = {"seconds": float(tensors["seconds"]), "memory_mib": float(tensors["memory_mib"])}
            return EdgeScores(self.engine.graph, tensors["scores"]), cost
        whose = f"{train.hash} {vars(method)} {self.searching.dtype}"
        observer = Recorder(file.parent, f"-{file.name}", whose) if file else Observer()
        sizes = () if method.one_run_ranks_all else (self.target,)
        with PeakMemory() as memory:
            start = time.process_time()
            scores = method.find(Search(self.searching, train, Patch(), sizes=sizes, observer=observer))
            cost = {"seconds": time.process_time() - start, "memory_mib": memory.mib}
        if kept:
            numbers = {name: torch.tensor(value, dtype=torch.float64) for name, value in cost.items()}
            files.write_tensors(kept, {"scores": scores.values, **numbers}, {})
        return scores, cost

    def _curve(self, scores: EdgeScores) -> list[Row]:
        sizes = [k for k in self.sizes if k <= scores.n_candidates]
        curve = evaluate_curve(scores, Setup(self.engine, self.test, Patch()).judging, sizes=sizes)
        names = ("edges", "edges_without_dangling", "kl", "faithfulness", "accuracy", "exact_match")
        return [{name: row[name] for name in names} for row in curve.rows()]

    def cells(self) -> list[Row]:
        """Every cell that is done. Raises ValueError if one has other test pairs than this run."""
        found = sorted(self.folder.glob("*.json")) if self.folder else []
        rows: list[Row] = [json.loads(file.read_text()) for file in found]
        other = [f"{row['method']} (seed {row['seed']})" for row in rows if row["test_hash"] != self.test.hash]
        if other:
            raise ValueError(
                f"{self.folder} has cells with other test pairs than this run: {', '.join(other)}; choose another --out"
            )
        return rows


def with_passes(method: Method, passes: int | None) -> Method:
    """The method with as many steps as `passes` pairs, forward and backward, allow; itself if it does not learn."""
    settings = {field.name for field in dataclasses.fields(method)}
    if passes is None or not {"steps", "batch_size"} <= settings:
        return method
    each = method.batch_size * getattr(method, "masks_per_step", 1)  # type: ignore[attr-defined]
    share = max(1, round(passes / each)) / method.steps  # type: ignore[attr-defined]
    scaled = {name for name in ("steps", "target_steps", "warmup_steps") if name in settings}
    return dataclasses.replace(method, **{name: max(1, round(share * getattr(method, name))) for name in scaled})


def sizes_of(smallest: int, largest: int, per_doubling: int, shown: Sequence[int]) -> list[int]:
    """So many sizes per doubling, and those of the table."""
    steps = int(per_doubling * math.log2(largest / smallest)) + 1
    return sorted({round(smallest * 2 ** (i / per_doubling)) for i in range(steps)} | set(shown))


def edges_at(curve: Sequence[Row], kl: float, count: str = "edges") -> float:
    """How many edges it takes to come down to a KL, between two sizes on logarithmic axes; NaN if none does."""
    before = None
    for row in curve:
        if row["kl"] <= kl:
            if before is None or row["kl"] <= 0:
                return float(row[count])
            part = math.log(before["kl"] / kl) / math.log(before["kl"] / row["kl"])
            return float(max(1, before[count]) ** (1 - part) * max(1, row[count]) ** part)
        before = row
    return math.nan


def kl_at(curve: Sequence[Row], edges: int) -> float:
    """NaN where there are fewer candidates."""
    return next((row["kl"] for row in curve if row["edges"] == edges), math.nan)


# --- summing up -------------------------------------------------------------------------------------------------------


def summary(found: Row, names: Sequence[str]) -> list[Row]:
    """Per method, means over the seeds."""
    lines = []
    for name in names:
        runs = [row for row in found["runs"] if row["method"] == name]
        if not runs:
            continue
        needed: dict[str, Any] = {}
        for share in SHARES:
            each = [edges_at(row["curve"], share * found["empty_kl"]) for row in runs]
            known = len(each) > 1 and all(map(math.isfinite, each))
            needed[f"{share:g}"] = {"mean": fmean(each), "sd": stdev(each) if known else math.nan}
        lines.append({
            "method": name, "seeds": len(runs), "edges_needed": needed,
            **{key: fmean(row[key] for row in runs) for key in ("seconds", "memory_mib")},
            "kl": {str(k): fmean(kl_at(row["curve"], k) for row in runs) for k in found["sizes_shown"]},
        })
    return lines


def ratios(lines: Sequence[Row]) -> Row:
    """Edges that Edge Pruning needs, over what the best of the earlier methods needs, at each level."""
    by_name, found = {line["method"]: line for line in lines}, {}
    for share in map("{:g}".format, SHARES):
        others = {name: by_name[name]["edges_needed"][share]["mean"] for name in EARLIER if name in by_name}
        others = {name: edges for name, edges in others.items() if math.isfinite(edges)}
        if OURS in by_name and others:
            best = min(others, key=others.__getitem__)
            ours = by_name[OURS]["edges_needed"][share]["mean"]
            found[share] = {"ratio": ours / others[best], "best_of_the_others": best}
    return found


def table(found: Row) -> str:
    """As markdown."""
    sizes = found["sizes_shown"]
    head = ["method", *(f"edges at {share:.0%}" for share in SHARES), *(f"KL at {k}" for k in sizes), "CPU s", "MiB"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for line in found["summary"]:
        needed = [f"{cell['mean']:.0f} ± {cell['sd']:.0f}" for cell in line["edges_needed"].values()]
        needed = ["–" if "nan ±" in cell else cell for cell in needed]
        kls = [f"{line['kl'][str(k)]:.3f}" for k in sizes]
        cells = [line["method"], *needed, *kls, f"{line['seconds']:.1f}", f"{line['memory_mib']:.0f}"]
        lines.append("| " + " | ".join(cells).replace("nan", "–") + " |")
    return "\n".join(lines)


def picture(found: Row, names: Sequence[str]) -> str:
    """KL and faithfulness against edges, a line per method: the geometric mean (mean) of the seeds at each size."""
    hues = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a5195", "#1f2933")
    looks: dict[str, Mapping[str, Any]] = {}
    for i, name in enumerate(name for name in names if name not in BASELINES):
        ours = {"linewidth": 2.6} if name == OURS else {"linestyle": ("-", "--")[i // 4 % 2]}
        looks[name] = {"color": hues[i % len(hues)], **ours}
    looks |= {name: {"color": "#9aa5b1", "linestyle": style} for name, style in zip(BASELINES, ("-.", ":", "--"))}  # noqa: B905
    lines: dict[str, list[Line]] = {"kl": [], "faithfulness": []}
    for name in names:
        curves = [row["curve"] for row in found["runs"] if row["method"] == name]
        for field, drawn in lines.items():
            points = []
            for rows in zip(*curves, strict=False):
                each = [row[field] for row in rows]
                if field == "kl" and min(each) > 1e-4 * found["empty_kl"]:
                    points.append((float(rows[0]["edges"]), math.exp(fmean(map(math.log, each)))))
                elif field == "faithfulness":
                    points.append((float(rows[0]["edges"]), fmean(each)))
            if points:
                drawn.append(Line(points, name, looks[name]))
    panels = [
        Panel("KL to the model", "edges", "nats, test pairs", lines["kl"], log_x=True, log_y=True),
        Panel("Faithfulness", "edges", "1: the model, 0: empty", lines["faithfulness"], log_x=True),
    ]
    return draw_panels(panels, f"{found['model']}, {found['task']}: {found['edges_total']:,} edges")


# --- the whole --------------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace, methods: Mapping[str, Callable[[int], Method]]) -> Row:
    model = load_model(options.model, device="cpu")
    searching = model_to_search(model, options.dtype).engine()
    engine, test = model.engine(), get_task(options.task, test=options.test).pairs(model.tokenizer, "test")
    scores = get_method("random").find(Search(engine, test, Patch()))
    empty = evaluate_curve(scores, Setup(engine, test, Patch()).judging, sizes=[1]).runs[0]
    found: Row = {
        "command": "python benchmarks/rivals.py " + " ".join(Path(word).name for word in sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, 1 thread of {os.cpu_count()} shared cores",
        "torch": torch.__version__, "dtype": options.dtype,
        "model": Path(options.model).name, "task": options.task, "ablation": "patch",
        "convention": engine.graph.convention, "edges_total": engine.graph.n_edges, "test_pairs": len(test.pairs),
        "test_hash": test.hash, "empty_kl": float(empty.kl.mean()), "sizes_shown": options.sizes, "runs": [],
    }
    largest = options.largest or engine.graph.n_edges // 2
    sizes = sizes_of(options.smallest, largest, options.per_doubling, options.sizes)
    folder = options.out and options.out.with_suffix(".cells")
    target = sorted(options.sizes)[len(options.sizes) // 2]
    bench = Bench(engine, searching, test, options.sizes if options.hap else sizes, folder, target)
    found["runs"] = bench.cells()
    for seed, name in itertools.product(range(options.seeds), methods):
        train = get_task(options.task, seed=seed, train=options.train).pairs(model.tokenizer, "train")
        row = bench.cell(name, seed, with_passes(methods[name](seed), options.passes), train)
        print(f"{name}, seed {seed}: {row['seconds']:.0f} s", file=sys.stderr, flush=True)
        found["runs"] = bench.cells() if folder else [*found["runs"], row]
        save(found, options.out)
    return save(found, options.out)


def save(found: Row, out: Path | None) -> Row:
    known = [*RIVALS, *hap_variants()]
    names = sorted({row["method"] for row in found["runs"]}, key=known.index)
    found["summary"] = summary(found, names)
    found["edge_pruning_over_the_best_of_the_others"] = ratios(found["summary"])
    if out:
        files.write_text(out.with_suffix(".json"), json.dumps(json_values(found), indent=1) + "\n")
        if set(names) <= RIVALS.keys():
            files.write_text(out.with_suffix(".svg"), picture(found, names))
    return found


def numbers(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=200, help="training pairs")
    parser.add_argument("--test", type=int, default=300, help="test pairs")
    parser.add_argument("--passes", type=int, help="of a pair, forward and backward, for each method that learns")
    parser.add_argument("--dtype", default="float32", help="of the search; circuits are run in float32")
    parser.add_argument("--smallest", type=int, default=8, help="edges")
    parser.add_argument("--largest", type=int, help="edges; half of all by default")
    parser.add_argument("--per-doubling", type=int, default=2, help="sizes")
    parser.add_argument("--sizes", type=numbers, default=[50, 100, 200], help="of the table")
    parser.add_argument("--only", type=lambda words: words.split("+"), help="names of methods, joined by +")
    parser.add_argument("--hap", action="store_true", help="candidate sets and warm starts instead of all methods")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    methods = hap_variants() if options.hap else RIVALS
    found = measure(options, {name: methods[name] for name in options.only or methods})
    print(f"{found['model']}, {found['task']}, KL of the empty circuit {found['empty_kl']:.2f} nats\n{table(found)}")
    for share, one in found["edge_pruning_over_the_best_of_the_others"].items():
        print(f"edges at {float(share):.0%}: {one['ratio']:.2f} of what {one['best_of_the_others']} needs")


if __name__ == "__main__":
    main()
