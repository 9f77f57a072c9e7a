"""Model families. Importing this package registers every adapter."""

from edge_pruning.models import gpt2, llama  # noqa: F401  (registration)
from edge_pruning.models.adapter import Adapter
from edge_pruning.models.registry import ADAPTERS, adapt, check_supported

__all__ = ["ADAPTERS", "Adapter", "adapt", "check_supported"]
