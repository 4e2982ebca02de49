"""How one setting is read: from a variable's text, or from an option's value.

Owns the kinds of values, their ranges, and what is said of a value that does not hold. It knows no
setting; `mesh.settings` declares them. It is written by hand because the library for it took half
of the time that a short command runs: a variable is a text, and there are six kinds of values.
"""

import math
import re
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, NamedTuple

__all__ = ["Field", "Problem", "Read", "SecretStr", "SettingField", "ValuesInvalid", "fields_of", "values_of"]

_YES: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
_NO: Final = frozenset({"0", "false", "f", "no", "n", "off"})


class SecretStr:
    """A text that no message and no log line shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "SecretStr('**********')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class Read(NamedTuple):
    """In an annotation: what is done to a value before it is looked at."""

    before: Callable[[object], object]


class SettingField(NamedTuple):
    """A setting: its default, and which values are allowed.

    `make`: makes the default, which is None then. Of a number: `ge <= value`, `gt < value`,
    `value <= le`. Of a text: `pattern`, which the whole of it must match, and `max_length`.
    `annotation`: its type, without what `before` says.
    """

    default: Any = None
    make: Callable[[], Any] | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    pattern: str | None = None
    max_length: int | None = None
    annotation: Any = None
    before: Callable[[object], object] | None = None

    @property
    def is_secret(self) -> bool:
        return SecretStr in _members(self.annotation)

    def read(self, value: object) -> Any:
        """The value of this setting. Raises `ValueError`, which says what it should be."""
        found = _of_kind(self.annotation, value)
        if isinstance(found, str):
            self._check_text(found)
        elif isinstance(found, int | float):
            self._check_number(found)
        return found

    def _check_text(self, text: str) -> None:
        if self.max_length is not None and len(text) > self.max_length:
            raise ValueError(f"string should have at most {self.max_length} characters")
        if self.pattern is not None and re.fullmatch(self.pattern, text) is None:
            raise ValueError(f"string should match pattern '{self.pattern}'")

    def _check_number(self, number: float) -> None:
        # put so that what is not a number at all is refused too
        if self.ge is not None and not number >= self.ge:
            raise ValueError(f"input should be greater than or equal to {self.ge}")
        if self.gt is not None and not number > self.gt:
            raise ValueError(f"input should be greater than {self.gt}")
        if self.le is not None and not number <= self.le:
            raise ValueError(f"input should be less than or equal to {self.le}")


def Field(default: Any = None, **rules: Any) -> Any:  # noqa: N802 - stands where a value is expected, as in dataclasses
    """A setting with rules. `rules`: as in `SettingField`."""
    return SettingField(default=default, **rules)


class Problem(NamedTuple):
    """What is wrong with one value. `is_known`: there is such a setting."""

    name: str
    value: object
    message: str
    is_known: bool = True


class ValuesInvalid(Exception):
    """Values that do not hold, each with its reason."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems


def fields_of(owner: type) -> dict[str, SettingField]:
    """The settings that a class declares, by name."""
    return {
        name: _field(hint, vars(owner)[name]) for name, hint in owner.__annotations__.items() if name in vars(owner)
    }


def _field(hint: Any, declared: Any) -> SettingField:
    field = declared if isinstance(declared, SettingField) else SettingField(default=declared)
    plain = hint
    for part in (hint, *typing.get_args(hint)):
        for rule in getattr(part, "__metadata__", ()):
            if isinstance(rule, SettingField):
                field = field._replace(pattern=rule.pattern, max_length=rule.max_length)
            else:
                field = field._replace(before=rule.before)
            plain = part.__origin__ if part is hint else part.__origin__ | None
    return field._replace(annotation=plain)


def values_of(fields: Mapping[str, SettingField], given: Mapping[str, object]) -> dict[str, Any]:
    """The value of each setting: the one that is given, or its default. Raises `ValuesInvalid`."""
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, field in fields.items():
        if name not in given and field.make is None:
            found[name] = field.default
            continue
        value = given[name] if name in given or field.make is None else field.make()
        try:
            value = value if field.before is None else field.before(value)
            found[name] = field.read(value)
        except ValueError as error:
            problems.append(Problem(name, value, str(error)))
    problems += [Problem(name, value, "", is_known=False) for name, value in given.items() if name not in fields]
    if problems:
        raise ValuesInvalid(problems)
    return found


# Kinds of values ----------------------------------------------------------------------------------


def _members(kind: Any) -> tuple[Any, ...]:
    """The kinds that a value may have."""
    return typing.get_args(kind) if typing.get_origin(kind) in {typing.Union, UnionType} else (kind,)


def _of_kind(kind: Any, value: object) -> Any:
    members = _members(kind)
    if value is None and NoneType in members:
        return None
    [one] = [member for member in members if member is not NoneType]
    if typing.get_origin(one) is typing.Literal:
        return _word(typing.get_args(one), value)
    if typing.get_origin(one) is tuple:
        return _paths(value)
    return _KINDS[one](value)


def _word(words: tuple[str, ...], value: object) -> object:
    if value not in words:
        *some, last = map(repr, words)
        raise ValueError(f"input should be {', '.join(some)} or {last}")
    return value


def _paths(value: object) -> tuple[Path, ...]:
    if not isinstance(value, tuple | list):
        raise ValueError("input should be a valid tuple")  # noqa: TRY004 - of a value, as all others here
    return tuple(map(_path, value))


def _path(value: object) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError("input is not a valid path")  # noqa: TRY004 - as above
    return Path(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("input should be a valid string")  # noqa: TRY004 - as above
    return value


def _secret(value: object) -> SecretStr:
    return value if isinstance(value, SecretStr) else SecretStr(_text(value))


def _whole(value: object) -> int:
    wanted = "input should be a valid integer"
    if isinstance(value, str):
        number = _number_in(value, f"{wanted}, unable to parse string as an integer")
    elif isinstance(value, int | float):
        number = value
    else:
        raise ValueError(wanted)  # noqa: TRY004 - as above
    if not math.isfinite(number) or number != int(number):
        why = (
            "unable to parse string as an integer" if isinstance(value, str) else "got a number with a fractional part"
        )
        raise ValueError(f"{wanted}, {why}")
    return int(number)


def _number(value: object) -> float:
    wanted = "input should be a valid number"
    if isinstance(value, str):
        return float(_number_in(value, f"{wanted}, unable to parse string as a number"))
    if isinstance(value, int | float):
        return float(value)
    raise ValueError(wanted)


def _number_in(text: str, otherwise: str) -> float:
    with suppress(ValueError):
        return int(text)
    try:
        return float(text)
    except ValueError:
        raise ValueError(otherwise) from None


def _yes_or_no(value: object) -> bool:
    text = str(value).lower() if isinstance(value, str | int) else ""
    if text not in _YES | _NO:
        raise ValueError("input should be a valid boolean, unable to interpret input")
    return text in _YES


_KINDS: Final[dict[Any, Callable[[object], Any]]] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _yes_or_no,
    Path: _path,
    SecretStr: _secret,
}
