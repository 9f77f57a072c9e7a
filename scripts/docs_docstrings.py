"""A griffe extension for the API reference: lines of a docstring that begin with `name:` become a list."""

from __future__ import annotations

import re
from typing import Any

import griffe

NAMED = re.compile(r"^((?:\w+(?:=\w+)?)(?:, \w+(?:=\w+)?)*): (?=\S)")


class NamedLines(griffe.Extension):
    """Docstrings say what a parameter or a field is in a line of its own, which Markdown would run together."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_list(obj.docstring.value)


def as_list(text: str) -> str:
    lines: list[str] = []
    for line in text.splitlines():
        item = NAMED.match(line)
        if item and lines and lines[-1].strip() and not lines[-1].startswith(("- ", "  ")):
            lines.append("")
        inside = bool(lines) and lines[-1].startswith(("- ", "  ")) and line.strip() != ""
        lines.append(NAMED.sub(r"- `\1`: ", line) if item else f"  {line}" if inside else line)
    return "\n".join(lines)
