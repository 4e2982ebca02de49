"""What is wrong with a route, as values: where, what, and how to correct it.

Owns `RouteProblem` and `RouteRefused`, and the cursor (`Part`) with which `compiler` and the
modules it calls walk a document and note every problem, not only the first. What a key may hold
comes from `mesh.routes.keys`. It must not know lines or files: `mesh.codec.route_file` finds the
line of a path.
"""

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final, TypeGuard, TypeVar, cast

import msgspec

from mesh.core.amounts import as_number
from mesh.core.json_values import kind_of
from mesh.errors import RouteInvalid
from mesh.routes.expressions.compiler import CompiledExpression, CompiledTemplate, compile_expression, compile_template
from mesh.routes.expressions.paths import Read
from mesh.routes.expressions.tokens import ExpressionSyntaxError
from mesh.routes.values import (
    LONGEST_S,
    NAME,
    NAME_HINT,
    NAME_LENGTH,
    NEVER,
    UNITS_S,
    Choice,
    Duration,
    Key,
    Number,
    OneOf,
    Table,
    Whole,
    seconds_of,
)

DocumentPath = tuple[str | int, ...]
T = TypeVar("T")

_DURATION_MEND: Final = "write a number and ms, s, m, h or d, such as 30s or 24h"


class RouteProblem(msgspec.Struct, frozen=True, kw_only=True):
    """`path` leads to the part of the document: names and places in lists.

    `on_key`: the key itself is wrong, not its value.
    """

    path: DocumentPath
    message: str
    hint: str = ""
    on_key: bool = False

    def __str__(self) -> str:
        where = ".".join(str(part) for part in self.path)
        return f"{where}: {self.what()}" if where else self.what()

    def what(self) -> str:
        return self.message + (f" ({self.hint})" if self.hint else "")


class RouteRefused(RouteInvalid):
    """A document is not a valid route.

    `problems` are all that was found, in the document's order as far as it has one.
    """

    def __init__(self, problems: Iterable[RouteProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """An expression in the document reads a path.

    `path` leads to the string `text` that holds the expression.
    """

    path: DocumentPath
    text: str
    read: Read


def near(word: str, known: Iterable[str]) -> str:
    """`did you mean ...?`, or what there is."""
    names = sorted(known)
    found = get_close_matches(word, names, 1)
    if found:
        return f"did you mean {found[0]}?"
    return f"there are: {', '.join(names)}" if names else "there are none"


def join(words: Iterable[str]) -> str:
    """`a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


class Book:
    """Where problems and readings are noted, while a document is walked."""

    def __init__(self) -> None:
        self.problems: list[RouteProblem] = []
        self.readings: list[Reading] = []

    def add(self, path: DocumentPath, message: str, hint: str = "", *, on_key: bool = False) -> None:
        self.problems.append(RouteProblem(path=path, message=message, hint=hint, on_key=on_key))

    def refused(self, error: ExpressionSyntaxError, path: DocumentPath, text: str) -> None:
        self.add(path, f"{error.message} at column {error.column} of: {_clipped(text)}", error.fix)


def written_duration(seconds: float) -> str:
    """A duration as one would write it: in the largest unit that divides it."""
    unit = max((unit for unit in UNITS_S if seconds % UNITS_S[unit] == 0), key=lambda unit: UNITS_S[unit], default="s")
    return f"{seconds / UNITS_S[unit]:g}{unit}"


def is_name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None and len(value) <= NAME_LENGTH


def is_whole(value: Any) -> TypeGuard[int]:
    # to Python true is 1
    return isinstance(value, int) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A wrong value for a message: a short one as it is, else its kind."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return f"'{_clipped(str(value))}'" if isinstance(value, str) and " " in value else _clipped(str(value))
    return kind_of(value)


def _clipped(text: str) -> str:
    flat = " ".join(text.split("\n")).strip()
    return flat if len(flat) <= 120 else flat[:117] + "..."  # noqa: PLR2004 - about a line


class Part:
    """A mapping of the document, and the keys that the language has there.

    Each reader gives the value of a key, or its default, and notes what is wrong with it.
    """

    def __init__(
        self, value: dict[str, Any], path: DocumentPath, book: Book, keys: Mapping[str, Key] | None = None
    ) -> None:
        self.value = value
        self.path = path
        self.book = book
        self.keys = keys or {}

    def problem(self, key: str, message: str, hint: str = "") -> None:
        self.book.add((*self.path, key), message, hint)

    def missing(self, key: str, hint: str = "") -> None:
        self.book.add(self.path, f"{key} is missing", hint or self.keys[key].hint)

    def check_keys(self) -> None:
        for key in self.value:
            if key not in self.keys:
                self.book.add((*self.path, key), f"unknown key {key}", near(key, self.keys), on_key=True)

    def check_required(self) -> None:
        for key, known in self.keys.items():
            if known.is_required and key not in self.value:
                self.missing(key)

    def kind(self, key: str, of: type[T]) -> T:
        """What the key holds, as the table has it.

        That is the kind itself, or of several kinds the one asked for.
        """
        kind = self.keys[key].kind
        several = kind.kinds if isinstance(kind, OneOf) else (kind,)
        return next(one for one in several if isinstance(one, of))

    def part(self, key: str, hint: str, keys: Mapping[str, Key] | None = None) -> "Part | None":
        value = self.value.get(key)
        if isinstance(value, dict):
            return Part(value, (*self.path, key), self.book, keys)
        self.problem(key, f"{key} must be a mapping, not {kind_of(value)}", hint)
        return None

    def mapping(self, key: str) -> "Part | None":
        """The part under a key that need not be there, with its keys checked."""
        if key not in self.value:
            return None
        part = self.part(key, self.keys[key].example, self.kind(key, Table).keys)
        if part is not None:
            part.check_keys()
        return part

    def name(self, key: str) -> str:
        value = self.value.get(key)
        if is_name(value):
            return str(value)
        self.problem(key, f"{key} can't be {shown(value)}", NAME_HINT)
        return ""

    def text(self, key: str, hint: str) -> str | None:
        value = self.value.get(key)
        if isinstance(value, str) and value.strip():
            return value
        shown = "empty" if isinstance(value, str) else kind_of(value)
        self.problem(key, f"{key} must be a string, not {shown}", hint)
        return None

    def choice(self, key: str) -> str:
        """The first is the default."""
        choices = self.kind(key, Choice).options
        value = self.value.get(key, choices[0])
        if value in choices:
            return str(value)
        self.problem(key, f"{key} can't be {shown(value)}", f"write {join(choices)}")
        return choices[0]

    def duration(self, key: str) -> float:
        """Seconds; without key and default 0."""
        if key not in self.value:
            return cast("float", self.keys[key].default or 0.0)
        value, zero = self.value[key], self.kind(key, Duration).zero
        seconds = seconds_of(value)
        if seconds is None:
            self.problem(key, f"{key} can't be {shown(value)}", _DURATION_MEND)
            return 0.0
        if seconds > LONGEST_S or (seconds == 0 and not zero):
            self.problem(key, f"{key} can't be {value}", "write more than 0 and at most 3650d")
            return 0.0
        return seconds

    def duration_or_none(self, key: str) -> float | None:
        """Seconds; None without the key."""
        return self.duration(key) if key in self.value else None

    def duration_or_never(self, key: str) -> float | None:
        """Seconds; None for `never`, which an absent key means too."""
        return None if self.value.get(key, NEVER) == NEVER else self.duration(key)

    def whole(self, key: str, high: int | None = None) -> int:
        """A whole number within the table's bounds. `high`: where the document itself sets it."""
        bounds = self.kind(key, Whole)
        low, high = bounds.low, cast("int", high or bounds.high)
        value = self.value.get(key, self.keys[key].default or low)
        if is_whole(value) and low <= value <= high:
            return value
        self.problem(key, f"{key} can't be {shown(value)}", f"write a whole number from {low} to {high}")
        return low

    def number(self, key: str) -> float:
        """A number within the table's bounds."""
        bounds = self.kind(key, Number)
        low, high = cast("float", bounds.low), cast("float", bounds.high)
        value = self.value.get(key, self.keys[key].default or low)
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.problem(
            key, f"{key} can't be {shown(value)}", f"write a number from {as_number(low)} to {as_number(high)}"
        )
        return low

    def expression(self, key: str) -> CompiledExpression | None:
        if key not in self.value:
            return None
        value, path = self.value[key], (*self.path, key)
        if not isinstance(value, str):
            self.problem(key, f"{key} must be an expression in a string, not {kind_of(value)}")
            return None
        if value.lstrip().startswith("${{"):
            self.problem(key, f"{key} takes a plain expression", "write it without ${{ }}")
            return None
        try:
            compiled = compile_expression(value)
        except ExpressionSyntaxError as error:
            self.book.refused(error, path, value)
            return None
        self.book.readings += [Reading(path=path, text=value, read=read) for read in compiled.reads]
        return compiled

    def template(self, key: str) -> CompiledTemplate | None:
        if key not in self.value:
            return None
        path = (*self.path, key)
        try:
            compiled = compile_template(self.value[key])
        except ExpressionSyntaxError as error:
            self.book.refused(error, path + error.path, error.text)
            return None
        self.book.readings += [
            Reading(path=path + place.path, text=place.text, read=place.read) for place in compiled.reads
        ]
        return compiled

    def text_template(self, key: str, hint: str) -> CompiledTemplate | None:
        """A template that is one string; None if the key is missing."""
        is_there = key in self.value and self.text(key, hint) is not None
        return self.template(key) if is_there else None


def find_foreign(value: Any, path: DocumentPath, book: Book) -> None:
    """Note everything that JSON does not have: a stored definition must be the document."""
    match value:
        # bools before whole numbers, which they are to Python
        case None | bool() | str():
            pass
        case int() if not -(2**63) <= value < 2**64:
            book.add(path, "the number does not fit in 64 bits", "write it as a string")
        case float() if not math.isfinite(value):
            book.add(path, f"{value} is not a JSON number", "write it as a string")
        case int() | float():
            pass
        case list():
            for place, item in enumerate(value):
                find_foreign(item, (*path, place), book)
        case dict():
            for key, item in value.items():
                if isinstance(key, str):
                    find_foreign(item, (*path, key), book)
                else:
                    book.add((*path, str(key)), f"the key {key} is not a string", "put it in quotes", on_key=True)
        case _:
            book.add(path, f"{value} is {kind_of(value)}, which JSON does not have", "put it in quotes")
