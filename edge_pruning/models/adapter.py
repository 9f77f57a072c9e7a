"""What the masked pass needs to know about a model family: one small adapter per family, on untouched modules.

An adapter answers with the model's own weights and modules. `MaskedPass` needs five methods only:

    embed(inputs)                     what the embedding writers write                          [w, b, p, d]
    attend(layer, q, k, v, context)   what the heads write, from what their readers read        [h, b, p, d]
    out_bias(layer)                   what the heads' output map adds that belongs to no head   [d]
    feed_forward(layer, x)            what the MLP writes, from what it reads                   [1, b, p, d]
    unembed(x)                        logits from the final residual stream                     [n, vocab]

A family whose readers are a norm and a linear map is an adapter in parts (`parts.py`): the five methods then follow by
themselves, and the fast path can be used. Parameters of masks never live in a Hugging Face module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor

from edge_pruning.graph import ModelShape
from edge_pruning.models.shards import Shards
from edge_pruning.pair import Pair


class Adapter(ABC):
    """One model family, with the five methods above. `hf` is not changed.

    `causal`: no position sees a later one. If a family is not, its pairs are run whole, beside others of equal length.
    `reads_images`: its prompts are images, not tokens. `loader`: the class in `transformers` that reads its weights.
    `attn_implementation`: how transformers has to compute attention, where what it would choose leaves something out.
    `example`: a public model and its sizes, by the names in its configuration. The first line of a family's docstring
    says what is unusual; both are for docs/models.md.
    """

    model_type: ClassVar[str]
    causal: ClassVar[bool] = True
    reads_images: ClassVar[bool] = False
    loader: ClassVar[str] = "AutoModelForCausalLM"
    attn_implementation: ClassVar[str | None] = None
    example: ClassVar[tuple[str, dict[str, int]]]

    def __init__(self, hf: Any) -> None:
        self.hf = hf
        self.config = hf.config
        self.shards: Shards | None = None  # where its weights are shared out over ranks

    def weights_of(self, group: int, ahead: int | None = None) -> AbstractContextManager[None]:
        """A context with the weights of a layer, or of both ends; without shards (`shards.py`) all are here anyway."""
        return nullcontext() if self.shards is None else self.shards.at(group, ahead)

    @classmethod
    def refusal(cls, config: Any) -> str | None:
        """Why a model with this configuration cannot be run exactly, or None."""
        return None

    # --- facts -----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def shape(self) -> ModelShape: ...

    @property
    def d_model(self) -> int:
        return int(self.config.hidden_size)

    @property
    def max_length(self) -> int:
        """The longest text in tokens."""
        return int(self.config.max_position_embeddings)

    @property
    def vocabulary(self) -> int:
        return int(self.config.vocab_size)

    @property
    def device(self) -> torch.device:
        """Where a run begins and ends: the embeddings'."""
        return next(self.hf.parameters()).device

    def layer_device(self, layer: int) -> torch.device:
        """Where the weights of a layer lie; elsewhere than `device` if the model is spread over several."""
        return self.device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.hf.parameters()).dtype

    def width(self, pair: Pair) -> int:
        """How many positions a whole pair takes."""
        return len(pair.clean)

    @property
    def patches(self) -> tuple[int, int]:
        """Rows and columns of an image's patches, for families that read images."""
        raise NotImplementedError

    # --- the five methods ---------------------------------------------------------------------------------------------

    @abstractmethod
    def embed(self, inputs: Tensor, *, split: bool) -> Tensor:
        """What the embedding writers write: [1, b, p, d], or with `split` tokens and positions apart [2, b, p, d]."""

    def context(self, width: int) -> Any:
        """What attention needs to know about `width` positions (rotary tables, say); the same for every layer."""
        return None

    @abstractmethod
    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, context: Any) -> Tensor:
        """One write per head [h, b, p, d] from what the heads read: q [h, b, p, d], k and v [kv head or h, b, p, d]."""

    def out_bias(self, layer: int) -> Tensor | None:
        """What a layer's output map adds whatever its heads do [d]; it stays in the base sum of the masked pass."""
        return None

    @abstractmethod
    def feed_forward(self, layer: int, x: Tensor) -> Tensor:
        """The MLP's write [1, b, p, d] from its read [1, b, p, d]."""

    @abstractmethod
    def unembed(self, x: Tensor) -> Tensor:
        """Logits [n, vocab] from the final residual stream [n, d], before its norm."""

    # --- for the check at load time --------------------------------------------------------------------------------

    def own_logits(self, inputs: Tensor) -> Tensor:
        """What the model itself says, without this library: [b, p, vocab]."""
        return self.hf(inputs, use_cache=False).logits

    def own_stream(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The residual stream before every layer [b, p, d], as the model itself has it; for the error message."""
        streams: tuple[Tensor, ...] = self.hf(inputs, use_cache=False, output_hidden_states=True).hidden_states
        return streams[:-1]  # the last one is behind the final norm

    def sample(self, seed: int) -> list[Pair]:
        """Two short pairs of random tokens, compared at every position."""
        length = min(8, self.max_length)
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(self.vocabulary, (2, 2, length), generator=generator).tolist()
        none = ((),) * length
        return [Pair(tuple(a), tuple(b), tuple(range(length)), none, none) for a, b in zip(*tokens, strict=True)]
