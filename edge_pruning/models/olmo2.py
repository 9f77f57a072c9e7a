"""OLMo-2: a norm behind each sublayer and none in front; queries and keys are normalised over all heads together.

Readers are linear maps of the stream itself. A norm over all heads' queries makes each head depend a little on what the
others read. It is exact for the same reason as a norm behind a sublayer (`post_norm.py`): all heads share its scale.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from edge_pruning.models.parts import Norm
from edge_pruning.models.post_norm import PostNormDecoder
from edge_pruning.models.registry import adapter


@adapter
class Olmo2(PostNormDecoder):
    """Post-norms only; queries and keys are normalised over all heads together."""

    model_type = "olmo2"
    example = "allenai/OLMo-2-0425-1B", {
        "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 16, "hidden_size": 2048,
    }  # fmt: skip

    def attention_norm(self, layer: int) -> Norm | None:
        return None

    def mlp_norm(self, layer: int) -> Norm | None:
        return None

    def positioned(self, layer: int, q: Tensor, k: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        heads = self.heads(layer)
        q, k = _together(heads.q_norm, q, self.shape.heads), _together(heads.k_norm, k, self.shape.kv_heads)
        return super().positioned(layer, q, k, context)


def _together(norm: Any, x: Tensor, heads: int) -> Tensor:
    """Normalise all heads [h, b, p, e] together; the i-th readers of all key-value heads form one vector."""
    grouped = x.unflatten(0, (heads, -1)).movedim(0, -2)  # [reader of a kv head, b, p, kv head, e]
    return norm(grouped.flatten(-2)).view_as(grouped).movedim(-2, 0).flatten(0, 1)
