"""EAP-IG's and MIB's tensor files (`.pt`): the same circuit as matrices [writer, reader], much smaller and faster.

    cfg, src_nodes, dst_nodes, edges_scores, edges_in_graph, nodes_in_graph

Readers are in the order of the matrices: per layer all queries, all keys, all values, then the MLP; `logits` last.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from edge_pruning import files
from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.formats import eap_ig
from edge_pruning.formats.acdc import Acdc
from edge_pruning.formats.auto_circuit import AutoCircuit
from edge_pruning.formats.edge_table import shown
from edge_pruning.formats.format import Format, Found, circuit_format
from edge_pruning.formats.torch_file import read_torch
from edge_pruning.provenance import Provenance
from edge_pruning.recount import Embeddings, KeyValues

KEYS = ("cfg", "src_nodes", "dst_nodes", "edges_scores", "edges_in_graph", "nodes_in_graph")


@circuit_format
@dataclass(frozen=True)
class EapIgTensors(Format):
    """signed: scores keep their sign, and a higher one means keep first (default: see `eap_ig`)."""

    name: ClassVar[str] = "eap-ig-pt"
    summary: ClassVar[str] = "EAP-IG and MIB as tensors; read with weights_only, so that no code of a file is run"
    suffixes: ClassVar[tuple[str, ...]] = (".pt", ".pth")
    embeddings: ClassVar[Embeddings | None] = "joint"
    kv: ClassVar[KeyValues | None] = "query"

    signed: bool = False

    @classmethod
    def holds(cls, content: Any) -> bool:
        return not AutoCircuit.holds(content) and not Acdc.holds(content)

    def read(self, path: Path, shape: Mapping[str, Any]) -> Found:
        content = read_torch(path)
        _check_content(content)
        graph = eap_ig.graph_from(content["cfg"], shape)
        rows, columns = _order(content["src_nodes"], graph.writers), _order(content["dst_nodes"], graph.readers)
        mask, scores = (content[key][rows][:, columns] for key in ("edges_in_graph", "edges_scores"))
        if not scores[graph.edge_mask].isfinite().all():
            raise ValueError(f"{int((~scores[graph.edge_mask].isfinite()).sum()):,} edge scores are not finite numbers")
        provenance = Provenance(eap_ig.provenance_from(content["cfg"], path.name))
        circuit = Circuit(graph, mask.bool(), EdgeScores(graph, scores), provenance)
        circuit, notices = eap_ig.incoming_scores(circuit, signed=self.signed)
        return Found(circuit, tuple(notices))

    def write(self, circuit: Circuit, path: Path) -> list[str]:
        content, notices = content_of(circuit, signed=self.signed)
        file = io.BytesIO()
        torch.save(content, file)
        files.write_bytes(path, file.getvalue())
        return notices


def content_of(circuit: Circuit, *, signed: bool) -> tuple[dict[str, Any], list[str]]:
    """Return the content of such a file for a circuit, and notices about missing information."""
    graph, nodes = circuit.graph, circuit.nodes
    cfg, about_cfg = eap_ig.cfg_of(circuit)
    scores, about_scores = eap_ig.outgoing_scores(circuit, signed=signed)
    content = {
        "cfg": cfg,
        "src_nodes": list(graph.writers),
        "dst_nodes": list(graph.readers),
        "edges_scores": scores,
        "edges_in_graph": circuit.mask,
        "nodes_in_graph": torch.tensor([name in nodes for name in graph.writers]),
    }
    return content, [*about_cfg, *about_scores]


def _check_content(content: Any) -> None:
    """Raise ValueError with all problems unless the parts exist and fit together."""
    if not isinstance(content, dict):
        raise ValueError(f"expected a dictionary with {', '.join(KEYS)}; got {type(content).__name__}")
    missing = [key for key in KEYS if key not in content]
    if missing:
        raise ValueError(f"expected a dictionary with {', '.join(KEYS)}; {', '.join(missing)} are missing")
    eap_ig.refuse_neurons("neurons_in_graph" in content)
    problems = [
        f"expected {key} to be a list of names, got {type(content[key]).__name__}"
        for key in ("src_nodes", "dst_nodes") if not _are_names(content[key])
    ]
    size = [len(content[key]) for key in ("src_nodes", "dst_nodes") if _are_names(content[key])]
    for key in ("edges_scores", "edges_in_graph"):
        value = content[key]
        if not isinstance(value, Tensor) or list(value.shape) != size:
            got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            problems.append(f"expected {key} to be a tensor of shape {size}, [src_nodes, dst_nodes]; got {got}")
    if problems:
        raise ValueError("; ".join(problems))


def _are_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def _order(names: list[str], expected: tuple[str, ...]) -> list[int]:
    """Return the index of each expected name in the file. Raises ValueError with all missing and unknown names."""
    unknown, missing = [n for n in names if n not in set(expected)], [n for n in expected if n not in set(names)]
    if unknown or missing or len(names) != len(expected):
        parts = [f"{len(unknown):,} unknown ({shown(unknown)})"] if unknown else []
        parts += [f"{len(missing):,} missing ({shown(missing)})"] if missing else []
        raise ValueError(
            f"expected the {len(expected):,} nodes of a model of this shape, each once, in src_nodes or dst_nodes: "
            f"{'; '.join(parts) or 'some are listed twice'}"
        )
    place = {name: i for i, name in enumerate(names)}
    return [place[name] for name in expected]


