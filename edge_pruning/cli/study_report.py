"""Print a study as tables."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from edge_pruning.cli.report import new_table
from edge_pruning.numbers import common_numbers
from edge_pruning.page.study import WORDS, edges_of, overlap_rows
from edge_pruning.runs.two_settings import Study


def print_study(study: Study, out: Console) -> None:
    """Print the quality of each circuit in each setting, the overlaps, and the findings in words."""
    content, compared = study.content, study.content["comparison"]
    sizes = edges_of(compared)
    for name, judged in content["judged"].items():
        numbers = common_numbers(judged["loss"])
        pairs = f"{judged['examples']:,} test pairs, {content['ablation']} ablation"
        table = new_table(escape(f"Judged on {name}: {pairs}"))
        for column in ("", "edges", *(number.heading for number in numbers)):
            table.add_column(column, justify="right" if column else "left")
        for run, values in judged["runs"].items():
            shown = (number.shown(values[number.name]) for number in numbers)
            table.add_row(escape(WORDS.get(run, f"circuit of {run}")), f"{sizes[run]:,}", *shown)
        out.print(table)
    table = new_table("Overlap: mean over pairs of circuits")
    for column in ("", "edges, IoU", "of the smaller", "nodes, IoU", "of the smaller"):
        table.add_column(column, justify="right" if column else "left")
    for words, values in overlap_rows(compared):
        table.add_row(escape(words), *("" if value is None else f"{value:.3f}" for value in values))
    out.print(table)
    out.print(f"Counted: {content['convention']}.\n")
    for sentence in content["findings"]:
        out.print(f"{sentence[:1].upper()}{sentence[1:]}.", highlight=False, soft_wrap=True, markup=False)
    for warning in content["warnings"]:
        out.print(f"Note: {warning}.", highlight=False, soft_wrap=True, markup=False)
    out.print(f"\nPage: {study.folder / 'study.html'}; circuits to explore: {study.folder / 'circuits.html'}",
              highlight=False, soft_wrap=True, markup=False)
