"""Mappings that are never changed in place, and whose changes cost little however large they are.

Owns how a workflow's steps are kept. A state is a value, so each event makes a new mapping. A small
one is a plain dict, and copying it is the fastest way. But a for-each has a place for every item,
and to copy ten thousand places for each of its events would take the square of its length. So a
large mapping has two layers: `base`, which many versions share, and `top`, which holds what has
changed since `base` was made. A change copies `top` alone. Once `top` has about the square root of
`base`'s entries, both become a new `base`.

A layered mapping has the entries and the order that a dict would have, and is equal to that dict.
Called by `evolve`; the codec writes it as the dict that it stands for.
"""

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import Any, Final, TypeVar, overload

Value = TypeVar("Value")
Other = TypeVar("Other")

_LARGE: Final = 64
"""From this many entries on, a mapping has layers.

A dict of that size is copied in less time than an event otherwise takes.
"""


class Layered(Mapping[str, Value]):
    """A large mapping. `top` wins over `base`. Neither is ever changed."""

    __slots__ = ("_base", "_found", "_top")

    def __init__(
        self, base: dict[str, Value], top: dict[str, Value], found: dict[Any, list[str]] | None = None
    ) -> None:
        self._base = base
        self._top = top
        # what `keys_where` has found in `base`, for all versions that share it
        self._found: dict[Any, list[str]] = {} if found is None else found

    def __getitem__(self, key: str) -> Value:
        top = self._top
        return top[key] if key in top else self._base[key]

    @overload
    def get(self, key: str, /) -> Value | None: ...
    @overload
    def get(self, key: str, /, default: Value | Other) -> Value | Other: ...
    def get(self, key: str, /, default: Value | Other | None = None) -> Value | Other | None:
        top = self._top
        return top[key] if key in top else self._base.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._top or key in self._base

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole())

    def __len__(self) -> int:
        base = self._base
        return len(base) + sum(key not in base for key in self._top)

    def __bool__(self) -> bool:
        return bool(self._base or self._top)

    def items(self) -> ItemsView[str, Value]:
        return self.whole().items()

    def values(self) -> ValuesView[Value]:
        return self.whole().values()

    def __repr__(self) -> str:
        return repr(self.whole())

    def whole(self) -> dict[str, Value]:
        """The dict that it stands for. It must not be changed."""
        if self._top:
            # versions before share the old base, so that stays as it is
            self._base, self._top, self._found = {**self._base, **self._top}, {}, {}
        return self._base

    def keys_where(self, holds: Callable[[str, Value], bool]) -> list[str]:
        """The keys whose entries `holds` is true of, in order; `base` is looked through once."""
        known = self._found.get(holds)
        if known is None:
            known = self._found[holds] = [key for key, value in self._base.items() if holds(key, value)]
        top, base = self._top, self._base
        if not top:
            return known
        now = {key for key, value in top.items() if holds(key, value)}
        # a new one of `base` has a place among the known that only a look through all of it tells
        if any(key in base and not holds(key, base[key]) for key in now):
            self.whole()
            return self.keys_where(holds)
        kept = [key for key in known if key not in top or key in now]
        return kept + [key for key in top if key in now and key not in base]

    def changed(self, changes: Mapping[str, Value]) -> "Layered[Value]":
        """The mapping with these entries in place of the old ones."""
        top = {**self._top, **changes}
        # at the square root, copying `top` and merging it now and then cost about the same
        if len(top) ** 2 <= len(self._base):
            return Layered(self._base, top, self._found)
        return Layered({**self._base, **top}, {})


def keys_where(mapping: Mapping[str, Value], holds: Callable[[str, Value], bool]) -> list[str]:
    """The keys whose entries `holds` is true of, in order. The list must not be changed.

    `holds` must be a pure function that is there as long as the program: of a large mapping it is
    asked about what has changed since it was asked last, and seldom about all.
    """
    if type(mapping) is Layered:
        return mapping.keys_where(holds)
    return [key for key, value in mapping.items() if holds(key, value)]


def changed(before: Mapping[str, Value], changes: Mapping[str, Value]) -> Mapping[str, Value]:
    """The mapping with these entries in place of the old ones. `before` stays as it is."""
    # not `isinstance`, which asks an abstract class in Python, for each event
    if type(before) is Layered:
        return before.changed(changes)
    after = {**before, **changes}
    return Layered(after, {}) if len(after) > _LARGE else after


def with_entry(before: Mapping[str, Value], key: str, value: Value) -> Mapping[str, Value]:
    """As `changed`, with one entry: what most events change."""
    if type(before) is Layered:
        return before.changed({key: value})
    after = {**before, key: value}
    return Layered(after, {}) if len(after) > _LARGE else after
