"""`edge-pruning plan`: estimates the memory and time of a run before it starts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from typer import Option

from edge_pruning.cli import flags, known
from edge_pruning.cli.app import app, prepare
from edge_pruning.cli.errors import errors_reported
from edge_pruning.cli.help import examples, flowing

if TYPE_CHECKING:
    from rich.console import Console

    from edge_pruning.planning import Plan

PLAN = """Estimate the cost of `discover` with the same task and settings: edges, memory and time.

The weights are not needed: the configuration of the model and, if available, its tokenizer suffice. If the weights are
on this machine and fit into memory, the model is loaded and one micro-batch is timed. Otherwise the time is computed
from the number of operations, and the plan says so. [bold]--device[/bold] also accepts the name of a GPU that this
machine does not have: a100, a100-40gb, h100, h200, l4, rtx-4090. [bold]--ranks[/bold] plans for several of them under
torchrun, and says what each needs; with [bold]--shard[/bold], they share out the weights, too.
"""

Calibrate = Annotated[bool | None, Option(
    "--calibrate/--no-calibrate", help="Load the model and time one micro-batch.",
    show_default="if the weights are on this machine",
)]
PlannedDevice = Annotated[str | None, Option(
    "--device",
    help="cpu, cuda or mps; auto: the fastest device on this machine; or the name of another GPU, such as h100.",
)]
Ranks = Annotated[int | None, Option(
    "--ranks", metavar="N", min=1, help="Number of processes that torchrun is to start, each on a device of its own.",
    show_default="1",
)]
Shard = Annotated[bool, Option("--shard", help="The ranks share out the weights, too (--device shard of discover).")]
Json = Annotated[bool, Option("--json", help="Print the plan as JSON.")]


@app.command(help=flowing(PLAN), epilog=examples(
    "plan ioi --model HuggingFaceTB/SmolLM2-135M",
    "plan ioi --model meta-llama/Llama-3.1-8B --device h100 --dtype bfloat16",
    "plan ioi --model codellama/CodeLlama-13b-hf --device a100-40gb --dtype bfloat16 --ranks 8 --shard",
    "plan pairs.jsonl --model FOLDER --preset paper --no-calibrate",
))
def plan(
    task: flags.Task,
    model: flags.Model = None,
    revision: flags.Revision = None,
    edges: flags.Edges = None,
    sparsity: flags.Sparsity = None,
    method: flags.Method = None,
    preset: flags.Preset = None,
    steps: flags.Steps = None,
    batch_size: flags.BatchSize = None,
    setting: flags.Setting = None,
    train: flags.Train = None,
    test: flags.Test = None,
    chat: flags.Chat = False,
    data: flags.Data = None,
    columns: flags.Columns = None,
    embeddings: flags.Embeddings = None,
    heads: flags.Heads = None,
    device: PlannedDevice = None,
    ranks: Ranks = None,
    shard: Shard = False,
    dtype: flags.Dtype = None,
    trust_remote_code: flags.TrustRemoteCode = False,
    calibrate: Calibrate = None,
    as_json: Json = False,
) -> None:
    with errors_reported():
        given = flags.given(
            model=model, revision=revision, method=method, preset=preset, steps=steps, batch_size=batch_size,
            train=train, test=test, embeddings=embeddings, heads=heads, device=device, ranks=ranks,
            shard=shard or None, dtype=dtype, trust_remote_code=trust_remote_code or None, chat=chat or None,
            edges=flags.numbers("--edges", edges, int), sparsity=flags.numbers("--sparsity", sparsity, float),
            settings=flags.assignments("--set", setting), data=flags.data(data, columns),
        )
        known.check_names(task=task, method=method, preset=preset)
        console = prepare()
        from edge_pruning.runs.planned import plan as plan_run

        estimate = plan_run(task, calibrate=calibrate, **given)
        if as_json:
            print(json.dumps(estimate.to_json(), indent=2, ensure_ascii=False))
        else:
            _print(estimate, console)


def _print(estimate: Plan, console: Console) -> None:
    for name, words in _rows(estimate):
        console.print(f"[bold]{name:8}[/bold] {escape(words)}", soft_wrap=True)
    for words in estimate.advice:
        console.print(f"[bold]{'to do':8}[/bold] {escape(words)}", soft_wrap=True)


def _rows(estimate: Plan) -> list[tuple[str, str]]:
    from edge_pruning.planning.plan import duration, gigabytes

    costs, work = estimate.costs, estimate.work
    billions = f"{costs.weights / 1e9:.3g} billion" if costs.weights >= 1e9 else f"{costs.weights / 1e6:.3g} million"
    whose = "counted with another model's tokenizer" if work.guessed else f"{work.train:,} for training"
    folded = "folded weights kept" if estimate.keep_maps else "weights folded at use"
    folded = f"weights shared out over {estimate.ranks} ranks" if estimate.shared else folded
    each = " on each rank" if estimate.ranks > 1 else ""
    held = f"{gigabytes(costs.weights * costs.itemsize)} in {estimate.dtype}"
    if estimate.of_judging:
        held = f"{gigabytes(estimate.of_judging)} in float32, and {held} for the search"
    rows = [
        ("model", f"{estimate.model}: {billions} weights, {held}"),
        *(("edges", f"{count:,} ({convention})") for convention, count in estimate.edges.items()),
        ("pairs", f"about {work.tokens:.0f} tokens each, {whose}; {estimate.pairs_at_once} of a step's "
                  f"{work.search.step_pairs} at once{each}"),
        ("memory", f"{gigabytes(estimate.at_rest)} at rest, {gigabytes(estimate.peak)} at the peak ({folded}); "
                   f"{gigabytes(estimate.device.free)} free on {estimate.device.name}{each}"),
    ]  # fmt: skip
    if estimate.captured:
        words = f"steps captured as CUDA graphs take up to {gigabytes(estimate.captured)} more, if there is room"
        rows.append(("graphs", words))
    if estimate.shared:
        received = gigabytes(costs.received(estimate.ranks))
        rows.append(("network", f"a step on one micro-batch gathers all weights twice: each rank receives {received}"))
    if not estimate.fits:
        return [*rows, ("fits", f"no: a step on one pair needs {gigabytes(estimate.least)}")]
    if estimate.search_seconds is None or estimate.seconds is None:
        return [*rows, ("time", "no estimate, because this method's cost depends on its intermediate results")]
    step = f"{duration(estimate.step_seconds)} per step" if work.search.gradients else "no step"
    unknown = "; without what ranks send to each other" if estimate.ranks > 1 else ""
    return [*rows, ("time", f"{step}, search {duration(estimate.search_seconds)}, judging about "
                            f"{duration(estimate.judging_seconds)}, together {duration(estimate.seconds)} "
                            f"({estimate.speed.source}{unknown})")]  # fmt: skip
