"""The overview: in one sentence what is stuck, then why, since when, and what to do.

Owns the verdict. `mesh.inspection.mesh_status` judges the mesh, and the causes of incidents are
those of `mesh incidents`.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import apsw
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mesh.console import words
from mesh.console.desk import Desk
from mesh.console.parameters import Parameters
from mesh.console.plots import SPANS, plots, times_of
from mesh.console.staff import Reader
from mesh.console.words import STATES, TONES, Hue, State
from mesh.inspection.mesh_status import MeshStatus
from mesh.inspection.mesh_status.stuck_work import stuck_steps
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import CauseRow, OpenStep, TimelineEntry
from mesh.inspection.wording import words_of
from mesh.inspection.wording.plain import counted, duration, one_line

CAUSES: Final = 10
DECISIONS: Final = 8


class Verdict(NamedTuple):
    state: State
    said: str
    proof: str  # figures which show that the console is not simply blind


class Cell(NamedTuple):
    """One station of an event's way. `hue`: empty if nothing is held up there."""

    name: str
    figure: str
    said: str
    href: str
    hue: Hue | str = ""


class CauseShown(NamedTuple):
    row: CauseRow
    message: str
    helps: str


class News(NamedTuple):
    """A decision on one line."""

    workflow_id: str
    said: str
    at_ms: int
    state: State


class Found(NamedTuple):
    """What the read model has."""

    causes: Page[CauseRow]
    examples: dict[str, OpenStep]
    stuck: int
    counts: dict[str, int]
    steps: dict[str, int]
    news: list[News]


async def overview(desk: Desk, request: Request, reader: Reader) -> Response:
    """What is stuck, and why."""
    given = Parameters(request.scope["query_string"], ["span"])
    span = given.among("span", tuple(SPANS)) or "24h"
    if not reader.sees_all:
        return RedirectResponse("/approvals", 303)
    found, status = await desk.log(_found), desk.projector.status
    times = times_of(span, desk.now_ms())
    rates = await desk.log(lambda db: queries.rates(db, since_ms=times.first_ms, every_ms=times.every_ms))
    stuck = [] if status is None else [one for one in status.stuck if one not in stuck_steps(status.incidents)]
    return await desk.page(
        request,
        reader,
        "overview.html",
        live="status workflows incidents approvals",
        verdict=_verdict(found, status, desk.now_ms()),
        cells=[] if status is None else _cells(found, status, desk.now_ms()),
        causes=[_shown(row, found.examples.get(row.cause)) for row in found.causes],
        causes_total=found.causes.total,
        stuck=sorted(stuck, key=lambda one: one.severity != "error"),
        states=_states(found),
        news=found.news,
        plots=plots(rates, span, desk.now_ms()),
        span=span,
        spans=SPANS,
    )


def _found(db: apsw.Connection) -> Found:
    causes = queries.causes(db, limit=CAUSES)
    examples = {row.cause: one for row in causes if (one := queries.example(db, row.cause)) is not None}
    last = queries.decisions_after(db, queries.row_before_last(db, DECISIONS), limit=DECISIONS)
    return Found(
        causes,
        examples,
        queries.workflows(db, status="incident", limit=1).total,
        queries.count_workflows(db),
        queries.count_open_steps(db),
        [_news(entry) for _, entry in reversed(last)],
    )


def _news(entry: TimelineEntry) -> News:
    decision = entry.decision
    said = [one for event in decision.events if (one := words_of(event, decision)) is not None]
    if not said:
        return News(decision.workflow_id, "decided", decision.at_ms, TONES["quiet"])
    last = said[-1]
    text = one_line(f"{last.step} {last.what}".strip(), words.MESSAGE)
    return News(decision.workflow_id, text, decision.at_ms, TONES[last.tone])


def _shown(row: CauseRow, one: OpenStep | None) -> CauseShown:
    return CauseShown(row, "" if one is None else one_line(one.incident_message), words.helps(one, row))


def _verdict(found: Found, status: MeshStatus | None, now_ms: int) -> Verdict:
    proof = f"{counted(sum(found.counts.values()), 'workflow')} so far"
    if found.news:
        proof += f", the last decision {duration(now_ms - found.news[0].at_ms)} ago"
    errors = 0 if status is None else sum(one.severity == "error" for one in status.stuck) - bool(found.stuck)
    also = f"; {counted(errors, 'part')} of the mesh {'does' if errors == 1 else 'do'} not work" if errors > 0 else ""
    if found.stuck:
        verb, why = ("is", "cause") if found.stuck == 1 else ("are", "cause")
        said = f"{counted(found.stuck, 'workflow')} {verb} stuck, for {counted(found.causes.total, why)}{also}"
        return Verdict(STATES["incident"], said, f"{proof}.")
    if errors > 0:
        return Verdict(STATES["incident"], also.removeprefix("; "), f"No workflow has an incident. {proof}.")
    if status is None:
        return Verdict(STATES["expected"], "No workflow is stuck; routers and agents are still looked at", f"{proof}.")
    oldest = status.oldest_approval
    if oldest is not None and oldest.deadline_at_ms is not None and oldest.deadline_at_ms - now_ms < words.NEAR_MS:
        left = duration(max(0, oldest.deadline_at_ms - now_ms))
        return Verdict(STATES["asking"], f"Nothing is stuck; a question closes in {left}", f"{proof}.")
    return Verdict(STATES["completed"], "Nothing is stuck", f"{proof}.")


def _cells(found: Found, status: MeshStatus, now_ms: int) -> list[Cell]:
    """The way of an event, from its topic to an outcome."""
    alive = [one for one in status.routers if one.state == "alive"]
    names = {one.instance for one in alive}
    unowned = sum(one.owner not in names for one in status.partitions)
    unread = sum(one.lag or 0 for one in status.agents)
    overdue = sum(one.overdue for one in status.agents)
    dead = [one for one in status.agents if not one.alive and (one.lag or one.running)]
    running = [one for one in status.agents if one.alive]
    late = sum(one.overdue for one in status.backlogs)
    ended = sum(found.counts.get(name, 0) for name in ("completed", "rejected", "failed", "cancelled"))
    oldest = status.oldest_approval
    asked = f"the oldest for {duration(now_ms - oldest.asked_at_ms)}" if oldest else "nobody is waited for"
    return [
        Cell("Events", f"{status.events.seen:,}", _backlog(status), "/workflows", "bad" if late else ""),
        Cell(
            "Routers",
            f"{len(alive)} alive",
            f"{counted(unowned, 'partition')} without a living owner" if unowned else _owned(len(status.partitions)),
            "/agents",
            "bad" if unowned else "",
        ),
        Cell(
            "Tasks",
            f"{unread:,} wait" if unread else "none wait",
            f"{overdue:,} overdue" if overdue else f"{found.steps.get('running', 0):,} are out",
            "/agents",
            "bad" if overdue else "",
        ),
        Cell(
            "Agents",
            f"{len(running)} of {len(status.agents)}",
            f"{', '.join(one.name for one in dead[:2])} not alive" if dead else "alive",
            "/agents",
            "bad" if dead else "",
        ),
        Cell("People", f"{status.approvals:,} asked", asked, "/approvals?for=all", "ask" if status.approvals else ""),
        Cell("Outcomes", f"{ended:,}", f"{found.counts.get('completed', 0):,} completed", "/workflows?state=ended"),
    ]


def _backlog(status: MeshStatus) -> str:
    lag = sum(one.lag for one in status.backlogs)
    return f"{lag:,} unread" if lag else "none unread"


def _owned(partitions: int) -> str:
    return f"all {partitions} partitions owned" if partitions else "none has run yet"


def _states(found: Found) -> Sequence[tuple[State, int, str]]:
    """Counts by state, with the page that lists them."""
    counts = found.counts | {"incident": found.stuck, "asking": found.steps.get("asking", 0)}
    counts["running"] = max(0, found.counts.get("running", 0) - found.stuck)
    shown = ("incident", "asking", "running", "expected", "completed", "rejected", "failed", "cancelled")
    always = {"incident", "running", "completed"}
    return [(STATES[one], counts.get(one, 0), one) for one in shown if counts.get(one) or one in always]


async def more(desk: Desk, request: Request, reader: Reader) -> Response:
    """The pages that have no place among the tabs of a phone."""
    Parameters(request.scope["query_string"], [])
    return await desk.page(request, reader, "more.html")
