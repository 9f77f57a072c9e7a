"""`edge-pruning shrink`: a smaller model for a task, saved as a model, and measured beside the original."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from edge_pruning.cli import flags, known
from edge_pruning.cli.app import app, prepare
from edge_pruning.cli.errors import errors_reported
from edge_pruning.cli.help import examples, flowing

SHRINK = """Remove from MODEL what a task does not need, save the rest as a model, and measure both.

A method scores heads (with shared keys and values: groups of heads), MLP units or single dimensions, and those with the
lowest scores are cut out of the weights. [bold]--keep[/bold] is the share that stays, counted in FLOPs: 0.6 keeps six
tenths of the work of everything that the method can remove. With [bold]--finetune[/bold] the smaller model learns to
predict what the original predicts, on the task's training examples.

The folder has config.json and model.safetensors. With [bold]--uniform[/bold] every layer keeps equally many heads and
units, and `AutoModel...from_pretrained` opens the folder; otherwise [bold]edge_pruning.load_shrunk[/bold] does.
The report compares both models on held-out examples: parameters, FLOPs, measured time, accuracy, KL and agreement.
"""

Model = Annotated[str, Argument(help=flags.MODEL, show_default=False)]
TaskOption = Annotated[str, Option("--task", help=flags.TASK, show_default=False)]
Method = Annotated[str, Option(
    help="A name from `edge-pruning list shrinkers`, or any method that finds circuits (eap, eap-ig, ...), whose "
    "scores of edges are summed for each head and MLP.",
)]
Keep = Annotated[str, Option(
    metavar="K[,K...]",
    help="The share that stays, above 0 and below 1. Several shares give one model each, and a curve.",
)]
Out = Annotated[Path, Option("--out", "-o", help="The new folder.", show_default=False)]
Finetune = Annotated[int, Option(metavar="STEPS", help="Steps of fine-tuning. Without: none.")]
LearningRate = Annotated[float, Option(help="Learning rate of fine-tuning.")]
BatchSize = Annotated[int, Option(help="Examples per step of fine-tuning.")]
Uniform = Annotated[bool, Option("--uniform", help="Keep equally many heads and units in every layer.")]
Onnx = Annotated[bool, Option("--onnx", help="Also write model.onnx and time it with onnxruntime (extra \\[onnx]).")]
Ablation = Annotated[str, Option(
    help="What is left of a removed part: mean (its mean over training examples, where the model has biases that can "
    "hold it) or zero.",
)]
Seed = Annotated[int, Option(help="Seed of everything random.")]


@app.command(help=flowing(SHRINK), epilog=examples(
    "shrink digits --task digits --keep 0.5 -o small",
    "shrink digits --task digits --keep 0.5 --finetune 300 --uniform --onnx -o small",
    "shrink digits --task digits --method attention-entropy --set tokens=0.75 --keep 0.6 -o small",
    "shrink PATH_OR_HUB_ID --task ioi --method eap-ig --keep 0.9,0.8,0.7 -o smaller",
))
def shrink(
    model: Model,
    task: TaskOption,
    out: Out,
    keep: Keep = "0.5",
    method: Method = "node-masks",
    setting: flags.Setting = None,
    finetune: Finetune = 0,
    learning_rate: LearningRate = 3e-4,
    batch_size: BatchSize = 32,
    uniform: Uniform = False,
    onnx: Onnx = False,
    ablation: Ablation = "mean",
    seed: Seed = 0,
    revision: flags.Revision = None,
    train: flags.Train = None,
    test: flags.Test = None,
    data: flags.Data = None,
    columns: flags.Columns = None,
    device: flags.AnyDevice = "auto",
    trust_remote_code: flags.TrustRemoteCode = False,
    as_json: flags.Json = False,
) -> None:
    with errors_reported():
        settings: dict[str, Any] = {
            "method": method, "settings": flags.assignments("--set", setting), "finetune": finetune,
            "learning_rate": learning_rate, "batch_size": batch_size, "uniform": uniform, "ablation": ablation,
            "seed": seed,
        }
        shares = flags.numbers("--keep", keep, float) or ()
        known.check_names(task=task, **{"shrinking method": method})
        console = prepare()
        from edge_pruning.cli.progress import ProgressBar
        from edge_pruning.cli.shrink_report import print_shrunk
        from edge_pruning.shrink import shrink_model

        with ProgressBar() as bar:
            done = shrink_model(
                model, task, keep=shares, out=out, onnx=onnx, device=device, revision=revision,
                stage=partial(bar.stage, unit="steps"), trust_remote_code=trust_remote_code,
                data={**flags.given(train=train, test=test), **flags.data(data, columns)}, **settings,
            )
        if as_json:
            print(json.dumps([one.content for one in done], indent=2, ensure_ascii=False))
        else:
            print_shrunk(done, out, console)
