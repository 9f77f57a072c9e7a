"""An interactive HTML page about circuits: a slider over size, focus, comparison, attention patterns."""

from edge_pruning.view.inline import Inline
from edge_pruning.view.page import view_page, view_paths
from edge_pruning.view.source import Source, report_of, sources_of

__all__ = ["Inline", "Source", "report_of", "sources_of", "view_page", "view_paths"]
