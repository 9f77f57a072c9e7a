"""A table of all edges as CSV, for spreadsheets, pandas and R: one row per edge of the graph.

    edge,writer,reader,in_circuit,score
    input->a0.h0<q>,input,a0.h0<q>,true,1.25

A score is empty if the circuit has none. A complete table determines its graph, except for the number of heads that
share a key-value head if keys and values are listed per query head.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.formats.edge_table import EdgeTable, by_writer, circuit_of
from edge_pruning.formats.format import Format, Found, circuit_format
from edge_pruning.formats.shape import shape_from
from edge_pruning.graph import EMBEDDING_WRITERS, Graph, ModelShape
from edge_pruning.recount import Embeddings

COLUMNS = ("edge", "writer", "reader", "in_circuit", "score")
NEEDED = ("edge", "in_circuit")
TRUTH = {"true": True, "false": False, "1": True, "0": False}


@circuit_format
@dataclass(frozen=True)
class CsvTable(Format):
    """When read, only the columns edge and in_circuit are required."""

    name: ClassVar[str] = "csv"
    summary: ClassVar[str] = "a table of all edges: edge, writer, reader, in_circuit, score"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    def read(self, path: Path, shape: Mapping[str, Any]) -> Found:
        table = _table(files.read_text(path))
        return Found(circuit_of(_graph(table.names, shape), table, {"source": {"file": path.name}}))

    def write(self, circuit: Circuit, path: Path) -> list[str]:
        files.write_parts(path, (part.encode() for part in _parts(circuit)))
        if circuit.graph.kv == "query":
            shared = f"--shape kv_heads={circuit.graph.shape.kv_heads}"
            return [f"the table does not contain which heads share keys and values; read it with {shared}"]
        return []


def _parts(circuit: Circuit) -> Iterator[str]:
    """Yield the header, then the rows of each writer. Names of edges need no quotes in CSV."""
    yield ",".join(COLUMNS) + "\n"
    graph = circuit.graph
    scores = torch.full(graph.edge_mask.shape, -torch.inf) if circuit.scores is None else circuit.scores.values
    for writer, readers, (kept, numbers) in by_writer(graph, circuit.mask, scores):
        yield "".join(
            f"{writer}->{reader},{writer},{reader},{str(keep).lower()},{'' if score == -math.inf else score}\n"
            for reader, keep, score in zip(readers, kept, numbers, strict=True)
        )


def _table(text: str) -> EdgeTable:
    lines = csv.reader(io.StringIO(text, newline=""))
    header = next(lines, [])
    missing = [column for column in NEEDED if column not in header]
    if missing:
        found = ", ".join(header) or "none"
        raise ValueError(f"expected the columns {', '.join(COLUMNS)}; found {found:.200}, without {', '.join(missing)}")
    where = [header.index(name) if name in header else len(header) for name in ("edge", "in_circuit", "score")]
    table = EdgeTable([], [], [])
    try:
        for line in lines:
            if line:  # skip empty lines
                words = [*line, *[""] * (len(header) + 1 - len(line))]
                name, kept, score = (words[i].strip() for i in where)
                table.names.append(name)
                table.kept.append(_truth(kept))
                table.scores.append(_number(score) if score else None)
    except csv.Error as error:
        raise ValueError(f"not a table in CSV: {error}") from None
    return table


def _truth(word: str) -> bool | str:
    """Return a truth value; other words are returned unchanged, to be reported with their edge."""
    return TRUTH.get(word.lower(), word.lower())


def _number(word: str) -> float | str:
    """Return a number; other words are returned unchanged, to be reported with their edge."""
    try:
        return float(word)
    except ValueError:
        return word


def _graph(edges: Sequence[str], given: Mapping[str, Any]) -> Graph:
    """Return the graph of these edges. Raises ValueError if only some are listed and no shape was given."""
    names = set(edges)
    writers, readers = ({name.partition("->")[i] for name in names} for i in (0, 2))
    embeddings: Embeddings = "split" if writers & {"tok", "pos"} else "joint"
    said = {
        "layers": _count(r"[am](\d+).*", writers), "heads": _count(r"a\d+\.h(\d+)", writers),
        "parallel": "a0.h0->m0" not in names,
    }
    key_readers = _count(r"a\d+\.h(\d+)<k>", readers)
    if key_readers < said["heads"]:
        said["kv_heads"] = key_readers
    complete = _is_complete(said, embeddings, len(writers), len(names))
    shape = shape_from(said if complete else {}, given, f" (it lists {len(names):,} edges, not all of a graph)")
    return Graph(shape, embeddings, "query" if key_readers > shape.kv_heads else "kv")


def _is_complete(said: Mapping[str, Any], embeddings: Embeddings, writers: int, edges: int) -> bool:
    """Return whether as many writers and edges are listed as a graph of that shape has."""
    if writers != len(EMBEDDING_WRITERS[embeddings]) + said["layers"] * (said["heads"] + 1):
        return False
    try:
        return Graph(ModelShape(**said), embeddings).n_edges == edges
    except ValueError:
        return False


def _count(form: str, names: set[str]) -> int:
    """Return one more than the largest number that the pattern finds in the names."""
    return max((int(match[1]) for name in names if (match := re.fullmatch(form, name))), default=-1) + 1
