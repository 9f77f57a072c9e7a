"""The masked pass: one run of a transformer with a number between 0 and 1 on every edge.

This is the only package in which an edge is cut. `masked_pass.py` is the readable reference; it is built on
`unmasked_pass.py` (the model as it is), `devices.py`, `tiles.py` (micro-batches), `stream.py` (the equation) and
`layout.py`. `fused.py` is the fast path, with its arithmetic in `folding.py` and its weights in `weights.py`;
`rerun.py` recomputes what one reader's edges change, and `captured.py` replays work as CUDA
graphs, for which `buckets.py` fills up micro-batches to few shapes.
"""

from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.masked_pass.unmasked_pass import Frozen, Writes

__all__ = ["Frozen", "MaskedPass", "Writes"]
