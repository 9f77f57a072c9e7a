"""This library's own files: edges as sorted names with provenance, scores in a safetensors file beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from edge_pruning.circuit import FORMAT, Circuit
from edge_pruning.formats.format import Format, Found, circuit_format
from edge_pruning.formats.shape import shape_from


@circuit_format
@dataclass(frozen=True)
class CircuitJson(Format):
    """Written by `discover`, and read by `evaluate`, `draw` and `compare`."""

    name: ClassVar[str] = "circuit"
    summary: ClassVar[str] = "this library's own file: sorted edges, provenance, scores beside it"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    @classmethod
    def holds(cls, content: Any) -> bool:
        return isinstance(content, dict) and content.get("format") == FORMAT

    def read(self, path: Path, shape: Mapping[str, Any]) -> Found:
        circuit = Circuit.load(path)
        shape_from(asdict(circuit.graph.shape), shape)
        return Found(circuit)

    def write(self, circuit: Circuit, path: Path) -> list[str]:
        circuit.save(path, scores_file=f"{path.stem}.scores.safetensors")  # unlike that of a run
        return []
