"""Many pairs in little memory: as numbers in one array and letters in one buffer, read back one pair at a time.

A pair of 20 tokens takes about 300 bytes so, with its text about 500; as Python objects it takes some 10,000.
"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice, pairwise
from typing import Generic, TypeVar, overload

from edge_pruning.pair import Pair
from edge_pruning.tasks.encoding import TextPair

T = TypeVar("T")
UNPACKED = 2_000  # items up to which memory does not matter


class Packed(Sequence[T], Generic[T]):
    """A sequence that can be appended to. A slice of it is a tuple; items are made anew whenever they are read."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._ends = array("q", [0])
        self._names: dict[str, int] = {}  # of templates, by which many pairs are written
        self._by_number: list[str] = []
        for item in items:
            self.append(item)

    @abstractmethod
    def append(self, item: T) -> None: ...

    @abstractmethod
    def _read(self, start: int, end: int) -> T: ...

    def _number_of(self, name: str) -> int:
        if name not in self._names:
            self._names[name] = len(self._by_number)
            self._by_number.append(name)
        return self._names[name]

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, which: int) -> T: ...
    @overload
    def __getitem__(self, which: slice) -> tuple[T, ...]: ...
    def __getitem__(self, which: int | slice) -> T | tuple[T, ...]:
        if isinstance(which, slice):
            return tuple(self[i] for i in range(*which.indices(len(self))))
        index = which + len(self) if which < 0 else which
        if not 0 <= index < len(self):
            raise IndexError(which)
        return self._read(self._ends[index], self._ends[index + 1])

    def __eq__(self, other: object) -> bool:
        """Whether another sequence, packed or not, has equal items."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # it can be appended to


class PackedPairs(Packed[Pair]):
    """Pairs of token ids. Each: template, tokens n, positions k, clean [n], corrupted [n], positions [k], answers; then
    prefixes, if there are any.
    """

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._numbers = array("i")
        super().__init__(pairs)

    def append(self, item: Pair) -> None:
        numbers = [self._number_of(item.template), len(item.clean), len(item.positions)]
        numbers += [*item.clean, *item.corrupted, *item.positions]
        for ids in (*item.answers, *item.wrong, *item.prefixes):
            numbers += [len(ids), *ids]
        self._numbers.extend(numbers)
        self._ends.append(len(self._numbers))

    def _read(self, start: int, end: int) -> Pair:
        numbers = iter(self._numbers[start:end])
        template, tokens, positions = islice(numbers, 3)
        clean, corrupted = _next(numbers, tokens), _next(numbers, tokens)
        places = _next(numbers, positions)
        answers, wrong = (tuple(_next(numbers, next(numbers)) for _ in range(positions)) for _ in range(2))
        prefixes = tuple(_next(numbers, length) for length in numbers)
        return Pair(clean, corrupted, places, answers, wrong, self._by_number[template], prefixes)


class PackedTexts(Packed[TextPair]):
    """Pairs as text, in UTF-8. Numbers of each: where its letters begin, template, answers, lengths of its texts."""

    def __init__(self, texts: Iterable[TextPair] = ()) -> None:
        self._letters = bytearray()
        self._numbers = array("q")
        super().__init__(texts)

    def append(self, item: TextPair) -> None:
        fields = [text.encode() for text in (item.clean, item.corrupted, *item.answer, *item.wrong)]
        self._numbers.extend([len(self._letters), self._number_of(item.template), len(item.answer), *map(len, fields)])
        self._letters += b"".join(fields)
        self._ends.append(len(self._numbers))

    def _read(self, start: int, end: int) -> TextPair:
        first, template, answers, *lengths = self._numbers[start:end]
        ends = [*accumulate(lengths, initial=first)]
        texts = (self._letters[begin:stop].decode() for begin, stop in pairwise(ends))
        clean, corrupted, *words = texts
        return TextPair(clean, corrupted, tuple(words[:answers]), tuple(words[answers:]), self._by_number[template])


class Numbered(Mapping[int, T], Generic[T]):
    """Packed items by numbers of their own, such as those of their rows."""

    def __init__(self, items: Packed[T], index: Mapping[int, int] | None = None) -> None:
        self._items, self._index = items, dict(index or {})

    def __setitem__(self, number: int, item: T) -> None:
        self._index[number] = len(self._items)
        self._items.append(item)

    def __getitem__(self, number: int) -> T:
        return self._items[self._index[number]]

    def __iter__(self) -> Iterator[int]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def packed(self, numbers: Iterable[int]) -> Packed[T]:
        """Some of the items, in the order of these numbers."""
        return type(self._items)(self[number] for number in numbers)

    def without(self, numbers: Collection[int]) -> Numbered[T]:
        return Numbered(self._items, {n: place for n, place in self._index.items() if n not in numbers})


def unpacked_if_few(items: Packed[T]) -> Sequence[T]:
    """The items as objects, unless they are many."""
    return items if len(items) > UNPACKED else tuple(items)


def without(items: Mapping[int, T], numbers: Collection[int]) -> Mapping[int, T]:
    """All items but some. Packed ones are not copied."""
    if isinstance(items, Numbered):
        return items.without(numbers)
    return {number: item for number, item in items.items() if number not in numbers}


def of_numbers(items: Mapping[int, T], numbers: Collection[int]) -> Sequence[T]:
    """Some of the items, in the order of these numbers; they stay packed if they are many."""
    if isinstance(items, Numbered) and len(numbers) > UNPACKED:
        return items.packed(numbers)
    return tuple(items[number] for number in numbers)


def _next(numbers: Iterator[int], count: int) -> tuple[int, ...]:
    return tuple(islice(numbers, count))
