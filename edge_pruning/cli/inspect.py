"""`edge-pruning inspect`: shows pairs as the model reads them, before a search."""

from __future__ import annotations

import json
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from typer import Exit, Option

from edge_pruning.cli import flags, known
from edge_pruning.cli.app import app, prepare
from edge_pruning.cli.errors import errors_reported
from edge_pruning.cli.help import examples, flowing

if TYPE_CHECKING:
    from rich.console import Console

    from edge_pruning.runs.inspection import InspectedRow, Inspection

INSPECT = """Show pairs as the model reads them: tokens, with differences marked, and the model's predictions.

Run this first on your own pairs. It reports which rows are left out and why, how rows are divided into splits, and how
often the model is right. It also reports text that may be a mistake, such as a misplaced space, a spelled-out special
token, or words outside the tokenizer's vocabulary. Images are drawn in shades. Without --model, it shows the tokens of
the bundled model's tokenizer and no predictions. With --model, the exit code is 1 if `discover` would refuse the pairs.
"""
WIDTH = 100  # characters of a line of tokens
MOST_REFUSALS = 10
SIDE, SHADES = 16, " ░▒▓█"  # pixels of a picture's longer side; from black to white

Column = tuple[list[str], int, bool]  # the token of each prompt, the column's width, whether the tokens differ

OfModel = Annotated[str | None, Option(
    "--model", help="Model whose tokens and predictions are shown.", show_default="none"
)]
Rows = Annotated[int, Option("--rows", min=0, help="Number of rows to show. Skipped rows come first.")]


@app.command("inspect", help=flowing(INSPECT), epilog=examples(
    "inspect pairs.jsonl", "inspect pairs.csv --model gpt2 --columns clean=prompt,answer=label", "inspect ioi",
    "inspect images.jsonl --model google/vit-base-patch16-224",
))
def inspect_pairs(
    task: flags.Task,
    model: OfModel = None,
    rows: Rows = 10,
    chat: flags.Chat = False,
    data: flags.Data = None,
    columns: flags.Columns = None,
    device: flags.AnyDevice = "auto",
    dtype: flags.AnyDtype = "float32",
    as_json: flags.Json = False,
) -> None:
    with errors_reported():
        settings = {**flags.data(data, columns), **flags.given(chat=chat or None)}
        known.check_names(task=task)
        console = prepare()
        from edge_pruning.runs.inspection import inspect

        inspection = inspect(task, model=model, rows=rows, device=device, dtype=dtype, **settings)
        if as_json:
            print(json.dumps(inspection.to_json(), indent=2, ensure_ascii=False))
        else:
            _print(inspection, console)
        if model is None and not as_json:
            console.print("Add --model to see the tokens and predictions of your model")
        elif inspection.refused:
            raise Exit(1)


def _print(inspection: Inspection, out: Console) -> None:
    out.print(f"[bold]{escape(inspection.task)}[/bold], as {escape(inspection.tokenizer)} reads it", soft_wrap=True)
    for row in inspection.rows:
        out.print()
        for line in _lines(inspection, row):
            out.print(line, soft_wrap=True, highlight=False)
    shown, total = len(inspection.rows), inspection.total
    if shown < total:
        out.print(f"\n{shown} of {total:,} {inspection.unit}s are shown (--rows {total}: all)")
    out.print()
    for line in _summary(inspection):
        out.print(escape(line), soft_wrap=True, highlight=False)


def _lines(inspection: Inspection, row: InspectedRow) -> list[str]:
    about = [f"{inspection.unit} {row.number}", row.split or "no split"]
    about += [] if inspection.of_images else [f"{len(row.clean)} tokens"]
    lines = [f"[bold]{escape(', '.join(about))}[/bold]"]
    lines += _side_by_side(row) if not inspection.of_images else _named_images(row)
    answers = [f"answer {_shown(row.answer)}"] if row.answer else ["answer: the model's own prediction"]
    answers += [f"wrong {_shown(row.wrong)}"] if row.wrong else []
    lines += [f"  {escape('   '.join(answers))}"] if row.clean else []
    if row.top:
        predicted = ", ".join(f"{token!r} {probability:.3f}" for token, probability in row.top)
        lines.append(f"  model {escape(predicted)}   {_verdict(row)}".rstrip())
    if row.totals:
        right, wrong = row.totals
        rest = f", wrong answers {wrong:.3f}" if row.wrong else ""
        lines.append(f"  total probability of the answers {right:.3f}{rest}")
    lines += [f"  [red]left out:[/red] {escape(words)}" for words in row.left_out]
    return lines + [f"  note: {escape(words)}" for words in row.notices]


def _named_images(row: InspectedRow) -> list[str]:
    """Return where both images come from, and below them both pictures in shades."""
    names = zip(("clean", "corrupted"), row.clean + row.corrupted, strict=False)
    return [f"  {side:10}{escape(name)}" for side, name in names] + _in_shades(row.pictures)


def _in_shades(pictures: tuple[str, ...]) -> list[str]:
    """Return pictures side by side, each pixel as two characters."""
    import base64
    import io

    from PIL import Image

    columns = []
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))).convert("L")
        image.thumbnail((SIDE, SIDE))
        rows = [image.crop((0, y, image.width, y + 1)).tobytes() for y in range(image.height)]
        columns.append(["".join(2 * SHADES[value * len(SHADES) // 256] for value in row) for row in rows])
    return [f"  {'':10}{'   '.join(cells)}".rstrip() for cells in zip_longest(*columns, fillvalue="")]


def _verdict(row: InspectedRow) -> str:
    if row.right is None:
        return ""
    how = ("ahead of" if row.right else "behind") + " the wrong one" if row.wrong else "the most likely"
    word = "right" if row.right else "[red]wrong[/red]"
    return f"{word} ({how})" if row.right or row.wrong else word


def _shown(answers: tuple[str, ...]) -> str:
    more = f" and {len(answers) - 5} more" if len(answers) > 5 else ""
    return ", ".join(map(repr, answers[:5])) + more


def _side_by_side(row: InspectedRow) -> list[str]:
    """Return tokens in columns, clean above corrupted, with carets below those that differ."""
    from edge_pruning.tasks.own.border import printable

    lines: list[str] = []
    columns: list[Column] = []
    width = 0
    for i in range(max(len(row.clean), len(row.corrupted))):
        pair = [printable(tokens[i]) if i < len(tokens) else "" for tokens in (row.clean, row.corrupted)]
        longest = max(map(len, pair))
        if width + longest + 1 > WIDTH and columns:
            lines += _block(columns)
            columns, width = [], 0
        columns.append((pair, longest, i in row.differs))
        width += longest + 1
    return lines + (_block(columns) if columns else [])


def _block(columns: list[Column]) -> list[str]:
    lines = []
    for which, name in enumerate(("clean", "corrupted")):
        cells = (_cell(pair[which].ljust(longest), differs) for pair, longest, differs in columns)
        lines.append(f"  {name:10}|{'|'.join(cells)}|")
    marks = " ".join(("^" if differs else " ") * longest for _, longest, differs in columns)
    return [*lines, f"  {'':10} {marks}".rstrip()]


def _cell(token: str, differs: bool) -> str:
    return f"[bold yellow]{escape(token)}[/bold yellow]" if differs else escape(token)


def _summary(inspection: Inspection) -> list[str]:
    splits = ", ".join(f"{n:,} {split}" for split, n in inspection.splits.items())
    tokens = "" if inspection.of_images else f"; {inspection.lengths[0]} to {inspection.lengths[1]} tokens"
    lines = [f"{inspection.usable:,} of {inspection.total:,} {inspection.unit}s can be used: {splits}{tokens}"]
    if inspection.accuracy is not None:
        judged = f"{inspection.judged:,} {inspection.unit}s that have an answer"
        lines.append(f"The model is right on {inspection.accuracy:.0%} of the {judged}")
    lines += [f"Note: {notice}." for notice in inspection.notices]
    lines += [f"Refused: {words}" for words in inspection.refused[:MOST_REFUSALS]]
    more = len(inspection.refused) - MOST_REFUSALS
    return lines + ([f"Refused: {more} more"] if more > 0 else [])
