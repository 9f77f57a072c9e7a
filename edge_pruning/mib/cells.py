"""What MIB asks about: tasks from its datasets, and the models that each is asked of.

A row becomes a pair as MIB's own loader makes it: the prompt, its counterfactual, and the first token of each label.
Some rows are left out because of their tokens (`_Fields.fits`), counted without special tokens. Only rows of the split
`train` are read: the others decide the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_pruning.registry import nearest
from edge_pruning.tasks.own import OwnPairs
from edge_pruning.tasks.own.problems import Problems
from edge_pruning.tasks.own.records import read

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = Mapping[str, Any]
LEAST = 10  # usable rows: fewer cannot be divided


@dataclass(frozen=True)
class _Fields:
    """A row of a dataset. fits: whether MIB's loader keeps it for these numbers of tokens."""

    prompt: str
    counterfactual: str
    right: str
    wrong: str
    fits: Callable[[Callable[[str], Sequence[int]]], bool]


@dataclass(frozen=True)
class MibTask:
    """A task of the benchmark: where its rows are, and how one is read. Raises KeyError or TypeError for other rows."""

    name: str
    source: str
    fields: Callable[[Row], _Fields | None]


def _ioi(row: Row) -> _Fields:
    about = row["metadata"]
    names = [about[name] for name in ("indirect_object", "subject", "random_c")]
    return _Fields(
        row["prompt"], row["s2_io_flip_counterfactual"]["prompt"], f" {names[0]}", f" {names[1]}",
        lambda ids: len({len(ids(f" {name}")) for name in names}) == 1,
    )


def _choices(row: Row) -> _Fields:
    other = row["symbol_counterfactual"]
    right, wrong = (each["choices"]["label"][each["answerKey"]] for each in (row, other))
    return _Fields(row["prompt"], other["prompt"], right, wrong, lambda ids: len(ids(right)) == len(ids(wrong)))


def _arithmetic(operator: str) -> Callable[[Row], _Fields | None]:
    def fields(row: Row) -> _Fields | None:
        other = row.get("random_counterfactual")
        if other is None or row.get("operator", operator) != operator:
            return None
        right, wrong = str(row["label"]), str(other["label"])
        return _Fields(
            row["prompt"], other["prompt"], right, wrong, lambda ids: len(ids(right)) == len(ids(wrong)) == 1
        )

    return fields


TASKS = {
    task.name: task for task in (
        MibTask("ioi", "hub://mib-bench/ioi", _ioi),
        MibTask("mcqa", "hub://mib-bench/copycolors_mcqa/4_answer_choices", _choices),
        MibTask("arithmetic-addition", "hub://mib-bench/arithmetic_addition", _arithmetic("+")),
        MibTask("arithmetic-subtraction", "hub://mib-bench/arithmetic_subtraction", _arithmetic("-")),
        MibTask("arc-easy", "hub://mib-bench/arc_easy", _choices),
        MibTask("arc-challenge", "hub://mib-bench/arc_challenge", _choices),
    )
}  # fmt: skip
MODELS = {  # where each is, and the dtype that MIB loads it in
    "gpt2": ("gpt2", "float32"),
    "qwen2.5": ("Qwen/Qwen2.5-0.5B", "bfloat16"),
    "gemma2": ("google/gemma-2-2b", "bfloat16"),
    "llama3": ("meta-llama/Llama-3.1-8B", "bfloat16"),
}
CELLS = {
    "ioi": ("gpt2", "qwen2.5", "gemma2", "llama3"),
    "mcqa": ("qwen2.5", "gemma2", "llama3"),
    "arithmetic-addition": ("llama3",),
    "arithmetic-subtraction": ("llama3",),
    "arc-easy": ("gemma2", "llama3"),
    "arc-challenge": ("llama3",),
}


@dataclass(frozen=True)
class Cell:
    """A task and a model, by MIB's names."""

    task: str
    model: str

    @property
    def folder(self) -> str:
        return f"{self.task}_{self.model}"

    def pairs(self, tokenizer: PreTrainedTokenizerBase, source: str | None, *, train: int | None) -> OwnPairs:
        """The pairs of the dataset's training rows that fit the tokenizer, divided for training and choosing.

        source: the dataset in a file or folder with the same columns (default: on the hub). train: at most so many.
        Raises ValueError for other columns, and if too few rows fit.
        """
        task = TASKS[self.task]
        where = source or task.source
        problems = Problems(f"task {where!r}")
        records = [row for _, row in read(where, problems) if row.get("split", "train") == "train"]
        problems.raise_all()
        rows = [pair for number, row in enumerate(records, 1) if (pair := _pair(task, row, number, tokenizer))]
        if len(rows) < LEAST:
            raise ValueError(
                f"{where}: {len(rows)} of {len(records)} training rows fit the tokenizer of {self.model}; expected at "
                f"least {LEAST}"
            )
        return OwnPairs(rows, name_of_source=f"MIB's {self.task}", skip_unequal=True, train=train)


def _pair(task: MibTask, row: Row, number: int, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    """A row with its labels as the ids of their first tokens; None for one that is left out."""
    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    try:
        fields = task.fields(row)
        if fields is None or not fields.fits(ids):
            return None
        right, wrong = ids(fields.right)[0], ids(fields.wrong)[0]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"MIB's {task.name}, row {number}: its columns are not those of the dataset {task.source} "
            f"({type(error).__name__}: {error})"
        ) from None
    if right == wrong or fields.prompt == fields.counterfactual:
        return None
    return {"clean": fields.prompt, "corrupted": fields.counterfactual, "answer": right, "wrong_answer": wrong}


def cells_of(words: Sequence[str]) -> list[Cell]:
    """Read `ioi:gpt2,qwen2.5`; a task alone means all of its models. Raises ValueError with all that is wrong."""
    cells, problems = [], []
    for word in words:
        task, colon, models = word.partition(":")
        if task not in TASKS:
            near = nearest(task, TASKS)
            problems.append(f"MIB has no task {task!r}" + (f" (nearest: {', '.join(near)})" if near else "")
                            + f"; there are {', '.join(TASKS)}")
            continue
        for model in models.split(",") if colon else CELLS[task]:
            if model not in CELLS[task]:
                problems.append(f"MIB asks {task} of {', '.join(CELLS[task])}; got {model!r}")
            cells.append(Cell(task, model))
    if problems:
        raise ValueError("; ".join(problems))
    return list(dict.fromkeys(cells))
