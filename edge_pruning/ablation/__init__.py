"""What a removed edge carries instead of its clean value. Every file here registers its ablations."""

from edge_pruning.ablation.ablation import ABLATIONS, Ablation, Patch, Zero, ablation, get_ablation
from edge_pruning.ablation.mean import Mean
from edge_pruning.ablation.resample import Resample
from edge_pruning.registry import import_files

import_files(__name__, __path__)

__all__ = ["ABLATIONS", "Ablation", "Mean", "Patch", "Resample", "Zero", "ablation", "get_ablation"]
