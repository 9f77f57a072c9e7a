"""How much memory and time many pairs take: the training pairs of IOI in the bundled model's tokenizer.

    python benchmarks/many_pairs.py [N ...]

Each number of pairs is written in a process of its own. Memory is its peak beyond that of 100 pairs, time is CPU
time. The pairs are also read once, as a search does.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

from edge_pruning.loading.loading import describe_model
from edge_pruning.tasks import get_task

SMALLEST, SIZES = 100, (1_000, 10_000, 100_000)


def measure(size: int) -> tuple[int, float, float]:
    """Peak memory of this process in bytes, and seconds to write and to read the pairs."""
    tokenizer = describe_model("bundled").tokenizer
    assert tokenizer is not None
    began = time.process_time()
    pairs = get_task("ioi", train=size).pairs(tokenizer, "train").pairs
    written = time.process_time()
    assert sum(1 for _ in pairs) == size
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, written - began, time.process_time() - written


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(*measure(int(sys.argv[2])))
        return
    base = 0.0
    for size in (SMALLEST, *(map(int, sys.argv[1:]) if sys.argv[1:] else SIZES)):
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(size)], check=True, capture_output=True, text=True
        )
        peak, written, read = map(float, done.stdout.split())
        base = base or peak
        print(f"{size:>9,} pairs  {(peak - base) / 1e6:8.1f} MB more than {SMALLEST}  "
              f"{size / written:8,.0f} pairs/s written  {size / read:9,.0f} pairs/s read", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
