"""A ranking of edges as a few bytes per edge, for a page that carries all of it.

Edges are numbered in graph order (`Graph.names` of all edges). Stored are the numbers of the edges, strongest first,
and their scores, cut to the upper three bytes of a 32-bit float (four significant digits). Both lie byte plane after
byte plane (all lowest bytes first), because sorted numbers have upper bytes that repeat, and are then compressed (zlib)
and written as base64. 70,000 edges take about 300 KB.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_pruning.circuit import Circuit

MOST_RANKED = 100_000  # edges that a page carries; of larger rankings the strongest
Numbers = NDArray[np.uint32]


def pack_ranking(circuit: Circuit, most: int = MOST_RANKED) -> dict[str, Any]:
    """The circuit's ranking, and which of its edges the circuit has.

    order: graph order for a circuit without scores. count: how many edges are stored; ranked: how many have a score.
    size: how many edges the circuit has; held: how many of these are stored; found: the numbers of those, null where
    they are simply the strongest. Stored are the strongest `most` edges, and the strongest `most` of the circuit.
    """
    order, scores = _ranked(circuit, most)
    own = _own(circuit)
    is_top = bool((order[: len(own)] == own[: len(order)]).all())
    held = own[:most]
    missing = held[~np.isin(held, order)]
    order = np.concatenate([order, missing])
    planes = max(1, (int(circuit.graph.n_edges).bit_length() + 7) // 8)
    if scores is not None:
        values = circuit.scores.values[circuit.graph.edge_mask].numpy()  # type: ignore[union-attr]
        scores = np.concatenate([scores, values[missing]]).astype(np.float32)
    return {
        "count": len(order),
        "ranked": circuit.scores.n_candidates if circuit.scores is not None else len(order),
        "id_planes": planes,
        "ids": _packed(order.astype(np.uint32), planes),
        "scores": None if scores is None else _packed(_upper_bytes(scores), 3),
        "size": len(own),
        "held": len(held),
        "found": None if is_top else pack_numbers(np.sort(held)),
    }


def edge_numbers(circuit: Circuit) -> Tensor:
    """Every edge's number in graph order [w, r]; -1 where there is no edge."""
    mask = circuit.graph.edge_mask
    numbers = torch.full(mask.shape, -1, dtype=torch.long)
    numbers[mask] = torch.arange(circuit.graph.n_edges)
    return numbers


def pack_numbers(numbers: NDArray[np.int64]) -> dict[str, Any]:
    """A set of edge numbers."""
    return {"count": len(numbers), "id_planes": 4, "ids": _packed(numbers.astype(np.uint32), 4)}


def _own(circuit: Circuit) -> NDArray[np.int64]:
    """The circuit's edges, strongest first; in graph order without scores."""
    own = edge_numbers(circuit)[circuit.mask]
    if circuit.scores is not None:
        own = own[circuit.scores.values[circuit.mask].argsort(descending=True, stable=True)]
    return own.numpy()


def _ranked(circuit: Circuit, most: int) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
    """Edge numbers, strongest first (ties in graph order, as `EdgeScores.top` cuts), and their scores."""
    if circuit.scores is None:
        return _own(circuit)[:most], None
    values = circuit.scores.values[circuit.graph.edge_mask]
    order = values.argsort(descending=True, stable=True)[: min(most, circuit.scores.n_candidates)]
    return order.numpy(), values[order].numpy()


def _upper_bytes(scores: NDArray[np.float32]) -> Numbers:
    """Bits of the scores, rounded to the nearest number whose lowest byte is 0, without that byte."""
    bits = scores.view(np.uint32).astype(np.uint64)
    return (np.minimum(bits + 0x80, 0xFFFFFFFF) >> 8).astype(np.uint32)


def _packed(numbers: Numbers, planes: int) -> str:
    bytes_of = np.stack([(numbers >> (8 * plane)) & 0xFF for plane in range(planes)]).astype(np.uint8)
    return base64.b64encode(zlib.compress(bytes_of.tobytes(), 9)).decode()
