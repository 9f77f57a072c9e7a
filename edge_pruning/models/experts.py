"""Mixtures of experts: a router sends each token to a few small MLPs. The whole block is one node, `m3`.

A mask changes what the router reads, so a masked run may send a token to other experts than the model does. There the
loss jumps as a function of the mask, and its gradient does not include the jump.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from edge_pruning.models.decoder import Decoder
from edge_pruning.models.parts import Mlp


class ExpertsDecoder(Decoder):
    """A decoder whose MLPs are mixtures of experts in all or in some layers."""

    def is_mixture(self, layer: int) -> bool:
        return not hasattr(self.block(layer).mlp, "gate_proj")

    def mlp(self, layer: int) -> Mlp | None:
        return None if self.is_mixture(layer) else super().mlp(layer)

    def mlp_module(self, layer: int) -> Callable[[Tensor], Tensor]:
        module = self.block(layer).mlp
        return (lambda x: _output(module(x.flatten(0, 1))).view_as(x)) if self.is_mixture(layer) else module


def _output(result: Any) -> Tensor:
    """The MLP's output; some blocks also return the logits of their router."""
    return result[0] if isinstance(result, tuple) else result
