"""Valid files, damaged: a few random changes to bytes, to words, or to the values of a JSON structure."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import torch
from hypothesis import strategies as st

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2.5, 3, 10**9, 10**30, 10**400, -1e308, float("nan"), float("inf"), "", "x", "1",
    "\ud800", "\x00", "../../x", "a0.h0", "m0->logits", "input->a0.h1<v>", "é" * 300, [], [[]], [None], {}, {"": {}},
    {"name": 3}, {"name": "x"}, [1, 2], ["a", "b"], [["m0", "logits"]],
)  # fmt: skip
WORDS = ("", "nan", "-1", "1e400", "999999999", '"', "<", "&", "\x00", "->", ",", "\n", "true", "\ufeff", "{", "é")
TOKEN = re.compile(r"[\w.]+|[^\w\s]")
BYTES = (
    b"", b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\x80", b"PK", b"[" * 10_000, b"9" * 5_000, b"\r\n", b"\xef\xbb\xbf",
)  # fmt: skip

IN_THE_SUITE = 200  # files per reader: about 8 ms each, most of it hypothesis and the drawing of what was read

# Where, what, with what: each kind of change reads the numbers in its own way.
changes = st.lists(
    st.tuples(st.sampled_from("vkdabwctr"), st.integers(0, 2**20), st.integers(0, 2**10)), min_size=1, max_size=3
)
Changes = list[tuple[str, int, int]]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON structure, the outermost first."""
    found = [path]
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in parts:
        found += places(item, (*path, key))
    return found


def damaged_value(value: Any, made: Changes, odd: tuple[Any, ...] = ODD) -> Any:
    """A copy with values replaced, removed, added or renamed."""
    value = copy.deepcopy(value)
    for what, where, which in made:
        new = copy.deepcopy(odd[which % len(odd)])
        found = places(value)
        *above, last = path = found[where % len(found)] or ("",)
        if path == ("",):
            return new
        parent = value
        for step in above:
            parent = parent[step]
        if what in "vb":
            parent[last] = new
        elif what in "dc":
            del parent[last]
        elif what in "kw" and isinstance(parent, dict):
            parent[f"x{which}"] = parent.pop(last)
        elif isinstance(parent, dict):
            parent[f"x{which}"] = new
        elif isinstance(parent, list):
            parent.insert(last, copy.deepcopy(parent[which % len(parent)]))
    return value


def damaged_json(text: str, made: Changes) -> bytes:
    """A JSON text: half of the time its values are damaged, else its bytes."""
    if made[0][1] % 3 == 0:
        return damaged_bytes(text.encode(), made)
    if made[0][1] % 97 == 1:
        return ("[" * made[0][2] * 20 + text).encode()
    value = damaged_value(json.loads(text), made)
    return json.dumps(value, ensure_ascii=made[0][2] % 2 == 0).encode("utf-8", "surrogatepass")


def damaged_bytes(content: bytes, made: Changes) -> bytes:
    for what, where, which in made:
        at = where % (len(content) + 1)
        if what in "cd":  # cut off, or a piece cut out
            content = content[:at] + (b"" if what == "c" else content[at + which % 64 :])
        elif what in "wk":
            content = _word_replaced(content, where, WORDS[which % len(WORDS)])
        elif what == "r":
            content = content[:at] + content[at : at + which] * 2 + content[at + which :]
        elif what == "b":
            content = content[:at] + bytes([which % 256]) + content[at + 1 :]
        else:
            content = content[:at] + BYTES[which % len(BYTES)] + content[at:]
    return content


def _word_replaced(content: bytes, where: int, word: str) -> bytes:
    text = content.decode("latin-1")
    found = list(TOKEN.finditer(text))
    if not found:
        return content
    start, end = found[where % len(found)].span()
    return (text[:start] + word + text[end:]).encode("utf-8" if where % 2 else "latin-1", "replace")


def damaged_safetensors(content: bytes, made: Changes) -> bytes:
    """The header is JSON behind its length, which is damaged as such."""
    if made[0][1] % 2:
        return damaged_bytes(content, made)
    length = int.from_bytes(content[:8], "little")
    header = damaged_json(content[8 : 8 + length].decode(), made)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


ODD_TENSORS = (
    *(value for value in ODD if not (isinstance(value, int) and abs(value) > 2**62)), torch.zeros(0), torch.ones(4, 8),
    torch.full((4, 8), torch.nan), torch.ones(4, 8, dtype=torch.complex64), torch.ones(4, 8, dtype=torch.int64),
    torch.ones(1).expand(10**6, 10**6), torch.ones(4, 8).to_sparse(), torch.empty(10**9, 10**9, device="meta"),
)  # fmt: skip
