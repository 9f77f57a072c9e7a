"""The masked pass: one run of a transformer with a number between 0 and 1 on every edge.

This is the only room in which an edge is cut. `masked_pass.py` is the readable reference; the other files are what it
is made of (`stream.py`, `layout.py`) and what makes it fast (`fused.py`, `folding.py`, `rerun.py`, `micro_batches.py`).
"""

from edge_pruning.masked_pass.masked_pass import Frozen, MaskedPass, Writes

__all__ = ["Frozen", "MaskedPass", "Writes"]
