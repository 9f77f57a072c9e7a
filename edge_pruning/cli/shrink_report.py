"""Smaller models beside their original, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_pruning.cli.report import new_table, number
from edge_pruning.shrink import Shrunk
from edge_pruning.shrink.result import CURVE


def print_shrunk(done: Sequence[Shrunk], out: Path, console: Console) -> None:
    """The original and each smaller model, a row each; what each layer keeps; where the files are."""
    first = done[0].content
    console.print(_table(done))
    together = " or ".join(first["before"]["seconds"])
    ort = "; ORT: onnxruntime" if "onnx" in first else ""
    console.print(f"ms: milliseconds per example, {together} at a time, median of runs that take turns{ort}.\n")
    for one in done:
        console.print(_layers(one))
    if first["predicted"]:
        console.print(f"{first['predicted']:,} examples have no answer: accuracy there is agreement with the original.")
    uniform = all(one.is_uniform for one in done)
    opened = "AutoModel...from_pretrained" if uniform else "edge_pruning.load_shrunk"
    if len(done) > 1:
        console.print(f"\nCurve: {out / CURVE}", highlight=False, soft_wrap=True, markup=False)
    console.print(f"\nFolder: {out} (open with {opened})", highlight=False, soft_wrap=True, markup=False)


def _table(done: Sequence[Shrunk]) -> Table:
    first = done[0].content
    config = first["config"]
    tuned = f", {config['finetune']:,} steps of fine-tuning" if config["finetune"] else ""
    table = new_table(escape(
        f"{first['model']} for {first['task']}: {config['method']}{tuned}; {first['examples']:,} {first['split']} "
        "examples"
    ))
    together = [*first["before"]["seconds"]]
    at_once = [f"ms, {n}" for n in together] + [f"ORT ms, {n}" for n in together if "onnx" in first]
    for column in ("", "parameters", "MFLOPs", *at_once, "accuracy", "agreement", "KL (nats)"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("before", *_cells(first, "before"))
    for one in done:
        table.add_row(f"keep {one.content['config']['keep']:g}", *_cells(one.content, "after"))
    return table


def _cells(content: Mapping[str, Any], which: str) -> list[str]:
    """A row without its name."""
    found = content[which]
    seconds = [*found["seconds"].values(), *(content["onnx"][which]["seconds"].values() if "onnx" in content else ())]
    return [
        f"{found['parameters']:,}", f"{found['flops'] / 1e6:,.2f}", *(f"{1000 * s:,.3f}" for s in seconds),
        number(found["accuracy"], ".3f"), number(found["agreement"], ".3f"), number(found["kl"], ".4f"),
    ]  # fmt: skip


def _layers(one: Shrunk) -> Table:
    """What each layer keeps."""
    layers, whole = one.content["layers"], dict(one.content["of"])
    groups, heads_per_group = whole.pop("groups"), whole.pop("heads_per_group")
    table = new_table(f"keep {one.content['config']['keep']:g}: what is left of each layer")
    e = whole["channels"] // groups
    parts = any(layer["channels"] != len(layer["groups"]) * e for layer in layers)  # of heads
    shown = [
        name for name in whole
        if any(layer[name] != whole[name] for layer in layers) and (name != "channels" or parts)
    ]
    for column in ("layer", "heads" if heads_per_group == 1 else f"groups of {heads_per_group} heads", *shown):
        table.add_column(column.replace("_", " "), justify="right")
    for i, layer in enumerate(layers):
        heads = f"{len(layer['groups'])} of {groups}: {', '.join(map(str, layer['groups']))}"
        table.add_row(str(i), heads, *(f"{layer[name]:,} of {whole[name]:,}" for name in shown))
    return table
