"""GPT-J: parallel blocks whose heads and MLP share one LayerNorm; partial rotary positions that pair neighbours."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from edge_pruning.models.attention import causal_attention
from edge_pruning.models.decoder import ungated_mlp
from edge_pruning.models.parts import Mlp, Norm
from edge_pruning.models.registry import adapter
from edge_pruning.models.rotary import rotate_neighbours
from edge_pruning.models.transformer_h import TransformerH


@adapter
class GptJ(TransformerH):
    """Parallel blocks with one shared norm, partial rotary in pairs of neighbours."""

    model_type = "gptj"
    example = "EleutherAI/gpt-j-6b", {"num_hidden_layers": 28, "num_attention_heads": 16, "hidden_size": 4096}
    parallel = True

    @property
    def kv_heads(self) -> int:
        return self.config.num_attention_heads

    @property
    def words(self) -> nn.Module:
        return self.body.wte

    def heads(self, layer: int) -> Any:
        return self.block(layer).attn

    def attention_norm(self, layer: int) -> Norm:
        return self.norm(self.block(layer).ln_1)

    def mlp_norm(self, layer: int) -> Norm:
        return self.attention_norm(layer)

    def out_map(self, layer: int) -> nn.Linear:
        return self.heads(layer).out_proj

    def context(self, width: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [p, n]. A row of the model's own table has the sines of all pairs, then their cosines."""
        holder = getattr(self.body, "rotary_emb", None) or self.heads(0)  # one per layer before transformers 5.24
        sin, cos = holder.embed_positions[:width].to(self.device, self.dtype).chunk(2, -1)
        return cos.repeat_interleave(2, -1), sin.repeat_interleave(2, -1)

    def positioned(self, layer: int, q: Tensor, k: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        return rotate_neighbours(q, *context), rotate_neighbours(k, *context)

    def attend_to(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return causal_attention(q, k, v, q.shape[-1] ** -0.5)

    def mlp(self, layer: int) -> Mlp:
        mlp = self.block(layer).mlp
        return ungated_mlp(self.mlp_norm(layer), mlp.fc_in, mlp.act, mlp.fc_out)
