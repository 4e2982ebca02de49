"""What a key of a route may hold.

Names, texts, templates, durations, numbers, choices, and mappings of further keys.

Owns the vocabulary in which `mesh.routes.keys` describes the route language, and the patterns of
names and durations. It must not read documents (`mesh.routes.problems.Part` does) and knows nothing
of JSON Schema or Markdown (`mesh.routes.schema` makes both of it).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

# characters of a route's, agent's or step's name: they become parts of topics' names and ids
NAME_LENGTH: Final = 63
NAME: Final = re.compile(r"[a-z][a-z0-9-]*")  # a route's, an agent's, a capability's or a limit's
STEP_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
NAME_HINT: Final = f"start with a-z, then a-z, 0-9 and -; at most {NAME_LENGTH} characters"
NEVER: Final = "never"  # in the place of a duration: there is no end
UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
LONGEST_S: Final = 3_650 * 86_400.0  # ten years


def seconds_of(value: Any) -> float | None:
    """The duration in seconds; None if it is not a duration."""
    found = DURATION.fullmatch(value) if isinstance(value, str) else None
    return float(found[1]) * UNITS_S[found[2]] if found else None


class Name(msgspec.Struct, frozen=True, kw_only=True):
    """`said`: whose name it is, for the docs."""

    said: str = "name"
    pattern: str = NAME.pattern


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """A string that is not empty.

    `is_template`: `${{ }}` in it is evaluated. `may_be_blank`: spaces alone will do.
    """

    is_template: bool = False
    may_be_blank: bool = False


class Expression(msgspec.Struct, frozen=True, kw_only=True):
    """A CEL expression, without `${{ }}`."""


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """Any YAML value, with `${{ }}` in its strings."""


class ListTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """A list of templates, or a template that gives a list."""


class Duration(msgspec.Struct, frozen=True, kw_only=True):
    """A number and a unit, up to `LONGEST_S`. `zero`: it may be 0."""

    zero: bool = False


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One of some words. The first is the default, unless the key is required."""

    options: tuple[str, ...]


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """A whole number in [low, high]; `high` None: without end."""

    low: int = 1
    high: int | None = None


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """A number in [low, high]; None: without end."""

    low: float | None = None
    high: float | None = None


class Pattern(msgspec.Struct, frozen=True, kw_only=True):
    """A string of a form of its own; `said` describes it for the docs."""

    pattern: str
    said: str


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """A list of names. `of` None: of any words. `is_unique`: none comes twice."""

    of: Name | None
    least: int = 0
    is_unique: bool = False


class Several(msgspec.Struct, frozen=True, kw_only=True):
    """A list of one kind of value, with one at least."""

    of: "Kind"


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """True or false."""


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """One fixed word."""

    word: str


class SchemaDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping that is a JSON Schema."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping with keys of its own. `name`: what the docs and the schema's rules call it by."""

    name: str
    keys: "Mapping[str, Key]"


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping whose names the author chooses, each with the same keys below it."""

    name: Name
    table: Table


class Texts(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping whose names the author chooses, each with a template that is one string.

    `most`: how many names it may have.
    """

    name: Name
    most: int


class OneOf(msgspec.Struct, frozen=True, kw_only=True):
    """One of several kinds of value."""

    kinds: "tuple[Kind, ...]"


Kind = (
    Name
    | Text
    | Expression
    | Template
    | ListTemplate
    | Duration
    | Choice
    | Whole
    | Number
    | Pattern
    | Names
    | Several
    | Truth
    | Word
    | SchemaDocument
    | Table
    | Named
    | Texts
    | OneOf
)


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key of the language: what it holds, what that means, and what holds without it.

    `default` is the value that an absent key means; of a duration, seconds. Where no value
    says it, `otherwise` does in words. `example` shows the key in a message about its form; `hint`
    says in a message what is missing. `of`: the kinds of step that take the key; empty: all.
    `see`: the section of docs/route-reference.md that says more.
    """

    kind: Kind
    text: str
    default: Any = None
    otherwise: str = ""
    is_required: bool = False
    example: str = ""
    examples: tuple[str, ...] = ()
    hint: str = ""
    of: tuple[str, ...] = ()
    see: str = ""


A_NAME: Final = Name()
A_STEP: Final = Name(said="name of a step", pattern=STEP_NAME.pattern)
A_TEXT: Final = Text()
A_TEXT_TEMPLATE: Final = Text(is_template=True)
A_DURATION: Final = Duration()
