"""From a name, a folder or a hub id to a model that the masked pass can run, checked."""

from edge_pruning.loading.loading import load_model
from edge_pruning.loading.model import Model

__all__ = ["Model", "load_model"]
