"""Write what `edge-pruning list` shows, and what names are checked against, into edge_pruning/cli/known.json."""

from edge_pruning import files
from edge_pruning.cli import known

files.write_json(known.TABLE, known.made())
