"""Circuits in the files of other tools: one self-registering file per format; no model is needed."""

from edge_pruning.formats.conversion import Conversion, convert, load
from edge_pruning.formats.format import FORMATS, Format, Found, get_format
from edge_pruning.formats.networkx_graph import to_networkx
from edge_pruning.registry import import_files

import_files(__name__, __path__)

__all__ = ["FORMATS", "Conversion", "Format", "Found", "convert", "get_format", "load", "to_networkx"]
