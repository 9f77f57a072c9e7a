"""Circuits in the files of other tools, and back: one file per format, registered by a decorator; without a model."""

from edge_pruning.formats import circuit_json, csv_table, dot, eap_ig_json, eap_ig_tensors, edges_json, graphml
from edge_pruning.formats.conversion import Conversion, convert, load
from edge_pruning.formats.format import FORMATS, Format, Found, get_format
from edge_pruning.formats.networkx_graph import to_networkx

__all__ = [
    "FORMATS",
    "Conversion",
    "Format",
    "Found",
    "circuit_json",
    "convert",
    "csv_table",
    "dot",
    "eap_ig_json",
    "eap_ig_tensors",
    "edges_json",
    "get_format",
    "graphml",
    "load",
    "to_networkx",
]
