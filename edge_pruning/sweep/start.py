"""Starting workers: several processes on this machine.

Each process gets its share of the CPU cores, and one of the GPUs that this process sees. A worker that dies leaves its
cell to the others.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from edge_pruning.sweep.folder import SweepFolder

LOOK = 1.0  # seconds between two looks at the processes
GRACE = 30.0  # seconds for a worker to write down that it was interrupted


def run_workers(folder: SweepFolder, count: int, look: Callable[[], object] = lambda: None) -> None:
    """Run so many workers on this machine until all have ended. look: called again and again meanwhile.

    Raises OSError if workers died and cells are left.
    """
    logs = folder.path / "logs"
    logs.mkdir(exist_ok=True)
    with _started(folder.path, count, logs) as processes:
        while any(process.poll() is None for process in processes):
            look()
            time.sleep(LOOK)
    died = [process.returncode for process in processes if process.returncode]
    left = [cell.name for cell in folder.cells if not folder.is_settled(cell)]
    if died and left:
        raise OSError(
            f"{len(died)} of {count} workers died (exit codes {', '.join(map(str, died))}), and {len(left)} cells are "
            f"not finished. What the workers printed is in {logs}. To continue, run the same command again"
        )


@contextmanager
def _started(folder: Path, count: int, logs: Path) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
    """Workers as processes, which are asked to end if this one is interrupted."""
    processes = []
    try:
        for index in range(count):
            log = logs / f"{platform.node()}-{os.getpid()}-{index}.log"
            with log.open("wb") as file:
                processes.append(subprocess.Popen(
                    [sys.executable, "-m", "edge_pruning", "sweep", "run", str(folder)], stdout=file, stderr=file,
                    env={**os.environ, **environment(index, count, os.environ)},
                ))  # fmt: skip
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def environment(index: int, count: int, own: Mapping[str, str]) -> dict[str, str]:
    """What one of several workers on a machine gets of its cores and GPUs; what the user has set stays.

    own: the environment of this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = {"OMP_NUM_THREADS": own.get("OMP_NUM_THREADS", str(max(1, cores // count)))}
    visible = own.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return {**share, "CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else share
