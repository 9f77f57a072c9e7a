"""The data of the page's script: the circuits with their rankings and numbers, as plain JSON values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from edge_pruning.circuit import Circuit
from edge_pruning.numbers import accuracy_of
from edge_pruning.objectives import OBJECTIVES
from edge_pruning.page.words import picture, verdict
from edge_pruning.recount import recount
from edge_pruning.view.packing import pack_ranking
from edge_pruning.view.source import Json, Source

FORMAT = "edge-pruning/view"
FORMAT_VERSION = 1
NUMBERS = ("kl", "squared_error", "accuracy", "exact_match", "faithfulness")


def content_of(sources: Sequence[Source]) -> dict[str, Any]:
    """All data of the script. Circuits that follow different counting conventions are recounted to be comparable."""
    notices: list[str] = []
    sources = list(_alike(sources, notices))
    circuits = [_circuit(source, i) for i, source in enumerate(sources)]
    for i, source in enumerate(sources):
        if source.truth is not None:
            circuits.append(_truth(source, source.truth, i))
    return {"format": FORMAT, "version": FORMAT_VERSION, "circuits": circuits, "notices": notices}


def _alike(sources: Sequence[Source], notices: list[str]) -> Iterable[Source]:
    if len({source.circuit.graph for source in sources}) == 1:
        yield from sources
        return
    for source in sources:
        circuit, changes = recount(source.circuit, embeddings="joint", kv="kv")
        notices += [f"{source.name} is recounted to be comparable: {change}" for change in changes]
        yield replace(source, circuit=circuit)


def _circuit(source: Source, report: int) -> dict[str, Any]:
    evaluation = source.report["evaluation"] if source.report else {}
    loss = evaluation.get("loss", "kl")
    return {
        **_picture(source.name, source.circuit),
        "kind": "found",
        "title": source.title,
        "report": report if source.report else None,
        "accuracy": accuracy_of(evaluation).heading if evaluation else "accuracy",
        "loss": {"name": loss, "short": OBJECTIVES[loss].short, "unit": OBJECTIVES[loss].unit},
        "points": _points(source),
        "model": _numbers(evaluation.get("model")),
        "empty": _numbers(evaluation.get("empty")),
        "lost": _lost(source.report),
        "seeds": _seeds(source),
        "patterns": source.patterns,
        "example": _example(source),
        "provenance": dict(source.circuit.provenance),
    }


def _truth(source: Source, truth: Circuit, report: int) -> dict[str, Any]:
    return {**_picture(f"the truth of {source.name}", truth), "kind": "truth", "of": report}


def _picture(name: str, circuit: Circuit) -> dict[str, Any]:
    graph = circuit.graph
    return {
        "name": name,
        "graph": {
            "shape": asdict(graph.shape), "embeddings": graph.embeddings, "kv": graph.kv, "edges": graph.n_edges,
            "convention": graph.convention,
        },
        "ranking": pack_ranking(circuit),
    }


def _points(source: Source) -> list[dict[str, Any]]:
    """Measured numbers by size: the report's curve if there is one, else the run's sizes; and the evaluation."""
    report = source.report
    if report and report["curve"]:
        curve = report["curve"]
        points = {row["edges"]: _point(row, curve["split"]) for row in curve["points"]}
    else:
        points = {row["edges"]: _point(row, row["split"]) for row in source.rows if row}
    if report:
        evaluation = report["evaluation"]
        points[evaluation["circuit"]["edges"]] = _point(evaluation["circuit"], evaluation["split"])
    return [points[size] for size in sorted(points) if size]


def _point(row: Json, split: str) -> dict[str, Any]:
    intervals = row.get("interval") or {}
    known = {name: row[name] for name in NUMBERS if row.get(name) is not None}
    ranges = {name: intervals[name] for name in known if name in intervals and None not in intervals[name]}
    return {"edges": row["edges"], "connected": row["edges_without_dangling"], "split": split, **known, "range": ranges}


def _numbers(block: Json | None) -> dict[str, Any]:
    return {name: (block or {}).get(name) for name in NUMBERS}


def _lost(report: Json | None) -> dict[str, Any]:
    """The loss without each edge, where it was measured."""
    rows = (report or {}).get("minimality") or {"rows": ()}
    return {
        row["edge"]: {"loss": row["loss"], "p": row["p"], "verdict": verdict(row["verdict"])} for row in rows["rows"]
    }


def _example(source: Source) -> dict[str, Any] | None:
    """One pair as an example of the task: of the patterns if there are any, else of the report."""
    pairs = (source.patterns or source.report or {}).get("pairs") or ()
    if not pairs:
        return None
    image = picture(pairs[0].get("images") or pairs[0], 0)
    return {**{name: pairs[0][name] for name in ("clean", "answer", "wrong")}, "picture": image}


def _seeds(source: Source) -> dict[str, Any] | None:
    """For each edge of any seed's circuit, how many seeds have it: at the measured size nearest to the circuit's."""
    stability = source.stability or (source.report or {}).get("stability")
    sizes = (stability or {}).get("sizes") or ()
    if not stability or not sizes:
        return None
    nearest = min(sizes, key=lambda size: abs(size["consensus"]["edges"] - len(source.circuit)))
    total = len(stability["seeds"])
    counts: Mapping[str, int] = {**dict.fromkeys(nearest["core"]["names"], total), **nearest["contingent"]}
    return {"of": total, "counts": dict(counts)}
