"""Pages of long lists: some rows, how many there are in all, and where the next page begins.

Owns the one way in which a query is cut. A query filters first and counts all rows that fit; only
then is a page taken. So a limit never changes what is found, and a list that is cut always says so.

A page begins after a row, never at a number. So rows that come or go meanwhile shift nothing.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar, overload

import apsw
import msgspec

from mesh.errors import OperatorError
from mesh.inspection.read_model.schema import select, select_one

Row = TypeVar("Row")

_CURSOR: Final = msgspec.json.Decoder(list[int | str])


class Page(Sequence[Row], Generic[Row]):
    """Some of the rows of a list, in the list's order.

    `total`: how many rows the whole list has. `after`: the cursor of the next page, None on the
    last.
    """

    __slots__ = ("_rows", "after", "total")

    def __init__(self, rows: Sequence[Row], *, total: int, after: str | None = None) -> None:
        self._rows = rows
        self.total = total
        self.after = after

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)


class Found(NamedTuple):
    """The ids that contain a part: how many there are, and the first of them."""

    total: int
    ids: list[str]


class Listing(NamedTuple):
    """A list that is shown by pages.

    `order`: the columns that it is sorted by; together they identify one row. `where`: conditions,
    with a `?` for each of `values`.
    """

    table: str
    columns: str
    order: tuple[str, ...]
    where: tuple[str, ...] = ("1",)
    values: tuple[Any, ...] = ()
    last_first: bool = False

    def page(
        self,
        db: apsw.Connection,
        build: Callable[..., Row],
        *,
        limit: int | None,
        after: str | None,
        total: int | None = None,
    ) -> Page[Row]:
        """Read one page. `build` makes a row from its columns.

        `limit` None: all rows. `after`: the cursor that the page before gave. `total`: how many
        rows the list has, where that is known; a count looks at each.
        """
        begin = () if after is None else decode_cursor(after, len(self.order))
        order, width = ", ".join(self.order), len(self.order)
        where = " AND ".join(self.where)
        behind = f" AND ({order}) {'<' if self.last_first else '>'} ({', '.join('?' * width)})" if begin else ""
        turned = ", ".join(f"{name} DESC" for name in self.order) if self.last_first else order
        sql = (
            f"SELECT {self.columns}, {order} FROM {self.table} WHERE {where}{behind}"  # noqa: S608 - constants only
            f" ORDER BY {turned} LIMIT ?"
        )
        # one row more than asked for, to know whether another page follows
        rows = select(db, sql, *self.values, *begin, -1 if limit is None else limit + 1)
        shown = rows if limit is None else rows[:limit]
        cursor = encode_cursor(shown[-1][-width:]) if len(rows) > len(shown) else None
        total = self.count(db) if total is None else total
        return Page([build(*row[:-width]) for row in shown], total=total, after=cursor)

    def count(self, db: apsw.Connection) -> int:
        """How many rows the list has in all."""
        sql = f"SELECT count(*) FROM {self.table} WHERE {' AND '.join(self.where)}"  # noqa: S608 - constants only
        found: int = select_one(db, sql, *self.values)[0]
        return found


def containing(db: apsw.Connection, name: str, source: str, newest: str, *, part: str, limit: int) -> Found:
    """The ids that contain a part, the one with the newest row first.

    `name`: the id's column. `source`: the SQL from `FROM` on, with `?1` for the part.
    """
    total: int = select_one(db, f"SELECT count(DISTINCT {name}) {source}", part)[0]
    sql = f"SELECT {name} {source} GROUP BY 1 ORDER BY max({newest}) DESC, 1 LIMIT ?2"
    return Found(total, [row[0] for row in select(db, sql, part, limit)])


def encode_cursor(place: Sequence[int | str]) -> str:
    """A row's place in its list, as one word."""
    return base64.urlsafe_b64encode(msgspec.json.encode(list(place))).decode().rstrip("=")


def decode_cursor(text: str, width: int) -> tuple[int | str, ...]:
    """The place of a row, from a cursor.

    Raises `OperatorError` if no page has given this cursor.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        place = _CURSOR.decode(raw)
    except (binascii.Error, ValueError) as error:
        raise _no_cursor(text) from error
    # the first column of every list is a time
    if len(place) != width or not isinstance(place[0], int):
        raise _no_cursor(text)
    return tuple(place)


def _no_cursor(text: str) -> OperatorError:
    return OperatorError(f"{text!r} is not the cursor of a page of this list: copy `next` from the page before")
