"""Notebook output: circuits as pictures, runs and evaluations as tables.

`attach` adds these methods, and those of `hub.py`, to the classes when a public name is first used, because drawing
imports circuits and circuits therefore cannot import drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from markupsafe import escape

from edge_pruning.circuit import Circuit
from edge_pruning.drawing import draw_circuit
from edge_pruning.evaluation import Evaluation
from edge_pruning.hub import from_hub, push_run_to_hub, push_to_hub
from edge_pruning.numbers import numbers_for
from edge_pruning.runs import Run


@cache
def attach() -> None:
    """Add the methods to the classes, once."""
    methods: dict[tuple[type[Any], str], Callable[..., Any] | staticmethod[..., Any]] = {
        (Circuit, "_repr_svg_"): draw_circuit,
        (Evaluation, "_repr_html_"): evaluation_html,
        (Run, "_repr_html_"): run_html,
        (Circuit, "push_to_hub"): push_to_hub,
        (Circuit, "from_hub"): staticmethod(from_hub),
        (Run, "push_to_hub"): push_run_to_hub,
    }
    for (cls, name), function in methods.items():
        setattr(cls, name, function)


def evaluation_html(evaluation: Evaluation) -> str:
    """Return the runs of an evaluation as a table, with its notes."""
    protocol = evaluation.protocol
    numbers = numbers_for(evaluation.loss, protocol.metric, agreement=protocol.is_agreement)
    rows = [
        [name.replace("_", " "), f"{run.edges:,.0f}", *(number.shown(run.mean.get(number.name)) for number in numbers)]
        for name, run in evaluation.summaries.items()
    ]
    title = f"{protocol.task}: {protocol.examples} {protocol.split} pairs, {protocol.ablation} ablation"
    notes = "".join(f"<li>{escape(warning)}</li>" for warning in evaluation.warnings)
    return f"<p>{escape(title)}</p>{_table(['', 'edges', *(n.heading for n in numbers)], rows)}<ul>{notes}</ul>"


def run_html(run: Run) -> str:
    """Return the run's circuit as a picture, with its evaluation."""
    return f"<p><b>{escape(run.title)}</b></p>{draw_circuit(run.circuit)}{evaluation_html(run.evaluation)}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
