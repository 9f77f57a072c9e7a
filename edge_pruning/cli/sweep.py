"""`edge-pruning sweep`: a grid of runs, worked off by any number of processes."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from typer import Argument, Option
from typer.core import TyperGroup

from edge_pruning import files
from edge_pruning.cli import flags
from edge_pruning.cli.app import app, prepare
from edge_pruning.cli.errors import errors_reported
from edge_pruning.cli.help import examples, flowing

if TYPE_CHECKING:
    from rich.console import Console

    from edge_pruning.sweep import SweepFolder

SWEEP = """Run a grid of settings: tasks, models, methods, ablations, sizes, seeds.

A sweep file holds the settings that all runs share, and a table [bold]\\[grid][/bold] with lists: every combination is
one run (a [bold]cell[/bold]). Any number of workers on any number of machines that see the same folder take cells until
none is left. A cell that fails does not stop the others. A worker that dies leaves its cell and its checkpoint to
the others. The same command goes on with what is left; a file with more cells makes the sweep grow.
"""
RUN = """Work on a sweep until every cell is finished or has failed. This is what `edge-pruning sweep FILE` does.

FILE: a sweep file, or the folder of a sweep to join. See docs/sweeps.md.
"""


class RunByDefault(TyperGroup):
    """`sweep FILE` means `sweep run FILE`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        other = not args or args[0] in (*self.commands, "-h", "--help")
        return super().parse_args(ctx, args if other else ["run", *args])


sweep = typer.Typer(cls=RunByDefault, no_args_is_help=True, help=flowing(SWEEP), epilog=examples(
    "sweep sweep.toml", "sweep sweep.toml --workers 4", "sweep sweep.toml --slurm --workers 16",
    "sweep status runs/sweep", "sweep report runs/sweep", "sweep plan recipes/ioi.toml --device h100",
))
app.add_typer(sweep, name="sweep")

File = Annotated[Path, Argument(
    metavar="FILE", help="A sweep file (.toml), or the folder of a sweep.", show_default=False
)]
Folder = Annotated[Path, Argument(metavar="FOLDER", help="The folder of a sweep.", show_default=False)]
Workers = Annotated[int | None, Option(
    "--workers", metavar="N", min=1, show_default="1; one per cell with --slurm", help="Number of simultaneous runs.",
)]
Slurm = Annotated[bool, Option("--slurm", help="Queue the workers as one SLURM job array (table \\[slurm] of FILE).")]
Out = Annotated[Path | None, Option(
    "--out", "-o", help="Folder of the sweep.", show_default="that of the file, or runs/NAME-OF-THE-FILE"
)]
Retry = Annotated[bool, Option("--retry-failed", help="Try cells again that have failed.")]
Once = Annotated[bool, Option("--once", help="Print the table once, and do not wait for the end.")]
Device = Annotated[str | None, Option(help="The device to plan for, such as h100 (see edge-pruning plan).")]


@sweep.command(help=flowing(RUN))
def run(
    file: File,
    workers: Workers = None,
    slurm: Slurm = False,
    out: Out = None,
    retry_failed: Retry = False,
) -> None:
    with errors_reported(kept=_kept):
        files.check_exists(file)
        console = prepare()
        from edge_pruning.sweep import Worker, open_sweep, run_workers, submit

        folder = open_sweep(file, out)
        if retry_failed:
            folder.retry_failed()
        if slurm:
            left = sum(not folder.is_settled(cell) for cell in folder.cells)
            jobs = submit(folder, workers or max(1, left))
            _say(console, f"Queued {len(jobs)} workers: {', '.join(job.job_id for job in jobs)}")
            _say(console, f"To watch them: edge-pruning sweep status {shlex.quote(str(folder.path))}")
            return
        if workers in (None, 1):
            from edge_pruning.cli.progress import ProgressBar

            with ProgressBar() as bar:
                Worker(folder, bar).work()
        else:
            from edge_pruning.cli.sweep_table import looking

            with looking(folder, console) as look:
                run_workers(folder, workers, look)
        _finish(folder, console)


@sweep.command()
def status(folder: Folder, once: Once = False, as_json: flags.Json = False) -> None:
    """Show how far every cell is. On a terminal the table stays up to date until all cells are settled, or Ctrl-C."""
    with errors_reported():
        console = prepare()
        from edge_pruning.cli.sweep_table import follow, state_row, status_table
        from edge_pruning.sweep import SweepFolder

        opened = SweepFolder(folder)
        if as_json:
            print(json.dumps([state_row(state) for state in opened.states()], indent=2, ensure_ascii=False))
        elif once or not console.is_terminal:
            console.print(status_table(opened, opened.states()))
        else:
            follow(opened, console)


@sweep.command()
def report(folder: Folder) -> None:
    """Write the results so far as report.html (all curves on one page), report.json and report.csv."""
    with errors_reported():
        prepare()
        from edge_pruning.sweep import SweepFolder, write_report

        for path in write_report(SweepFolder(folder)):
            print(path)


@sweep.command()
def plan(file: File, device: Device = None) -> None:
    """Estimate the memory and the time of every kind of cell, and of all together, without running anything."""
    with errors_reported():
        files.check_exists(file)
        console = prepare()
        from edge_pruning.cli.sweep_table import plan_table
        from edge_pruning.sweep import Sweep, forecast

        console.print(plan_table(forecast(Sweep.read(file), device)))


def _finish(folder: SweepFolder, console: Console) -> None:
    """Write the report, print the table. Raises ValueError if cells have failed."""
    from edge_pruning.cli.sweep_table import status_table
    from edge_pruning.sweep import write_report

    page, *_ = write_report(folder)
    states = folder.states()
    console.print(status_table(folder, states))
    _say(console, f"Report: {page} (beside it: report.json, report.csv)")
    failed = [state for state in states if state.failure]
    if failed:
        lines = [f"{state.cell.name}: {state.failure['error']}" for state in failed if state.failure]
        raise ValueError("\n  ".join([
            f"{len(failed)} of {len(states)} cells failed; to try them again: --retry-failed", *lines
        ]))  # fmt: skip


def _say(console: Console, words: str) -> None:
    console.print(escape(words), soft_wrap=True, highlight=False)


def _kept() -> str:
    command = shlex.join(["edge-pruning", *sys.argv[1:]])
    return f"Finished cells and the last checkpoints of the others are kept. Go on with:\n  {command}"
