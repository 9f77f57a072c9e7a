"""Tracr's own library of programs, by name. Each has a vocabulary and a length that keep its input space small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_pruning.models.tracr.extra import tracr
from edge_pruning.models.tracr.program import Value
from edge_pruning.registry import Registry


@dataclass(frozen=True)
class Entry:
    """A program by name.

    build: makes its expression from Tracr's modules `compiler.lib` and `rasp.rasp`, and `max_length`.
    vocabulary, max_length: what it is compiled for by default.
    """

    name: str
    summary: str
    build: Callable[[Any, Any, int], Any]
    vocabulary: tuple[Value, ...]
    max_length: int


LETTERS, NUMBERS = ("a", "b", "c"), (1, 2, 3)
LIBRARY: Registry[Entry] = Registry("program", [
    Entry("count", "how often 'a' occurs", lambda lib, r, n: lib.make_count(r.tokens, "a"), LETTERS, 4),
    Entry(
        "count_less_freq", "how many values occur at most twice",
        lambda lib, r, n: lib.make_count_less_freq(n=2), LETTERS, 4),
    Entry(
        "detect_pattern", "whether 'ab' ends here", lambda lib, r, n: lib.detect_pattern(r.tokens, "ab"), LETTERS, 4),
    Entry("hist", "how often this value occurs", lambda lib, r, n: lib.make_hist(), LETTERS, 4),
    Entry("length", "how long the input is", lambda lib, r, n: lib.make_length(), LETTERS, 4),
    Entry(
        "nary_sequencemap", "2 * value - index, through triples",
        lambda lib, r, n: lib.make_nary_sequencemap(lambda x, y, z: x + y - z, r.tokens, r.tokens, r.indices),
        NUMBERS, 3),
    Entry(
        "pair_balance", "share of '(' minus share of ')' so far",
        lambda lib, r, n: lib.make_pair_balance(r.tokens, "(", ")"), ("(", ")", "x"), 4),
    Entry("reverse", "the input from end to start", lambda lib, r, n: lib.make_reverse(r.tokens), LETTERS, 3),
    Entry("shift_by", "the value before", lambda lib, r, n: lib.shift_by(1, r.tokens), LETTERS, 4),
    Entry(
        "shuffle_dyck", "whether '(' and ')' are balanced",
        lambda lib, r, n: lib.make_shuffle_dyck(["()"]), ("(", ")"), 5),
    Entry(
        "shuffle_dyck2", "whether '(' and ')' are balanced, and '{' and '}' too",
        lambda lib, r, n: lib.make_shuffle_dyck(["()", "{}"]), ("(", ")", "{", "}"), 4),
    Entry(
        "sort", "the values in order", lambda lib, r, n: lib.make_sort(r.tokens, r.tokens, max_seq_len=n, min_key=1),
        NUMBERS, 4),
    Entry(
        "sort_freq", "the values, those that occur most first",
        lambda lib, r, n: lib.make_sort_freq(max_seq_len=n), NUMBERS, 4),
    Entry(
        "sort_unique", "the values in order, if they differ",
        lambda lib, r, n: lib.make_sort_unique(r.tokens, r.tokens), NUMBERS, 3),
    Entry(
        "xproportion", "share of 'x' so far",
        lambda lib, r, n: lib.make_frac_prevs(r.tokens == "x"), ("a", "b", "x"), 4),
])


def library_program(name: str, max_length: int) -> Any:
    """Build the RASP expression of a program. Raises ValueError with the nearest names; needs the extra."""
    return LIBRARY.named(name).build(tracr("compiler.lib"), tracr("rasp.rasp"), max_length)
