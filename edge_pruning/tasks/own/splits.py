"""Divide rows into splits for training, choosing and reporting: as in the source, or by a hash.

Rows without a split are divided 60 / 20 / 20 by a hash of their clean prompt, so the order of the rows does not matter,
and no prompt is in two splits. With `group="row"`, each row is divided separately; a circuit may then be tested on a
clean prompt that it was found with, under another corruption.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import repeat

from edge_pruning.tasks.own.problems import Problems
from edge_pruning.tasks.own.rows import Row
from edge_pruning.tasks.task import SPLITS, Split

HELD_OUT = 0.2  # the share of the validation rows, and that of the test rows
GROUPS = ("clean", "row")


def splits_of(rows: Sequence[Row], seed: int, group: str, problems: Problems) -> dict[int, Split]:
    """Return the split of every row, by its number."""
    given = {row.number: split for row in rows for split in SPLITS if row.split == split}
    if not given:
        return _hashed(rows, seed, group)
    for row in rows:
        if row.number not in given:
            problems.add(row.number, "has no split, but other rows do; give every row one, or none")
    seen: dict[str, Row] = {}
    for row in rows if group == "clean" else ():
        first = seen.setdefault(row.key, row)
        if first.split != row.split:
            problems.add(
                row.number,
                f"the clean prompt of {problems.unit} {first.number} ({first.split}) is here in split {row.split}; if "
                "that is meant, set group=row (--data group=row)",
            )
    return given


def _hashed(rows: Sequence[Row], seed: int, group: str) -> dict[int, Split]:
    key = {row.number: row.key if group == "clean" else repr(row.content) for row in rows}
    by_key = divided(list(key.values()), seed)
    return {row.number: by_key[key[row.number]] for row in rows}


def divided(keys: Sequence[str], seed: int) -> dict[str, Split]:
    """Return a split for every key, in the order of their hashes, cut at the shares; with three or more, no split is
    empty.
    """
    ordered = sorted(set(keys), key=lambda text: hashlib.sha256(f"{seed} {text}".encode()).digest())
    held_out = max(1, round(HELD_OUT * len(ordered)))
    order: list[Split] = [*repeat(SPLITS[2], held_out), *repeat(SPLITS[1], held_out)]
    order = order[: max(0, len(ordered) - 1)]  # training rows are necessary
    order += repeat(SPLITS[0], len(ordered) - len(order))
    return dict(zip(ordered, order, strict=True))


def why_empty(split: str, usable: Sequence[Row], unit: str) -> str:
    """Explain why a split has no rows, and what to do."""
    if any(row.split for row in usable):
        there = ", ".join(dict.fromkeys(str(row.split) for row in usable))
        return (
            f"split {split!r} has no pairs; the {len(usable)} usable {unit}s are in {there}. Give some of them the "
            f"split {split!r}, or leave the splits out, and they are divided by a hash"
        )
    prompts = len({row.key for row in usable})
    same = f" with {prompts} different clean prompt{'s' * (prompts != 1)}" if prompts < len(usable) else ""
    advice = "group=row (--data group=row) divides rows that share one, " if same and len(usable) >= 3 else ""
    return (
        f"split {split!r} has no pairs: {len(usable)} usable {unit}{'s' * (len(usable) != 1)}{same} are too few for "
        f"train, validation and test; {advice}write three or more different clean prompts"
    )
