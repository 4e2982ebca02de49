"""One workflow: where it is and why, everything that was decided, and its graph.

Owns how a timeline becomes rows. The words for each event are those of `mesh.inspection.wording`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import apsw
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from mesh.console import words
from mesh.console.desk import Desk, Forbidden, link
from mesh.console.graph import MOST_BOXES, draw
from mesh.console.hub import topic_of
from mesh.console.pages.approvals import known_of
from mesh.console.pages.commands import acts_of, told_of
from mesh.console.parameters import BadParameter, Parameters
from mesh.console.staff import Reader
from mesh.console.words import TONES, State
from mesh.core.state import Workflow
from mesh.errors import NotFound
from mesh.inspection.diagram import step_times
from mesh.inspection.for_each_items import Items, folded
from mesh.inspection.inbox import of_workflow
from mesh.inspection.mesh_status.stuck_work import what_helps
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import ApprovalRow, OpenStep, TimelineEntry, WorkflowRow
from mesh.inspection.wording import words_of
from mesh.inspection.wording.plain import duration, readable

ROWS: Final = 400
STEPS: Final = 20
PAUSE_MS: Final = 60_000  # a longer one gets a row
WHOLE: Final = 4_000  # characters: a longer payload is on a page of its own
_NEAR: Final = 5


class Shown(NamedTuple):
    """A payload below an event. `text`: empty if it is long, and on a page of its own."""

    name: str
    size: int
    text: str
    href: str


class Row(NamedTuple):
    """A line of the timeline. `at_ms`: only on the first of a decision. `pause`: before it."""

    state: State
    step: str
    what: str
    why: str
    payloads: list[Shown]
    at_ms: int | None = None
    pause: str = ""
    place: str = ""
    run: str = ""


class Found(NamedTuple):
    row: WorkflowRow
    state: Workflow
    entries: list[TimelineEntry]
    steps: list[OpenStep]
    approvals: Page[ApprovalRow]
    causes: dict[str, tuple[str, int]]  # by step: the cause, and how many workflows have it
    search: dict[str, Any]


async def workflow(desk: Desk, request: Request, reader: Reader) -> Response:
    """The page of one workflow."""
    given = Parameters(request.scope["query_string"], ["id", "step", "all", "graph", "told"])
    workflow_id = given.needed("id")
    given.among("all", ["1"])
    given.among("graph", ["all"])
    await forbid_foreign(desk, reader, workflow_id)
    found = await desk.log(lambda db: _found(db, workflow_id, names_others=reader.sees_all))
    rows = list(_rows(found.entries, given["step"]))
    shown = rows if given["all"] else rows[-ROWS:]
    return await desk.page(
        request,
        reader,
        "workflow.html",
        live=topic_of(workflow_id),
        given=given,
        row=found.row,
        state=words.state_of(found.row, found.steps),
        workflow=found.state,
        search=found.search,
        steps=[(one, words.why(one, desk.now_ms()), _helps(one), found.causes.get(one.step)) for one in found.steps],
        acts=acts_of(reader, found.row, found.steps),
        told=await told_of(desk, given["told"]),
        approvals=[one for one in found.approvals if one.closed_at_ms is None],
        rows=shown,
        left=len(rows) - len(shown),
        decisions=len(found.entries),
        graph=await _graph(desk, found, is_whole=bool(given["graph"])),
        is_known=await desk.route(found.state.digest) is not None if found.state.digest else False,
    )


async def forbid_foreign(desk: Desk, reader: Reader, workflow_id: str) -> None:
    """Raises `Forbidden`: approvers see the workflows of their own approvals alone."""
    if reader.sees_all:
        return
    for one in await desk.open(lambda db: of_workflow(db, workflow_id)):
        with suppress(Forbidden, NotFound):
            await known_of(desk, one, reader)
            return
    answered = await desk.log(lambda db: queries.approvals(db, open_only=False, workflow_id=workflow_id))
    if not any(one.role in reader.roles or reader.is_one_of([one.closed_by]) for one in answered):
        raise Forbidden(f"You ({reader.name}) see the workflows of approvals that you may answer, and this is none.")


def _found(db: apsw.Connection, workflow_id: str, *, names_others: bool) -> Found:
    state, rows = queries.workflow_state(db, workflow_id), queries.workflow_row(db, workflow_id)
    if state is None or rows is None:
        near = queries.workflows_containing(db, workflow_id, limit=_NEAR)
        hint = f" Near it: {', '.join(near.ids)}." if near.ids and names_others else ""
        raise NotFound(f"There is no workflow {workflow_id}, or its memory has ended.{hint}")
    incidents = queries.incidents_of(db, [workflow_id], limit=STEPS).get(workflow_id, ())
    alike = {one: queries.causes(db, only={"cause": one}, limit=1) for one in {each.cause for each in incidents}}
    causes = {one.step: (one.cause, alike[one.cause][0].workflows if alike[one.cause] else 1) for one in incidents}
    return Found(
        rows,
        state,
        queries.decisions_of(db, workflow_id),
        queries.open_steps_of(db, workflow_id, limit=STEPS),
        queries.approvals(db, open_only=False, workflow_id=workflow_id),
        causes if names_others else {},
        queries.search_attributes(db, workflow_id),
    )


def _helps(step: OpenStep) -> str:
    return what_helps(step) if step.status == "incident" else ""


async def _graph(desk: Desk, found: Found, *, is_whole: bool) -> Markup | int | None:
    """The picture; a number: it has that many boxes, and is not drawn unless asked for."""
    route = await desk.route(found.state.digest) if found.state.digest else None
    if route is None:
        return None
    if len(route.steps) > MOST_BOXES and not is_whole:
        return len(route.steps)
    times = step_times(entry.decision for entry in found.entries)
    to = f"{link('/workflow', id=found.row.workflow_id)}&step="
    return draw(route, found.state, times, now_ms=desk.now_ms(), link=to)


# The timeline -------------------------------------------------------------------------------------


def _rows(entries: Sequence[TimelineEntry], step: str) -> Iterator[Row]:
    """A row for each event; with `step`, for each of that step."""
    run, last, before_ms = "", None, None
    for entry, event, items in folded(entries):
        place: str = getattr(event, "step", "")
        if step and place.partition("[")[0].removesuffix(".undo") != step:
            continue
        at_ms, is_first = entry.decision.at_ms, entry is not last
        pause = at_ms - before_ms if before_ms is not None else 0
        yield _row(
            entry,
            event,
            items,
            at_ms=at_ms if is_first else None,
            pause=duration(pause) if pause >= PAUSE_MS and not step else "",
            run=entry.run_id if run and entry.run_id != run else "",
        )
        run, last, before_ms = entry.run_id, entry, at_ms


def _row(entry: TimelineEntry, event: Any, items: Items | None, *, at_ms: int | None, pause: str, run: str) -> Row:
    place, said = f"{entry.partition}.{entry.offset}", words_of(event, entry.decision)
    if said is None:
        return Row(TONES["quiet"], "", type(event).__name__, "", [], at_ms, pause, place, run)
    what = f"{said.what}: {items.said()}" if items is not None and items.total else said.what
    payloads = list(_payloads(entry, event, said.shows))
    return Row(TONES[said.tone], said.step, what, said.why, payloads, at_ms, pause, place, run)


def _payloads(entry: TimelineEntry, event: Any, shows: Iterable[tuple[str, Any]]) -> Iterator[Shown]:
    number = entry.decision.events.index(event)
    for part, (name, value) in enumerate(shows):
        text = readable(value)
        at = f"{entry.partition}.{entry.offset}.{number}.{part}"
        href = link("/payload", id=entry.decision.workflow_id, at=at)
        yield Shown(name, len(text.encode()), text if len(text) <= WHOLE else "", href)


async def payload(desk: Desk, request: Request, reader: Reader) -> Response:
    """One payload of a timeline, whole."""
    given = Parameters(request.scope["query_string"], ["id", "at"])
    workflow_id, at = given.needed("id"), given.needed("at")
    await forbid_foreign(desk, reader, workflow_id)
    numbers = at.split(".")
    if not all(one.isascii() and one.isdigit() and len(one) < WHOLE // 200 for one in numbers) or len(numbers) != 4:  # noqa: PLR2004
        raise BadParameter(f"at can't be {at!r}; copy the link from the timeline")
    partition, offset, event, part = map(int, numbers)

    def found(db: apsw.Connection) -> tuple[str, Any]:
        for entry in queries.decisions_of(db, workflow_id):
            if (entry.partition, entry.offset) == (partition, offset) and event < len(entry.decision.events):
                said = words_of(entry.decision.events[event], entry.decision)
                if said is not None and part < len(said.shows):
                    return said.shows[part]
        raise NotFound(f"There is no payload at {at} of {workflow_id}.")

    name, value = await desk.log(found)
    return await desk.page(request, reader, "payload.html", name=name, text=readable(value), workflow_id=workflow_id)
