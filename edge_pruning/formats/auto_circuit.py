"""auto-circuit's scores (Miller and others 2024): a matrix for each reading module, in a torch file or in JSON.

    {"blocks.0.hook_q_input": [head, writer], "blocks.0.hook_mlp_in": [writer], ...,
     "blocks.11.hook_resid_post": [writer]}

Writers are those before the module, in order of computation: one embedding, then the heads and the MLP of each layer.
Keys and values have a row per head, or per key-value head if heads share them. If a model was divided into
whole heads (`hook_attn_in`), an edge into a head represents those into its query, key and value.

The tool ranks by absolute value, and its files contain no size: booleans are a circuit, and of numbers, those other
than 0. A circuit is therefore written as its scores, with 0 for every other edge.
"""

from __future__ import annotations

import io
import re
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
from edge_pruning.formats.edge_table import shown
from edge_pruning.formats.format import Format, Found, circuit_format
from edge_pruning.formats.shape import shape_from
from edge_pruning.formats.torch_file import is_torch, read_torch
from edge_pruning.graph import Graph
from edge_pruning.provenance import Provenance
from edge_pruning.recount import Embeddings

MODULE = re.compile(r"blocks\.(\d+)\.hook_(q_input|k_input|v_input|attn_in|mlp_in|resid_post)")
HEADS = {"q_input": 0, "k_input": 1, "v_input": 2}
JSON = ".json"
Scores = Mapping[str, Tensor]


@circuit_format
@dataclass(frozen=True)
class AutoCircuit(Format):
    """Written as a torch file, or as JSON if its name ends in .json."""

    name: ClassVar[str] = "auto-circuit"
    summary: ClassVar[str] = "auto-circuit's prune scores: a matrix for each module that reads; torch file or JSON"
    suffixes: ClassVar[tuple[str, ...]] = (".pt", ".pth", ".pkl", JSON)
    embeddings: ClassVar[Embeddings | None] = "joint"

    @classmethod
    def holds(cls, content: Any) -> bool:
        return isinstance(content, dict) and any(isinstance(name, str) and MODULE.fullmatch(name) for name in content)

    def read(self, path: Path, shape: Mapping[str, Any]) -> Found:
        modules = _matrices(read_torch(path) if is_torch(path) else files.read_json(path))
        graph = _graph(modules, shape)
        scores, notices = torch.zeros(graph.edge_mask.shape), []
        for name, (layer, kind) in _places(modules).items():
            _fill(scores, graph, layer, kind, name, modules[name])
        if any(kind == "attn_in" for _, kind in _places(modules).values()):
            notices.append("heads are not divided into queries, keys and values: an edge into a head stands for three")
        kept = (scores != 0) & graph.edge_mask
        if all(matrix.dtype == torch.bool for matrix in modules.values()):
            return Found(Circuit(graph, kept, provenance=Provenance({"source": {"file": path.name}})), tuple(notices))
        circuit = Circuit(graph, kept, EdgeScores(graph, scores), Provenance({"source": {"file": path.name}}))
        circuit, signs = eap_ig.incoming_scores(circuit, signed=False)
        size = f"the file contains no size: its {int(kept.sum()):,} edges with a score other than 0 are the circuit; " \
               "--edges K keeps the best K"
        return Found(circuit, (*notices, size, *signs))

    def write(self, circuit: Circuit, path: Path) -> list[str]:
        scores, notices = _positive(circuit)
        graph = circuit.graph
        matrices = {
            name: scores[: _before(graph, layer, kind), _columns(graph, layer, kind)].T.squeeze(0).contiguous()
            for layer in range(graph.shape.layers)
            for kind in (*HEADS, "mlp_in", *(["resid_post"] if layer == graph.shape.layers - 1 else []))
            for name in [f"blocks.{layer}.hook_{kind}"]
        }
        if path.suffix.lower() == JSON:
            files.write_json(path, {name: matrix.tolist() for name, matrix in matrices.items()})
        else:
            file = io.BytesIO()
            torch.save(matrices, file)
            files.write_bytes(path, file.getvalue())
        return notices


# --- the modules of a file --------------------------------------------------------------------------------------------


def _matrices(content: Any) -> dict[str, Tensor]:
    """Return the modules as tensors. Raises ValueError with all problems unless they are modules with matrices."""
    if not AutoCircuit.holds(content):
        got = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"expected modules such as blocks.0.hook_q_input with their scores; got {got or 'none':.120}")
    unknown = [str(name) for name in content if not (isinstance(name, str) and MODULE.fullmatch(name))]
    problems = [f"{len(unknown):,} names are no modules that read: {shown(unknown)}"] if unknown else []
    found = {}
    for name, value in content.items():
        try:
            matrix = value.detach() if isinstance(value, Tensor) else torch.tensor(value)
            matrix = matrix if matrix.dtype == torch.bool else matrix.float()
            if not matrix.dim() or not matrix.isfinite().all():
                raise ValueError
            found[name] = matrix
        except (ValueError, TypeError, RuntimeError, OverflowError, NotImplementedError):
            problems.append(f"{name}: expected a matrix of finite numbers")
    if problems:
        raise ValueError("; ".join(problems))
    return found


def _places(modules: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    """Return the layer and kind of each module."""
    matches = {name: MODULE.fullmatch(name) for name in modules}
    return {name: (int(match[1]), match[2]) for name, match in matches.items() if match}


def _graph(modules: Scores, given: Mapping[str, Any]) -> Graph:
    """Return the graph of the modules. Raises ValueError unless they are all modules of one model."""
    by_place = {place: modules[name] for name, place in _places(modules).items()}
    layers = max(layer for layer, _ in by_place) + 1
    kinds = {kind for _, kind in by_place}
    attention = ("attn_in",) if "attn_in" in kinds else tuple(HEADS)
    wanted = {(layer, kind) for layer in range(min(layers, 1_000)) for kind in (*attention, "mlp_in")}
    wanted |= {(layers - 1, "resid_post")}
    missing = [f"blocks.{layer}.hook_{kind}" for layer, kind in sorted(wanted - by_place.keys())]
    if missing:
        raise ValueError(f"expected all modules that read; {len(missing):,} are missing: {shown(missing)}")
    heads, shared = (_rows(by_place[0, kind]) for kind in (attention[0], attention[-1]))
    mlp, first = by_place[0, "mlp_in"].shape[-1], by_place[0, attention[0]].shape[-1]
    said = {"layers": layers, "heads": heads, "parallel": mlp == first}
    if shared != heads:
        said["kv_heads"] = shared
    shape = shape_from(said, given)
    return Graph(shape, "joint", "kv" if shape.kv_heads == shared else "query")


def _rows(matrix: Tensor) -> int:
    """Return the rows of a matrix; a single head's module has no axis for heads."""
    return matrix.shape[0] if matrix.dim() > 1 else 1


def _fill(scores: Tensor, graph: Graph, layer: int, kind: str, name: str, matrix: Tensor) -> None:
    """Write a module's scores into the matrix of scores. Raises ValueError for a wrong shape."""
    if kind == "resid_post" and layer != graph.shape.layers - 1:
        raise ValueError(f"{name}: only the last layer's end is read")
    for part in HEADS if kind == "attn_in" else (kind,):
        columns = _columns(graph, layer, part)
        rows = columns.stop - columns.start
        expected = [rows, _before(graph, layer, part)]
        if list(matrix.shape) not in (expected, expected[1:] if rows == 1 else expected):
            positions = "; scores for each position of a prompt cannot be read" if matrix.dim() > 2 else ""
            raise ValueError(f"{name}: expected scores of shape {expected}, got {list(matrix.shape)}{positions}")
        scores[: expected[1], columns] = matrix.reshape(expected).T.float()


def _columns(graph: Graph, layer: int, kind: str) -> slice:
    """Return the readers of a module."""
    if kind == "resid_post":
        return slice(len(graph.readers) - 1, len(graph.readers))
    if kind == "mlp_in":
        return graph.mlp_reader(layer)
    start, heads, shared = graph.attention_readers(layer).start, graph.shape.heads, graph.kv_readers
    begins = (start, start + heads, start + heads + shared, start + heads + 2 * shared)
    return slice(begins[HEADS[kind]], begins[HEADS[kind] + 1])


def _before(graph: Graph, layer: int, kind: str) -> int:
    """Return the number of writers that a module can read."""
    if kind == "resid_post":
        return len(graph.writers)
    return graph.writers_before_mlp(layer) if kind == "mlp_in" else graph.writers_before_attention(layer)


def _positive(circuit: Circuit) -> tuple[Tensor, list[str]]:
    """Return scores above 0 for the circuit's edges, in their order, and 0 for all others."""
    if circuit.scores is None:
        return circuit.mask.float(), ["the circuit has no scores: edges in it got the score 1, all others 0"]
    kept = circuit.mask & (circuit.scores.values > -torch.inf)
    scores = torch.where(kept, circuit.scores.values, circuit.mask.float())
    lowest = float(scores[circuit.mask].min()) if len(circuit) else 1.0
    notices = [f"only the {len(circuit):,} edges of the circuit have scores in the file; all others have 0"]
    if lowest <= 0:
        span = float(scores[circuit.mask].max()) - lowest
        scores, notices = scores - lowest + (span or 1.0) / len(circuit), [
            *notices, "its readers rank by absolute value, so all scores were moved above 0"
        ]
    return scores * circuit.mask, notices
