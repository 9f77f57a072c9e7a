"""The title that pictures, pages and cards share."""

from __future__ import annotations

import pytest

from edge_pruning.provenance import titled


@pytest.mark.parametrize(("task", "model", "title"), [
    ("ioi", "gpt2", "ioi in gpt2"),
    ("ioi", "org/model", "ioi in org/model"),
    ("ioi", "/home/me/models/small", "ioi in small"),  # nobody's folders stand in a picture or on a card
    ("/home/me/pairs.jsonl", "gpt2", "pairs.jsonl in gpt2"),
    ("tracr:reverse", "tracr:reverse", "tracr:reverse"),
    ("ioi", None, "ioi"),
    (None, "gpt2", "gpt2"),
    (None, None, None),
])  # fmt: skip
def test_a_title_names_task_and_model(task: str | None, model: str | None, title: str | None) -> None:
    assert titled(task, model) == title
