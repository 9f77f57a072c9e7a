"""A sweep file: settings that all runs share, and grids of settings in which they differ.

    model = "gpt2"              # as in run.toml
    train = 200

    [grid]                      # every combination is one run (a cell)
    task = ["ioi", "greater-than"]
    method = ["eap-ig", "edge-pruning"]
    edges = [100, 200]
    seed = [0, 1, 2]

Every list in a grid is an axis; `edges = [[50, 100], [200]]` gives two cells, the first with two sizes in one run. An
axis may hold tables (`settings = [{steps = 100}, {steps = 500}]`), which are merged with the table above. Several
`[[grid]]` tables add up. A grid's settings replace those that are shared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from edge_pruning import settings_file
from edge_pruning.runs import RunConfig
from edge_pruning.settings_file import NUMBER, SETTINGS, SEVERAL, TABLE, TEXT, WHOLE, problems_in

TABLES = tuple(name for name, kind in SETTINGS.items() if kind == TABLE)
OF_FILE = {name: kind for name, kind in SETTINGS.items() if name != "seeds"}
OF_TOP = {**OF_FILE, "grid": TABLE, "slurm": TABLE}
OF_CELL = {name: kind for name, kind in OF_FILE.items() if name not in ("out", "draw", "patterns")}
OF_SLURM = {
    **dict.fromkeys(("partition", "account", "qos", "constraint", "cluster"), TEXT),
    **dict.fromkeys(("minutes", "cpus", "gpus"), WHOLE), "memory_gb": NUMBER,
}  # fmt: skip
OF_RUN = ("draw", "patterns")  # what becomes of a result: no setting of the search
SHOWN = 3  # cells that an error names


@dataclass(frozen=True)
class Cell:
    """One run of a sweep. name: that of its folder; the same settings have the same name in every sweep."""

    name: str
    config: RunConfig

    @classmethod
    def of(cls, config: RunConfig) -> Cell:
        digest = hashlib.sha256(json.dumps(config.to_json(), sort_keys=True).encode()).hexdigest()[:8]
        return cls(f"{_words(config)}-{digest}", config)


@dataclass(frozen=True)
class Sweep:
    """Cells, in the order of the file. out: where they go. about: arguments of every run. slurm: the table [slurm]."""

    cells: tuple[Cell, ...]
    out: Path
    about: Mapping[str, Any] = field(default_factory=dict)
    slurm: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Sweep:
        """Read a sweep file. Raises ValueError with everything that is wrong with it."""
        content = settings_file.read_toml(path)
        settings_file.refuse_study(path, content)
        cells: list[Cell] = []
        problems = list(_problems(content))
        if not problems:
            cells, problems = _cells(content)
        if problems:
            raise ValueError("\n  ".join([f"{path}, {len(problems)} problem{'s' * (len(problems) > 1)}:", *problems]))
        about = {name: content[name] for name in OF_RUN if name in content}
        out = Path(content.get("out", Path("runs", path.stem)))
        return cls(tuple(cells), out, about, content.get("slurm", {}))


# --- what is wrong with a file ----------------------------------------------------------------------------------------


def _problems(content: Mapping[str, Any]) -> Iterator[str]:
    """Everything that can be said without looking at a single cell."""
    shared = {name: value for name, value in content.items() if name not in ("grid", "slurm")}
    if "seeds" in shared or any(isinstance(grid, dict) and "seeds" in grid for grid in _grids(content)):
        yield "seeds: expected seed = [0, 1, 2] in [grid], so that every seed is a cell"
    yield from problems_in({name: value for name, value in shared.items() if name != "seeds"}, OF_TOP)
    slurm = content.get("slurm", {})
    yield from (
        f"[slurm] {words}" for words in (problems_in(slurm, OF_SLURM) if isinstance(slurm, dict) else ["is no table"])
    )
    if "grid" not in content:
        yield "expected a table [grid] with the settings in which the runs differ"
    for number, grid in enumerate(_grids(content), 1):
        which = "[grid]" if isinstance(content["grid"], dict) else f"[[grid]] {number}"
        yield from (f"{which} {words}" for words in _problems_of(grid))


def _problems_of(grid: Any) -> Iterator[str]:
    if not isinstance(grid, dict):
        yield f"expected a table, got {grid!r}"
        return
    if not grid:
        yield "is empty: expected lists of settings, such as seed = [0, 1, 2]"
    for name, value in grid.items():
        if name == "seeds":
            continue
        if value == []:
            yield f"{name}: the list is empty, so there would be no run; leave it out or name a value"
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, list) and (name not in SEVERAL or not one):
                yield f"{name}: expected single values, got {one!r}"
            else:
                yield from problems_in({name: one}, OF_CELL)


def _grids(content: Mapping[str, Any]) -> list[Any]:
    grids = content.get("grid", [])
    return grids if isinstance(grids, list) else [grids]


# --- cells ------------------------------------------------------------------------------------------------------------


def _cells(content: Mapping[str, Any]) -> tuple[list[Cell], list[str]]:
    """Every combination, and what is wrong with some of them."""
    cells: dict[str, list[Cell]] = {}
    broken: dict[str, list[str]] = {}
    shared = {name: value for name, value in content.items() if name in OF_CELL}
    for grid in _grids(content):
        for point in _points(grid):
            given = _merged(shared, point)
            try:
                cell = Cell.of(RunConfig.of(given)) if "task" in given else None
            except ValueError as error:
                broken.setdefault(str(error), []).append(_point_in_words(point))
                continue
            if cell is None:
                return [], ["expected a task, for all runs (task = ...) or as an axis of [grid]"]
            cells.setdefault(cell.name, []).append(cell)
    problems = [f"{_some(points)}: {words}" for words, points in broken.items()]
    twice = [name for name, same in cells.items() if len(same) > 1]
    if twice:
        problems.append(f"{len(twice)} run{'s' * (len(twice) > 1)} would be done more than once: {_some(twice)}")
    return [first for first, *_ in cells.values()], problems


def _points(grid: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The combinations of a grid; the last axis changes fastest."""
    axes = [value if isinstance(value, list) else [value] for value in grid.values()]
    return (dict(zip(grid, values, strict=True)) for values in product(*axes))


def _merged(shared: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    tables = {name: {**shared.get(name, {}), **point.get(name, {})} for name in TABLES}
    return {**shared, **point, **{name: table for name, table in tables.items() if table}}


def _point_in_words(point: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in point.items())


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def _words(config: RunConfig) -> str:
    """The main settings, as part of a file's name."""
    size = [f"{k}-edges" for k in config.edges] + [f"sparsity-{share:g}" for share in config.sparsity]
    parts = [Path(config.task.replace(":", "-")).stem]
    parts += [] if config.model in ("bundled", config.task) else [Path(config.model.replace(":", "-")).name]
    parts += [config.preset or config.method or "default"]
    parts += [] if config.ablation == "patch" else [config.ablation]
    parts += [f"train-{config.data['train']}"] if "train" in config.data else []
    parts += size if len(size) <= 1 else [f"{len(size)}-sizes"]
    words = "-".join([*parts, f"seed-{config.seed}"])
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in words).lstrip(".")
