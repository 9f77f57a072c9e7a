"""The card of a compiled program: what it is, how it was made, its true circuits, and where the two truths disagree."""

from __future__ import annotations

from collections.abc import Iterator

from edge_pruning.models.tracr import LIBRARY, Compiled
from edge_pruning.models.tracr.program import BOS
from edge_pruning.models.tracr.reach import Reach
from edge_pruning.truth.truth import Truth, Truths

FALL_BACK = {"one", f"tokens:{BOS}"}


def card(compiled: Compiled, truths: Truths, command: str) -> str:
    """Write the card in Markdown. command: the command that makes the folder."""
    return "\n".join([*_about(compiled, command), *_truths(truths), *_disagreements(compiled, truths)]) + "\n"


def _about(compiled: Compiled, command: str) -> Iterator[str]:
    program, origin = compiled.program, compiled.origin
    entry = LIBRARY.get(program.name)
    outputs = "a number" if program.outputs is None else f"one of {_values(program.outputs)}"
    yield from (f"# {program.name}" + (f": {entry.summary}" if entry else ""), "")
    yield from (
        f"A RASP program, compiled by Tracr. An input is 1 to {program.max_length} values out of "
        f"{_values(program.vocabulary)}; the output at each is {outputs}.", "",
        f"- layers {program.layers}, heads {program.heads}, residual dimensions {len(program.residual)}, "
        f"hidden units {program.hidden}",
        f"- {origin['inputs']:,} of {origin['of']:,} inputs, with the outputs of Tracr's own forward pass; at most "
        f"{compiled.parity_error:.0e} off ours",
        f"- made by `{command}` with tracr-pypi {origin['tracr-pypi']}", "",
    )


def _values(values: tuple[object, ...]) -> str:
    return ", ".join(f"`{value!r}`" for value in values)


def _truths(truths: Truths) -> Iterator[str]:
    columns = "| ablation | embedding writers | edges in the graph | by ablation | by weights |"
    yield from ("## True circuits", "", columns, "|---|---|---|---|---|")
    for truth in truths.truths:
        counts = (truth.graph.n_edges, int(truth.by_ablation.sum()), int(truth.by_weights.sum()))
        yield f"| {truth.ablation} | {truth.graph.embeddings} | " + " | ".join(map(str, counts)) + " |"
    yield ""
    for truth in truths.truths:
        edges = ", ".join(f"`{name}`" for name in truth.graph.names(truth.by_ablation)) or "none: nothing is needed"
        yield from (f"{truth.ablation}, {truth.graph.embeddings}: {edges}", "")
    for truth in truths.truths:
        if truth.other_sizes:
            sizes = " and ".join(map(str, truth.other_sizes))
            yield from (
                f"Under {truth.ablation} ablation ({truth.graph.embeddings}) this is not the only minimal circuit: "
                f"taking edges away in another order ends with {sizes} edges, which say the right thing for another "
                "reason than the program does. An inexact recovery need not be a mistake.", "",
            )


def _disagreements(compiled: Compiled, truths: Truths) -> Iterator[str]:
    yield from ("## Where the two truths disagree", "")
    lines = [line for truth in truths.truths for line in _differences(compiled, truth)]
    yield from lines or ["Nowhere."]


def _differences(compiled: Compiled, truth: Truth) -> Iterator[str]:
    graph, reach = truth.graph, Reach(compiled.model, truth.graph)
    where = f"{truth.ablation}, {graph.embeddings}"
    for name in graph.names(truth.by_weights & ~truth.by_ablation):
        yield f"- `{name}` ({where}) is true by the weights only: {_reason(name, reach.dimensions(name))}."
    for name in graph.names(truth.by_ablation & ~truth.by_weights):
        yield f"- `{name}` ({where}) is true by ablation only: this should not happen, please report it."


def _reason(name: str, dimensions: list[str]) -> str:
    through = f"through {', '.join(f'`{dimension}`' for dimension in dimensions)}"
    if name.endswith(("<q>", "<k>")) and set(dimensions) <= FALL_BACK:
        return (
            f"{through} it lets the head fall back to the BOS symbol where it selects nothing, and on these inputs the "
            "output never depends on that"
        )
    if name.endswith(("<q>", "<k>")):
        return f"the head reads {through}, but on these inputs no output depends on what it selects by that"
    return f"it acts {through}, but on these inputs no output depends on it"
