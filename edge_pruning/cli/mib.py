"""`edge-pruning mib`: submissions to the circuit track of the MIB benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from typer import Argument, Option

from edge_pruning.cli import flags
from edge_pruning.cli.app import app, prepare
from edge_pruning.cli.errors import errors_reported
from edge_pruning.cli.help import examples, flowing

if TYPE_CHECKING:
    from rich.console import Console

    from edge_pruning.mib import Submission

MIB = "Take part in the circuit track of MIB, the Mechanistic Interpretability Benchmark."
SUBMIT = """Rank the edges of the benchmark's tasks and models, and write two submissions: one for CPR, one for CMD.

CELLS name tasks and models, as in [bold]ioi:gpt2,qwen2.5 mcqa:qwen2.5[/bold]; a task alone means all of its models.
Each method ranks the edges with rows of the dataset's training split. Other rows of that split decide which ranking is
written for CPR and which for CMD. The benchmark's validation and test rows are never read. Cells that are written
already are kept, so the command can be repeated after an interruption. At the end the rules are checked, and the
command for the upload is printed.
"""
Cells = Annotated[list[str], Argument(metavar="CELL [CELL ...]", help="TASK or TASK:MODEL,MODEL.", show_default=False)]
Out = Annotated[Path, Option("--out", "-o", help="Folder of both submissions.")]
Methods = Annotated[list[str] | None, Option(
    "--method", help="A method or preset, or eap-ig-signed. May be repeated.",
    show_default="eap-ig-signed, eap-ig and the default preset",
)]
Models = Annotated[list[str] | None, Option(
    "--model", metavar="NAME=PATH", help="Load a model of the benchmark from here. May be repeated."
)]
Sources = Annotated[list[str] | None, Option(
    "--data", metavar="TASK=PATH", help="Read a dataset from this file or folder, not from the hub. May be repeated."
)]
Train = Annotated[int, Option(min=1, help="Number of training rows to rank with.")]

mib = typer.Typer(no_args_is_help=True, help=MIB)
app.add_typer(mib, name="mib")


@mib.command(help=flowing(SUBMIT), epilog=examples(
    "mib submit ioi:gpt2,qwen2.5 mcqa:qwen2.5",
    "mib submit ioi:gpt2 --model gpt2=models/gpt2 --data ioi=ioi.jsonl --out runs/mib",
))
def submit(
    cells: Cells,
    out: Out = Path("runs/mib"),
    method: Methods = None,
    model: Models = None,
    data: Sources = None,
    train: Train = 200,
    seed: flags.RandomSeed = 0,
    device: flags.AnyDevice = "auto",
) -> None:
    with errors_reported(kept=lambda: "Continue with the same command"):
        models, sources = flags.texts("--model", model), flags.texts("--data", data)
        console = prepare()
        from edge_pruning.cli.progress import ProgressBar
        from edge_pruning.mib import cells_of
        from edge_pruning.mib import submit as write

        chosen: dict[str, Any] = {"methods": method} if method else {}
        with ProgressBar() as bar:
            done = write(
                cells_of(cells), out, models=models, data=sources, train=train, seed=seed, device=device,
                stage=bar.stage, **chosen,
            )
        _print(done, console)


@mib.command(epilog=examples("mib check runs/mib/cpr"))
def check(folder: Annotated[Path, Argument(help="The folder of one submission.", show_default=False)]) -> None:
    """Check a submission against the rules of the benchmark."""
    with errors_reported():
        from edge_pruning.mib import problems_of

        if problems := problems_of(folder):
            raise ValueError("\n  ".join([f"{len(problems)} problems:", *problems] if len(problems) > 1 else problems))
        print(f"{folder} follows the rules.")


def _print(done: Submission, console: Console) -> None:
    from rich.table import Table

    from edge_pruning.mib import problems_of

    table = Table("", "method", "CPR", "CMD", "written for", box=None, pad_edge=False)
    for cell, about in done.report["cells"].items():
        for name, areas in about["methods"].items():
            written = " and ".join(metric.upper() for metric, taken in about["taken"].items() if taken == name)
            table.add_row(cell, name, f"{areas['cpr']:.4f}", f"{areas['cmd']:.4f}", written)
    console.print(table)
    console.print("Measured on training rows that no method has seen; the benchmark measures on its own.")
    for metric in ("cpr", "cmd"):
        folder = done.folder(metric)
        for problem in problems_of(folder):
            console.print(f"Note: {escape(problem)}.")
        console.print(f"Upload for {metric.upper()}: hf upload NAME/mib-{metric} {escape(str(folder))}", soft_wrap=True)
    console.print("Make the repository public and give its address to the leaderboard: at most two submissions a week.")
