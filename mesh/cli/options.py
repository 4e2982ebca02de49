"""Options that several commands share: who, how long to wait, and which page of a list to show.

Owns their names and defaults, and how a page is shown and said in JSON. Commands with a list, a
wait or an author call it.
"""

import getpass
import math
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import click
from rich.table import Table

from mesh.cli.session import Session
from mesh.inspection.read_model.pages import Page

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Row = TypeVar("Row")

MAX_WAIT_S: Final = 7 * 24 * 3_600.0
FOR_PEOPLE: Final = 50  # rows of a page on a screen
FOR_PROGRAMS: Final = 1_000  # rows of a page in JSON


class Seconds(click.ParamType[float]):
    """A number of seconds to wait. It must be finite, because every wait has an end."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= MAX_WAIT_S:
            self.fail(f"{value!r} is not a number of seconds from 0 to {MAX_WAIT_S:,.0f}", param, ctx)
        return seconds


def timeout_option(text: str, *, default_s: float = 60.0) -> Callable[[Decorated], Decorated]:
    """The option `--timeout SECONDS`, passed as `timeout_s`."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=Seconds(),
        default=default_s,
        show_default=True,
        metavar="SECONDS",
        help=text,
    )


def by_option(does: str, note: str = "") -> Callable[[Decorated], Decorated]:
    """The option `--by WHO`, passed as `by`: never empty. `does`: what the person does."""
    return click.option(
        "--by",
        metavar="WHO",
        envvar="MESH_BY",
        show_envvar=True,
        callback=lambda _context, _option, given: given or login_name(),
        help=f"Who {does}; the login name without it.{note}",
    )


def login_name() -> str:
    """The name of who is signed in to this machine."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in a container
        return "unknown"


def reason_option(*, required: bool = False) -> Callable[[Decorated], Decorated]:
    """The option `--reason TEXT` (or `--why`), passed as `reason`: empty if it is not given."""
    more: dict[str, Any] = {"required": True} if required else {"default": ""}
    return click.option("--reason", "--why", "reason", metavar="TEXT", help="Why; it is kept in the log.", **more)


def paged(function: Decorated) -> Decorated:
    """Add the options `--limit` and `--after`: which page of a list."""
    limit = click.option(
        "--limit",
        type=click.IntRange(1),
        help=f"Rows on a page; {FOR_PEOPLE} without it, {FOR_PROGRAMS:,} with --json.",
    )
    after = click.option(
        "--after", metavar="CURSOR", help="The page after this one; the page before says its cursor (`next` in JSON)."
    )
    return limit(after(function))


def page_size(session: Session, limit: int | None) -> int:
    """How many rows a page has: as asked, else by who reads it."""
    if limit is not None:
        return limit
    return FOR_PROGRAMS if session.as_json else FOR_PEOPLE


def page_document(name: str, rows: Iterable[Any], page: Page[Any]) -> dict[str, Any]:
    """A page in JSON: the rows, how many there are in all, and the cursor of the next page."""
    more = page.after is not None
    return {name: list(rows), "total": page.total, "shown": len(page), "more": more, "next": page.after}


def show_page(
    session: Session,
    page: Page[Row],
    name: str,
    *,
    rows: Iterable[Any],
    table: Callable[[Page[Row], int], Table],
    is_chosen: bool = False,
    nothing: str = "",
    notes: Iterable[str] = (),
) -> None:
    """Show a page of a list.

    `name`: what is listed, in the plural. `rows`: the documents of the page's rows, which are asked
    for only if JSON is wanted. `table`: makes a table of the page, given the time. `is_chosen`: the
    list was narrowed by options. `nothing`: what to say of an empty list, instead of `No NAME.`
    """
    if session.as_json:
        session.emit(page_document(name, rows, page))
        return
    if page:
        session.show(table(page, session.now_ms()))
        tell_rest(session, page)
        for note in notes:
            session.note(note)
        return
    listed = name.replace("_", " ")
    if page.total:
        session.show(f"No more {listed}.")
    else:
        session.show(nothing or (f"No such {listed}." if is_chosen else f"No {listed}."))


def tell_rest(session: Session, page: Page[Any]) -> None:
    """Say that a list was cut, if it was, and how to see the rest."""
    if page.after is not None or len(page) < page.total:
        session.note(f"{len(page):,} of {page.total:,} are shown; --limit N shows more on a page")
    if page.after is not None:
        session.note(f"the next page: the same command with --after {page.after}")
