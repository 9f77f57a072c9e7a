"""Checks of outside data against its format, before anything is built from it.

A kind of content is a type: a `TypedDict` with its fields, a list, a union, numbers with bounds. `contents.py` defines
the kinds of this library's own files. Types are strict (neither the string "1" nor true is a number), additional fields
are allowed, and every problem is reported with its location.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
SHOWN = 5  # problems listed in an error
EXPECTED = {
    "a valid dictionary": "an object",
    "a valid list": "a list",
    "a valid string": "a string",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "None": "null",
}
ALONE = {"missing": "missing", "extra_forbidden": "there is no such field"}  # problems reported without a value


def check(content: Any, kind: type[T]) -> T:
    """Return the content unchanged. Raises ValueError with the first problems and their locations."""
    from pydantic import ValidationError

    try:
        _adapter(cast("Any", kind)).validate_python(content, strict=True)
    except ValidationError as error:
        raise ValueError(_in_words(content, error.errors(include_url=False, include_context=False))) from None
    return cast("T", content)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Create the adapter on first use, because importing pydantic takes a fifth of a second."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _in_words(content: Any, errors: Sequence[Any]) -> str:
    """Format problems with their locations: `graph.shape.layers: expected a whole number, got 'two'; edges: missing`.
    """
    expected: dict[str, list[str]] = {}
    got: dict[str, str] = {}
    for error in errors:
        own = error["msg"].removeprefix("Value error, ") if error["type"] == "value_error" else None
        alone = own or ALONE.get(error["type"])
        where = _place(content, error["loc"], error["type"] == "missing")
        words = error["msg"].removeprefix("Input should be ")
        expected.setdefault(where, []).append(alone or EXPECTED.get(words, words))
        got[where] = "" if alone else shown(error["input"])
    problems = []
    for where, words in expected.items():
        wanted = " or ".join(dict.fromkeys(words))
        problem = f"expected {wanted}, got {got[where]}" if got[where] else wanted
        problems.append(f"{where}: {problem}" if where else problem)
    more = f"; and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
    return "; ".join(problems[:SHOWN]) + more


def _place(content: Any, steps: Sequence[str | int], missing: bool) -> str:
    """Format the location of a problem. Steps that the content does not have are names of a union's types."""
    where = ""
    for step in steps[:-1] if missing else steps:
        if isinstance(content, dict) and step in content:
            content, where = content[step], f"{where}.{step}"
        elif isinstance(content, list | tuple) and isinstance(step, int) and step < len(content):
            content, where = content[step], f"{where}[{step}]"
    return (f"{where}.{steps[-1]}" if missing else where).lstrip(".")[-80:]


def shown(value: Any) -> str:
    """Format a value for a message: containers by their size, because they can be long or deep."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value):,}"
    if isinstance(value, int) and abs(value) >= 10**18:
        return "a number of more than 18 digits"
    return f"{value!r:.60}"
