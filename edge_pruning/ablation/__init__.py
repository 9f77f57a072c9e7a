"""What a removed edge carries instead of its clean value. One file per ablation that needs data."""

from edge_pruning.ablation import mean, resample  # noqa: F401  # registered by being imported
from edge_pruning.ablation.ablation import ABLATIONS, Ablation, Patch, Zero, ablation, get_ablation
from edge_pruning.ablation.mean import Mean
from edge_pruning.ablation.resample import Resample

__all__ = ["ABLATIONS", "Ablation", "Mean", "Patch", "Resample", "Zero", "ablation", "get_ablation"]
