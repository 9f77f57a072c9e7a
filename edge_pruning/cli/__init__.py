"""The `edge-pruning` command. Argument parsing and printing only; every command is a few calls of the Python API."""

from __future__ import annotations


def main() -> None:
    from edge_pruning.cli.app import app

    app(prog_name="edge-pruning")


__all__ = ["main"]
