"""A report as one HTML page: opens offline, in light and dark, on a desk and on a phone. Needs no model."""

from edge_pruning.page.page import render

__all__ = ["render"]
