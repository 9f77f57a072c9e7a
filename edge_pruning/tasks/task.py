"""A task: pairs of prompts that differ in one fact, and how well a model's answers tell the two apart.

A task writes text; `encoding.py` turns it into token ids. It adapts to the tokenizer (it keeps the words that fit) and
is otherwise a pure function of its settings: the same settings and tokenizer give the same pairs on every machine.
Words that matter (names, nouns, years) belong to one split each, so that a circuit is never tested on what it was found
with.

To add a task, add a file to this folder with a frozen dataclass that derives from `GeneratedTask` under `@task`.
"""

from __future__ import annotations

import hashlib
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from edge_pruning.models.image_reader import ImageReader
from edge_pruning.pair import Pair
from edge_pruning.registry import Registry, build
from edge_pruning.tasks.chat import Chat, Messages
from edge_pruning.tasks.encoding import Encoder, TextPair
from edge_pruning.tasks.packed import PackedPairs, PackedTexts, unpacked_if_few

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
LISTED = 6  # words in an error
AT_LEAST, AT_ONCE = 16, 256  # candidates that are tokenised together
MISSES = 1000  # candidates in a row that were no new pair: whatever is left, if anything, is very rare


@dataclass(frozen=True)
class PairSet:
    """The pairs of one split of a task, for one tokenizer: as token ids and as text, in the same order.

    `metric` says how answers are judged, `objective` what a circuit's outputs are fitted with (`objectives.py`).
    `notices` says what was left out because of the tokenizer, such as "names: 84 of 120 are single tokens; the others
    are left out". `predicted` counts the pairs without an answer of their own, which have the model's prediction
    instead. `writer` writes the first pairs of the split again, as many as it is asked for, where the task makes its
    own text.
    """

    task: str
    split: str
    metric: str
    pairs: Sequence[Pair]
    texts: Sequence[TextPair]
    notices: tuple[str, ...] = ()
    objective: str = "kl"
    writer: Callable[[int], PairSet] | None = field(default=None, repr=False, compare=False)
    predicted: int = 0

    def enlarged(self, size: int) -> PairSet:
        """Return at least `size` pairs, these ones first, if the task can write more; as many as there are if not."""
        if size <= len(self.pairs) or self.writer is None:
            return self
        more = self.writer(size)
        same = all(one == two for one, two in zip(self.pairs, more.pairs, strict=False))
        return more if same and len(more.pairs) >= len(self.pairs) else self

    @cached_property
    def hash(self) -> str:
        """A fingerprint of the token ids: equal hashes mean that two results were measured on the same data."""
        content = hashlib.sha256()
        for i, p in enumerate(self.pairs):  # one long list, a pair at a time
            ids = [p.clean, p.corrupted, p.positions, p.answers, p.wrong, *([p.prefixes] if p.prefixes else [])]
            content.update(("[" if i == 0 else ", ").encode() + json.dumps(ids, default=_of_image).encode())
        content.update(b"]" if self.pairs else b"[]")
        return content.hexdigest()

    def subset(self, ids: Sequence[int]) -> PairSet:
        """Some of the pairs, by index."""
        texts = tuple(self.texts[i] for i in ids) if self.texts else ()
        return replace(self, pairs=tuple(self.pairs[i] for i in ids), texts=texts)

    def sample(self, most: int, seed: int) -> PairSet:
        """At most `most` of the pairs, drawn at random, in their order."""
        return self.divided(most, seed)[0]

    def divided(self, most: int, seed: int) -> tuple[PairSet, PairSet]:
        """At most `most` of the pairs, drawn at random, and all others; both in their order."""
        n = len(self.pairs)
        drawn = set(random.Random(seed).sample(range(n), min(n, most)))
        rest = [i for i in range(n) if i not in drawn]
        return self.subset(sorted(drawn)), self.subset(rest)


def _of_image(image: Tensor) -> str:
    return hashlib.sha256(image.contiguous().cpu().numpy().tobytes()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Where pairs come from. The fields are the settings; `metric` names what is measured on the answers.

    `logit_difference`: logit of the answer minus logit of the wrong answer. `probability_difference`: probability of
    all answers minus probability of all wrong answers. `objective` names what a circuit is fitted with. `exact`: there
    are no held-out pairs, and a circuit is wanted that keeps every output.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    metric: ClassVar[str] = "logit_difference"
    objective: ClassVar[str] = "kl"
    exact: ClassVar[bool] = False

    seed: int = 0

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Settings of a run that suit this task better than the usual ones: its own model, say, or ablation."""
        return {}

    @abstractmethod
    def pairs(self, tokenizer: PreTrainedTokenizerBase, split: str, *, max_length: int | None = None) -> PairSet:
        """The pairs of a split (train, validation or test), as tokens of this tokenizer.

        `max_length` is the model's context in tokens; longer pairs are refused.
        """

    def check_split(self, split: str) -> Split:
        for known in SPLITS:
            if split == known:
                return known
        raise ValueError(f"task {self.name!r}: expected split {', '.join(map(repr, SPLITS))}, got {split!r}")


@dataclass(frozen=True, kw_only=True)
class TextTask(Task):
    """A task for models that read text.

    bos: whether the beginning-of-text token stands in front of every prompt; None: as the tokenizer does by default.
    chat: prompts are what a user says to the model, in its own chat template (which brings its own beginning).
    """

    bos: bool | None = None
    chat: bool = False

    def reader(self, tokenizer: PreTrainedTokenizerBase, what: str) -> tuple[Encoder, Chat | None]:
        """How texts become tokens, and chats become texts (None if there are none).

        Raises ValueError if the model does not read text.
        """
        if tokenizer is None or isinstance(tokenizer, ImageReader):
            raise ValueError(
                f"{what}: its pairs are text, but the model reads images; use a language model, or a task of images, "
                "such as digits"
            )
        chat = Chat(tokenizer, what) if self.chat else None
        return Encoder(tokenizer, what, bos=False if chat else self.bos), chat


@dataclass(frozen=True, kw_only=True)
class GeneratedTask(TextTask):
    """A task that writes its own text: as many pairs per split as asked for, no pair twice.

    `sizes_are_limits`: its words are few, so a split may have fewer pairs than asked for, and the task notes how many.
    """

    sizes_are_limits: ClassVar[bool] = False

    train: int = 200
    validation: int = 200
    test: int = 500

    def __post_init__(self) -> None:
        sizes = {split: getattr(self, split) for split in SPLITS}
        bad = [f"{split}={size!r}" for split, size in sizes.items() if not isinstance(size, int) or size < 1]
        if bad:
            raise ValueError(f"task {self.name!r}: expected at least one pair per split, got {', '.join(bad)}")

    @abstractmethod
    def candidates(self, encoder: Encoder, split: Split, rng: random.Random) -> Iterator[TextPair]:
        """An endless stream of random pairs of a split; words that the tokenizer cannot take are left out."""

    @property
    def whole_answers(self) -> bool:
        """Whether answers of several tokens are judged by their total probability (`answer_tree.py`)."""
        return False

    def messages(self, prompt: str) -> str | Messages:
        """A prompt as a chat: by default all of it is what the user says."""
        return prompt

    def pairs(self, tokenizer: PreTrainedTokenizerBase, split: str, *, max_length: int | None = None) -> PairSet:
        split = self.check_split(split)
        pair_set = self._written(tokenizer, split, max_length, getattr(self, split))
        wanted, fit = getattr(self, split), len(pair_set.pairs)
        if fit < wanted and self.sizes_are_limits and fit:
            notice = f"{split}: {fit} pairs, all that fit this tokenizer; {wanted} were requested"
            return replace(pair_set, notices=(*pair_set.notices, notice))
        if not fit:
            why = self._why_none(tokenizer, split)
            raise ValueError(
                f"task {self.name!r}: no pair of split {split!r} fits this tokenizer: {why}; "
                "check that the tokenizer belongs to the model, or use another one"
            )
        if fit < wanted:
            raise ValueError(
                f"task {self.name!r}: only {fit} different pairs of split {split!r} fit this tokenizer, "
                f"but {wanted} were requested; request fewer ({split}={fit}) or use another tokenizer"
            )
        return pair_set

    def _why_none(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> str:
        """Say what is wrong with the first candidates of a split, none of which fits."""
        encoder, _ = self.reader(tokenizer, f"task {self.name!r}")
        some = list(islice(self.candidates(encoder, split, self._random(split)), AT_LEAST))
        words = encoder.unknown_words(*(prompt for text in some for prompt in (text.clean, text.corrupted)))
        if words:
            return f"it has no token for words such as {', '.join(map(repr, words[:LISTED]))}"
        return "its prompts have unknown tokens, or no two of them have equally many"

    def _random(self, split: Split) -> random.Random:
        """What candidates are drawn with: a text seed goes through SHA-512, so it means the same on every machine."""
        return random.Random(f"{self.name} {split} {self.seed}")

    def _written(
        self, tokenizer: PreTrainedTokenizerBase, split: Split, max_length: int | None, size: int, *,
        repeat: bool = False,
    ) -> PairSet:
        """The first `size` pairs of a split, or fewer if no more fit the tokenizer; the same ones for every size.

        repeat: if the split's clean prompts are fewer, they come again beside other corrupted prompts.
        """
        encoder, chat = self.reader(tokenizer, f"task {self.name!r}")
        pairs, texts, longest = PackedPairs(), PackedTexts(), 0
        for some in _distinct(self.candidates(encoder, split, self._random(split)), encoder, size, repeat=repeat):
            chosen = some if chat is None else [
                chat.pair(
                    self.messages(text.clean), self.messages(text.corrupted), text.answer, text.wrong, text.template
                )
                for text in some
            ]
            encoder.prepare(string for text in chosen for string in text.strings)
            for text in chosen:
                pair = encoder.pair(text, whole=self.whole_answers)
                longest = max(longest, pair.length)
                pairs.append(pair)
                texts.append(text)
            encoder.forget()
        if max_length is not None and longest > max_length:
            raise ValueError(
                f"task {self.name!r}: its longest pair has {longest} tokens in this tokenizer, but the model's context "
                f"ends at {max_length}; use a model with a longer context"
            )
        runs = max((len(pair.branches) for pair in pairs), default=1)
        several = (f"answers differ before their last token: each prompt is run with {runs} beginnings",) * (runs > 1)
        writer = partial(self._written, tokenizer, split, max_length, repeat=True)
        return PairSet(
            self.name, split, self.metric, unpacked_if_few(pairs), unpacked_if_few(texts),
            (*encoder.notices, *several), self.objective, writer,
        )


def _distinct(
    candidates: Iterator[TextPair], encoder: Encoder, size: int, *, repeat: bool = False
) -> Iterator[list[TextPair]]:
    """The first candidates that differ in their clean prompt and contain no unknown token, some at a time.

    repeat: if there are too few, go on with clean prompts that were there, beside other corrupted ones.
    """
    rules = [lambda text: text.clean, lambda text: f"{text.clean}\0{text.corrupted}"][: 1 + repeat]
    seen, misses, found = set[bytes](), 0, 0
    while found < size and rules:
        some, kept = list(islice(candidates, min(AT_ONCE, max(AT_LEAST, size - found)))), []
        if not some:
            return
        encoder.prepare(prompt for text in some for prompt in (text.clean, text.corrupted))
        for text in some:
            if _digest(rules[0](text)) in seen or not encoder.knows(text.clean) or not encoder.knows(text.corrupted):
                misses += 1
            else:
                kept.append(text)
                seen.update(_digest(rule(text)) for rule in rules)
                misses, found = 0, found + 1
            if misses > MISSES:
                rules, misses = rules[1:], 0
            if found == size or not rules:
                break
        yield kept


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


# --- registry ------------------------------------------------------------------------------------------------------

OWN = (
    "or give a file of your own pairs (.jsonl, .json, .csv, .tsv or .parquet), or a folder with a folder of images "
    "for each class"
)
TASKS: Registry[type[Task]] = Registry("task", hint=OWN)
task = TASKS.register


def task_names() -> tuple[str, ...]:
    """The names of the built-in tasks."""
    return tuple(sorted(TASKS))


def build_task(cls: type[Task], settings: dict[str, Any]) -> Task:
    """Build a task from its settings. Raises ValueError for settings that it does not have, with those that it has."""
    return build(cls, f"task {cls.name!r}", settings)
