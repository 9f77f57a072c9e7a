"""How much memory and time many pairs take: the training pairs of IOI in the bundled model's tokenizer.

    python benchmarks/many_pairs.py [--file] [N ...]

--file: the pairs are the rows of a user's file (JSON lines) instead; all of them are read and divided into splits.

Each number of pairs is written in a process of its own. Memory is its peak beyond that of 100 pairs, time is CPU
time. The pairs are also read once, as a search does.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edge_pruning.loading.loading import describe_model
from edge_pruning.tasks import SPLITS, get_task

SMALLEST, SIZES = 100, (1_000, 10_000, 100_000)


def measure(size: int, file: str | None) -> tuple[int, float, float]:
    """Peak memory of this process in bytes, and seconds to write (or to encode) and to read the pairs."""
    tokenizer = describe_model("bundled").tokenizer
    assert tokenizer is not None
    began = time.process_time()
    task = get_task(file) if file else get_task("ioi", train=size)
    sets = [task.pairs(tokenizer, split).pairs for split in (SPLITS if file else SPLITS[:1])]
    written = time.process_time()
    assert sum(1 for pairs in sets for _ in pairs) == size
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, written - began, time.process_time() - written


def write_rows(size: int, folder: Path) -> str:
    """A file of so many rows."""
    tokenizer, path = describe_model("bundled").tokenizer, folder / "pairs.jsonl"
    assert tokenizer is not None
    with path.open("w", encoding="utf-8") as file:
        for text in get_task("ioi", train=size).pairs(tokenizer, "train").texts:
            row = {"clean": text.clean, "corrupted": text.corrupted, "answer": text.answer, "wrong_answer": text.wrong}
            file.write(json.dumps(row) + "\n")
    return str(path)


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(*measure(int(sys.argv[2]), sys.argv[3] if sys.argv[3:] else None))
        return
    base, in_file = 0.0, sys.argv[1:2] == ["--file"]
    asked = [int(size) for size in sys.argv[1 + in_file :]]
    for size in (SMALLEST, *(asked or SIZES)):
        with tempfile.TemporaryDirectory() as folder:
            rows = [write_rows(size, Path(folder))] if in_file else []
            done = subprocess.run(
                [sys.executable, __file__, "--one", str(size), *rows], check=True, capture_output=True, text=True
            )
        peak, written, read = map(float, done.stdout.split())
        base = base or peak
        print(f"{size:>9,} pairs  {(peak - base) / 1e6:8.1f} MB more than {SMALLEST}  "
              f"{size / written:8,.0f} pairs/s written  {size / read:9,.0f} pairs/s read", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
