"""From a name, a folder or a hub id to a checked model that the masked pass can run."""

from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model

__all__ = ["Model", "load_model"]
