"""GraphML, for Gephi, Cytoscape, yEd and networkx: the circuit's nodes and edges with their attributes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.formats.format import Format, Found, circuit_format
from edge_pruning.formats.networkx_graph import from_networkx, left_out, to_networkx
from edge_pruning.recount import KeyValues


@circuit_format
@dataclass(frozen=True)
class GraphMl(Format):
    """GraphML through networkx; see `networkx_graph`."""

    name: ClassVar[str] = "graphml"
    summary: ClassVar[str] = "GraphML, for Gephi, Cytoscape and networkx: nodes and edges with attributes"
    suffixes: ClassVar[tuple[str, ...]] = (".graphml",)
    kv: ClassVar[KeyValues | None] = "query"
    most_edges: ClassVar[int | None] = 200_000
    why_most: ClassVar[str] = "networkx needs about 6 kB of memory for each"

    def read(self, path: Path, shape: Mapping[str, Any]) -> Found:
        import networkx

        text = files.read_text(path)
        self.check_size(text.count("<edge "))
        try:
            graph = networkx.parse_graphml(text, force_multigraph=True)
        except (ET.ParseError, networkx.NetworkXError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"not a GraphML file: {type(error).__name__}: {error}") from None
        return Found(from_networkx(graph, shape, path.name))

    def write(self, circuit: Circuit, path: Path) -> list[str]:
        import networkx

        self.check_size(len(circuit))
        files.write_text(path, "\n".join(networkx.generate_graphml(to_networkx(circuit))) + "\n")
        return left_out(circuit)
