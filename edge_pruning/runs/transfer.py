"""Transfer: evaluate every circuit on the held-out pairs of every circuit's task.

Two circuits can share few edges and behave alike, or share most edges and differ in the decisive ones; transfer shows
which. A column is one circuit's task with its own settings and ablation, so that all values in a column are comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_pruning.ablation import get_ablation
from edge_pruning.circuit import Circuit
from edge_pruning.evaluation import evaluate
from edge_pruning.files import json_values
from edge_pruning.formats.conversion import is_foreign
from edge_pruning.graph import Graph
from edge_pruning.loading.loading import load_model
from edge_pruning.numbers import common_numbers
from edge_pruning.provenance import Provenance
from edge_pruning.runs.circuit_file import check_model
from edge_pruning.setup import Setup
from edge_pruning.tasks import get_task

NUMBERS = tuple(number.name for number in common_numbers("kl"))


@dataclass(frozen=True)
class Column:
    """A task with its settings, under an ablation, on which circuits are judged. of: the circuits of this task."""

    of: tuple[str, ...]
    task: str
    settings: Mapping[str, Any]
    ablation: str

    @property
    def title(self) -> str:
        return f"{Path(self.task).name} ({self.ablation})"


@dataclass(frozen=True)
class Transfer:
    """`rows[name][i]`: means of circuit `name` on column i: `kl` (nats), `faithfulness`, `accuracy`, `exact_match`."""

    model: str
    columns: tuple[Column, ...]
    rows: Mapping[str, tuple[Mapping[str, float], ...]]

    def to_json(self) -> dict[str, Any]:
        columns = [{"of": list(column.of), "task": column.task, "ablation": column.ablation} for column in self.columns]
        rows = {name: [dict(numbers) for numbers in row] for name, row in self.rows.items()}
        return {"model": self.model, "columns": columns, "rows": rows}


def transfer(
    circuits: Mapping[str, str | Path],
    *,
    test: int | None = None,
    device: str = "auto",
    dtype: str = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> Transfer:
    """Evaluate every circuit file on the test pairs of every circuit's task.

    test: number of pairs; by default that of each task.
    progress: called with the number of finished evaluations and the total.

    Raises ValueError if the circuits do not name a common model, or one does not name its task.
    """
    paths = {name: Path(path) for name, path in circuits.items()}
    foreign = [name for name, path in paths.items() if is_foreign(path)]
    if foreign:
        raise ValueError(f"{', '.join(foreign)} came from another tool, whose files do not name their task")
    origins = {name: Circuit.load(path).provenance for name, path in paths.items()}
    name, revision = _common_model(origins)
    columns = _columns(origins, {} if test is None else {"test": test})
    model = load_model(name, revision=revision, device=device, dtype=dtype)
    rows: dict[str, tuple[Mapping[str, float], ...]] = {}
    setups: dict[tuple[int, Graph], Setup] = {}
    for circuit, path in paths.items():
        row, own = [], Circuit.load(path)
        check_model(path, own, model)
        for i, column in enumerate(columns):
            if (i, own.graph) not in setups:
                task, how = get_task(column.task, **column.settings), get_ablation(column.ablation)
                setups[i, own.graph] = Setup.of(model, task, how, graph=own.graph)
            judged = evaluate(own, setups[i, own.graph], random_circuits=0).circuit
            row.append(json_values({number: judged.mean[number] for number in NUMBERS}))
            if progress:
                progress(len(rows) * len(columns) + len(row), len(paths) * len(columns))
        rows[circuit] = tuple(row)
    return Transfer(name, columns, rows)


def _common_model(origins: Mapping[str, Provenance]) -> tuple[str, str | None]:
    models = {name: (origin.model, origin.revision) for name, origin in origins.items()}
    unnamed = [name for name, (model, _) in models.items() if model is None]
    if unnamed:
        raise ValueError(f"{', '.join(unnamed)} does not name its model")
    if len(set(models.values())) > 1:
        named = ", ".join(f"{name}: {model}" for name, (model, _) in models.items())
        raise ValueError(f"the circuits are of different models ({named})")
    model, revision = next(iter(models.values()))
    return str(model), revision


def _columns(origins: Mapping[str, Provenance], changed: Mapping[str, Any]) -> tuple[Column, ...]:
    """Return one column for each distinct task, in the circuits' order."""
    without = [name for name, origin in origins.items() if origin.task is None]
    if without:
        raise ValueError(f"{', '.join(without)} does not name its task")
    columns: list[Column] = []
    for name, origin in origins.items():
        own = Column((name,), str(origin.task), {**origin.task_settings, **changed}, origin.ablation or "patch")
        same = [i for i, column in enumerate(columns) if _asks_the_same(column, own)]
        if same:
            columns[same[0]] = Column((*columns[same[0]].of, name), own.task, own.settings, own.ablation)
        else:
            columns.append(own)
    return tuple(columns)


def _asks_the_same(a: Column, b: Column) -> bool:
    return (a.task, a.settings, a.ablation) == (b.task, b.settings, b.ablation)
