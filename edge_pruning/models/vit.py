"""ViT for image classification: an image is cut into patches, each a position; class logits come out at the first.

Unusual: prompts are images, attention looks in all directions, and the first position is a learned token that no patch
belongs to, where the class is read. Writers, readers and edges are those of a text model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edge_pruning.models.attention import full_attention
from edge_pruning.models.decoder import Decoder, ungated_mlp
from edge_pruning.models.parts import Mlp, Norm
from edge_pruning.models.registry import adapter
from edge_pruning.pair import ImagePair, Pair


@adapter
class ViT(Decoder):
    """Images in, class logits out; attention in all directions, learned positions, LayerNorm, biases."""

    model_type = "vit"
    example = "google/vit-base-patch16-224", {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768}
    causal = False
    reads_images = True
    loader = "AutoModelForImageClassification"

    @classmethod
    def refusal(cls, config: Any) -> str | None:
        import transformers

        version = tuple(map(int, transformers.__version__.split(".")[:2]))
        return None if version >= (5, 9) else "its modules are named differently before transformers 5.9; upgrade it"

    # --- facts -----------------------------------------------------------------------------------------------------

    @property
    def kv_heads(self) -> int:
        return self.config.num_attention_heads

    @property
    def max_length(self) -> int:
        """Patches and the class token."""
        rows, columns = self.patches
        return rows * columns + 1

    @property
    def patches(self) -> tuple[int, int]:
        """Rows and columns of patches, which are the last positions, row by row."""
        (height, width), (down, across) = self.image_size, _two(self.config.patch_size)
        return height // down, width // across

    @property
    def image_size(self) -> tuple[int, int]:
        return _two(self.config.image_size)

    @property
    def vocabulary(self) -> int:
        return int(self.config.num_labels)

    def width(self, pair: Pair) -> int:
        """Raises ValueError if the pair is no pair of images of the model's size."""
        expected = (self.config.num_channels, *self.image_size)
        shape = tuple(pair.clean.shape) if isinstance(pair, ImagePair) else f"{len(pair.clean)} tokens"
        if shape != expected:
            raise ValueError(
                f"expected pairs of images [channel, height, width] of shape {expected}, got {shape}; the model's own "
                "image processor makes such images (`transformers.AutoImageProcessor`)"
            )
        return self.max_length

    # --- where things are ------------------------------------------------------------------------------------------

    @property
    def body(self) -> Any:
        return self.hf.vit

    def heads(self, layer: int) -> Any:
        return self.block(layer).attention

    def attention_norm(self, layer: int) -> Norm:
        return self.norm(self.block(layer).layernorm_before)

    def mlp_norm(self, layer: int) -> Norm:
        return self.norm(self.block(layer).layernorm_after)

    # --- the five methods ---------------------------------------------------------------------------------------------

    def embed(self, inputs: Tensor, *, split: bool) -> Tensor:
        embeddings = self.body.embeddings
        patches = embeddings.patch_embeddings(inputs.to(self.dtype))
        words = torch.cat([embeddings.cls_token.expand(len(patches), -1, -1), patches], 1)
        positions = embeddings.position_embeddings.expand_as(words)
        return torch.stack([words, positions]) if split else (words + positions)[None]

    def context(self, width: int) -> None:
        return None

    def mix(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        return full_attention(q, k, v, self.heads(layer).scaling)

    def mlp(self, layer: int) -> Mlp:
        mlp = self.block(layer).mlp
        return ungated_mlp(self.mlp_norm(layer), mlp.fc1, mlp.activation_fn, mlp.fc2)

    def unembed(self, x: Tensor) -> Tensor:
        return self.hf.classifier(self.body.layernorm(x))

    # --- for the check at load time --------------------------------------------------------------------------------

    def own_logits(self, inputs: Tensor) -> Tensor:
        """The model's one prediction per image, at every position: only the first is ever compared."""
        return self.hf(inputs).logits[:, None].expand(-1, self.max_length, -1)

    def own_stream(self, inputs: Tensor) -> tuple[Tensor, ...]:
        streams: tuple[Tensor, ...] = self.hf(inputs, output_hidden_states=True).hidden_states
        return streams[: self.shape.layers]

    def sample(self, seed: int) -> list[Pair]:
        """Two pairs of noise."""
        shape = (2, 2, self.config.num_channels, *self.image_size)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return [ImagePair(clean, corrupted) for clean, corrupted in noise.to(self.dtype)]


def _two(size: Any) -> tuple[int, int]:
    """Height and width, from both or from the side of a square."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])
