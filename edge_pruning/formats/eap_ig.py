"""Shared code for both kinds of EAP-IG file: the model's shape in `cfg`, and the meaning of scores.

EAP-IG (Hanna and others 2024) and MIB (Mueller and others 2025) count one `input`, and keys and values per query head.
They keep the edges with the largest *absolute* scores; here, the highest scores are kept. Scores are therefore read as
absolute values. Written scores with negative values are shifted so that the lowest is 0, which keeps their order under
both conventions. `signed` leaves them unchanged, in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from edge_pruning.circuit import Circuit
from edge_pruning.edge_scores import EdgeScores
from edge_pruning.formats.shape import shape_from
from edge_pruning.graph import Graph

FROM_CFG = {"layers": "n_layers", "heads": "n_heads", "parallel": "parallel_attn_mlp"}


# --- the graph --------------------------------------------------------------------------------------------------------


def graph_from(cfg: Any, given: Mapping[str, Any]) -> Graph:
    """Return the graph that a `cfg` describes. A `cfg` has no key-value heads; `given` may contain them."""
    if not isinstance(cfg, Mapping):
        raise ValueError(f"expected 'cfg' to hold {', '.join(FROM_CFG.values())}; got {cfg!r:.80}")
    said = {name: cfg[theirs] for name, theirs in FROM_CFG.items() if theirs in cfg}
    return Graph(shape_from(said, given), "joint", "query")


def cfg_of(circuit: Circuit) -> tuple[dict[str, Any], list[str]]:
    """Return the `cfg` of a circuit's model."""
    cfg: dict[str, Any] = {theirs: getattr(circuit.graph.shape, name) for name, theirs in FROM_CFG.items()}
    model = circuit.provenance.get("model")
    width = model.get("d_model") if isinstance(model, Mapping) else None
    if width is not None:
        return {**cfg, "d_model": width}, []
    return cfg, ["the width of the model is unknown; EAP-IG's JSON reader needs cfg.d_model: add it there"]


def provenance_from(cfg: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Return the provenance of a circuit, as far as such a file contains it."""
    width = {"model": {"d_model": cfg["d_model"]}} if isinstance(cfg.get("d_model"), int) else {}
    scalars = {name: value for name, value in cfg.items() if _is_json_scalar(value)}
    return {"source": {"file": file, "cfg": scalars}, **width}


def _is_json_scalar(value: Any) -> bool:
    return isinstance(value, str | int | bool) or value is None or isinstance(value, float) and math.isfinite(value)


def refuse_neurons(neurons: bool) -> None:
    if neurons:
        raise ValueError(
            "this is a circuit of neurons; here a circuit is a set of edges between whole heads and MLPs, and leaving "
            "the neurons out would make another circuit of it. Expected a file without neurons"
        )


# --- scores -----------------------------------------------------------------------------------------------------------


def outgoing_scores(circuit: Circuit, *, signed: bool) -> tuple[Tensor, list[str]]:
    """Return scores [w, r], 0 outside the graph, whose largest are the circuit's best edges for EAP-IG as well."""
    graph = circuit.graph
    if circuit.scores is None:
        return circuit.mask.float(), ["the circuit has no scores: edges in it got the score 1, all others 0"]
    scores, notices = circuit.scores.values, []
    candidates = graph.edge_mask & (scores > -torch.inf)
    floor = scores[candidates].min() if candidates.any() else torch.tensor(0.0)
    if left_out := graph.n_edges - int(candidates.sum()):
        notices.append(f"{left_out:,} edges were not candidates and got the lowest score")
    scores = torch.where(candidates, scores, floor)
    if floor < 0 and not signed:
        notices.append(f"EAP-IG and MIB rank by absolute value, so {-float(floor):.4g} was added to every score "
                       "to keep the order; signed leaves scores as they are")
        scores = scores - floor
    return scores * graph.edge_mask, notices


def incoming_scores(circuit: Circuit, *, signed: bool) -> tuple[Circuit, list[str]]:
    """Return the circuit with scores of which the highest are kept first."""
    edges = circuit.graph.edge_mask
    if circuit.scores is None or torch.equal(circuit.scores.values[edges], circuit.mask[edges].float()):
        return replace(circuit, scores=None), []  # scores that only repeat what is in the circuit
    known = edges & (circuit.scores.values > -torch.inf)
    negative = int((circuit.scores.values[known] < 0).sum())
    if signed or not negative:
        return circuit, []
    scores = torch.where(known, circuit.scores.values.abs(), circuit.scores.values)
    notice = f"{negative:,} scores were negative and replaced by their absolute values, by which EAP-IG and MIB rank"
    return replace(circuit, scores=EdgeScores(circuit.graph, scores)), [notice]
