"""`python -m edge_pruning` is the `edge-pruning` command."""

from edge_pruning.cli import main

main()
