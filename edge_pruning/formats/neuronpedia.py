"""Graph JSON for Neuronpedia and circuit-tracer: nodes in rows by layer, links with weights.

    {"metadata": {"slug", "scan", "prompt_tokens", "prompt"}, "qParams": {},
     "nodes": [{"node_id": "a0.h1", "layer": "0", "ctx_idx": 0, "feature_type": ..., "clerp": "head 1 of layer 0"}],
     "links": [{"source": "a0.h1", "target": "m0", "weight": 1.5, "edges": {"a0.h1->m0": 1.5}}]}

The format is meant for graphs of features at positions. Heads and MLPs are nodes here, all at one position; edges into
a head's query, key and value are one link, whose weight is the highest of their scores. `edges` is our addition, so
that the file can be read again. Graphs of features are refused, because their nodes are not those of a circuit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.formats.edge_table import EdgeTable, circuit_of
from edge_pruning.formats.format import Format, Found, circuit_format
from edge_pruning.formats.networkx_graph import left_out
from edge_pruning.formats.shape import FIELDS, shape_from
from edge_pruning.graph import Graph
from edge_pruning.recount import KeyValues

FEATURE_TYPES = {"a": "attention head", "m": "mlp", "l": "logit"}  # by the first letter of a node; else embedding


@circuit_format
@dataclass(frozen=True)
class Neuronpedia(Format):
    """Graph JSON for the viewers of both tools; only files written by this library can be read."""

    name: ClassVar[str] = "neuronpedia"
    summary: ClassVar[str] = "graph JSON for the viewers of Neuronpedia and circuit-tracer: nodes and weighted links"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    kv: ClassVar[KeyValues | None] = "query"
    most_edges: ClassVar[int | None] = 20_000
    why_most: ClassVar[str] = "its viewers run in a browser"

    @classmethod
    def holds(cls, content: Any) -> bool:
        return isinstance(content, dict) and {"nodes", "links"} <= content.keys() and "edges" not in content

    def read(self, path: Path, shape: Mapping[str, Any]) -> Found:
        content = files.read_json(path)
        links = content.get("links") if isinstance(content, dict) else None
        if not isinstance(links, list):
            raise ValueError("expected an object with nodes and links")
        edges = [link.get("edges") if isinstance(link, dict) else None for link in links]
        bad = [i for i, names in enumerate(edges) if not _is_scored(names)]
        if bad:
            raise ValueError(
                f"expected 'edges' with names and scores in every link, {len(bad):,} have none; a graph of features is "
                "not one of heads and MLPs, so only what this library wrote can be read"
            )
        names = {name: score for scored in edges if scored is not None for name, score in scored.items()}
        about = content["metadata"] if isinstance(content.get("metadata"), dict) else {}
        said = {name: about[name] for name in FIELDS if name in about}
        graph = Graph(shape_from(said, shape), about.get("embeddings", "joint"), "query")
        table = EdgeTable(list(names), [True] * len(names), list(names.values()))
        return Found(circuit_of(graph, table, {"source": {"file": path.name}}))

    def write(self, circuit: Circuit, path: Path) -> list[str]:
        self.check_size(len(circuit))
        files.write_json(path, {
            "metadata": _metadata(circuit, path),
            "qParams": {"linkType": "both", "pinnedIds": [], "clickedId": "logits", "supernodes": [], "sg_pos": ""},
            "nodes": [_node(name, circuit) for name in (*circuit.graph.writers, "logits") if name in circuit.nodes],
            "links": _links(circuit),
        })
        return ["all nodes are at one position, because this circuit has no positions", *left_out(circuit)]


def _is_scored(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


def _metadata(circuit: Circuit, path: Path) -> dict[str, Any]:
    """slug: lower-case letters, digits and dashes. The shape is ours."""
    names = circuit.provenance.names
    words = f"{names.get('task', 'circuit')} {path.stem}".lower()
    return {
        "slug": re.sub(r"[^a-z0-9]+", "-", words).strip("-"),
        "scan": names.get("model", "unknown"),
        "prompt_tokens": [names.get("task", "circuit")],
        "prompt": names.get("task", "circuit"),
        "schema_version": 1,
        "info": {"creator_name": "edge-pruning", "convention": circuit.graph.convention},
        **asdict(circuit.graph.shape),
        "embeddings": circuit.graph.embeddings,
    }


def _node(name: str, circuit: Circuit) -> dict[str, Any]:
    kind = FEATURE_TYPES.get(name[0], "embedding") if name not in ("tok", "pos", "input") else "embedding"
    layer = re.match(r"[am](\d+)", name)
    place = {"embedding": "E", "logit": str(circuit.graph.shape.layers)}.get(kind) or (layer[1] if layer else "0")
    number = circuit.graph.writers.index(name) if name != "logits" else len(circuit.graph.writers)
    return {
        "node_id": name, "jsNodeId": name, "feature": number, "layer": place, "ctx_idx": 0, "reverse_ctx_idx": 0,
        "run_idx": 0, "feature_type": kind, "token_prob": 0.0, "is_target_logit": kind == "logit",
        "clerp": _words(name),
    }  # fmt: skip


def _words(name: str) -> str:
    head, mlp = re.fullmatch(r"a(\d+)\.h(\d+)", name), re.fullmatch(r"m(\d+)", name)
    if head:
        return f"head {head[2]} of layer {head[1]}"
    known = {"input": "embeddings", "tok": "token embeddings", "pos": "position embeddings", "logits": "logits"}
    return f"MLP of layer {mlp[1]}" if mlp else known[name]


def _links(circuit: Circuit) -> list[dict[str, Any]]:
    """Return one link for each pair of nodes; an unknown score is null in `edges`, and 1 as weight."""
    names = circuit.edges
    scores = [-math.inf] * len(names) if circuit.scores is None else circuit.scores.values[circuit.mask].tolist()
    by_pair: dict[tuple[str, str], dict[str, float]] = {}
    for name, score in zip(names, scores, strict=True):
        writer, _, reader = name.partition("->")
        by_pair.setdefault((writer, reader.partition("<")[0]), {})[name] = score
    return [
        {"source": source, "target": target, "weight": 1.0 if max(edges.values()) == -math.inf else max(edges.values()),
         "edges": {name: None if score == -math.inf else score for name, score in edges.items()}}
        for (source, target), edges in by_pair.items()
    ]  # fmt: skip
