"""`edge-pruning compare`: shared and unique edges of circuits, and how well each circuit does the others' tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.markup import escape
from typer import Argument, Option

from edge_pruning import files
from edge_pruning.cli import flags
from edge_pruning.cli.app import app, prepare
from edge_pruning.cli.errors import errors_reported
from edge_pruning.cli.help import examples, flowing

if TYPE_CHECKING:
    from edge_pruning.compare import Comparison
    from edge_pruning.runs.transfer import Transfer

COMPARE = """Compare two or more circuits: which edges and nodes they share, and how well each does the others' tasks.

[bold]Overlap[/bold] (intersection over union, IoU) is the number of edges in both circuits divided by the number in
either: 1 means equal, 0 means nothing in common. The overlap of random circuits of the same sizes is shown beside it.
[bold]Transfer[/bold] evaluates every circuit on the held-out pairs of every circuit's task. Circuits that share few
edges can still behave alike. Transfer needs circuits that were found in the same model.

Files of other tools are accepted (see `edge-pruning convert`). If circuits count edges in different ways, they are
recounted, and a note says so. Models of different shapes have no edges in common. If their numbers of layers and heads
are equal, --nodes compares their nodes.
"""

Circuits = Annotated[list[Path], Argument(metavar="A B [C ...]", help="Circuit files.", show_default=False)]
Nodes = Annotated[bool, Option("--nodes", help="Compare nodes only. The graphs may differ.")]
DoTransfer = Annotated[bool, Option("--transfer/--no-transfer", help="Evaluate each circuit on the others' tasks.")]
Test = Annotated[int | None, Option(help="Number of test pairs for the transfer.", show_default="the tasks'")]
Picture = Annotated[Path | None, Option(
    "--out", "-o",
    help="Picture to write (.svg, .png or .pdf): an overlay of two circuits, or heat maps of the overlaps of more.",
)]
Json = Annotated[bool, Option("--json", help="Print JSON with the names of all edges and nodes.")]


@app.command(help=flowing(COMPARE), epilog=examples(
    "compare runs/ioi/circuit.json runs/gp/circuit.json -o overlap.svg",
    "compare seed0/circuit.json seed1/circuit.json seed2/circuit.json --json",
    "compare mine.json mib.json --no-transfer",
))
def compare(
    circuits: Circuits,
    nodes: Nodes = False,
    transfer: DoTransfer = True,
    test: Test = None,
    device: flags.AnyDevice = "auto",
    dtype: flags.AnyDtype = "float32",
    shape: flags.Shape = None,
    like: flags.Like = None,
    out: Picture = None,
    as_json: Json = False,
) -> None:
    with errors_reported():
        files.check_exists(*circuits)
        console = prepare()
        from edge_pruning import formats
        from edge_pruning.cli.comparison_report import draw_comparison, print_comparison
        from edge_pruning.compare import compare_circuits
        from edge_pruning.drawing import check_picture

        if out:
            check_picture(out)
        paths = {_letter(i): path for i, path in enumerate(circuits)}
        found = {name: formats.load(path, flags.shape(shape), like=like) for name, path in paths.items()}
        comparison = compare_circuits(found, nodes_only=nodes)
        judged, reason = _transfer(paths, test, device, dtype) if transfer else (None, "")
        if out:
            draw_comparison(comparison, judged, paths, out)
        if as_json:
            print(json.dumps(_json(comparison, judged, reason, paths), indent=2, ensure_ascii=False))
        else:
            print_comparison(comparison, judged, reason, paths, console)
            if out:
                console.print(f"Picture: {escape(str(out))}")


def _letter(i: int) -> str:
    return chr(ord("A") + i) if i < 26 else f"C{i + 1}"


def _transfer(paths: Mapping[str, Path], test: int | None, device: str, dtype: str) -> tuple[Transfer | None, str]:
    """Return the transfer, or None and the reason for leaving it out."""
    from edge_pruning.cli.progress import ProgressBar
    from edge_pruning.runs.transfer import transfer

    with ProgressBar() as bar:
        try:
            judged = transfer(
                paths, test=test, device=device, dtype=dtype,
                progress=lambda done, total: bar.stage(f"evaluated {done} of {total}"),
            )
        except (ValueError, OSError) as error:
            return None, str(error)
    return judged, ""


def _json(comparison: Comparison, judged: Transfer | None, reason: str, paths: Mapping[str, Path]) -> dict[str, Any]:
    content = comparison.to_json()
    for circuit in content["circuits"]:
        circuit["file"] = str(paths[circuit["name"]])
    return {**content, "transfer": judged.to_json() if judged else None, "no_transfer_because": reason or None}
