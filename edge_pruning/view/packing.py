"""Pack a ranking of edges into a few bytes per edge, for a page that contains all of it.

Edges are numbered in graph order (`Graph.names` of all edges). The page holds the numbers of the edges, strongest
first, and their scores, rounded to the upper three bytes of a 32-bit float (four significant digits). Both are stored
byte plane after byte plane (all lowest bytes first), which compresses better because upper bytes repeat. They are
compressed by zlib and written as base64. 70,000 edges take about 300 KB.
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

MOST_RANKED = 100_000  # edges in a page; of a larger ranking, the strongest
Numbers = NDArray[np.uint32]


def pack_ranking(circuit: Circuit, most: int = MOST_RANKED) -> dict[str, Any]:
    """Pack the strongest `most` edges of the ranking, and the strongest `most` edges of the circuit.

    Without scores, the circuit's edges take the place of the ranking, in graph order. The result has:

    count, ids: how many edges are stored, and their packed numbers, in `id_planes` byte planes.
    scores: their packed scores; None without scores.
    ranked: how many edges have a score.
    size: how many edges the circuit has.
    held, found: how many of these are stored, and their packed numbers; `found` is None if they come first in `ids`.
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
    """Pack a set of edge numbers."""
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
    """The bits of the scores without their lowest byte, rounded to the nearest."""
    bits = scores.view(np.uint32).astype(np.uint64)
    return (np.minimum(bits + 0x80, 0xFFFFFFFF) >> 8).astype(np.uint32)


def _packed(numbers: Numbers, planes: int) -> str:
    bytes_of = np.stack([(numbers >> (8 * plane)) & 0xFF for plane in range(planes)]).astype(np.uint8)
    return base64.b64encode(zlib.compress(bytes_of.tobytes(), 9)).decode()
