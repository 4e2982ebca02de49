"""What an endpoint of the API is: its place, what it takes, what it gives, and who may ask.

Owns the words that an endpoint is described with. Requests are checked by them, and the OpenAPI
document is made of them, so the two can't differ.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

import msgspec
from starlette.requests import Request

from mesh.codec.times import parse_rfc3339
from mesh.console.desk import Desk
from mesh.console.parameters import BadParameter, Parameters, span_ms_of
from mesh.console.staff import Reader

ROWS: Final = 50  # of a page, unless more are asked for
MOST_ROWS: Final = 1_000

ONCE: Final = "Idempotency-Key"
_LONGEST_KEY: Final = 255
_DIGITS: Final = 32  # of a hash

Kind = Literal["text", "id", "flag", "rows", "span", "moment"]
SCHEMAS: Final[Mapping[Kind, dict[str, Any]]] = {
    "text": {"type": "string"},
    "id": {"type": "string", "minLength": 1},
    "flag": {"enum": ["1"]},
    "rows": {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": ROWS},
    "span": {"type": "string", "pattern": "^[0-9]{1,6}[smhd]$", "examples": ["30m", "24h", "7d"]},
    "moment": {"type": "string", "examples": ["2h", "7d", "2026-11-20", "2026-11-20T08:00:00Z"]},
}


class Parameter(NamedTuple):
    """A parameter of an endpoint's URL."""

    name: str
    about: str
    kind: Kind = "text"
    choices: Sequence[str] = ()
    is_needed: bool = False
    is_repeatable: bool = False


class Given(Parameters):
    """The parameters of one request, as its endpoint takes them."""

    def __init__(self, query: bytes, parameters: Sequence[Parameter]) -> None:
        super().__init__(query, [one.name for one in parameters], [one.name for one in parameters if one.is_repeatable])
        for one in parameters:
            if one.is_needed:
                self.needed(one.name)
            if one.choices or one.kind == "flag":
                self.among(one.name, one.choices or ("1",))

    @property
    def rows(self) -> int:
        """How many rows the page is to have."""
        given = self["limit"] or str(ROWS)
        if not given.isascii() or not given.isdigit() or len(given) > len(str(MOST_ROWS)):
            raise BadParameter(f"limit can't be {given!r}; it is a number from 1 to {MOST_ROWS:,}")
        if not 1 <= int(given) <= MOST_ROWS:
            raise BadParameter(f"limit can't be {given}; it is a number from 1 to {MOST_ROWS:,}")
        return int(given)

    def moment_ms(self, name: str, now_ms: int) -> int | None:
        """A time, or how long before now it was; None: not given."""
        given = self[name]
        return moment_of(name, given, now_ms) if given else None

    @property
    def after(self) -> str | None:
        return self["after"] or None


def moment_of(name: str, given: str, now_ms: int) -> int:
    """The time that a text means: a time, or how long before now it was. Raises `BadParameter`."""
    with suppress(BadParameter):
        return now_ms - span_ms_of(name, given)
    try:
        return parse_rfc3339(given if "T" in given else f"{given}T00:00:00Z")
    except ValueError as error:
        raise BadParameter(f"{name} can't be {given!r}; write 2h, 7d, 2026-11-20 or 2026-11-20T08:00:00Z") from error


class Asking(NamedTuple):
    """One request, and all that answers it. `body`: None where the endpoint takes none."""

    desk: Desk
    reader: Reader
    given: Given
    body: Any
    request: Request

    @property
    def once(self) -> str:
        """What names this request of this person at every console; empty: nothing does.

        It becomes a part of the ids of what is sent, so that the log itself knows a repeat.
        """
        given = self.request.headers.get(ONCE)
        if given is None:
            return ""
        if not 1 <= len(given) <= _LONGEST_KEY or not given.isascii() or not given.isprintable():
            raise BadParameter(f"the header {ONCE} has from 1 to {_LONGEST_KEY} printable characters of ASCII")
        return sha256(f"{self.reader.name}\0{given}".encode()).hexdigest()[:_DIGITS]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An answer with a status of its own."""

    value: Any
    status: int


Serve = Callable[[Asking], Awaitable[Any]]
"""Gives the value of the answer; a `Told` where its status is not 200."""


class Endpoint(NamedTuple):
    """`gives`: the type of a 200's value. `others`: further ones, by their status.

    `needs_all`: only for those who see everything. `writes`: it takes an `Idempotency-Key`, and the
    same request under the same key does nothing twice. `refuses`: statuses of problems, besides
    those that every endpoint has, and what they mean.
    """

    method: Literal["GET", "POST"]
    path: str
    name: str
    about: str
    serve: Serve
    gives: Any
    parameters: Sequence[Parameter] = ()
    takes: Any = None
    needs_all: bool = False
    writes: bool = False
    others: Mapping[int, tuple[Any, str]] = {}
    refuses: Mapping[int, str] = {}


PAGED: Final = (
    Parameter("limit", "Rows of a page.", "rows"),
    Parameter("after", "The page behind this cursor: `next` of the page before."),
)
