"""patterns.json: attention patterns of a circuit's heads."""

from __future__ import annotations

import base64
import math
import zlib
from typing import Annotated, NotRequired

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict  # pydantic accepts typing.TypedDict only from Python 3.12

from edge_pruning.contents.values import Count, Number


class Effect(TypedDict):
    node: str
    effect: Number
    effect_by_pair: list[Number]


PICTURE = r"data:image/png;base64,[A-Za-z0-9+/=]+"
Picture = Annotated[str, Field(pattern=f"^{PICTURE}$")]


class ShownImages(TypedDict):
    """What a pair of images has besides. grid: rows and columns of patches. queries: how many positions attend, from
    the first on; they see all positions."""

    pictures: Annotated[list[Picture], Field(min_length=2, max_length=2)]
    grid: Annotated[list[Count], Field(min_length=2, max_length=2)]
    queries: Count


class ShownPair(TypedDict):
    """A pair of texts as tokens, or of images as the names of patches."""

    clean: list[str]
    corrupted: list[str]
    position: Count
    answer: list[str]
    wrong: list[str]
    images: NotRequired[ShownImages]


class Patterns(TypedDict):
    metric: str
    definition: str
    runs: list[str]
    pairs: list[ShownPair]
    heads: list[Effect]
    weights: str


def _fitting(content: Patterns) -> Patterns:
    """Raise ValueError unless the weights have the size that the heads, runs and pairs imply. Does not unpack more than
    that.
    """
    lengths = [len(pair["clean"]) for pair in content["pairs"]]
    expected = len(content["heads"]) * len(content["runs"]) * sum(map(_stored_weights, content["pairs"]))
    try:
        packed = base64.b64decode(content["weights"], validate=True)
        found = len(zlib.decompressobj().decompress(packed, expected + 1))
    except (ValueError, zlib.error):
        raise ValueError("weights: expected zlib-compressed bytes in base64") from None
    if found != expected:
        raise ValueError(f"weights: expected {expected:,} bytes for its heads, runs and pairs, got another number")
    if any(len(head["effect_by_pair"]) != len(lengths) for head in content["heads"]):
        raise ValueError("heads: expected one effect for each pair")
    if any(pair["position"] >= len(pair["clean"]) for pair in content["pairs"]):
        raise ValueError("pairs: expected a position within the tokens")
    grids = [(len(pair["clean"]), pair["images"]["grid"]) for pair in content["pairs"] if "images" in pair]
    if any(math.prod(grid) >= n for n, grid in grids):
        raise ValueError("pairs: expected a position for each patch of the grid, behind at least one other position")
    return content


def _stored_weights(pair: ShownPair) -> int:
    """Weights of one head in one run: those of earlier tokens, or for images those of all positions."""
    n = len(pair["clean"])
    return min(pair["images"]["queries"], n) * n if "images" in pair else n * (n + 1) // 2


PatternsContent = Annotated[Patterns, AfterValidator(_fitting)]
"""patterns.json."""
