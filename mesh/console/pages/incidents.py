"""Incidents, grouped by what they have in common.

Owns the page alone. Causes are those of `mesh incidents`; `mesh.console.pages.operations` takes
what an operator orders of all that have one.
"""

from typing import Final, NamedTuple

import apsw
from starlette.requests import Request
from starlette.responses import Response

from mesh.console import words
from mesh.console.config import PAGE_ROWS
from mesh.console.desk import Desk
from mesh.console.pages.operations import is_operator
from mesh.console.pages.workflows import forbid_others
from mesh.console.parameters import Parameters
from mesh.console.staff import Reader
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import CauseRow, IncidentRow

COLUMNS: Final = ("route", "step", "agent", "kind")
EXAMPLES: Final = 3


class Group(NamedTuple):
    cause: CauseRow
    examples: list[IncidentRow]
    helps: str


async def incidents(desk: Desk, request: Request, reader: Reader) -> Response:
    """The causes of open incidents, the most frequent first."""
    given = Parameters(request.scope["query_string"], [*COLUMNS, "since", "after"])
    forbid_others(reader)
    only = {name: given[name] for name in COLUMNS if given[name]}
    span = given.span_ms("since")
    since_ms = 0 if span is None else desk.now_ms() - span

    def found(db: apsw.Connection) -> tuple[Page[CauseRow], list[Group], int]:
        page = queries.causes(db, only=only, since_ms=since_ms, limit=PAGE_ROWS, after=given["after"] or None)
        stuck = queries.workflows(db, status="incident", limit=1).total
        return page, [_group(db, row, since_ms) for row in page], stuck

    page, groups, stuck = await desk.log(found)
    chips = [(f"{name}: {given[name]}", given.with_(**{name: None})) for name in (*COLUMNS, "since") if given[name]]
    return await desk.page(
        request,
        reader,
        "incidents.html",
        live="incidents",
        given=given,
        page=page,
        groups=groups,
        chips=chips,
        stuck=stuck,
        can_act=is_operator(reader),
    )


def _group(db: apsw.Connection, row: CauseRow, since_ms: int) -> Group:
    one = queries.example(db, row.cause)
    examples = queries.incidents(db, row.cause, since_ms=since_ms, limit=EXAMPLES)
    return Group(row, list(examples), words.helps(one, row))
