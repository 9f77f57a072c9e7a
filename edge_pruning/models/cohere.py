"""Cohere's Command R: parallel blocks whose heads and MLP share one LayerNorm without bias.

Rotary positions pair neighbouring numbers. Logits are scaled. Command R+ also normalises queries and keys, with a gain
of its own for each head.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from edge_pruning.models.decoder import Decoder
from edge_pruning.models.parts import Norm
from edge_pruning.models.registry import adapter
from edge_pruning.models.rotary import rotate_neighbours


@adapter
class Cohere(Decoder):
    """Parallel blocks with one shared norm, rotary pairs of neighbours, scaled logits; optional norms of q and k."""

    model_type = "cohere"
    example = "CohereLabs/c4ai-command-r-v01", {
        "num_hidden_layers": 40, "num_attention_heads": 64, "num_key_value_heads": 64, "hidden_size": 8192,
    }  # fmt: skip
    parallel = True

    @property
    def heads_apart(self) -> bool:
        return not self.config.use_qk_norm

    def norm(self, module: Any) -> Norm:
        return Norm(module, module.weight, None, module.variance_epsilon, centred=True)

    def mlp_norm(self, layer: int) -> Norm | None:
        return self.attention_norm(layer)

    def positioned(self, layer: int, q: Tensor, k: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        heads = self.heads(layer)
        if self.config.use_qk_norm:
            q, k = _by_gains(heads.q_norm, q), _by_gains(heads.k_norm, k)
        return rotate_neighbours(q, *context), rotate_neighbours(k, *context)

    def unembed(self, x: Tensor) -> Tensor:
        return super().unembed(x) * self.hf.logit_scale


def _by_gains(norm: Any, x: Tensor) -> Tensor:
    """Normalise heads [h, b, p, e] with gains [head or kv head, e]; all readers of a key-value head share its gain."""
    grouped = x.unflatten(0, (norm.weight.shape[0], -1)).movedim(0, -2)
    return norm(grouped).movedim(-2, 0).flatten(0, 1)
