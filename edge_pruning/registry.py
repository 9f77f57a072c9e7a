"""Registries: one for each kind of named thing (methods, tasks, file formats, ...).

    METHODS: Registry[type[Method]] = Registry("method")
    method = METHODS.register

    @method
    @dataclass(frozen=True)
    class SoftTopK(Method):
        name: ClassVar[str] = "soft-top-k"

A registry is a read-only mapping from names to entries. Entries can also be looked up by their `aliases`, which are not
listed. If a package's `__init__` calls `import_files`, all its files are imported, so a new entry is one new file.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

T = TypeVar("T")
AnyEntry = TypeVar("AnyEntry")


class Registry(Mapping[str, T], Generic[T]):
    """Entries of one kind by name, in the order of their registration.

    kind: the noun for error messages.
    key: the attribute of an entry that holds its name. The optional attribute `aliases` holds other names.
    hint: appended to the error about an unknown name.
    """

    def __init__(self, kind: str, entries: Iterable[T] = (), *, key: str = "name", hint: str = "") -> None:
        self.kind, self.hint, self._key = kind, hint, key
        self._entries: dict[str, T] = {}
        self._aliases: dict[str, str] = {}
        for entry in entries:
            self.register(entry)

    def register(self, entry: AnyEntry) -> AnyEntry:
        """Add an entry under its name and its aliases; usable as a decorator. Raises ValueError if a name is taken.

        If the same definition is registered again, as when a notebook cell is run twice, it replaces the first one.
        """
        attributes = vars(entry)
        if self._key not in attributes:
            raise ValueError(f"{_definition(entry)} needs its own attribute {self._key!r}, the {self.kind}'s name")
        name, aliases = attributes[self._key], attributes.get("aliases", ())  # neither is inherited
        for taken in (name, *aliases):
            other = self.get(taken)
            if other is not None and _definition(other) != _definition(entry):
                raise ValueError(
                    f"two {self.kind}s are called {taken!r}: {_definition(other)} and {_definition(entry)}; rename one"
                )
        if name in self._entries:
            self.remove(name)
        self._entries[name] = entry  # type: ignore[assignment]  # a decorator must return the type that it was given
        self._aliases |= dict.fromkeys(aliases, name)
        return entry

    def remove(self, name: str) -> None:
        """Remove an entry and its aliases."""
        del self._entries[name]
        self._aliases = {alias: of for alias, of in self._aliases.items() if of != name}

    def named(self, name: str) -> T:
        """Return the entry with a name or alias. Raises ValueError with the nearest names if it is unknown."""
        if name not in self:
            raise unknown(self.kind, name, self.known, self.hint)
        return self[name]

    @property
    def known(self) -> list[str]:
        """All names and aliases."""
        return [*self, *self._aliases]

    def canonical(self, name: str) -> str:
        """Return the name that an alias stands for. Other names, known or not, are returned unchanged."""
        return self._aliases.get(name, name)

    def __getitem__(self, name: str) -> T:
        return self._entries[self.canonical(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> ValueError:
    """Make the error for an unknown name: it lists the nearest names, or all names if none is near."""
    return ValueError(f"there is no {kind} {name!r}; {nearest_in_words(name, known)}{hint and f'; {hint}'}")


def nearest_in_words(name: str, known: Iterable[str]) -> str:
    """Return `nearest: a, b`, the most similar first; if none is near, `choose from a, b, c, d`, in alphabetical order.
    """
    known = sorted(known)
    near = nearest(name, known)
    return f"nearest: {', '.join(near)}" if near else f"choose from {', '.join(known)}"


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names that resemble a name, starting with those that contain it or are contained in it.

    Case is ignored. Names of one letter resemble nothing.
    """
    lower, asked = {other.lower(): other for other in known}, name.lower()
    inside = [other for other in lower if len(other) > 1 and other in asked or len(asked) > 1 and asked in other]
    inside.sort(key=lambda other: abs(len(other) - len(asked)))
    similar = difflib.get_close_matches(asked, list(lower), 3, 0.5)
    return [lower[other] for other in dict.fromkeys([*inside, *similar])][:3]


def build(cls: Callable[..., T], what: str, settings: Mapping[str, Any]) -> T:
    """Build a dataclass from settings. Raises ValueError with the known settings if one of them does not exist."""
    known = settings_of(cls)
    missing = [name for name in settings if name not in known]
    if missing:
        raise ValueError(f"{what} has no setting {', '.join(missing)}; its settings are {', '.join(known) or 'none'}")
    return cls(**settings)


def settings_of(cls: Any) -> dict[str, Any]:
    """Return the settings of a dataclass with their defaults: the fields that its constructor takes."""
    return {field.name: field.default for field in dataclasses.fields(cls) if field.init}


def import_files(package: str, path: Iterable[str]) -> None:
    """Import every file of a package, so that all of its entries are registered; `path`: the package's `__path__`."""
    for module in iter_modules(path):
        if not module.ispkg:
            import_module(f"{package}.{module.name}")


def _definition(entry: object) -> str:
    """Return where an entry was defined, for error messages, or the entry itself if it is a value."""
    if isinstance(entry, type):
        return f"{entry.__module__}.{entry.__qualname__}"
    return repr(entry)
