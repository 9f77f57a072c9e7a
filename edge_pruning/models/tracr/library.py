"""Programs by name: those of Tracr's library, each over a vocabulary and a length that keep its input space small."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_pruning.models.tracr.extra import tracr
from edge_pruning.models.tracr.program import Value


@dataclass(frozen=True)
class Entry:
    """`build(lib, rasp, max_length)` makes the expression from Tracr's modules; the rest are defaults."""

    summary: str
    build: Callable[[Any, Any, int], Any]
    vocabulary: tuple[Value, ...]
    max_length: int


LETTERS, NUMBERS = ("a", "b", "c"), (1, 2, 3)
LIBRARY = {
    "count": Entry("how often 'a' occurs", lambda lib, r, n: lib.make_count(r.tokens, "a"), LETTERS, 4),
    "count_less_freq": Entry(
        "how many values occur at most twice", lambda lib, r, n: lib.make_count_less_freq(n=2), LETTERS, 4),
    "detect_pattern": Entry(
        "whether 'ab' ends here", lambda lib, r, n: lib.detect_pattern(r.tokens, "ab"), LETTERS, 4),
    "hist": Entry("how often this value occurs", lambda lib, r, n: lib.make_hist(), LETTERS, 4),
    "length": Entry("how long the input is", lambda lib, r, n: lib.make_length(), LETTERS, 4),
    "nary_sequencemap": Entry(
        "2 * value - index, through triples",
        lambda lib, r, n: lib.make_nary_sequencemap(lambda x, y, z: x + y - z, r.tokens, r.tokens, r.indices),
        NUMBERS, 3),
    "pair_balance": Entry(
        "share of '(' minus share of ')' so far",
        lambda lib, r, n: lib.make_pair_balance(r.tokens, "(", ")"), ("(", ")", "x"), 4),
    "reverse": Entry("the input from end to start", lambda lib, r, n: lib.make_reverse(r.tokens), LETTERS, 3),
    "shift_by": Entry("the value before", lambda lib, r, n: lib.shift_by(1, r.tokens), LETTERS, 4),
    "shuffle_dyck": Entry(
        "whether '(' and ')' are balanced", lambda lib, r, n: lib.make_shuffle_dyck(["()"]), ("(", ")"), 5),
    "shuffle_dyck2": Entry(
        "whether '(' and ')' are balanced, and '{' and '}' too",
        lambda lib, r, n: lib.make_shuffle_dyck(["()", "{}"]), ("(", ")", "{", "}"), 4),
    "sort": Entry(
        "the values in order", lambda lib, r, n: lib.make_sort(r.tokens, r.tokens, max_seq_len=n, min_key=1),
        NUMBERS, 4),
    "sort_freq": Entry(
        "the values, those that occur most first", lambda lib, r, n: lib.make_sort_freq(max_seq_len=n), NUMBERS, 4),
    "sort_unique": Entry(
        "the values in order, if they differ", lambda lib, r, n: lib.make_sort_unique(r.tokens, r.tokens),
        NUMBERS, 3),
    "xproportion": Entry(
        "share of 'x' so far", lambda lib, r, n: lib.make_frac_prevs(r.tokens == "x"), ("a", "b", "x"), 4),
}


def library_program(name: str, max_length: int) -> Any:
    """The RASP expression of a name in `LIBRARY`. Raises ValueError with the nearest names; needs the extra."""
    if name not in LIBRARY:
        near = difflib.get_close_matches(name, LIBRARY, 3, 0) or list(LIBRARY)
        raise ValueError(f"there is no program {name!r}; nearest: {', '.join(near)}")
    return LIBRARY[name].build(tracr("compiler.lib"), tracr("rasp.rasp"), max_length)
