"""The cost of a run, before it starts: memory and time, from shapes and from a short calibration."""

from edge_pruning.planning.costs import Costs
from edge_pruning.planning.devices import DEVICES, Device, named_device
from edge_pruning.planning.plan import Plan, Work

__all__ = ["DEVICES", "Costs", "Device", "Plan", "Work", "named_device"]
