"""Write docs/models.md: the table of model families, from the code. `python scripts/models_table.py`"""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig

from edge_pruning.graph import Graph
from edge_pruning.models import ADAPTERS, Adapter
from edge_pruning.models.experts import ExpertsDecoder
from edge_pruning.models.parts import PartsAdapter
from edge_pruning.models.registry import described

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
TEXT = """\
<!-- Written by scripts/models_table.py; do not edit. -->
# Model families

Models are unmodified Hugging Face modules. Every model is checked at load time on a random batch: with all edges kept,
the masked pass must give the model's logits; with all edges ablated, its logits on the corrupted input; with inner
edges ablated, every writer's corrupted output. A model that fails is refused with the law, the error and the layer.

`edge-pruning discover TASK --model NAME` takes a hub id or a folder of any of these, or a GGUF file
(`pip install 'edge-pruning[gguf]'`): `FILE.gguf`, or `OWNER/REPOSITORY/FILE.gguf` on the hub. To add a family,
see [add-a-model.md](add-a-model.md).

| family | what is unusual | path | example | layers, heads (kv) | edges (per query head) | MiB per token |
|---|---|---|---|---|---|---|
{rows}

- **Path**: *fused* joins a norm and the map after it into one step; with *experts*, the MLP's own module runs it. All
  families also run on the general path, which tests compare with the fused one. In *parallel* blocks, heads and MLP
  read the same stream, so the MLP does not read the heads of its layer.
- **Edges**: one embedding writer; key and value readers per key-value head (`--heads kv`), and in brackets per query
  head (`--heads query`). `edge-pruning convert` recounts a circuit, and reports the changes.
- **MiB per token**: memory of one training step for the edges in bfloat16 (differences, their gradients, and the
  reads), in addition to the model's own; after the slash, without the reads (`keep_reads=False`).
- **Norms after a sublayer** (Gemma-2, Gemma-3, OLMo-2) and norms over all heads' queries are exact: heads of a layer
  share the norm's scale. A head's write then depends slightly on the other heads of its layer, so an edge that dangles
  in the usual sense can matter.
- **Mixtures of experts** are one node per layer. A mask can route a token to other experts than the model does; the
  loss then jumps, which its gradient does not show.

These are refused, with the reason: BERT and other post-norm models, whose stream is renormalised at every sublayer
(also OPT-350m); encoder-decoders; recurrent layers; quantised weights, except GPT-OSS's own and those in GGUF files,
which are unpacked on reading; models that combine several, such as a vision and a text model (the text model can be
loaded by itself).

A model that is too large for one GPU can be spread over several: `--device spread`
(`pip install 'edge-pruning[spread]'`). Each holds some layers; results are the same. Weights that would have to stay on
the CPU or on disk are refused.

## Images

A vision transformer's pairs are images, and answers are classes ([vision.md](vision.md)). In Python, pairs can also be
tensors from the model's own image processor:

```python
from edge_pruning.ablation import Patch
from edge_pruning.pair import ImagePair
from edge_pruning.circuit import Circuit
from edge_pruning.discovery import Search, get_method
from edge_pruning.evaluation import evaluate
from edge_pruning.loading.loading import load_model
from edge_pruning.setup import Setup
from edge_pruning.tasks import PairSet

engine = load_model(MODEL).engine()  # google/vit-base-patch16-224, say
pairs = [ImagePair(clean, corrupted, answers=((CLASS,),), wrong=((OTHER,),)) for clean, corrupted in IMAGES]
data = PairSet("my images", "train", "logit_difference", tuple(pairs), ())
scores = get_method("soft-top-k", steps=STEPS).find(Search(engine, data, Patch()))
circuit = Circuit.from_scores(scores, edges=100)
print(evaluate(circuit, Setup(engine, data, Patch()))["circuit"]["kl"])
```
"""


def page() -> str:
    rows = "\n".join(_row(cls) for _, cls in sorted(ADAPTERS.items()))
    return TEXT.replace("{rows}", rows)


def _row(cls: type[Adapter]) -> str:
    name, sizes = cls.example
    adapter = described(AutoConfig.for_model(cls.model_type, **sizes))
    shape, graph = adapter.shape, Graph(adapter.shape)
    heads = str(shape.heads) if shape.kv_heads == shape.heads else f"{shape.heads} ({shape.kv_heads})"
    per_query = Graph(shape, kv="query").n_edges
    edges = f"{graph.n_edges:,}" if per_query == graph.n_edges else f"{graph.n_edges:,} ({per_query:,})"
    kept, recomputed = (_mib_per_token(graph, adapter.d_model, keep_reads=keep) for keep in (True, False))
    cells = (
        f"`{cls.model_type}`", _unusual(cls), _path(cls) + (", parallel" if shape.parallel else ""), name,
        f"{shape.layers}, {heads}", edges, f"{kept:.1f} / {recomputed:.1f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _unusual(cls: type[Adapter]) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0].removesuffix(".")


def _path(cls: type[Adapter]) -> str:
    if issubclass(cls, ExpertsDecoder):
        return "fused, experts"
    return "fused" if issubclass(cls, PartsAdapter) else "general"


def _mib_per_token(graph: Graph, d_model: int, *, keep_reads: bool, bytes_each: int = 2) -> float:
    """Differences and gradients of every writer, and what every reader has read, if that is kept."""
    rows = 2 * len(graph.writers) + (len(graph.readers) if keep_reads else 0)
    return rows * d_model * bytes_each / 2**20


def main() -> None:
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
