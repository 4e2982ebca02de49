"""How one setting is read: from a variable's text, or from an option's value.

Owns what is said of a value that does not hold. It knows no setting; `mesh.settings` declares them.
msgspec converts and checks the values, each by itself, so that all problems are told at once.
"""

import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, NamedTuple

import msgspec

__all__ = ["Field", "Problem", "Read", "SecretStr", "SettingField", "ValuesInvalid", "fields_of", "values_of"]

# what msgspec does not take for true and false beside `true`, `false`, `1` and `0`
_WORDS: Final = {"t": True, "yes": True, "y": True, "on": True, "f": False, "no": False, "n": False, "off": False}
_END: Final = r"\Z"  # a pattern's `$` also holds before a line's end


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


class SettingField(msgspec.Struct, frozen=True, kw_only=True, dict=True):
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
        return self.kind is SecretStr

    @property
    def kind(self) -> Any:
        """Its type, without None."""
        members = _members(self.annotation)
        [one] = [member for member in members if member is not NoneType]
        return one

    def read(self, value: object) -> Any:
        """The value of this setting. Raises `ValueError`, which says what it should be."""
        if self.before is not None:
            value = self.before(value)
        if value is None and NoneType in _members(self.annotation):
            return None
        if self.kind is bool and isinstance(value, str):
            value = _WORDS.get(value.lower(), value)
        try:
            return msgspec.convert(value, self._checked, strict=False, dec_hook=_other)
        except msgspec.ValidationError as error:
            raise ValueError(f"it must be {self.form}") from error

    @property
    def form(self) -> str:
        """What a value of it looks like."""
        if typing.get_origin(self.kind) is typing.Literal:
            return " or ".join(typing.get_args(self.kind))
        words = [_FORMS.get(self.kind, "a list of paths")]
        words += [] if self.gt is None else [f"above {self.gt} and up"]
        words += [] if self.ge is None else [f"from {self.ge}"]
        words += [] if self.le is None else [f"to {self.le}"]
        words += [] if self.max_length is None else [f"of up to {self.max_length} characters"]
        words += [] if self.pattern is None else [f"that matches {self.pattern}"]
        return " ".join(words)

    @cached_property
    def _checked(self) -> Any:
        pattern = None if self.pattern is None else self.pattern.removesuffix("$") + _END
        rules = {"ge": self.ge, "gt": self.gt, "le": self.le, "pattern": pattern, "max_length": self.max_length}
        given: dict[str, Any] = {name: rule for name, rule in rules.items() if rule is not None}
        return Annotated[self.kind, msgspec.Meta(**given)] if given else self.kind


_FORMS: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    SecretStr: "a text",
}


def _members(kind: Any) -> tuple[Any, ...]:
    """The types that a value may have."""
    return typing.get_args(kind) if typing.get_origin(kind) in {typing.Union, UnionType} else (kind,)


def _other(kind: Any, value: object) -> Any:
    """A value of a type that msgspec does not know: of a path, or a secret."""
    if isinstance(value, kind):
        return value
    if isinstance(value, str):
        return kind(value)
    raise ValueError


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
    changes: dict[str, Any] = {"annotation": hint}
    for part in (hint, *typing.get_args(hint)):
        for rule in getattr(part, "__metadata__", ()):
            if isinstance(rule, SettingField):
                changes |= {"pattern": rule.pattern, "max_length": rule.max_length}
            else:
                changes["before"] = rule.before
            changes["annotation"] = part.__origin__ if part is hint else part.__origin__ | None
    return msgspec.structs.replace(field, **changes)


def values_of(fields: Mapping[str, SettingField], given: Mapping[str, object]) -> dict[str, Any]:
    """The value of each setting: the one that is given, or its default. Raises `ValuesInvalid`."""
    found: dict[str, Any] = {}
    problems = [Problem(name, value, "", is_known=False) for name, value in given.items() if name not in fields]
    for name, field in fields.items():
        if name not in given and field.make is None:
            found[name] = field.default
            continue
        value = given[name] if name in given or field.make is None else field.make()
        try:
            found[name] = field.read(value)
        except ValueError as error:
            problems.append(Problem(name, value, str(error)))
    if problems:
        raise ValuesInvalid(problems)
    return found
