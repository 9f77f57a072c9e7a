"""Whatever stands in a source of pairs: it is read, or refused with a ValueError."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from edge_pruning.tasks import get_task
from edge_pruning.tasks.own.columns import DIALECTS, FIELDS, IDS, NAMES, OWN

COLUMNS = sorted(
    {*FIELDS, OWN, "", "other"}.union(*NAMES.values(), *IDS.values(), *(dialect.needs for dialect in DIALECTS))
)
LEAVES = (
    st.sampled_from(["Then Mary", "Then John", " ran", " ", "\ud800", "[1, 2]", "<predict>x</predict>", "train"])
    | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
)
ROLES = st.sampled_from(["user", "assistant"])
MESSAGES = st.lists(st.fixed_dictionaries({"role": ROLES, "content": LEAVES}), max_size=2)
NESTED = st.dictionaries(st.sampled_from(COLUMNS), LEAVES, max_size=3)
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | MESSAGES | NESTED
ROWS = st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=6) | st.lists(VALUES, max_size=5) | VALUES
SETTINGS = st.fixed_dictionaries({}, optional={
    "columns": st.sampled_from(["clean=prompt", "clean", "a=b"]) | LEAVES,
    "group": st.sampled_from(["row", "clean"]) | LEAVES, "space": LEAVES, "first_token": st.booleans(),
    "chat": st.booleans(), "bos": st.none() | st.booleans(), "train": LEAVES, "skip_unequal": st.booleans(),
})


@given(rows=st.lists(ROWS, max_size=4), about=SETTINGS)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_object_is_read_or_refused(words: PreTrainedTokenizerBase, rows: list[Any], about: dict[str, Any]) -> None:
    with contextlib.suppress(ValueError):
        get_task(rows, **about).pairs(words, "train")


@given(kind=st.sampled_from([".json", ".jsonl", ".csv", ".tsv"]), content=st.binary(max_size=60), row=ROWS)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_file_is_read_or_refused(
    words: PreTrainedTokenizerBase, tmp_path_factory: Any, kind: str, content: bytes, row: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / f"pairs{kind}"
    path.write_bytes(content if len(content) % 2 else json.dumps(row).encode("utf-8", "surrogatepass") + content)
    with contextlib.suppress(ValueError):
        get_task(path).pairs(words, "train")
