"""Whether a model can do the tasks: a circuit for what a model cannot do says nothing.

    python benchmarks/task_accuracy.py MODEL [TASK ...] [--split test] [--pairs 32]

Every task (by default all built-in ones) in each of its styles, on held-out pairs. `accuracy`: the right answers beat
the wrong ones by the task's metric, which is what evaluation reports. `top 1`: the most likely token is right, which
is harder. `KL`: from the model on the clean prompts to the model on the corrupted ones, in nats. Prints a table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from edge_pruning import metrics
from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model
from edge_pruning.masked_pass.micro_batches import over_tiles
from edge_pruning.tasks import TASKS, PairSet, get_task, task_names


@torch.no_grad()
def judged(model: Model, data: PairSet) -> dict[str, float]:
    """Means over the pairs."""
    engine, sums = model.engine(), dict.fromkeys(("accuracy", "top 1", "KL"), 0.0)

    def of_tile(ids: list[int]) -> dict[str, float]:
        batch = engine.batch([data.pairs[i] for i in ids])
        clean, corrupted = (model.adapter.hf(tokens).logits.flatten(0, 1)[batch.positions]
                            for tokens in (batch.clean, batch.corrupted))
        return {
            "accuracy": float(metrics.accuracy(clean, batch, data.metric).sum()),
            "top 1": float((clean.argmax(-1, keepdim=True) == batch.answers).any(-1).sum()),
            "KL": float(metrics.kl_divergence(clean, corrupted, batch).sum()),
        }

    for _, found in over_tiles(engine, data.pairs, of_tile):
        sums = {name: total + found[name] for name, total in sums.items()}
    return {name: total / len(data.pairs) for name, total in sums.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("tasks", nargs="*", default=task_names())
    parser.add_argument("--split", default="test")
    parser.add_argument("--pairs", type=int, default=32)
    options = parser.parse_args()
    model = load_model(options.model, device="cpu")
    print("| task | style | pairs | accuracy | top 1 | KL | left out |\n|" + "---|" * 7)
    for name in options.tasks:
        for style in getattr(TASKS[name], "styles", (None,)):
            settings = {options.split: options.pairs, **({"style": style} if style else {})}
            data = get_task(name, **settings).pairs(model.tokenizer, options.split)
            cells = [f"{value:.2f}" for value in judged(model, data).values()]
            print("| " + " | ".join([name, style or "", str(len(data.pairs)), *cells, "; ".join(data.notices)]) + " |",
                  flush=True)


if __name__ == "__main__":
    main()
