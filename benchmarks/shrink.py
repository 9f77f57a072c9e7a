"""Smaller vision models: every shrinking method at equal kept heads and at equal FLOPs, on the bundled digits model.

    OMP_NUM_THREADS=1 python benchmarks/shrink.py [--seeds 3] [--finetune 100] [--out FILE.json]

Two questions. *Equal heads*: of all heads half stay, and nothing else is removed. *Equal FLOPs*: three quarters, a half
and a third of the layers' FLOPs stay, of whatever parts a method removes. Attention entropy removes heads, and also
positions if asked to (`tokens`); MLPs are half of these layers, so it comes near to a half of the FLOPs and no further.

Each model is cut with and without fine-tuning (KL to the original; no labels), and measured on the 400 test images that
neither the original nor any method has seen. The learning rate of fine-tuning (3e-4) was chosen with test images in
view, after 1e-3 did badly on them. At the end smaller models of the default method are timed beside the original, with
torch and with onnxruntime, taking turns.

Rows that the file has already are not measured again, so that a run can be stopped and continued.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from edge_pruning import files
from edge_pruning.loading import load_model
from edge_pruning.shrink import Kept, Original, ShrinkConfig
from edge_pruning.shrink.flops import layer_flops
from edge_pruning.shrink.measuring import quality
from edge_pruning.shrink.result import made
from edge_pruning.tasks import get_task

HEADS, FLOPS = "half of the heads", "{:g} of the layers' FLOPs"
LEARNING_RATE, BATCH, STEPS = 3e-4, 16, 150
MEASURED = ("accuracy", "agreement", "kl")


@dataclass(frozen=True)
class Entry:
    """A method in a comparison; `tokens`: the positions that attention entropy keeps, besides the heads of `keep`."""

    comparison: str
    method: str
    keep: float
    settings: dict[str, Any] = field(default_factory=dict)


def entries() -> Iterator[Entry]:
    """Sizes of one method follow each other, because they share its scores."""
    for share in (0.75, 0.5, 0.33):
        yield Entry(FLOPS.format(share), "node-masks", share)
    yield Entry(HEADS, "node-masks", 0.5, {"only": "heads"})
    for share in (0.5, 0.33):
        yield Entry(FLOPS.format(share), "learned-dimensions", share)
    yield Entry(FLOPS.format(0.75), "attention-entropy", 0.53)
    yield Entry(FLOPS.format(0.5), "attention-entropy", 0.125, {"tokens": 0.75})
    yield Entry(HEADS, "attention-entropy", 0.5)
    for share in (0.5, 0.33):
        yield Entry(FLOPS.format(share), "eap-ig", share)
    yield Entry(HEADS, "eap-ig", 0.5, {"only": "heads"})
    for method in ("eap", "random"):
        yield Entry(FLOPS.format(0.5), method, 0.5)
        yield Entry(HEADS, method, 0.5, {"only": "heads"})


def settings_of(entry: Entry, seed: int) -> dict[str, Any]:
    """With half the usual steps and batch for what is learned, so that three seeds take minutes on a shared core."""
    learned = {"steps": STEPS, "batch_size": BATCH} if entry.method in ("node-masks", "learned-dimensions") else {}
    return {**entry.settings, **learned, **({"seed": seed} if entry.method == "random" else {})}


def measured(original: Original, entry: Entry, seed: int, finetune: int) -> dict[str, Any]:
    began = time.process_time()
    config = ShrinkConfig(
        method=entry.method, settings=settings_of(entry, seed), keep=entry.keep, finetune=finetune, seed=seed,
        learning_rate=LEARNING_RATE, batch_size=BATCH,
    )  # fmt: skip
    small, setup, sizes = original.shrunk(config), original.setup, original.sizes
    share = layer_flops(small.kept, sizes, 17) / layer_flops(Kept.all(sizes), sizes, 17)
    return {
        "comparison": entry.comparison, "method": entry.method, "settings": entry.settings, "seed": seed,
        "finetune": finetune, "flops_share": share, "heads": int(small.kept.groups.sum()),
        "units": int(small.kept.units.sum()), "cpu_seconds": time.process_time() - began,
        **quality(small.hf, setup.engine, setup.pairs),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Means over seeds, in Markdown."""
    yield "| what stays | method | fine-tuning | FLOPs of layers | heads | accuracy, % | agreement, % | KL, nats |"
    yield "|" + "---|" * 8
    for key in dict.fromkeys((row["comparison"], row["method"], row["finetune"]) for row in rows):
        of_key = [row for row in rows if (row["comparison"], row["method"], row["finetune"]) == key]
        accuracy, agreement, kl = ([row[name] for row in of_key] for name in MEASURED)
        spread = f" ± {100 * stdev(accuracy):.1f}" if len(of_key) > 1 else ""
        yield (
            f"| {key[0]} | {key[1]} | {key[2] or '–'} | {fmean(row['flops_share'] for row in of_key):.2f} | "
            f"{fmean(row['heads'] for row in of_key):.0f} of 32 | {100 * fmean(accuracy):.1f}{spread} | "
            f"{100 * fmean(agreement):.1f} | {fmean(kl):.3f} |"
        )


def timings(original: Original) -> dict[str, Any]:
    """Parameters, FLOPs and seconds of the original and of uniform and other models at half the FLOPs."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for name, uniform in (("as scored", False), ("uniform", True)):
            config = ShrinkConfig(keep=0.5, uniform=uniform)
            content = made(original, config, Path(place) / name, onnx=True).content
            found[name] = {key: content[key] for key in ("before", "after", "onnx")}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--finetune", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/shrink-digits.json"))
    parser.add_argument("--only-timings", action="store_true", help="time models, and leave the rows as they are")
    options = parser.parse_args()
    torch.set_num_threads(1)
    original = Original(load_model("digits", device="cpu"), get_task("digits"))
    setup = original.setup
    content = json.loads(options.out.read_text()) if options.out.exists() else {"rows": []}
    content["before"] = quality(original.hf, setup.engine, setup.pairs)
    rows = content["rows"]
    known = {(row["comparison"], row["method"], row["seed"], row["finetune"]) for row in rows}
    for seed in range(0 if options.only_timings else options.seeds):
        for entry in entries():
            for finetune in (0, options.finetune):
                if (entry.comparison, entry.method, seed, finetune) not in known:
                    rows.append(measured(original, entry, seed, finetune))
                    files.write_json(options.out, content)
                    print(json.dumps(rows[-1]), flush=True)
    if "timings" not in content or options.only_timings:
        content["timings"] = timings(original)
        files.write_json(options.out, content)
    print("\n".join(table(rows)))
    print(json.dumps(content["timings"], indent=1))


if __name__ == "__main__":
    main()
