"""Options that several commands share: how long to wait, and which page of a list to show.

Owns their names, their defaults and what a page says in JSON. Commands with a list or a wait call
it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from mesh.cli.session import Session
from mesh.inspection.read_model.pages import Page

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

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


def page_document(name: str, rows: Sequence[Any], page: Page[Any]) -> dict[str, Any]:
    """A page in JSON: the rows, how many there are in all, and the cursor of the next page."""
    more = page.after is not None
    return {name: rows, "total": page.total, "shown": len(page), "more": more, "next": page.after}


def tell_rest(session: Session, page: Page[Any]) -> None:
    """Say that a list was cut, if it was, and how to see the rest."""
    if page.after is not None or len(page) < page.total:
        session.note(f"{len(page):,} of {page.total:,} are shown; --limit N shows more on a page")
    if page.after is not None:
        session.note(f"the next page: the same command with --after {page.after}")
