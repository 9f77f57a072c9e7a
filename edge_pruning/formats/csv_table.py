"""A table of all edges as CSV, for spreadsheets, pandas and R: one row per edge of the graph.

    edge,writer,reader,in_circuit,score
    input->a0.h0<q>,input,a0.h0<q>,true,1.25

A score is empty where the circuit has none. A complete table says by itself which graph it is of, except how many heads
share a key-value head when keys and values are listed per query head.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.formats.format import Format, Found, circuit_format
from edge_pruning.formats.rows import Row, circuit_of, rows_of
from edge_pruning.formats.shape import shape_from
from edge_pruning.graph import EMBEDDING_WRITERS, Graph, ModelShape
from edge_pruning.recount import Embeddings

COLUMNS = ("edge", "writer", "reader", "in_circuit", "score")
NEEDED = ("edge", "in_circuit")
TRUTH = {"true": True, "false": False, "1": True, "0": False}


@circuit_format
@dataclass(frozen=True)
class CsvTable(Format):
    """Only the columns edge and in_circuit are needed when it is read."""

    name: ClassVar[str] = "csv"
    summary: ClassVar[str] = "a table of all edges: edge, writer, reader, in_circuit, score"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    def read(self, path: Path, shape: Mapping[str, Any]) -> Found:
        rows = _rows(files.read_text(path))
        graph = _graph(rows, shape)
        return Found(circuit_of(graph, rows, {"source": {"file": path.name}}))

    def write(self, circuit: Circuit, path: Path) -> list[str]:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in rows_of(circuit):
            writer, _, reader = row.edge.partition("->")
            table.writerow((row.edge, writer, reader, str(row.kept).lower(), "" if row.score is None else row.score))
        files.write_text(path, text.getvalue())
        if circuit.graph.kv == "query":
            shared = f"--shape kv_heads={circuit.graph.shape.kv_heads}"
            return [f"the table cannot say that heads share keys and values; read it with {shared}"]
        return []


def _rows(text: str) -> list[Row]:
    table = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in NEEDED if column not in (table.fieldnames or ())]
    if missing:
        found = ", ".join(map(str, table.fieldnames or ())) or "none"
        raise ValueError(f"expected the columns {', '.join(COLUMNS)}; found {found:.200}, without {', '.join(missing)}")
    try:
        return [_row(line) for line in table]
    except csv.Error as error:
        raise ValueError(f"not a table in CSV: {error}") from None


def _row(line: Mapping[str, str | None]) -> Row:
    kept, score = (line["in_circuit"] or "").strip().lower(), (line.get("score") or "").strip()
    return Row(line["edge"] or "", TRUTH.get(kept, kept), _number(score) if score else None)


def _number(word: str) -> float | str:
    """A word that is no number stays one, to be reported with its edge."""
    try:
        return float(word)
    except ValueError:
        return word


def _graph(rows: list[Row], given: Mapping[str, Any]) -> Graph:
    """The graph whose edges these are. Raises ValueError if only some are listed and no shape was given."""
    names = {row.edge: row.edge.partition("->") for row in rows}
    writers, readers = {writer for writer, _, _ in names.values()}, {reader for _, _, reader in names.values()}
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
    """Whether as many writers and edges are listed as a graph of that shape has."""
    if writers != len(EMBEDDING_WRITERS[embeddings]) + said["layers"] * (said["heads"] + 1):
        return False
    try:
        return Graph(ModelShape(**said), embeddings).n_edges == edges
    except ValueError:
        return False


def _count(form: str, names: set[str]) -> int:
    """One more than the largest number that the form finds in the names."""
    return max((int(match[1]) for name in names if (match := re.fullmatch(form, name))), default=-1) + 1
