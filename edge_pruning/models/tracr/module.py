"""The transformer that Tracr compiles into: attention in both directions, no norm, ReLU, weights nearly all zero.

    x = E[token] + P[position]
    x = x + sum_h softmax(Q_h K_h^T / sqrt(e)) V_h O_h,        x = x + relu(x W + b) W' + b'        per layer
    logits = x U

Position 0 holds BOS, which a head attends to if it selects nothing else. The attention score of a selected key is 100
above that of others, so the softmax is almost a hard choice.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_pruning.models.tracr.program import Program


def weight_shapes(program: Program) -> dict[str, tuple[int, ...]]:
    """The shape of every weight, by name. Weights of all layers (and heads) are stacked."""
    layers, heads, d, e, f = program.layers, program.heads, len(program.residual), program.key_size, program.hidden
    inward = dict.fromkeys(("query", "key", "value"), (layers, heads, d, e))
    biases = {f"{name}_bias": (layers, heads, e) for name in inward}
    return inward | biases | {
        "tokens": (len(program.tokens), d),
        "positions": (program.max_length + 1, d),
        "out": (layers, heads, e, d),
        "out_bias": (layers, d),
        "mlp_in": (layers, d, f),
        "mlp_in_bias": (layers, f),
        "mlp_out": (layers, f, d),
        "mlp_out_bias": (layers, d),
        "unembed": (d, program.n_outputs),
    }


class TracrTransformer(nn.Module):
    """A compiled program as a module: token ids [b, p] to logits [b, p, output]."""

    def __init__(self, program: Program, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.config = program
        frozen = {name: nn.Parameter(weights[name], requires_grad=False) for name in weight_shapes(program)}
        self.weights = nn.ParameterDict(frozen)

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.embed(inputs).sum(0)
        for layer in range(self.config.layers):
            every_head = x.expand(self.config.heads, *x.shape)
            x = x + self.attend(layer, every_head, every_head, every_head).sum(0) + self.weights["out_bias"][layer]
            x = x + self.feed_forward(layer, x)
        return x @ self.weights["unembed"]

    def embed(self, inputs: Tensor) -> Tensor:
        """What tokens and positions write, [2, b, p, d]."""
        words = self.weights["tokens"][inputs]
        return torch.stack([words, self.weights["positions"][: inputs.shape[1]].expand_as(words)])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What each head writes [h, b, p, d], from what its queries, keys and values read [h, b, p, d]."""
        q, k, v = (self._into_head(layer, name, x) for name, x in (("query", q), ("key", k), ("value", v)))
        mixed = functional.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(self.config.key_size))
        return torch.einsum("hbpe,hed->hbpd", mixed, self.weights["out"][layer])

    def feed_forward(self, layer: int, x: Tensor) -> Tensor:
        """What the MLP writes, from what it reads [..., d]."""
        hidden = functional.relu(x @ self.weights["mlp_in"][layer] + self.weights["mlp_in_bias"][layer])
        return hidden @ self.weights["mlp_out"][layer] + self.weights["mlp_out_bias"][layer]

    def _into_head(self, layer: int, name: str, x: Tensor) -> Tensor:
        y = torch.einsum("hbpd,hde->hbpe", x, self.weights[name][layer])
        return y + self.weights[f"{name}_bias"][layer][:, None, None]
