"""DOT, the language of Graphviz: `dot -Tpdf circuit.dot -o circuit.pdf` draws the circuit.

Edges have the hues of this library's own pictures. pydot, called through networkx, quotes all text in a DOT file.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.drawing.stroke import HUES
from edge_pruning.formats.format import Format, Found, circuit_format
from edge_pruning.formats.networkx_graph import from_networkx, left_out, to_networkx
from edge_pruning.formats.shape import FIELDS
from edge_pruning.recount import KeyValues

if TYPE_CHECKING:
    import networkx
    import pydot

log = logging.getLogger("edge_pruning")
EDGE = re.compile(r"\bedge\s*=")  # the attribute that every edge has
SLOW = 1_000


@circuit_format
@dataclass(frozen=True)
class Dot(Format):
    """DOT through networkx and pydot; see `networkx_graph`."""

    name: ClassVar[str] = "dot"
    summary: ClassVar[str] = "DOT, for Graphviz: the circuit's nodes and edges, queries, keys and values by hue"
    suffixes: ClassVar[tuple[str, ...]] = (".dot", ".gv")
    kv: ClassVar[KeyValues | None] = "query"
    most_edges: ClassVar[int | None] = 20_000
    why_most: ClassVar[str] = "Graphviz lays out a few thousand, and pydot reads about 75 a second"

    def read(self, path: Path, shape: Mapping[str, Any]) -> Found:
        text = files.read_text(path)
        edges = len(EDGE.findall(text))
        self.check_size(edges)
        if edges > SLOW:
            log.warning("%s: reading %s edges of a DOT file takes about %.0f seconds", path, f"{edges:,}", edges / 75)
        return Found(from_networkx(_parsed(text), shape, path.name))

    def write(self, circuit: Circuit, path: Path) -> list[str]:
        self.check_size(len(circuit))
        files.write_text(path, _text(to_networkx(circuit)))
        return left_out(circuit)


def _text(graph: networkx.MultiDiGraph) -> str:
    from networkx.drawing.nx_pydot import to_pydot

    for _, _, data in graph.edges(data=True):
        data["color"] = HUES[data["reads"]]
    graph.graph = {"graph": {**graph.graph, "rankdir": "BT"}, "node": {"shape": "box"}}
    text: str = to_pydot(graph).to_string()
    return text


def _parsed(text: str) -> networkx.MultiDiGraph:
    """Parse the first graph of a DOT text, with numbers and truth values converted. Raises ValueError if there is none.
    """
    import networkx
    import pydot

    with contextlib.redirect_stdout(io.StringIO()) as said:  # pydot prints its errors
        found = pydot.graph_from_dot_data(text)
    if not found:
        reason = " ".join(said.getvalue().split()) or "it is empty"
        raise ValueError(f"not a DOT file: {reason:.200}")
    graph = networkx.MultiDiGraph(**{key: _value(value) for key, value in _attributes(found[0]).items()})
    for edge in found[0].get_edges():
        about = _unquoted(edge.get_attributes())
        data = {key: _value(value) if key == "score" else value for key, value in about.items()}
        graph.add_edge(str(edge.get_source()), str(edge.get_destination()), **data)
    return graph


def _attributes(graph: pydot.Dot) -> dict[str, str]:
    """Return the attributes of the graph: `graph [layers=12];` or `layers=12;`."""
    defaults = [attributes for attributes in graph.get_graph_defaults() if isinstance(attributes, dict)]
    merged = {key: value for attributes in (*defaults, graph.get_attributes()) for key, value in attributes.items()}
    return {key: value for key, value in _unquoted(merged).items() if key in (*FIELDS, "embeddings")}


def _unquoted(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value).removeprefix('"').removesuffix('"') for key, value in attributes.items()}


def _value(word: str) -> Any:
    try:
        return json.loads(word.lower())
    except json.JSONDecodeError:
        return word
