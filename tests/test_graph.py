"""Names, counts and reachability of the graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edge_pruning.graph import Graph, ModelShape

GOLDEN = [
    ("GPT-2 small", ModelShape(12, 12), "joint", "kv", 32_491),
    ("GPT-2 small, tok and pos", ModelShape(12, 12), "split", "kv", 32_936),
    ("Pythia-160m", ModelShape(12, 12, parallel=True), "joint", "kv", 32_347),
    ("Qwen2.5-0.5B", ModelShape(24, 14, 2), "joint", "kv", 79_813),
    ("Qwen2.5-0.5B, per query head", ModelShape(24, 14, 2), "joint", "query", 179_749),
    ("Gemma-2-2B", ModelShape(26, 8, 4), "joint", "kv", 50_610),
    ("Gemma-2-2B, per query head", ModelShape(26, 8, 4), "joint", "query", 74_218),
    ("Llama-3.1-8B", ModelShape(32, 32, 8), "joint", "kv", 805_681),
    ("Llama-3.1-8B, per query head", ModelShape(32, 32, 8), "joint", "query", 1_592_881),
    ("CodeLlama-13B", ModelShape(40, 40), "joint", "kv", 3_877_661),
]
SMALL = [
    Graph(ModelShape(2, 2)),
    Graph(ModelShape(2, 2), "split"),
    Graph(ModelShape(2, 2, parallel=True)),
    Graph(ModelShape(2, 4, 2)),
    Graph(ModelShape(2, 4, 2), "joint", "query"),
    Graph(ModelShape(3, 1)),
]
LARGER = [Graph(ModelShape(5, 6, 3)), Graph(ModelShape(4, 4, parallel=True))]


@pytest.mark.parametrize(("model", "shape", "embeddings", "kv", "edges"), GOLDEN, ids=[row[0] for row in GOLDEN])
def test_edge_counts_are_the_published_ones(
    model: str, shape: ModelShape, embeddings: str, kv: str, edges: int
) -> None:
    graph = Graph(shape, embeddings, kv)  # type: ignore[arg-type]
    assert graph.n_edges == edges


def test_names_are_in_the_order_of_computation() -> None:
    graph = Graph(ModelShape(2, 2, 1), "split")
    assert graph.writers == ("tok", "pos", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1")
    assert graph.readers == (
        "a0.h0<q>", "a0.h1<q>", "a0.h0<k>", "a0.h0<v>", "m0", "a1.h0<q>", "a1.h1<q>", "a1.h0<k>", "a1.h0<v>", "m1",
        "logits",
    )  # fmt: skip


@pytest.mark.parametrize("graph", SMALL, ids=repr)
def test_slices_point_at_the_nodes_they_name(graph: Graph) -> None:
    for i in range(graph.shape.layers):
        heads = [f"a{i}.h{h}" for h in range(graph.shape.heads)]
        assert list(graph.writers[graph.head_writers(i)]) == heads
        assert graph.writers[graph.mlp_writer(i)] == f"m{i}"
        assert graph.readers[graph.mlp_reader(i)] == (f"m{i}",)
        assert all(name.startswith(f"a{i}.") for name in graph.readers[graph.attention_readers(i)])
        assert graph.writers[graph.writers_before_attention(i)] == f"a{i}.h0"
        assert graph.writers[graph.writers_before_mlp(i)] == (heads[0] if graph.shape.parallel else f"m{i}")


@pytest.mark.parametrize("graph", SMALL, ids=repr)
def test_an_edge_exists_where_its_writer_comes_first(graph: Graph) -> None:
    for w, writer in enumerate(graph.writers):
        for r, reader in enumerate(graph.readers):
            assert bool(graph.edge_mask[w, r]) == _comes_first(graph, writer, reader), f"{writer}->{reader}"


def _comes_first(graph: Graph, writer: str, reader: str) -> bool:
    """Literally: by layer, then heads before the MLP, unless they run side by side."""
    if writer in ("input", "tok", "pos") or reader == "logits":
        return True
    written, read = int(writer[1:].split(".")[0]), int(reader[1:].split(".")[0])
    sequential = writer[0] == "a" and reader[0] == "m" and not graph.shape.parallel
    return written < read or (written == read and sequential)


@pytest.mark.parametrize("graph", SMALL, ids=repr)
def test_names_and_masks_are_each_others_inverse(graph: Graph) -> None:
    mask = _random_mask(graph, 0.3, seed=1)
    names = graph.names(mask)
    assert len(set(names)) == int(mask.sum())
    assert torch.equal(graph.mask(reversed(names)), mask)


def test_all_unknown_edges_are_reported_at_once_with_the_nearest_names() -> None:
    graph = Graph(ModelShape(2, 2))
    with pytest.raises(ValueError, match="3 names are not edges") as error:
        graph.mask(["input->m0", "a0.h7->m1", "m1->a0.h0<q>", "inptu->logit"])
    assert "a0.h7->m1 (nearest names: a0.h" in str(error.value)
    assert "m1->a0.h0<q> (the writer does not come before the reader)" in str(error.value)
    assert "input, logits" in str(error.value)
    with pytest.raises(ValueError, match="and 5 more"):
        graph.mask([f"x{i}->y" for i in range(15)])


@pytest.mark.parametrize("sizes", [(0, 2, 0), (2, 0, 0), (2, 4, 3), (1, 2, -1)])
def test_impossible_shapes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="heads divisible by kv_heads; got layers="):
        ModelShape(*sizes)


def test_unknown_conventions_are_refused() -> None:
    with pytest.raises(ValueError, match="expected embeddings 'joint' or 'split' and kv 'kv' or 'query', got 'both'"):
        Graph(ModelShape(1, 1), "both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 'joint' and 'head'"):
        Graph(ModelShape(1, 1), "joint", "head")  # type: ignore[arg-type]


# --- dangling edges ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", SMALL, ids=repr)
@pytest.mark.parametrize("density", [0.05, 0.15, 0.3, 0.6])
def test_without_dangling_keeps_exactly_the_edges_on_some_path(graph: Graph, density: float) -> None:
    for seed in range(10):
        mask = _random_mask(graph, density, seed)
        assert set(graph.names(graph.without_dangling(mask))) == edges_on_paths(graph, graph.names(mask))


@pytest.mark.parametrize("graph", [*SMALL, *LARGER], ids=repr)
@pytest.mark.parametrize("together", [False, True])
def test_one_sweep_finds_what_repeated_sweeps_find(graph: Graph, together: bool) -> None:
    feeds = graph.feeds_together if together else graph.feeds
    for seed, density in enumerate((0.02, 0.05, 0.1, 0.2, 0.5)):
        mask = _random_mask(graph, density, seed)
        reached, leading_on = _swept_repeatedly(graph, mask, feeds)
        assert torch.equal(graph.reached(mask, feeds), reached)
        assert torch.equal(graph.leading_on(mask, feeds), leading_on)
        assert torch.equal(graph.without_dangling(mask, feeds), reached & leading_on)


def _swept_repeatedly(graph: Graph, mask: Tensor, feeds: Tensor) -> tuple[Tensor, Tensor]:
    """The oracle: pass on what is reached over every edge at once, as often as there are nodes in a row."""
    writers = torch.arange(len(graph.writers)) < graph.n_embeddings
    readers = torch.arange(len(graph.readers)) == len(graph.readers) - 1
    for _ in range(2 * graph.shape.layers + 1):
        arrived = (mask & writers[:, None]).any(0)
        writers = writers | (feeds & arrived[:, None]).any(0)
        useful = (mask & readers).any(1)
        readers = readers | (feeds & useful).any(1)
    return mask & writers[:, None], mask & readers


@pytest.mark.parametrize("graph", SMALL, ids=repr)
def test_a_reader_feeds_the_nodes_whose_input_it_is(graph: Graph) -> None:
    for r, reader in enumerate(graph.readers):
        fed = [graph.writers[w] for w in graph.feeds[r].nonzero().flatten().tolist()]
        assert fed == _writers_fed_by(graph, reader)


@pytest.mark.parametrize("graph", SMALL, ids=repr)
def test_removing_dangling_edges_is_idempotent_monotone_and_shrinks(graph: Graph) -> None:
    for seed in range(10):
        small = _random_mask(graph, 0.2, seed)
        large = small | _random_mask(graph, 0.2, seed + 100)
        kept = graph.without_dangling(small)
        assert torch.equal(graph.without_dangling(kept), kept)
        assert not (kept & ~small).any()
        assert not (kept & ~graph.without_dangling(large)).any()


@pytest.mark.parametrize("graph", SMALL, ids=repr)
def test_the_full_graph_has_no_dangling_edges(graph: Graph) -> None:
    assert torch.equal(graph.without_dangling(graph.edge_mask), graph.edge_mask)
    assert not graph.without_dangling(torch.zeros_like(graph.edge_mask)).any()


def test_the_longest_chain_is_followed_to_its_end() -> None:
    graph = Graph(ModelShape(4, 1))
    nodes = [f"{kind}{i}" for i in range(4) for kind in ("a", "m")]
    steps = [("a{}.h0", "a{}.h0<k>") if n[0] == "a" else ("m{}", "m{}") for n in nodes]
    writers = ["input", *(writer.format(n[1]) for n, (writer, _) in zip(nodes, steps, strict=True))]
    readers = [*(reader.format(n[1]) for n, (_, reader) in zip(nodes, steps, strict=True)), "logits"]
    chain = graph.mask(f"{w}->{r}" for w, r in zip(writers, readers, strict=True))
    assert torch.equal(graph.without_dangling(chain), chain)
    broken = chain & ~graph.mask([f"{writers[4]}->{readers[4]}"])
    assert not graph.without_dangling(broken).any()


def edges_on_paths(graph: Graph, edges: list[str]) -> set[str]:
    """The oracle: walk every path from an embedding, by name, and keep the edges of those that end at the logits."""
    leaving: dict[str, list[tuple[str, str]]] = {}
    for edge in edges:
        writer, reader = edge.split("->")
        leaving.setdefault(writer, []).append((edge, reader))
    kept: set[str] = set()

    def walk(writer: str, path: list[str]) -> None:
        for edge, reader in leaving.get(writer, []):
            if reader == "logits":
                kept.update([*path, edge])
            for fed in _writers_fed_by(graph, reader):
                walk(fed, [*path, edge])

    for embedding in ("input", "tok", "pos"):
        walk(embedding, [])
    return kept


def _writers_fed_by(graph: Graph, reader: str) -> list[str]:
    node, _, kind = reader.rstrip(">").partition("<")
    if kind not in ("k", "v") or graph.kv == "query":
        return [] if reader == "logits" else [node]
    layer, shared = node[1:].split(".h")
    group = graph.shape.heads // graph.shape.kv_heads
    return [f"a{layer}.h{h}" for h in range(int(shared) * group, (int(shared) + 1) * group)]


def _random_mask(graph: Graph, density: float, seed: int) -> Tensor:
    drawn = torch.rand(graph.edge_mask.shape, generator=torch.Generator().manual_seed(seed))
    return (drawn < density) & graph.edge_mask


@pytest.mark.parametrize("parallel", [False, True])
def test_sites_are_the_sublayers_in_the_order_of_computation(parallel: bool) -> None:
    """Every reader and every writer but the embeddings once, in the graph's own order; the edges follow from them."""
    graph = Graph(ModelShape(3, 4, 2, parallel), "joint")
    readers = [graph.readers[r] for site in graph.sites for r in range(site.readers.start, site.readers.stop)]
    writers = [graph.writers[w] for site in graph.sites for w in range(site.writers.start, site.writers.stop)]
    assert readers == list(graph.readers)
    assert writers == list(graph.writers[graph.n_embeddings :])
    assert [(site.layer, site.is_mlp) for site in graph.sites[:3]] == [(0, False), (0, True), (1, False)]
    assert graph.sites[1].before == graph.sites[0].before + (0 if parallel else 4)
    assert graph.sites[-1].readers == slice(len(graph.readers) - 1, len(graph.readers))
    assert sum(site.before * (site.readers.stop - site.readers.start) for site in graph.sites) == graph.n_edges
