"""The title and the caption of a picture of a circuit: its origin, and its size with the counting convention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_pruning.circuit import Circuit
from edge_pruning.provenance import Provenance, titled


def caption_sentences(circuit: Circuit, without_dangling: int) -> list[str]:
    """One sentence about the origin (if the provenance has one), one about the size."""
    graph = circuit.graph
    size = (
        f"{len(circuit):,} edges kept, {without_dangling:,} without dangling ones, of {graph.n_edges:,} in the graph "
        f"(convention: {graph.convention})."
    )
    origin = _origin(circuit.provenance)
    return [origin, size] if origin else [size]


def title_of(circuit: Circuit) -> str | None:
    """What to call a circuit: `TASK in MODEL`, or less if its provenance says less; None if it says neither."""
    return titled(circuit.provenance.task, circuit.provenance.model)


def _origin(provenance: Mapping[str, Any]) -> str:
    if "operation" in provenance and isinstance(provenance.get("of"), list):
        parts = [_origin(part).removesuffix(".") if isinstance(part, Mapping) else "" for part in provenance["of"]]
        known = "; and of ".join(part for part in parts if part)
        return f"{str(provenance['operation']).capitalize()} of {known or f'{len(parts)} circuits'}."
    shown = Provenance(provenance).shown
    return f"{shown}." if shown else ""
