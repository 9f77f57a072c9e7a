"""The linear maps of a layer that can be cut: where they are in a Hugging Face model, and their sizes.

A layer has four places at which numbers flow into linear maps, and each of those numbers can be left out:

    attention inputs   read by the maps to queries, keys and values          [d]
    channels           a key-value group's values, read by the output map    [group, e]
    MLP inputs         read by the MLP's maps into its hidden units          [d]
    units              the MLP's hidden units, read by its last map          [f]

A head is all channels of a group; heads that share keys and values are one group. The residual stream keeps its width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from edge_pruning.models import Adapter, check_supported

GATED, PLAIN = (("gate_proj", "up_proj"), "down_proj"), (("fc1",), "fc2")
MLPS = {
    "llama": GATED, "mistral": GATED, "qwen2": GATED, "qwen3": GATED, "gemma": GATED, "granite": GATED, "vit": PLAIN,
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """The sizes that all layers of a model share.

    d: the width of the residual stream.
    groups: groups of heads that share keys and values; equal to `heads` if none do.
    e: numbers per head.
    inward: maps into the MLP's hidden units, two if there is a gate.
    """

    layers: int
    d: int
    heads: int
    groups: int
    e: int
    units: int
    inward: int

    @property
    def heads_per_group(self) -> int:
        return self.heads // self.groups


@dataclass(frozen=True)
class Maps:
    """One layer: the modules that hold its linear maps, and the names of the MLP's maps in and out."""

    attention: nn.Module
    mlp: nn.Module
    names_in: tuple[str, ...]
    name_out: str

    @property
    def qkv(self) -> tuple[nn.Linear, ...]:
        return self.of_attention("q_proj"), self.of_attention("k_proj"), self.of_attention("v_proj")

    @property
    def out(self) -> nn.Linear:
        return self.of_attention("o_proj")

    @property
    def inward(self) -> tuple[nn.Linear, ...]:
        return tuple(getattr(self.mlp, name) for name in self.names_in)

    @property
    def outward(self) -> nn.Linear:
        linear: nn.Linear = getattr(self.mlp, self.name_out)
        return linear

    def of_attention(self, name: str) -> nn.Linear:
        linear: nn.Linear = getattr(self.attention, name)
        return linear

    @property
    def by_place(self) -> dict[str, tuple[nn.Linear, ...]]:
        """The maps that read at each place."""
        return {
            "attention_inputs": self.qkv,
            "channels": (self.out,),
            "mlp_inputs": self.inward,
            "units": (self.outward,),
        }


class Layout:
    """The layers of a Hugging Face model that can be shrunk. Raises ValueError, with the reason, for any other."""

    def __init__(self, hf: Any) -> None:
        check_shrinkable(hf.config)
        self.hf = hf
        self.adapter: Any = check_supported(hf.config)(hf)
        self.names_in, self.name_out = MLPS[hf.config.model_type]

    def __iter__(self) -> Iterator[Maps]:
        return (self.layer(i) for i in range(self.adapter.shape.layers))

    def layer(self, i: int) -> Maps:
        return Maps(self.adapter.heads(i), self.adapter.block(i).mlp, self.names_in, self.name_out)

    def block(self, i: int) -> Any:
        return self.adapter.block(i)

    @property
    def sizes(self) -> Sizes:
        """The sizes of a whole model; meaningless for one that has been cut."""
        shape, first = self.adapter.shape, self.layer(0)
        return Sizes(
            shape.layers, self.adapter.d_model, shape.heads, shape.kv_heads, first.out.in_features // shape.heads,
            first.outward.in_features, len(self.names_in),
        )  # fmt: skip


def check_shrinkable(config: Any) -> type[Adapter]:
    """Return the family of a configuration. Raises ValueError with the reason if its models cannot be shrunk."""
    family = check_supported(config)
    if family.model_type not in MLPS:
        raise ValueError(
            f"models of type {family.model_type!r} cannot be shrunk: {_reason(family.model_type)}. Families that can: "
            f"{', '.join(sorted(MLPS))}"
        )
    return family


def _reason(kind: str) -> str:
    if kind in ("gpt2", "phi3", "falcon", "bloom", "gpt_neox"):
        return "one fused map makes their queries, keys and values"
    if kind in ("mixtral", "qwen3_moe", "gpt_oss"):
        return "their MLPs are mixtures of experts"
    if kind in ("olmo2", "cohere", "stablelm", "phi", "gemma2", "gemma3_text"):
        return "they have norms that depend on how many heads there are, or that act on the sum of all heads"
    return "where their maps are has not been written down in shrink/layout.py"
