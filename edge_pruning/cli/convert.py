"""`edge-pruning convert`: converts circuits to and from the formats of other tools."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from edge_pruning import files
from edge_pruning.cli import flags
from edge_pruning.cli.app import app
from edge_pruning.cli.errors import errors_reported
from edge_pruning.cli.help import examples, flowing

CONVERT = """Convert a circuit to or from the file format of another tool.

The formats are [bold]circuit[/bold] (this library's), [bold]eap-ig-json[/bold] and [bold]eap-ig-pt[/bold] (EAP-IG,
MIB), [bold]edges-json[/bold] (Edge Pruning's authors), [bold]acdc[/bold], [bold]auto-circuit[/bold],
[bold]neuronpedia[/bold] (for its graph viewer), [bold]graphml[/bold] (Gephi, networkx), [bold]dot[/bold] (Graphviz) and
[bold]csv[/bold]; `edge-pruning list formats` describes them. The format of IN follows from its name
and content, the format of OUT from its name. --from and --to override this.

Tools count edges in different ways: MIB has one embedding writer, and key and value readers per query head. If the
other format requires it, the circuit is recounted. Notes on stderr list the changes and what the file cannot hold.
All names that are not edges of the model are reported at once. Torch files are opened with weights_only. Pickles are
refused, because opening one can run code.
"""

Source = Annotated[Path, Argument(metavar="IN", help="A circuit in any of the formats.", show_default=False)]
Target = Annotated[Path, Argument(metavar="OUT", help="The file to write.", show_default=False)]
To = Annotated[str | None, Option(
    "--to", metavar="FORMAT", help="Format of OUT.", show_default="from its name; .json means circuit"
)]
From = Annotated[str | None, Option(
    "--from", metavar="FORMAT", help="Format of IN.", show_default="from its name and content"
)]
Embeddings = Annotated[str | None, Option(
    help="Count embeddings as one writer (joint) or as tokens and positions (split).", show_default="as IN or OUT does"
)]
Heads = Annotated[str | None, Option(
    help="Count keys and values per key-value head (kv) or per query head (query).", show_default="as IN or OUT does"
)]
NewEdges = Annotated[int | None, Option(
    "--edges", metavar="K", help="Write the K edges with the highest scores instead of IN's circuit."
)]
Signed = Annotated[bool, Option(
    "--signed", help="Rank edges by signed scores when reading or writing EAP-IG and MIB files. Those tools rank by "
    "absolute value, which is also the default here."
)]


@app.command(help=flowing(CONVERT), epilog=examples(
    "convert runs/ioi/circuit.json ioi.graphml",
    "convert runs/ioi/circuit.json mib.json --to eap-ig-json",
    "convert mib.json circuit.json --shape kv_heads=2 --heads kv",
    "convert edges.json circuit.json --shape layers=12,heads=12",
    "convert scores.pt circuit.json --edges 100",
))
def convert(
    source: Source,
    target: Target,
    to: To = None,
    read_as: From = None,
    shape: flags.Shape = None,
    like: flags.Like = None,
    embeddings: Embeddings = None,
    heads: Heads = None,
    edges: NewEdges = None,
    signed: Signed = False,
) -> None:
    with errors_reported():
        files.check_exists(source)
        from edge_pruning import formats

        done = formats.convert(
            source, target, to=to, read_as=read_as, shape=flags.shape(shape), like=like,
            embeddings=embeddings, heads=heads, edges=edges, signed=signed,  # type: ignore[arg-type]  # checked by Graph
        )
        for notice in done.notices:
            print(f"Note: {notice}.", file=sys.stderr)
        counts = done.circuit.counts
        print(f"{target}: {done.written_as}, read as {done.read_as}. {counts['edges']:,} edges, "
              f"{counts['edges_without_dangling']:,} without dangling ones, of {counts['edges_total']:,} in the graph "
              f"({counts['convention']}).")
