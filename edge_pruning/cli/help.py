"""The introductions of `--help`: the idea and the terms of the field, in a few sentences."""

from __future__ import annotations


def examples(*commands: str) -> str:
    return "\n\n".join(["Examples:", *(f"edge-pruning {command}" for command in commands)])


ABOUT = """Find the circuit of a transformer that performs a task.

A transformer's heads and MLPs are [bold]nodes[/bold] of a graph: every node reads the outputs of earlier nodes.
A [bold]circuit[/bold] is a small set of the [bold]edges[/bold] between them that suffices for the task: every
other edge can carry its value on a [bold]corrupted[/bold] prompt. The quality of a circuit is the
[bold]KL divergence[/bold] between the predictions of the model and of the circuit, in nats, on held-out pairs of
prompts: 0 is perfect.

Begin with: [bold]edge-pruning discover ioi[/bold]
"""

DISCOVER = """Find the circuit that performs TASK, measure it on held-out pairs, and draw it.

A pair is a [bold]clean[/bold] and a [bold]corrupted[/bold] prompt that differ in one fact. A method scores every edge,
and the edges with the highest scores form the circuit. The default method learns a mask over the edges by gradient
descent on the KL divergence between the model and the masked model. That is the idea of Edge Pruning, with soft top-k
masks: one short run ranks the edges for all sizes. [bold]--method edge-pruning[/bold] is the published algorithm, with
hard concrete masks and a target sparsity: one longer run for each size.

The report compares the model, the circuit, its [bold]soft mask[/bold] (the trained numbers between 0 and 1, before the
cut), the circuit without [bold]dangling[/bold] edges (those on no path from the input to the logits), the empty circuit
and random circuits. [bold]Faithfulness[/bold] is 0 for the empty circuit and 1 for the model. [bold]Exact match[/bold]
is the share of pairs where the circuit and the model predict the same token. All results are in the run folder.
"""


def flowing(text: str) -> str:
    """Join the lines of each paragraph, so that the terminal wraps them at its own width."""
    return "\n\n".join(" ".join(paragraph.split("\n")) for paragraph in text.strip().split("\n\n"))
