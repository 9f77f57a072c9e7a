"""`edge-pruning tracr`: compiles programs whose circuit is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from edge_pruning.cli.app import app, prepare
from edge_pruning.cli.errors import errors_reported
from edge_pruning.cli.help import examples, flowing

if TYPE_CHECKING:
    from rich.console import Console

    from edge_pruning.truth.truth import Truths

TRACR = """Make transformers with a known circuit: RASP programs compiled into weights by Tracr.

The bundled programs need no installation: [bold]edge-pruning discover tracr:reverse[/bold]
"""
COMPILE = """Compile a program of Tracr's library into weights, and check them.

Two checks run on every input. The output of Tracr's own forward pass must equal the program's, and the output of this
library's transformer must equal Tracr's to 1e-5. With the default settings, the files are those of the bundled program,
bit for bit. Requires [bold]pip install 'edge-pruning\\[tracr]'[/bold]. To compile a program of your own, see
examples/own_program.py.
"""

TRUTH = """Find the true circuits of a compiled program, and write truth.json and a card into its folder.

The true circuit is found in two ways. By ablation: edges are removed as long as every output on every input stays the
same. From the weights: every edge that can have an effect. Both are found for zero and patch ablation, with one and
with two embedding writers.
"""

tracr = typer.Typer(no_args_is_help=True, help=flowing(TRACR))
app.add_typer(tracr, name="tracr")


class ManyWords(TyperCommand):
    """A command that reads `--vocab a b c` as `--vocab a --vocab b --vocab c`. The next flag ends the words."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        expanded: list[str] = []
        taking = False
        for word in args:
            is_flag = word.startswith("-") and len(word) > 1
            if taking and not is_flag and expanded[-1] != "--vocab":
                expanded.append("--vocab")
            expanded.append(word)
            taking = word == "--vocab" if is_flag else taking
        return super().parse_args(ctx, expanded)


@tracr.command("compile", cls=ManyWords, help=flowing(COMPILE), epilog=examples(
    "tracr compile reverse --vocab a b c --max-length 5 -o models/reverse5", "discover tracr:models/reverse5",
))
def compile_(
    program: Annotated[str, typer.Argument(help="A name from `edge-pruning list programs`.", show_default=False)],
    vocab: Annotated[list[str] | None, typer.Option(
        metavar="VALUE...", help="The input vocabulary. Words that look like numbers are read as numbers.",
        show_default="the program's",
    )] = None,
    max_length: Annotated[int | None, typer.Option(
        help="Number of values in the longest input.", show_default="the program's"
    )] = None,
    inputs: Annotated[int, typer.Option(
        help="Check and store all inputs if there are at most this many, otherwise a random sample of this size."
    )] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
    truth: Annotated[bool, typer.Option("--truth/--no-truth", help="Also find the true circuits.")] = True,
    out: Annotated[Path | None, typer.Option(
        "--out", "-o", help="Output folder.", show_default="models/PROGRAM"
    )] = None,
) -> None:
    with errors_reported():
        console = prepare()
        from edge_pruning.models.tracr import LIBRARY, compile_program, library_program
        from edge_pruning.truth.truths import write_truths

        entry = LIBRARY.get(program)
        length = max_length if max_length is not None else entry.max_length if entry else 0
        expression = library_program(program, length)
        values = [_value(word) for word in vocab] if vocab else LIBRARY[program].vocabulary
        compiled = compile_program(expression, values, length, name=program, most_inputs=inputs, seed=seed)
        folder = out or Path("models", program)
        compiled.save(folder)
        about = compiled.program
        console.print(
            f"{about.name}: layers {about.layers}, heads {about.heads}, residual dimensions {len(about.residual)}; "
            f"{len(compiled.inputs):,} inputs checked, at most {compiled.parity_error:.1e} from Tracr's own pass"
        )
        if truth:
            words = [f"--vocab {' '.join(vocab)}"] if vocab else []
            words += [f"--max-length {max_length}"] if max_length is not None else []
            command = " ".join(["edge-pruning tracr compile", program, *words])
            print_truths(write_truths(str(folder), command=command), console)
        console.print(f"Try next: edge-pruning discover tracr:{folder}")


@tracr.command("truth", help=flowing(TRUTH), epilog=examples("tracr truth models/own"))
def truth_(folder: Annotated[str, typer.Argument(help="Folder of a compiled program.", show_default=False)]) -> None:
    with errors_reported():
        console = prepare()
        from edge_pruning.truth.truths import write_truths

        print_truths(write_truths(folder), console)


def print_truths(truths: Truths, out: Console) -> None:
    for truth in truths.truths:
        edges, real = int(truth.by_ablation.sum()), int(truth.by_weights.sum())
        out.print(
            f"True circuit under {truth.ablation} ablation: {edges} of {truth.graph.n_edges:,} edges; {real} edges "
            f"according to the weights ({truth.graph.convention})"
        )


def _value(word: str) -> Any:
    """Parse a word as a number if possible."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
