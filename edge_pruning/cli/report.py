"""Results as tables. Sizes always include the number without dangling edges, the graph's total and the convention."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_pruning.evaluation import Evaluation
from edge_pruning.numbers import common_numbers, numbers_for
from edge_pruning.runs import Run, SeedRuns
from edge_pruning.truth.recovery import TruthComparison

SHOWN_EDGES = 12  # listed names of missed and of extra edges; evaluation.json has all
RUNS = {
    "model": "model (all edges)",
    "circuit": "circuit",
    "soft": "  soft mask, before the cut",
    "without_dangling": "  without dangling edges",
    "complement": "all edges but the circuit's",
    "empty": "empty circuit",
    "random": "random circuits of the same size",
}


def print_run(run: Run, out: Console) -> None:
    """Print the result of `discover`."""
    print_evaluation(run.evaluation, out)
    if len(run.cuts) > 1:
        out.print(_curve(run))
    if run.folder:
        _print_files(run.folder, out)


def print_seeds(runs: SeedRuns, out: Console) -> None:
    """Print each seed's circuit, the consensus and the core, and the overlap of the circuits."""
    about = runs.stability
    for size in about["sizes"]:
        table = new_table(escape(
            f"{about['settings']['task']}: {len(about['seeds'])} seeds, {about['examples']:,} {about['split']} pairs, "
            f"removed edges carry the {about['ablation']} ablation"
        ))
        judged = size["evaluation"]
        loss = "kl" if judged["consensus"]["squared_error"] is None else "squared_error"
        numbers = common_numbers(loss, agreement=about.get("predicted") == about["examples"])
        for column in ("", "edges", "without dangling", *(n.heading for n in numbers)):
            table.add_column(column, justify="right" if column else "left")
        each = zip(judged["seeds"], size["sizes"], strict=True)
        rows = [(f"seed {row['seed']}", counts, row) for row, counts in each]
        rows += [("consensus", size["consensus"], judged["consensus"]), ("core (in all)", size["core"], judged["core"])]
        for words, counts, row in rows:
            shown = (n.shown(row[n.name]) for n in numbers)
            table.add_row(words, f"{counts['edges']:,}", f"{counts['edges_without_dangling']:,}", *shown)
        out.print(table)
        edges, nodes = size["edge_iou"], size["node_iou"]
        out.print(
            f"Overlap of two seeds' circuits (intersection over union): edges {edges['mean']:.2f} on average "
            f"({edges['least']:.2f} to {edges['most']:.2f}; by chance {edges['by_chance']:.2f}), "
            f"nodes {nodes['mean']:.2f}.\n"
            f"{size['core']['edges']:,} edges are in all circuits, {len(size['contingent']):,} in some."
        )
        _print_warnings(size["warnings"], out)
    out.print(f"The graph has {size['consensus']['edges_total']:,} edges ({about['convention']}).")
    if runs.folder:
        out.print(f"\nConsensus: {escape(str(runs.folder / f'consensus{runs.part(0)}.json'))}")


def print_evaluation(evaluation: Evaluation, out: Console) -> None:
    """Print the circuit, the model, the empty circuit and random circuits: means over the pairs."""
    protocol = evaluation.protocol
    loss, *others = numbers_for(evaluation.loss, protocol.metric, agreement=protocol.is_agreement)
    table = new_table(escape(_protocol_line(vars(protocol))))
    for column in ("", "edges", loss.heading, *(number.heading for number in others)):
        table.add_column(column, justify="right" if column else "left")
    fewer = []
    for name, words in RUNS.items():
        run = evaluation.summaries.get(name)
        if run is not None:
            error = run.standard_error[loss.name]
            known = error and math.isfinite(error) and name not in ("model", "random")
            table.add_row(
                words, number(run.edges, ",.0f" if name != "soft" else ",.1f"),
                loss.shown(run.mean[loss.name]) + (f" ± {error:.3f}" if known else ""),
                *(one.shown(run.mean[one.name]) for one in others),
            )
            if run.size.get("examples", protocol.examples) < protocol.examples:
                several = f"{run.circuits} of them " if "circuits" in run.size else ""
                fewer.append(f"{words.strip()}: {several}on {run.examples} of the {protocol.examples} pairs")
    out.print(table)
    size = evaluation.circuit
    out.print(
        f"Size: {size.edges:,} edges, {size.edges_without_dangling:,} without dangling ones, of "
        f"{size.edges_total:,} in the graph ({size.convention})."
    )
    for line in fewer:
        out.print(f"Measured on fewer pairs: {line}.")
    if evaluation.ground_truth is not None:
        _print_truth(evaluation.ground_truth, out)
    _print_warnings(evaluation.warnings, out)


def _print_truth(truth: TruthComparison, out: Console) -> None:
    """Print true positives (hits), missed edges and extra edges relative to the true circuit."""
    edges = truth.edges
    verdict = "exact" if edges.exact else "not exact"
    out.print(
        f"Truth ({truth.ablation} ablation): {edges.n_true} true edges; {len(edges.hits)} hits, "
        f"{len(edges.missed)} missed, {len(edges.extra)} extra: {verdict}. Area under the ROC curve "
        f"{number(edges.auc, '.3f')} (random scores {number(edges.random['auc'], '.3f')})."
    )
    for words, names in (("missed", edges.missed), ("extra", edges.extra)):
        if names:
            more = f" and {len(names) - SHOWN_EDGES:,} more" if len(names) > SHOWN_EDGES else ""
            out.print(f"  {words}: {escape(', '.join(names[:SHOWN_EDGES]))}{more}")


def print_report_files(page: Path | None, out: Console) -> None:
    if page is not None:
        out.print(f"Report: {escape(str(page))} (and as JSON: {escape(page.with_suffix('.json').name)})")


def print_curve(curve: Mapping[str, Any], out: Console) -> None:
    """Print the curve at every size, the edges needed per level, and the areas."""
    numbers = numbers_for(curve["loss"], curve["metric"], agreement=curve["predicted"] == curve["examples"])
    table = new_table(escape(_protocol_line(curve)))
    for column in ("edges", "without dangling", *(number.heading for number in numbers)):
        table.add_column(column, justify="right")
    for row in curve["points"]:
        counts = (f"{row['edges']:,}", f"{row['edges_without_dangling']:,}")
        table.add_row(*counts, *(number.shown(row[number.name]) for number in numbers))
    out.print(table)
    levels = new_table("Edges needed")
    for column in ("", "edges", "without dangling"):
        levels.add_column(column, justify="right" if column else "left")
    for row in curve["levels"]:
        falls = "" if row["stays"] in (True, None) else " (some larger circuits fall below it)"
        counts = (row["edges"], row["edges_without_dangling"])
        levels.add_row(row["words"] + falls, *("not reached" if k is None else f"{k:,}" for k in counts))
    out.print(levels)
    out.print(
        f"CPR {number(curve['cpr'], '.3f')} (0.999 is perfect), CMD {number(curve['cmd'], '.3f')} (0 is perfect); "
        f"over the logarithm of the size {number(curve['log_cpr'], '.3f')} (1 is perfect) and "
        f"{number(curve['log_cmd'], '.3f')} (0 is perfect). "
        f"The graph has {curve['edges_total']:,} edges ({curve['convention']})."
    )
    _print_warnings(curve["warnings"], out)


def _curve(run: Run) -> Table:
    table = new_table(f"All sizes, {run.curve[0]['split']} pairs, {run.config['ablation']} ablation")
    accuracy = "agreement" if run.evaluation.protocol.is_agreement else "accuracy"
    for column in ("", "edges", "without dangling", "KL (nats)", accuracy):
        table.add_column(column, justify="right" if column else "left")
    for i, row in enumerate(run.curve):
        numbers = (f"{row['edges']:,}", f"{row['edges_without_dangling']:,}")
        mark = "circuit.json" if i == run.chosen else ""
        table.add_row(mark, *numbers, number(row["kl"], ".3f"), number(row["accuracy"], ".3f"))
    return table


def _print_files(folder: Path, out: Console) -> None:
    circuit, picture = str(folder / "circuit.json"), folder / "circuit.svg"
    out.print(f"\nCircuit: {escape(circuit)}")
    if picture.exists():
        others = [name for name in ("truth.svg", "training.svg", "curve.svg") if (folder / name).exists()]
        beside = f" (beside it: {', '.join(others)})" if others else ""
        out.print(f"Picture: {escape(str(picture))}{beside}")
    if (folder / "circuit.html").exists():
        out.print(f"To explore in a browser: {escape(str(folder / 'circuit.html'))}")
    out.print(f"Try next: edge-pruning evaluate {escape(shlex.quote(circuit))} --report")


def _protocol_line(measured: Mapping[str, Any]) -> str:
    return (
        f"{measured['task']}: {measured['examples']:,} {measured['split']} pairs, "
        f"removed edges carry the {measured['ablation']} ablation, {measured['dtype']}"
    )


def _print_warnings(warnings: Iterable[str], out: Console) -> None:
    for warning in warnings:
        out.print(f"Note: {escape(warning)}.")


def new_table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def number(value: float | None, form: str) -> str:
    return "–" if value is None or not math.isfinite(value) else format(value, form)


