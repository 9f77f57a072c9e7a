"""Workers as the tasks of one SLURM job array, through submitit (extra `[slurm]`).

The table `[slurm]` of a sweep file says what each task gets:

    [slurm]
    partition = "gpu"       # also account, qos, constraint
    minutes = 240
    gpus = 1
    cpus = 8
    memory_gb = 64
    cluster = "local"       # run them on this machine, to try it out; "slurm" if left out

A task works on cells until none is left. If its node is taken away or its time is over, SLURM queues the same task
again, and it goes on from the last checkpoints.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_pruning.sweep.folder import SweepFolder
from edge_pruning.sweep.work import Worker

REQUEUES = 100  # for time that is over; for nodes that are taken away there is no limit
SHARED = {"minutes": "timeout_min", "cpus": "cpus_per_task", "gpus": "gpus_per_node", "memory_gb": "mem_gb"}


class SlurmWorker:
    """A task of the array, as submitit calls it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> None:
        Worker(SweepFolder(self.folder)).work()

    def checkpoint(self) -> Any:
        """Return what is to be queued in place of this task: the same, because the cells keep their checkpoints."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(SlurmWorker(self.folder))


def submit(folder: SweepFolder, count: int) -> list[Any]:
    """Queue so many workers as one job array. Returns submitit's jobs.

    Raises ValueError without submitit, and where the jobs cannot be queued.
    """
    try:
        import submitit
    except ModuleNotFoundError:
        raise ValueError("--slurm needs submitit, which is not installed: pip install 'edge-pruning[slurm]'") from None
    path = folder.path.resolve()
    cluster = folder.slurm.get("cluster", "slurm")
    try:
        executor = submitit.AutoExecutor(path / "logs", cluster=cluster, slurm_max_num_timeout=REQUEUES)
        executor.update_parameters(**parameters(folder.slurm, path.name, count))
        with executor.batch():  # one array
            return [executor.submit(SlurmWorker(path)) for _ in range(count)]
    except (RuntimeError, OSError, ValueError, subprocess.SubprocessError, submitit.core.utils.FailedJobError) as error:
        raise ValueError(f"the workers could not be queued with submitit ({cluster}): {error}") from error


def parameters(table: Mapping[str, Any], name: str, count: int) -> dict[str, Any]:
    """The table `[slurm]` in submitit's words."""
    own = {name: value for name, value in table.items() if name not in SHARED and name != "cluster"}
    shared = {SHARED[name]: value for name, value in table.items() if name in SHARED}
    return {
        "name": name, "slurm_array_parallelism": count, **shared,
        **{f"slurm_{name}": value for name, value in own.items()},
    }  # fmt: skip
