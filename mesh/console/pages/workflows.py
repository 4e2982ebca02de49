"""The list of workflows, with filters in the URL; and the search for one.

Owns which filters there are. Attributes and ages become an expression in the language of
`mesh workflows --where`, so a filter means the same on both.
"""

import json
import shlex
from typing import Any, Final, NamedTuple

import apsw
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mesh.console import words
from mesh.console.config import PAGE_ROWS
from mesh.console.desk import Desk, Forbidden, link
from mesh.console.parameters import BadParameter, Parameters
from mesh.console.staff import Reader
from mesh.console.words import State
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import WorkflowRow
from mesh.inspection.read_model.where import Where

VIEWS: Final = {
    "": "All",
    "incident": "Incidents",
    "asking": "Wait for people",
    "open": "Open",
    "ended": "Ended",
}
STATES: Final = (
    *(name for name in VIEWS if name),
    "running",
    "paused",
    "retrying",
    "expected",
    "completed",
    "rejected",
    "failed",
    "cancelled",
)
_UNDER_WAY: Final = ("asking", "running", "retrying")
FILTERS: Final = ("route", "step", "cause", "age", "attr", "q")
STEPS: Final = 3  # of one workflow, that are looked at for its state
FOUND: Final = 20
_FEWEST: Final = 3  # characters of a search


class Line(NamedTuple):
    """A row of the table."""

    row: WorkflowRow
    state: State
    step: str
    why: str


def forbid_others(reader: Reader) -> None:
    """Raises `Forbidden` where the person is an approver alone."""
    if not reader.sees_all:
        raise Forbidden(
            f"Viewers, operators and authors see this (roles mesh.viewer, mesh.operator, mesh.author). You ({reader.name}) "
            "see the approvals that you may answer, and their workflows."
        )


async def workflows(desk: Desk, request: Request, reader: Reader) -> Response:
    """Workflows, the last changed first."""
    given = Parameters(request.scope["query_string"], ["state", *FILTERS, "after"], repeatable=["attr"])
    forbid_others(reader)
    given.among("state", STATES)
    now_ms = desk.now_ms()
    where = _where(given, now_ms)
    filters = _filters(given)

    def found(db: apsw.Connection) -> tuple[Page[WorkflowRow], list[Line], dict[str, int]]:
        # with an expression or a step a count looks at each workflow: only one view gets one
        views = {} if where is not None or given["step"] else _views(db, filters)
        page = queries.workflows(
            db,
            **filters,
            **of_state(given["state"]),
            where=where,
            limit=PAGE_ROWS,
            after=given["after"] or None,
            total=views.get(given["state"]),
        )
        return page, [_line(db, row, now_ms) for row in page], views

    page, lines, views = await desk.log(found)
    return await desk.page(
        request,
        reader,
        "workflows.html",
        live="workflows",
        given=given,
        page=page,
        lines=lines,
        views=[(name, title, views.get(name)) for name, title in VIEWS.items()],
        chips=_chips(given),
        command=_command(given),
        problem="" if where is None or page.total else where.problem,
    )


def _views(db: apsw.Connection, filters: dict[str, Any]) -> dict[str, int]:
    """How many workflows each view has."""
    given = {name: value for name, value in filters.items() if value is not None}
    # one look at an index tells most of them
    counts = queries.count_workflows(db, **given)
    return {
        "": sum(counts.values()),
        "incident": queries.workflows(db, **given, status="incident", limit=1).total,
        "asking": queries.workflows(db, **given, **of_state("asking"), limit=1).total
        if given
        else queries.count_asking(db),
        "open": counts.get("running", 0),
        "ended": sum(counts.get(name, 0) for name in ("completed", "rejected", "failed", "cancelled")),
    }


def of_state(state: str) -> dict[str, Any]:
    """The conditions of a query that a state of the URL means."""
    if state in _UNDER_WAY:
        return {"status": "running", "under_way": state}
    return {"status": {"": None, "open": "running"}.get(state, state)}


def _filters(given: Parameters) -> dict[str, Any]:
    names = {"route": "route", "cause": "cause", "q": "part", "step": "step"}
    return {to: given[name] or None for name, to in names.items()}


def _where(given: Parameters, now_ms: int) -> Where | None:
    """What the filters on attributes and age say, as an expression."""
    parts = [where_of(given)] if given["attr"] or given["age"] else []
    # the query has the step; beside an age it must be the step that is so old
    if given["step"] and given["age"]:
        parts.append(f"step == {json.dumps(given['step'], ensure_ascii=False)}")
    return Where(" && ".join(parts), now_ms) if parts else None


def where_of(given: Parameters) -> str:
    """What the filters on attributes and age say, as an expression; empty: nothing."""
    parts = []
    for one in given.all("attr"):
        name, colon, value = one.partition(":")
        if not colon or not name.isidentifier():
            raise BadParameter(f"attr can't be {one!r}; write NAME:VALUE, with the name of a search attribute")
        parts.append(f"search.{name} == {json.dumps(value, ensure_ascii=False)}")
    if (age_ms := given.span_ms("age")) is not None:
        parts.append(f'age > duration("{age_ms // 1_000}s")')
    return " && ".join(parts)


def _chips(given: Parameters) -> list[tuple[str, str]]:
    """Each filter in words, with the query that drops it."""
    return [(f"{name}: {', '.join(given.all(name))}", given.with_(**{name: None})) for name in FILTERS if given[name]]


def _command(given: Parameters) -> str:
    """The same query for the command line; empty where it has none."""
    state = given["state"]
    if given["q"] or state in {*_UNDER_WAY, "ended"}:
        return ""
    where = _where(given, 0)
    options = {
        "--status": "running" if state == "open" else state,
        "--route": given["route"],
        "--step": given["step"],
        "--cause": given["cause"],
        "--where": "" if where is None else where.text,
    }
    return " ".join(["mesh workflows", *(f"{name} {shlex.quote(value)}" for name, value in options.items() if value)])


def _line(db: apsw.Connection, row: WorkflowRow, now_ms: int) -> Line:
    steps = queries.open_steps_of(db, row.workflow_id, limit=STEPS) if row.status == "running" else []
    state = words.state_of(row, steps)
    if not steps:
        return Line(row, state, "", row.reason)
    return Line(row, state, steps[0].step, words.why(steps[0], now_ms))


async def search(desk: Desk, request: Request, reader: Reader) -> Response:
    """An exact id or key leads straight to its page; a part of one to the list."""
    given = Parameters(request.scope["query_string"], ["q"])
    wanted = given["q"].strip()
    if not reader.sees_all:
        return RedirectResponse(link("/approval", id=wanted) if wanted else "/approvals", 303)
    if not wanted:
        return RedirectResponse("/workflows", 303)

    def found(db: apsw.Connection) -> str:
        if queries.has_workflow(db, wanted):
            return link("/workflow", id=wanted)
        if queries.approval(db, wanted) is not None:
            return link("/approval", id=wanted)
        if queries.has_cause(db, wanted):
            return link("/workflows", cause=wanted)
        if queries.events_by_id(db, wanted, limit=1):
            return link("/event", id=wanted)
        if len(wanted) < _FEWEST:
            raise BadParameter(f"a search needs {_FEWEST} characters")
        near = queries.workflows_containing(db, wanted, limit=1)
        return link("/workflow", id=near.ids[0]) if near.total == 1 else link("/workflows", q=wanted)

    return RedirectResponse(await desk.log(found), 303)
