"""The commands. Each makes a few calls of the Python API and prints the results."""

from __future__ import annotations

import json
import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_pruning import files, ranks
from edge_pruning.cli import flags, known
from edge_pruning.cli.config_file import with_file
from edge_pruning.cli.errors import errors_reported
from edge_pruning.cli.help import ABOUT, DISCOVER, examples, flowing
from edge_pruning.cli.interrupted import what_is_kept
from edge_pruning.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True, help=flowing(ABOUT))
def edge_pruning(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"edge-pruning {__version__}")
        raise typer.Exit


@app.command(help=flowing(DISCOVER), epilog=examples(
    "discover ioi",
    "discover gendered-pronoun --model PATH_OR_HUB_ID --edges 100 --seed 1 --out runs/gp",
    "discover greater-than --edges 30,50,100,200",
    "discover greater-than --sparsity 0.97 --method edge-pruning",
    "discover pairs.jsonl --model gpt2",
    "discover digits --data digit=3 --data other=8",
    "discover ioi --edges 100 --seeds 5",
    "discover ioi --out runs/ioi --resume",
))
def discover(
    task: flags.TaskOrConfig = None,
    model: flags.Model = None,
    revision: flags.Revision = None,
    edges: flags.Edges = None,
    sparsity: flags.Sparsity = None,
    method: flags.Method = None,
    preset: flags.Preset = None,
    steps: flags.Steps = None,
    batch_size: flags.BatchSize = None,
    learning_rate: flags.LearningRate = None,
    setting: flags.Setting = None,
    seed: flags.Seed = None,
    seeds: flags.Seeds = None,
    polish: flags.Polish = False,
    ablation: flags.Ablation = None,
    train: flags.Train = None,
    test: flags.Test = None,
    chat: flags.Chat = False,
    data: flags.Data = None,
    columns: flags.Columns = None,
    embeddings: flags.Embeddings = None,
    heads: flags.Heads = None,
    config: flags.Config = None,
    out: flags.Out = None,
    resume: flags.Resume = False,
    overwrite: flags.Overwrite = False,
    draw: flags.Draw = None,
    patterns: flags.Patterns = None,
    device: flags.Device = None,
    shard: flags.Shard = False,
    dtype: flags.Dtype = None,
    cuda_graph: flags.CudaGraph = None,
    trust_remote_code: flags.TrustRemoteCode = False,
) -> None:
    place: Path | None = None
    with errors_reported(kept=lambda: what_is_kept(place)):
        given = with_file(flags.given(
            task=task, draw=draw, patterns=patterns, seeds=seeds, out=out,
            model=model, revision=revision, method=method, preset=preset, steps=steps, batch_size=batch_size,
            learning_rate=learning_rate, ablation=ablation, train=train, test=test, seed=seed, embeddings=embeddings,
            heads=heads, device=flags.place(device, shard), dtype=dtype, cuda_graph=cuda_graph, polish=polish or None,
            trust_remote_code=trust_remote_code or None, chat=chat or None,
            edges=flags.numbers("--edges", edges, int), sparsity=flags.numbers("--sparsity", sparsity, float),
            settings=flags.assignments("--set", setting), data=flags.data(data, columns),
        ), config)
        known.check_names(**{name: given.get(name) for name in ("task", "method", "preset", "ablation")})
        console = prepare()
        from edge_pruning.cli.progress import ProgressBar
        from edge_pruning.cli.report import print_run, print_seeds
        from edge_pruning.runs import discover as run_discover
        from edge_pruning.runs import discover_seeds
        from edge_pruning.runs.config import default_folder

        about: dict[str, Any] = {name: given.pop(name) for name in ("draw", "patterns") if name in given}
        chosen, several = given.pop("out", None), given.pop("seeds", None)
        place = Path(chosen or default_folder(given, several))
        how: dict[str, Any] = {"out": place, "resume": resume, "overwrite": overwrite, **about, **given}
        with ProgressBar() as bar:
            if several is None:
                print_after = partial(print_run, run_discover(observer=bar, **how))
            else:
                print_after = partial(print_seeds, discover_seeds(seeds=several, observer=bar, **how))
        print_after(console)


@app.command(epilog=examples(
    "evaluate runs/ioi/circuit.json",
    "evaluate runs/ioi/circuit.json --ablation zero --json > zero.json",
    "evaluate runs/ioi/circuit.json --report",
))
def evaluate(
    circuit: flags.CircuitFile,
    task: flags.OtherTask = None,
    model: flags.OtherModel = None,
    revision: flags.Revision = None,
    split: flags.Split = "test",
    ablation: flags.OtherAblation = None,
    test: flags.OtherTest = None,
    data: flags.OtherData = None,
    columns: flags.OtherColumns = None,
    random: flags.RandomCircuits = 10,
    seed: flags.RandomSeed = 0,
    device: flags.AnyDevice = "auto",
    shard: flags.Shard = False,
    dtype: flags.AnyDtype = "float32",
    trust_remote_code: flags.TrustRemoteCode = False,
    truth: flags.OtherTruth = None,
    report: flags.Report = False,
    out: flags.ReportPath = None,
    as_json: flags.Json = False,
) -> None:
    """Evaluate a circuit on held-out pairs. Compare it with the model, the empty circuit and random circuits."""
    with errors_reported():
        settings = {**flags.given(test=test), **flags.data(data, columns)}
        files.check_exists(circuit)
        known.check_names(task=task, ablation=ablation)
        console = prepare()
        from edge_pruning.cli.progress import ProgressBar
        from edge_pruning.cli.report import print_evaluation, print_report_files
        from edge_pruning.runs import evaluate_file, report_file, report_path, write_report

        conditions: dict[str, Any] = {
            "task": task, "model": model, "revision": revision, "split": split, "ablation": ablation, "data": settings,
            "random_circuits": random, "seed": seed, "device": flags.place(device, shard), "dtype": dtype,
            "trust_remote_code": trust_remote_code, "truth": truth,
        }
        page = report_path(circuit, out) if report or out else None
        with ProgressBar() as bar:
            if page is None:
                evaluation = evaluate_file(circuit, progress=partial(bar.stage, "evaluating"), **conditions)
            else:
                judged = report_file(circuit, stage=bar.stage, **conditions)
                write_report(judged, page)
                evaluation = judged.evaluation
        if as_json:
            print(json.dumps(evaluation.to_json(), indent=2, ensure_ascii=False))
        else:
            print_evaluation(evaluation, console)
            print_report_files(page, console)


@app.command(epilog=examples("draw runs/ioi/circuit.json -o circuit.svg", "draw runs/ioi/circuit.json -o circuit.pdf"))
def draw(
    circuit: flags.CircuitFile,
    out: flags.Picture = None,
    title: flags.Title = None,
    shape: flags.Shape = None,
    like: flags.Like = None,
) -> None:
    """Draw a circuit as SVG: layers upward, heads from left to right, queries, keys and values in different colours."""
    with errors_reported():
        files.check_exists(circuit)
        from edge_pruning import formats
        from edge_pruning.drawing import check_picture, draw_circuit, save_picture, title_of

        path = out or circuit.with_suffix(".svg")
        check_picture(path)
        loaded = formats.load(circuit, flags.shape(shape), like=like)
        save_picture(path, draw_circuit(loaded, title=title_of(loaded) if title is None else title))
        print(path)


@app.command("list")
def list_names(what: flags.Kind) -> None:
    """List models, tasks, methods, presets, ablations, file formats, compiled programs or shrinkers."""
    with errors_reported():
        from edge_pruning.cli.console import console
        from edge_pruning.cli.names import print_names

        print_names(known.rows(what), console())


def prepare() -> Console:
    """Send log messages to stderr and return the console for results. With several ranks, only the first one prints."""
    from edge_pruning.cli.console import console

    ranks.join()
    if not ranks.is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    handler = logging.StreamHandler(sys.stderr) if ranks.is_first() else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("edge_pruning").handlers = [handler]
    return console()
