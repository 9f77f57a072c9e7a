"""`edge-pruning view`: writes one page for exploring circuits in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from edge_pruning import files
from edge_pruning.cli import flags
from edge_pruning.cli.app import app
from edge_pruning.cli.errors import errors_reported
from edge_pruning.cli.help import examples, flowing

VIEW = """Write one HTML page for exploring circuits.

The page offers a slider for circuit size, focus on heads and edges, search, comparison of circuits and seeds,
the true circuit if known, attention patterns, and the report. It is a single file that needs no server and no
network: open it in a browser, mail it, read it on a phone. It shows the content of the run folders. To add the curve
over all sizes and the loss without each edge, run `edge-pruning evaluate CIRCUIT --report` first.
"""

Paths = Annotated[list[Path], Argument(
    metavar="RUN [RUN ...]", help="Run folders, folders of several seeds, or circuit files.", show_default=False
)]
Out = Annotated[Path | None, Option("--out", "-o", help="The page.", show_default="circuit.html in the first folder")]


@app.command(help=flowing(VIEW), epilog=examples("view runs/ioi", "view runs/ioi runs/gp -o circuits.html"))
def view(paths: Paths, out: Out = None, shape: flags.Shape = None, like: flags.Like = None) -> None:
    with errors_reported():
        files.check_exists(*paths)
        from edge_pruning.view import view_paths

        page = out or (paths[0] / "circuit.html" if paths[0].is_dir() else paths[0].with_suffix(".html"))
        files.write_text(page, view_paths(paths, shape=flags.shape(shape), like=like))
        print(page)
