"""Mixtures of experts: a router sends each token to a few small MLPs. The whole block is one node, `m3`.

A mask weakens what the router and its experts read, so at masks other than the model's own a token may be sent to other
experts than in the model: the loss jumps there, and its gradient does not see the jump.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from edge_pruning.models.decoder import Decoder
from edge_pruning.models.parts import Mlp


class ExpertsDecoder(Decoder):
    """A decoder whose MLPs are mixtures of experts, or in some layers plain."""

    def is_mixture(self, layer: int) -> bool:
        return not hasattr(self.block(layer).mlp, "gate_proj")

    def mlp(self, layer: int) -> Mlp | None:
        return None if self.is_mixture(layer) else super().mlp(layer)

    def mlp_module(self, layer: int) -> Callable[[Tensor], Tensor]:
        module = self.block(layer).mlp
        return (lambda x: _output(module(x.flatten(0, 1))).view_as(x)) if self.is_mixture(layer) else module


def _output(result: Any) -> Tensor:
    """Some blocks return what their router thought as well."""
    return result[0] if isinstance(result, tuple) else result
