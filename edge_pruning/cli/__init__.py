"""The `edge-pruning` command: argument parsing and printing only. Every command makes a few calls of the Python API."""

from __future__ import annotations

import os

# Each registers its command.
from edge_pruning.cli import compare, convert, curve, inspect, mib, plan, shrink, study, sweep, tracr, view


def main() -> None:
    # Torch reads this when it is loaded. Threads that spin while they wait for each other make a run many times slower
    # when another program uses the same cores (measured on two busy cores: 0.8 s of CPU time per step instead of 0.1).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # On a CPU, torch keeps compiled code for up to 1,024 shapes of products in bfloat16, at some 1.7 MiB each. A pass
    # over one micro-batch of a large graph has about 100 shapes.
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, "128")
    from edge_pruning.cli.app import app
    from edge_pruning.cli.errors import raise_on_sigterm

    raise_on_sigterm()
    app(prog_name="edge-pruning")


__all__ = ["compare", "convert", "curve", "inspect", "main", "mib", "plan", "shrink", "study", "sweep", "tracr", "view"]
