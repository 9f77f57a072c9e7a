"""EAP-IG's and MIB's JSON files: `cfg`, then every node and every edge with whether it is in the circuit.

    {"cfg": {"n_layers": 12, "n_heads": 12, "parallel_attn_mlp": false, "d_model": 768},
     "nodes": {"input": {"in_graph": true}, "a0.h0": {"in_graph": false}, ..., "logits": {"in_graph": true}},
     "edges": {"input->a0.h0<q>": {"score": -0.0003, "in_graph": false}, ...}}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.formats import eap_ig
from edge_pruning.formats.edge_table import EdgeTable, by_writer, circuit_of, shown
from edge_pruning.formats.format import Format, Found, circuit_format
from edge_pruning.recount import Embeddings, KeyValues

KEYS = ("cfg", "nodes", "edges")


@circuit_format
@dataclass(frozen=True)
class EapIgJson(Format):
    """signed: scores keep their sign, and a higher one means keep first (default: see `eap_ig`)."""

    name: ClassVar[str] = "eap-ig-json"
    summary: ClassVar[str] = "EAP-IG and MIB: cfg, nodes and edges with score and in_graph"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    embeddings: ClassVar[Embeddings | None] = "joint"
    kv: ClassVar[KeyValues | None] = "query"

    signed: bool = False

    @classmethod
    def holds(cls, content: Any) -> bool:
        return isinstance(content, dict) and "edges" in content and "format" not in content

    def read(self, path: Path, shape: Mapping[str, Any]) -> Found:
        content = files.read_json(path, made=_compact)
        _check_content(content)
        graph, edges = eap_ig.graph_from(content["cfg"], shape), content["edges"]
        table = EdgeTable(list(edges), [kept for kept, _ in edges.values()], [score for _, score in edges.values()])
        circuit = circuit_of(graph, table, eap_ig.provenance_from(content["cfg"], path.name))
        circuit, notices = eap_ig.incoming_scores(circuit, signed=self.signed)
        return Found(circuit, (*_nodes_in_conflict(circuit, content["nodes"]), *notices))

    def write(self, circuit: Circuit, path: Path) -> list[str]:
        cfg, about_cfg = eap_ig.cfg_of(circuit)
        scores, about_scores = eap_ig.outgoing_scores(circuit, signed=self.signed)
        files.write_parts(path, (part.encode() for part in _parts(circuit, cfg, scores)))
        return [*about_cfg, *about_scores]


def _parts(circuit: Circuit, cfg: Mapping[str, Any], scores: Tensor) -> Iterator[str]:
    """Yield the file in parts, with one edge per line; `scores` are finite, so their `repr` is JSON."""
    graph, used = circuit.graph, circuit.nodes
    nodes = {**{name: {"in_graph": name in used} for name in graph.writers}, "logits": {"in_graph": True}}
    yield f'{{\n"cfg": {json.dumps(cfg, ensure_ascii=False)},\n"nodes": {json.dumps(nodes)},\n"edges": {{'
    comma = ""
    for writer, readers, (kept, values) in by_writer(graph, circuit.mask, scores):
        lines = [
            f'\n"{writer}->{reader}": {{"score": {value!r}, "in_graph": {"true" if keep else "false"}}}'
            for reader, keep, value in zip(readers, kept, values, strict=True)
        ]
        yield comma + ",".join(lines)
        comma = ","
    yield "\n}\n}\n"


def _compact(value: dict[str, Any]) -> Any:
    """Return an edge or a node as a pair (in_graph, score), because a file can have millions of them and pairs are
    small.
    """
    return (value["in_graph"], value.get("score")) if "in_graph" in value and "neurons" not in value else value


def _check_content(content: Any) -> None:
    """Raise ValueError unless the three parts exist and have the right type."""
    if not isinstance(content, dict) or any(not isinstance(content.get(key), dict) for key in KEYS):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"expected an object with {', '.join(KEYS)}, each of them an object; got {found:.200}")
    bad = [name for name, about in content["edges"].items() if not isinstance(about, tuple)]
    if bad:
        raise ValueError(f"expected 'in_graph' for every edge, {len(bad):,} have none: {shown(bad)}")
    eap_ig.refuse_neurons(any(isinstance(node, dict) and "neurons" in node for node in content["nodes"].values()))
    bad = [name for name, about in content["nodes"].items() if not isinstance(_in_graph(about), bool)]
    if bad:
        raise ValueError(f"expected 'in_graph', true or false, for every node, {len(bad):,} have none: {shown(bad)}")


def _in_graph(node: Any) -> Any:
    """Return whether a node is in the circuit. Older files have only this value per node, newer ones an object."""
    return node[0] if isinstance(node, tuple) else node


def _nodes_in_conflict(circuit: Circuit, nodes: Mapping[str, Any]) -> Iterator[str]:
    """Report nodes that are marked as outside although they have edges, which decide. Raises ValueError for unknown
    nodes.
    """
    unknown = [name for name in nodes if name not in {*circuit.graph.writers, "logits"}]
    if unknown:
        raise ValueError(f"{len(unknown):,} names are not nodes of this model: {shown(unknown)}")
    outside = {name for name, about in nodes.items() if not _in_graph(about)}
    if conflict := sorted(outside & circuit.nodes):
        yield f"{len(conflict):,} nodes are marked as outside although they have edges: {shown(conflict)}"
