"""Print a comparison of circuits as tables, and draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_pruning.cli.report import new_table, number
from edge_pruning.compare import Comparison, Sets
from edge_pruning.drawing import Matrix, draw_matrices, draw_overlap, save_picture
from edge_pruning.runs.transfer import Transfer

SHOWN = 6  # listed names of edges or nodes that only one circuit has


def print_comparison(
    comparison: Comparison, judged: Transfer | None, reason: str, paths: Mapping[str, Path], out: Console
) -> None:
    """Print sizes, overlap, edges that only one circuit has, transfer, and notes."""
    out.print(_circuits(comparison, paths))
    convention = " / ".join(sorted({circuit.graph.convention for circuit in comparison.circuits.values()}))
    out.print(f"Counted: {convention}.\n")
    out.print(_overlap(comparison) if len(paths) == 2 else _pairs(comparison))
    for line in _in_words(comparison):
        out.print(line)
    out.print()
    if judged:
        out.print(_transfer(judged))
    for notice in (*comparison.notices, *([f"no transfer: {reason}"] if reason else [])):
        out.print(f"Note: {escape(notice)}.")


def draw_comparison(comparison: Comparison, judged: Transfer | None, paths: Mapping[str, Path], path: Path) -> None:
    """Draw two circuits as an overlay. Draw more circuits, or circuits of different graphs, as heat maps of their
    overlaps.
    """
    named = {f"{name} {paths[name].parent.name}".strip(): circuit for name, circuit in comparison.circuits.items()}
    if len(named) == 2 and comparison.edges is not None:
        save_picture(path, draw_overlap(named))
        return
    matrices = [Matrix("Nodes shared (IoU)", comparison.names, comparison.names, comparison.nodes.iou)]
    if comparison.edges is not None:
        matrices.insert(0, Matrix("Edges shared (IoU)", comparison.names, comparison.names, comparison.edges.iou))
    if judged:
        values = [[numbers["kl"] for numbers in row] for row in judged.rows.values()]
        columns = ["+".join(column.of) for column in judged.columns]
        worst = max(1.0, *(value for row in values for value in row))
        matrices.append(Matrix("KL on the task of (nats)", list(judged.rows), columns, values, low=worst, high=0.0))
    notes = [
        f"{name}: {paths[name]} ({_origin(comparison, name)}; {len(circuit):,} edges)"
        for name, circuit in comparison.circuits.items()
    ]
    save_picture(path, draw_matrices(matrices, title="How much circuits have in common", notes=notes))


def _circuits(comparison: Comparison, paths: Mapping[str, Path]) -> Table:
    table = new_table("Circuits")
    for column in ("", "file", "found", "edges", "without dangling", "of", "nodes"):
        table.add_column(column, justify="left" if column in ("", "file", "found") else "right", overflow="fold")
    for name, circuit in comparison.circuits.items():
        counts = circuit.counts
        sizes = [f"{counts[key]:,}" for key in ("edges", "edges_without_dangling", "edges_total")]
        origin = escape(_origin(comparison, name))
        table.add_row(name, escape(str(paths[name])), origin, *sizes, f"{len(circuit.nodes):,}")
    return table


def _origin(comparison: Comparison, name: str) -> str:
    origin = comparison.circuits[name].provenance.names
    return ", ".join(origin[key] for key in ("task", "method", "model", "ablation") if key in origin) or "unknown"


def _overlap(comparison: Comparison) -> Table:
    """Tabulate the edges and nodes that two circuits share."""
    first, second = comparison.names
    kinds = [sets for sets in (comparison.edges, comparison.nodes) if sets is not None]
    rows: list[tuple[str, list[str]]] = [
        ("in both", [f"{len(sets.shared):,}" for sets in kinds]),
        *((f"only in {name}", [f"{len(sets.only(i)):,}" for sets in kinds]) for i, name in enumerate(comparison.names)),
        ("in either", [f"{len(sets.union):,}" for sets in kinds]),
        ("overlap (IoU)", [f"{sets.iou[0][1]:.3f}" for sets in kinds]),
    ]
    if comparison.edges is not None:
        rows.append(("  of random edges", [f"{_chance(comparison, comparison.edges)[0][1]:.3f}", ""]))
    rows += [
        (f"share of {a} in {b}", [f"{sets.contained[i][1 - i]:.3f}" for sets in kinds])
        for i, (a, b) in enumerate(((first, second), (second, first)))
    ]
    table = new_table("In common")
    for column in ("", *(["edges"] if comparison.edges is not None else []), "nodes"):
        table.add_column(column, justify="right" if column else "left")
    for name, cells in rows:
        table.add_row(name, *cells)
    return table


def _chance(comparison: Comparison, edges: Sets) -> list[list[float]]:
    return edges.chance(next(iter(comparison.circuits.values())).graph.n_edges)


def _pairs(comparison: Comparison) -> Table:
    """Tabulate the overlap of every pair of circuits: edges above the diagonal, nodes below it."""
    edges = comparison.edges
    table = new_table("Overlap (IoU)")
    for column in ("", *comparison.names):
        table.add_column(column, justify="right" if column else "left")
    for i, name in enumerate(comparison.names):
        cells = [
            "" if i == j else f"{(edges if edges is not None and j > i else comparison.nodes).iou[i][j]:.3f}"
            for j in range(len(comparison.names))
        ]
        table.add_row(name, *cells)
    return table


def _in_words(comparison: Comparison) -> list[str]:
    """Report what all circuits share, and list the strongest edges (or nodes) that only one circuit has."""
    edges, lines = comparison.edges, []
    if len(comparison.names) > 2:
        above = "edges above the diagonal, nodes below it; in" if edges is not None else "in"
        shared = f"{len(edges.shared):,} edges and " if edges is not None else ""
        lines.append(f"{above.capitalize()} all circuits: {shared}{len(comparison.nodes.shared):,} nodes")
    for i, name in enumerate(comparison.names):
        only: Sequence[str] = (
            sorted(comparison.nodes.only(i)) if edges is None else comparison.strongest(edges.only(i), i)
        )
        more = f" and {len(only) - SHOWN:,} more (--json lists all)" if len(only) > SHOWN else ""
        lines.append(f"Only in {name}: {escape(', '.join(only[:SHOWN])) or 'nothing'}{more}")
    return lines


def _transfer(judged: Transfer) -> Table:
    table = new_table(f"Transfer: each circuit on each task, held-out pairs, {escape(judged.model)}")
    table.add_column("")
    for column in judged.columns:
        table.add_column(escape(f"{column.title}, of {'+'.join(column.of)}"), justify="right")
    for name, row in judged.rows.items():
        cells = [f"KL {number(cell['kl'], '.3f')}  faithfulness {number(cell['faithfulness'], '.3f')}  "
                 f"accuracy {number(cell['accuracy'], '.3f')}" for cell in row]
        table.add_row(name, *cells)
    return table
