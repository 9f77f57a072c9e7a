"""Model families. Importing this package imports all of its files, and each file registers its adapter."""

from edge_pruning.models.adapter import Adapter
from edge_pruning.models.registry import ADAPTERS, adapt, check_supported
from edge_pruning.registry import import_files

import_files(__name__, __path__)

__all__ = ["ADAPTERS", "Adapter", "adapt", "check_supported"]
