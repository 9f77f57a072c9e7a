"""A worker on another machine that has claimed a cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_pruning import files
from edge_pruning.sweep.claims import Claims


def someone_else(claims: Claims, cell: str, **changes: Any) -> Path:
    """A claim of another machine's worker."""
    claim = claims.take(cell, "nothing")
    assert claim is not None
    assert claim.content is not None
    files.write_json(claim.path, {**claim.content, "processes": "another machine", **changes})
    return claim.path
