"""Model families. Importing this package registers every adapter: each file here that has one."""

from importlib import import_module
from pkgutil import iter_modules

from edge_pruning.models.adapter import Adapter
from edge_pruning.models.registry import ADAPTERS, adapt, check_supported

for _module in iter_modules(__path__):
    if not _module.ispkg:
        import_module(f"{__name__}.{_module.name}")

__all__ = ["ADAPTERS", "Adapter", "adapt", "check_supported"]
