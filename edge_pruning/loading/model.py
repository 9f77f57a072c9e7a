"""A loaded model: a transformer behind its adapter, with its tokenizer, weight fingerprint, and masked passes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edge_pruning.graph import Graph
from edge_pruning.loading.fingerprint import fingerprint, is_sampled
from edge_pruning.loading.placement import SPREAD
from edge_pruning.masked_pass.fused import FusedPass
from edge_pruning.masked_pass.masked_pass import MaskedPass
from edge_pruning.models import Adapter
from edge_pruning.models.parts import PartsAdapter


@dataclass(frozen=True, repr=False)
class Model:
    """A transformer with its tokenizer and its origin.

    unpacked_bits: number of bits per weight in the file that it was unpacked from; None if it was not packed.
    whole_fingerprint: the fingerprint before the weights were shared out over ranks; None if they are whole.
    """

    adapter: Adapter
    tokenizer: Any
    name: str
    revision: str | None = None
    unpacked_bits: float | None = None
    whole_fingerprint: str | None = None
    _engines: dict[Graph, MaskedPass] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        shape = self.adapter.shape
        return f"Model({self.name}, {shape.layers} layers of {shape.heads} heads, {self.dtype} on {self.device})"

    def engine(self, graph: Graph | None = None) -> MaskedPass:
        """Return the masked pass over this model on `graph` (default: one embedding writer, k and v per key-value
        head).

        There is one engine per graph, because engines hold memory that the next pass reuses.
        """
        graph = graph or Graph(self.adapter.shape)
        if graph not in self._engines:
            adapter = self.adapter
            engine = FusedPass(adapter, graph) if isinstance(adapter, PartsAdapter) else MaskedPass(adapter, graph)
            self._engines[graph] = engine
        return self._engines[graph]

    @property
    def device(self) -> str:
        """The device, as `load_model` takes it."""
        places = {self.adapter.layer_device(layer) for layer in range(self.adapter.shape.layers)}
        return SPREAD if len(places) > 1 else str(self.adapter.device)

    @property
    def dtype(self) -> str:
        """The dtype of the weights, such as `float32`."""
        return str(self.adapter.dtype).removeprefix("torch.")

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the current weights; see `fingerprint.py`."""
        return self.whole_fingerprint or fingerprint(self.adapter.hf.named_parameters())

    @property
    def provenance(self) -> dict[str, Any]:
        """The entry of the model in a circuit's provenance."""
        packed = {} if self.unpacked_bits is None else {"weights_unpacked_from_bits": self.unpacked_bits}
        return {"name": self.name, "revision": self.revision, "type": self.adapter.model_type,
                "shape": asdict(self.adapter.shape), "d_model": self.adapter.d_model, **packed,
                "weights": {"fingerprint": self.fingerprint, "sampled": is_sampled(self.adapter.hf.named_parameters())}}
