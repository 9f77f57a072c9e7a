"""`edge-pruning study`: finds circuits for two settings, and measures whether one circuit serves both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from edge_pruning.cli import flags, known
from edge_pruning.cli.app import app, prepare
from edge_pruning.cli.config_file import with_file
from edge_pruning.cli.errors import errors_reported
from edge_pruning.cli.help import examples, flowing

STUDY = """Find circuits for two settings, with several seeds each, and compare them.

A setting is a task, its data and a model. `--against` gives the difference of the second setting: another setting of
the task (style=few-shot), or another task or file of pairs. `--against-model` names another model of the same shape.

The result is a table and a page. They show the quality of every circuit in [bold]its own and the other setting[/bold]
and that of their intersection and union; the overlap of edges, in total, by kind of edge and by layer, compared with
the overlap of [bold]two seeds of one setting[/bold] and of random circuits; and the edges that only one circuit has.
"""

Against = Annotated[list[str] | None, Option(
    "--against", metavar="NAME=VALUE|TASK", show_default=False,
    help="Difference of the second setting: a task setting, or another task or file of pairs. May be repeated.",
)]
AgainstModel = Annotated[str | None, Option(help="Model of the second setting, if it differs.")]
Seeds = Annotated[int | None, Option(
    metavar="N", min=2, show_default="3", help="Number of circuits per setting, with consecutive seeds.",
)]
Anyway = Annotated[bool, Option("--anyway", help="Search even if the model's accuracy on a task is below 0.8.")]


@app.command(help=flowing(STUDY), epilog=examples(
    "study capitals --data style=instruction --against style=few-shot --model PATH_OR_HUB_ID",
    "study ioi --against gendered-pronoun --seeds 2 --edges 60",
    "study --config recipes/codellama-13b-boolean.toml",
    "study pairs-en.jsonl --against pairs-fr.jsonl --model PATH_OR_HUB_ID --out runs/languages",
))
def study(
    task: flags.TaskOrConfig = None,
    against: Against = None,
    against_model: AgainstModel = None,
    model: flags.Model = None,
    edges: flags.Edges = None,
    sparsity: flags.Sparsity = None,
    method: flags.Method = None,
    preset: flags.Preset = None,
    steps: flags.Steps = None,
    setting: flags.Setting = None,
    seed: flags.Seed = None,
    seeds: Seeds = None,
    ablation: flags.Ablation = None,
    train: flags.Train = None,
    test: flags.Test = None,
    chat: flags.Chat = False,
    data: flags.Data = None,
    anyway: Anyway = False,
    config: flags.Config = None,
    out: flags.Out = None,
    resume: flags.Resume = False,
    overwrite: flags.Overwrite = False,
    device: flags.Device = None,
    shard: flags.Shard = False,
    dtype: flags.Dtype = None,
    cuda_graph: flags.CudaGraph = None,
    as_json: flags.Json = False,
) -> None:
    with errors_reported(kept=lambda: "Continue with the same command and --resume"):
        given = with_file(flags.given(
            task=task, seeds=seeds, out=out, anyway=anyway or None, model=model, method=method, preset=preset,
            steps=steps, ablation=ablation, train=train, test=test, seed=seed,
            device=flags.place(device, shard), dtype=dtype, cuda_graph=cuda_graph, chat=chat or None,
            edges=flags.numbers("--edges", edges, int),
            sparsity=flags.numbers("--sparsity", sparsity, float), settings=flags.assignments("--set", setting),
            data=flags.data(data, None),
        ), config, of_study=True)
        other = _other(given.pop("against", {}), against or [], against_model)
        known.check_names(**{name: given.get(name) for name in ("task", "method", "preset", "ablation")})
        known.check_names(task=other["against"])
        console = prepare()
        from edge_pruning.cli.progress import ProgressBar
        from edge_pruning.cli.study_report import print_study
        from edge_pruning.runs.two_settings import study as run_study

        place = given.pop("out", None) or Path("runs", f"{Path(given['task']).stem}-study")
        with ProgressBar() as bar:
            done = run_study(out=place, resume=resume, overwrite=overwrite, observer=bar, **other, **given)
        if as_json:
            print(json.dumps(done.content, indent=2, ensure_ascii=False))
        else:
            print_study(done, console)


def _other(stored: Mapping[str, Any], against: list[str], model: str | None) -> dict[str, Any]:
    """Return the arguments of `study` for the second setting. stored: the table of the file, which flags override."""
    tasks = [text for text in against if "=" not in text]
    if len(tasks) > 1:
        raise ValueError(f"--against names {len(tasks)} tasks, {' and '.join(tasks)}; expected one")
    changed = flags.assignments("--against", [text for text in against if "=" in text])
    return {
        "against": tasks[0] if tasks else stored.get("task"),
        "against_data": {**stored.get("data", {}), **changed},
        "against_model": model or stored.get("model"),
    }
