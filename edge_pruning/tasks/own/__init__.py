"""Pairs that users bring: from a file, a table in memory, or a list, as tokens of any tokenizer.

    records.py    from a file or objects to dictionaries
    columns.py    from the names that other tools use to the fields of a pair
    rows.py       from fields to a checked row
    border.py     the tokens where a prompt meets its answer, and notices about possible mistakes
    splits.py     which rows are for training, choosing and reporting
    text_rows.py, image_rows.py  rows as a model reads them
    own_pairs.py  all of it, as a task
"""

from edge_pruning.tasks.own.own_pairs import OwnPairs
from edge_pruning.tasks.own.pair import Pair
from edge_pruning.tasks.own.records import is_source

__all__ = ["OwnPairs", "Pair", "is_source"]
