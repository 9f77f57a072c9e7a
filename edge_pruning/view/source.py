"""What a page shows of one circuit, read from a run folder or from a circuit file and the files beside it.

A run folder's circuit.json, evaluation.json, curve.json, config.json, report.json and patterns.json are read, and the
stability.json of several seeds. The page leaves out what does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_pruning import files, formats
from edge_pruning.circuit import Circuit
from edge_pruning.contents import (
    ConfigContent,
    EvaluationContent,
    PatternsContent,
    ReportContent,
    Sizes,
    StabilityContent,
)
from edge_pruning.page.page import title_of

Json = Mapping[str, Any]
STABILITY = "stability.json"
KINDS = {
    "evaluation": EvaluationContent, "curve": Sizes, "config": ConfigContent, "report": ReportContent,
    "patterns": PatternsContent,
}


@dataclass(frozen=True, eq=False)
class Source:
    """One circuit and what is known about it.

    report: the content of report.json, or as much of it as evaluation.json has; None if the circuit was not evaluated.
    rows: quality by size, from curve.json.
    patterns: the content of patterns.json.
    settings: of the run; empty for a circuit file.
    stability: the content of stability.json, for one of several seeds.
    path: as the user wrote it.
    """

    name: str
    circuit: Circuit
    report: Json | None = None
    rows: Sequence[Json] = ()
    patterns: Json | None = None
    settings: Json = field(default_factory=dict)
    stability: Json | None = None
    path: Path | None = None

    @property
    def title(self) -> str:
        return self.name if self.report is None else title_of(self.report)

    @property
    def truth(self) -> Circuit | None:
        """The true circuit, if it is known."""
        known = self.report and self.report["evaluation"].get("ground_truth")
        return Circuit.from_names(self.circuit.graph, [*known["hits"], *known["missed"]]) if known else None


def sources_of(paths: Sequence[Path], **of_foreign_files: Any) -> list[Source]:
    """Every circuit at these paths: run folders, folders of several seeds, circuit files (also of other tools).

    of_foreign_files: `shape` and `like`, as `formats.load` takes them.
    Raises ValueError with what is missing or damaged.
    """
    found = [source for path in paths for source in _at(path, of_foreign_files)]
    return [replace(source, name=name) for source, name in zip(found, _distinct([s.name for s in found]), strict=True)]


def report_of(circuit: Circuit, evaluation: Json) -> dict[str, Any]:
    """A report with the content of an evaluation; the sections that it does not have are empty."""
    return {
        "warnings": evaluation["warnings"], "circuit": circuit.to_json(), "evaluation": evaluation,
        "curve": None, "minimality": None, "stability": None, "pairs": [],
    }


def _at(path: Path, of_foreign_files: Json) -> Iterator[Source]:
    if not path.exists():
        raise ValueError(f"{path} does not exist; expected run folders or circuit files")
    if not path.is_dir():
        yield _of_file(path, of_foreign_files)
    elif (path / STABILITY).exists():
        yield from _of_seeds(path)
    else:
        yield _of_folder(path)


def _of_folder(folder: Path, name: str = "") -> Source:
    circuit_file = folder / "circuit.json"
    if not circuit_file.exists():
        raise ValueError(f"{folder} holds no circuit.json; expected the folder of a finished run, or a circuit file")
    circuit = Circuit.load(circuit_file)
    evaluation, curve, config, report, patterns = (
        _read(folder / f"{name}.json", kind) for name, kind in KINDS.items()
    )
    if report is None and evaluation is not None:
        report = report_of(circuit, evaluation)
    return Source(
        name or folder.resolve().name, circuit, report, (curve or {}).get("sizes", ()), patterns,
        (config or {}).get("settings", {}), _stability(folder), folder,
    )


def _of_file(path: Path, of_foreign_files: Json) -> Source:
    circuit = formats.load(path, **of_foreign_files)
    report, evaluation = (
        _read(path.with_name(f"{name}{path.stem.removeprefix('circuit')}.json"), KINDS[name])
        for name in ("report", "evaluation")
    )
    if report is None and evaluation is not None:
        report = report_of(circuit, evaluation)
    curve = _read(path.with_name("curve.json"), Sizes)
    return Source(path.stem, circuit, report, (curve or {}).get("sizes", ()), path=path)


def _of_seeds(folder: Path) -> Iterator[Source]:
    content = files.read_json(folder / STABILITY, StabilityContent)
    for seed in content["seeds"]:
        yield _of_folder(folder / f"seed-{seed}", f"seed {seed}")


def _stability(folder: Path) -> Json | None:
    """The stability.json above a seed's folder; None for any other folder."""
    folder = folder.resolve()
    return _read(folder.parent / STABILITY, StabilityContent) if folder.name.startswith("seed-") else None


def _read(path: Path, kind: Any) -> Json | None:
    return files.read_json(path, kind) if path.exists() else None


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where several are equal."""
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})" for i, name in enumerate(names)
    ]
