"""Presets: methods with settings, under a name.

`default` gave the best KL per edge in the least time (benchmarks/results). `paper`, also called `edge-pruning`, is the
published recipe to the letter.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_pruning.discovery.hap import Hap
from edge_pruning.discovery.hard_concrete import HardConcrete
from edge_pruning.discovery.iterative_pruning import IterativePruning
from edge_pruning.discovery.mattr import Mattr
from edge_pruning.discovery.method import Method
from edge_pruning.discovery.soft_top_k import SoftTopK
from edge_pruning.registry import Registry


@dataclass(frozen=True)
class Preset:
    """A method with its settings, under a name."""

    name: str
    method: Method
    summary: str
    aliases: tuple[str, ...] = ()


PRESETS: Registry[Preset] = Registry("preset", [
    Preset("default", SoftTopK(), "soft top-k begun by EAP-IG, 600 steps: every circuit size from one short run"),
    Preset(
        "thorough", SoftTopK(steps=1500, batch_size=16),
        "soft top-k, 1,500 steps of 16 pairs: five times the work, somewhat better circuits",
    ),
    Preset(
        "hap", Hap("eap-ig", "objective", attributed=64, warm_start=True, steps=90, learning_rate=0.3),
        "EAP-IG keeps 30 % of the edges, soft top-k begins with its ranking: 90 steps",
    ),
    Preset(
        "exact", IterativePruning(attribute_first=True),
        "the fewest edges that keep every output, begun by EAP-IG: for models that are exact, such as programs",
    ),
    Preset(
        "paper", HardConcrete(),
        "Edge Pruning exactly as published: hard concrete masks, 3,000 steps of 32 pairs, one run per size",
        ("edge-pruning",),
    ),
    Preset(
        "paper-short",
        HardConcrete(steps=600, target_steps=450, warmup_steps=40, batch_size=16, initial_log_alpha=2.0),
        "hard concrete that starts where gates can move: 600 steps of 16 pairs",
    ),
    Preset("mattr", Mattr(), "Matryoshka attribution as published: any size alike, Adam 0.05, 5,000 steps of one pair"),
    Preset(
        "mattr-log", Mattr(size="log-uniform", learning_rate=0.1),
        "Matryoshka attribution as published: mostly small sizes, Adam 0.1, 5,000 steps of one pair",
    ),
])


def get_preset(name: str) -> Method:
    """Return the method of a preset. Raises ValueError with the nearest names if there is none."""
    return PRESETS.named(name).method
