"""Command-line flags, grouped as in `--help`: their help texts, and how their text is parsed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from edge_pruning.cli import known

TASK = (
    "A name from `edge-pruning list tasks`, a file with your own pairs (.jsonl, .json, .csv, .tsv, .parquet; or "
    "hub://OWNER/NAME), a folder with images for each class, or a compiled program (tracr:reverse; `edge-pruning list "
    "programs`)."
)
MODEL = (
    "bundled, digits (a bundled ViT), tracr:NAME (a compiled program), a local folder, a GGUF file (FILE.gguf, or "
    "OWNER/REPOSITORY/FILE.gguf on the hub), or a Hugging Face id of any family in `edge-pruning list models`."
)
_ABLATION = (
    "What a removed edge carries: patch (its value on the corrupted prompt), mean (over training prompts), resample "
    "(its value on another training prompt, drawn at random) or zero."
)
_DEVICE = (
    "cpu, cuda, cuda:1 or mps. auto: the fastest device on this machine. spread: distribute the layers over all GPUs, "
    "for a model that is too large for one. shard: share out the weights over the ranks of torchrun."
)
_DATA = (
    "Additional task setting, such as seed=1, skip_unequal=true or bos=true (begin each prompt with a "
    "beginning-of-text token). May be repeated."
)
_COLUMNS = (
    "The column of the file for each field: "
    "clean=prompt,corrupted=other,answer=label,wrong_answer=distractor."
)
_OWN, _CIRCUITS = "the method's or preset's", "the circuit's"


def _in(panel: str, *names: str, **about: Any) -> Any:
    return Option(*names, rich_help_panel=panel, **about)


def _completed(kind: str) -> Callable[[str], list[str]]:
    """Return a shell completion function for the names of one kind."""
    return lambda incomplete: [name for name in known.names(kind) if name.startswith(incomplete)]


# --- discover ---------------------------------------------------------------------------------------------------------

Task = Annotated[str, Argument(help=TASK, show_default=False, autocompletion=_completed("task"))]
TaskOrConfig = Annotated[str | None, Argument(
    metavar="TASK", help=TASK + " Not needed with --config.", show_default=False, autocompletion=_completed("task")
)]
Model = Annotated[str | None, Option(help=MODEL, show_default="bundled")]
Revision = Annotated[str | None, Option(help="Branch, tag or commit of a hub model.")]

Edges = Annotated[str | None, _in(
    "Size", metavar="K[,K...]",
    help="Number of edges in the circuit. Several sizes give one circuit each, and the curve of KL against size.",
)]
Sparsity = Annotated[str | None, _in(
    "Size", metavar="S[,S...]",
    help="Share of edges to remove: 0.97 keeps 3 in 100. Without --edges and --sparsity, the method's own size is used "
    "if it has one. Otherwise, 12 sizes from 16 edges to a fifth of the graph are tried. The result is the smallest "
    "circuit whose KL on validation pairs is at most a tenth of the empty circuit's. Test pairs play no part in the "
    "choice.",
)]

Method = Annotated[str | None, _in(
    "Method", show_default="the preset's", autocompletion=_completed("method"),
    help="How edges are scored: a name from `edge-pruning list methods`. edge-pruning is the published algorithm.",
)]
Preset = Annotated[str | None, _in(
    "Method", help="A method with settings: a name from `edge-pruning list presets`.", show_default="default",
    autocompletion=_completed("preset"),
)]
Steps = Annotated[int | None, _in("Method", help="Number of training steps.", show_default=_OWN)]
BatchSize = Annotated[int | None, _in("Method", help="Pairs per step.", show_default=_OWN)]
LearningRate = Annotated[float | None, _in("Method", help="Learning rate of the masks.", show_default=_OWN)]
Setting = Annotated[list[str] | None, _in(
    "Method", "--set", metavar="NAME=VALUE", help="Additional method setting. May be repeated."
)]
Seed = Annotated[int | None, _in("Method", help="Seed of all random choices in the search.", show_default="0")]
Seeds = Annotated[int | None, _in(
    "Method", metavar="N",
    help="Search N times with consecutive seeds, starting at --seed, each in its own subfolder. Report how much the "
    "circuits agree and the quality of their consensus.",
)]
Polish = Annotated[bool, _in(
    "Method", "--polish", help="After the search, swap edges for as long as that lowers the KL on training pairs."
)]

Ablation = Annotated[str | None, _in(
    "Data", help=_ABLATION, show_default="patch", autocompletion=_completed("ablation")
)]
Train = Annotated[int | None, _in("Data", help="Number of training pairs for the search.", show_default="the task's")]
Test = Annotated[int | None, _in("Data", help="Number of held-out test pairs.", show_default="the task's")]
Chat = Annotated[bool, _in(
    "Data", "--chat",
    help="Wrap each prompt in the model's chat template, as a user message. A file may also contain lists of messages.",
)]
Data = Annotated[list[str] | None, _in("Data", "--data", metavar="NAME=VALUE", help=_DATA)]
Columns = Annotated[str | None, _in("Data", metavar="FIELD=COLUMN,...", help=_COLUMNS, show_default="known names")]

Embeddings = Annotated[str | None, _in(
    "Counting", show_default="joint",
    help="joint: one embedding writer. split: tokens and positions are two writers, as Edge Pruning's authors count.",
)]
Heads = Annotated[str | None, _in(
    "Counting", show_default="kv",
    help="kv: key and value readers per key-value head, as the model computes. query: per query head, as MIB counts.",
)]

Config = Annotated[Path | None, _in(
    "Run folder", "--config", metavar="FILE",
    help="Settings from a TOML file, such as the run.toml of another run. Flags override it.",
)]
Out = Annotated[Path | None, _in(
    "Run folder", "--out", "-o", help="Folder for all output.",
    show_default="runs/TASK or runs/TASK-MODEL",
)]
Resume = Annotated[bool, _in(
    "Run folder", "--resume",
    help="Continue an interrupted run. Its settings need not be repeated. The result is the same, bit for bit.",
)]
Overwrite = Annotated[bool, _in("Run folder", "--overwrite", help="Replace the run in the output folder.")]
Draw = Annotated[bool | None, _in(
    "Run folder", "--draw/--no-draw", show_default="draw",
    help="Write pictures (SVG) and circuit.html, a page for exploring the circuit."
)]
Patterns = Annotated[int | None, _in(
    "Run folder", metavar="N", min=0, show_default="24",
    help="Store attention patterns and direct effects on a few test pairs for N of the circuit's heads.",
)]

Device = Annotated[str | None, _in("Machine", help=_DEVICE, show_default="auto")]
Shard = Annotated[bool, _in("Machine", "--shard", help="Short for --device shard.")]
Dtype = Annotated[str | None, _in(
    "Machine", show_default="auto",
    help="float32, or bfloat16: half the memory for weights. auto: float32, but the default method searches a large "
    "model in a copy in bfloat16 if the device has instructions for it. That takes half the time on such a CPU. "
    "Evaluation always uses float32.",
)]
CudaGraph = Annotated[str | None, _in(
    "Machine", "--cuda-graph", metavar="auto|on|off", show_default="auto",
    help="Capture the steps of a search as CUDA graphs, which start faster. auto: if that is possible; on a GPU it is "
    "said why not. on: refuse to run without.",
)]

TrustRemoteCode = Annotated[bool, _in(
    "Machine", "--trust-remote-code", help="Allow code from the model's repository to run on this machine."
)]

# --- evaluate and draw ------------------------------------------------------------------------------------------------

CircuitFile = Annotated[Path, Argument(help="A circuit file.", show_default=False)]
Shape = Annotated[str | None, Option(
    metavar="NAME=VALUE[,...]",
    help="The shape of the model, if another tool's file does not hold it: "
    "layers=12,heads=12,kv_heads=2,parallel=true.",
)]
Like = Annotated[Path | None, Option(metavar="CIRCUIT", help="Take the shape from this circuit of the same model.")]
OtherTask = Annotated[str | None, Option(
    "--task", help=TASK, show_default=_CIRCUITS, autocompletion=_completed("task")
)]
OtherModel = Annotated[str | None, Option("--model", help=MODEL, show_default=_CIRCUITS)]
OtherAblation = Annotated[str | None, Option(
    "--ablation", help=_ABLATION, show_default=_CIRCUITS, autocompletion=_completed("ablation")
)]
OtherTest = Annotated[int | None, Option("--test", help="Number of test pairs.", show_default=_CIRCUITS)]
OtherData = Annotated[list[str] | None, Option("--data", metavar="NAME=VALUE", help=_DATA)]
OtherColumns = Annotated[str | None, Option("--columns", metavar="FIELD=COLUMN,...", help=_COLUMNS)]
OtherTruth = Annotated[Path | None, Option(
    "--truth", help="A file with the true circuit of a compiled program.", show_default="the program's own"
)]
Split = Annotated[str, Option(help="Split for the evaluation: train, validation or test.")]
RandomCircuits = Annotated[int, Option("--random", help="Number of random circuits for comparison.")]
RandomSeed = Annotated[int, Option("--seed", help="Seed of the random circuits and of the resample ablation.")]
AnyDevice = Annotated[str, Option("--device", help=_DEVICE)]
AnyDtype = Annotated[str, Option("--dtype", help="float32 or bfloat16.")]
Json = Annotated[bool, Option("--json", help="Print the whole result as JSON instead of tables.")]
Report = Annotated[bool, Option(
    "--report",
    help="Also measure circuits of all sizes and the loss without each edge. Write a report in HTML and JSON.",
)]
ReportPath = Annotated[Path | None, Option(
    "--out", "-o", help="Report page to write (.html). Implies --report.", show_default="report.html beside the circuit"
)]
Picture = Annotated[Path | None, Option(
    "--out", "-o", help="Picture to write: .svg, or .png or .pdf with the extra \\[pictures].",
    show_default="the circuit's name with .svg"
)]
Title = Annotated[str | None, Option(help="Title above the picture.", show_default="TASK in MODEL")]
Kind = Annotated[str, Argument(
    help="models, tasks, methods, presets, ablations, formats, programs or shrinkers.", show_default=False,
    autocompletion=lambda incomplete: [what for what in known.KINDS if what.startswith(incomplete)],
)]

# --- from text to values ----------------------------------------------------------------------------------------------


def given(**flags: Any) -> dict[str, Any]:
    """Return only the flags that the user gave."""
    return {name: value for name, value in flags.items() if value is not None and value != {}}


def place(device: str | None, shard: bool) -> str | None:
    """Return the device, of --device and --shard. Raises ValueError if they contradict each other."""
    if not shard:
        return device
    if device not in (None, "auto", "shard"):
        raise ValueError(f"--shard shares out the weights over the ranks of torchrun (--device shard), but --device "
                         f"{device} was given, too; leave one of them out")  # fmt: skip
    return "shard"


def numbers(flag: str, words: str | None, kind: type[int] | type[float]) -> tuple[float, ...] | None:
    """Parse comma-separated numbers such as `30,50,100`."""
    if words is None:
        return None
    try:
        return tuple(kind(word) for word in words.split(","))
    except ValueError:
        example = "100 or 30,50,100" if kind is int else "0.97 or 0.95,0.97"
        raise ValueError(f"{flag}: expected numbers such as {example}, got {words!r}") from None


def assignments(flag: str, words: list[str] | None) -> dict[str, Any]:
    """Parse `name=value` pairs. Values that are JSON (a number, true, false) are parsed as JSON, others are text."""
    return {name.replace("-", "_"): _value(value) for name, value in texts(flag, words).items()}


def texts(flag: str, words: list[str] | None) -> dict[str, str]:
    """Read `name=text` pairs, whose names and values stay as they are."""
    bad = [word for word in words or () if "=" not in word]
    if bad:
        raise ValueError(f"{flag}: expected NAME=VALUE, got {', '.join(map(repr, bad))}")
    return {name: value for name, _, value in (word.partition("=") for word in words or ())}


def data(words: list[str] | None, columns: str | None) -> dict[str, Any]:
    """Return the task settings from --data and --columns."""
    return {**assignments("--data", words), **given(columns=columns)}


def shape(words: str | None) -> dict[str, Any]:
    """Read --shape."""
    return assignments("--shape", words.split(",") if words else None)


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        return word
