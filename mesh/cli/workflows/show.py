"""`mesh workflows list | show ID`: which workflows there are, and what happened in one.

Owns how lists and timelines are read and shown. The verbs that change something are in modules of
their own.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.choice import pick_workflow
from mesh.cli.grammar import NounGroup, ShortForm
from mesh.cli.incidents import STEPS_NAMED, Incidents, incident_document, incident_table
from mesh.cli.moments import moment
from mesh.cli.options import page_size, paged, show_page
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, duration, one_line, printable, rfc3339_or_none
from mesh.cli.text.tables import plain_table
from mesh.cli.text.timeline import SHOWN_LINES, entries_at, in_full, rows
from mesh.cli.text.timeline import table as timeline_table
from mesh.cli.text.workflow import header, search_text, status_text, waits
from mesh.cli.workflows.commands import cancel, complete, fail, pause, resume, retry, skip
from mesh.cli.workflows.erase import erase
from mesh.cli.workflows.filters import FilterOptions, workflow_filter, workflow_filters
from mesh.cli.workflows.fork import fork
from mesh.cli.workflows.migrate import migrate
from mesh.codec.archives import ArchivedDecision, ArchivedHead
from mesh.codec.state import workflow_document
from mesh.codec.times import rfc3339
from mesh.core.pauses import NO_PAUSES
from mesh.core.state import Pause, Workflow
from mesh.errors import NotFound, OperatorError
from mesh.inspection.documents.pages import page_of
from mesh.inspection.documents.timeline import timeline_document
from mesh.inspection.history.archiving import entries_of, last_state
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import IncidentRow, TimelineEntry, WorkflowRow

if TYPE_CHECKING:
    from mesh.cli.remote.api import Api


@click.group(cls=NounGroup, short_help="List workflows; show, cancel, repair or migrate them.")
def workflows() -> None:
    """Workflows: what runs, what happened, and what an operator can do. Without a verb: list.

    \b
    mesh workflows --status incident      those that wait for an operator
    mesh workflows show ID                its timeline; also: mesh workflow ID
    mesh workflows retry ID               also: mesh workflow retry ID, and so for every verb
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is


workflow = ShortForm(
    "workflow",
    commands=workflows.commands,
    short_help="Short for `mesh workflows show ID`; verbs as there.",
    help="`mesh workflow ID` is short for `mesh workflows show ID`, and `mesh workflow VERB ID` for `mesh workflows VERB ID`.",
    subcommand_metavar="ID | VERB [ARGS]...",
)


@workflows.command("list", short_help="List workflows, the last changed first.")
@workflow_filters
@paged
@click.option(
    "--built-in", "--all", "built_in", is_flag=True, help="With the mesh's own: schedules, aliases, limiters."
)
@mesh_command
def list_workflows(
    session: Session, *, limit: int | None, after: str | None, built_in: bool, **given: Unpack[FilterOptions]
) -> None:
    """List workflows, the last changed first."""
    page, incidents = session.run(_list(session, limit, after, built_in=built_in, **given))
    wants_incidents = given["status"] == "incident" or given["cause"] is not None
    show_page(
        session,
        page,
        "workflows",
        rows=(_row(row, incidents.get(row.workflow_id, ())) for row in page),
        table=partial(incident_table, incidents) if wants_incidents else _table,
        is_chosen=any(value is not None for value in given.values()),
        notes=["what they have in common: mesh incidents"] if wants_incidents else (),
    )


async def _list(
    session: Session, limit: int | None, after: str | None, *, built_in: bool, **given: Unpack[FilterOptions]
) -> tuple[Page[WorkflowRow], Incidents]:
    """The workflows, and the incidents of those that have some."""
    if session.api is not None:
        return await _list_at_console(session, session.api, limit, after, built_in=built_in, **given)
    async with session.model() as (_, model):
        wanted = workflow_filter(session, model, **given)
        page = wanted.page(model, built_in=built_in, limit=page_size(session, limit), after=after)
        where = wanted.where
        if where is not None and where.problem and not page:
            session.note(f"of some workflows it can't be told whether it holds: {where.problem}")
        named = [row.workflow_id for row in page if row.incidents]
        return page, queries.incidents_of(model.db, named, limit=STEPS_NAMED)


async def _list_at_console(
    session: Session,
    api: "Api",
    limit: int | None,
    after: str | None,
    *,
    built_in: bool,
    **given: Unpack[FilterOptions],
) -> tuple[Page[WorkflowRow], Incidents]:
    from mesh.cli.remote.picks import cause_of  # noqa: PLC0415 - only where there is no broker

    cause, older, status = given["cause"], given["older_than"], given["status"]
    found = await api.workflows(
        # the pages call running what an agent works on, and open what has not ended
        state="open" if status == "running" else status,
        route=given["route"],
        step=given["step"],
        agent=given["agent"],
        cause=None if cause is None else await cause_of(session, api, cause),
        older_than=None if older is None else rfc3339(moment(older, session.now_ms(), "--older-than")),
        where=given["where"],
        built_in="1" if built_in else None,
        limit=min(page_size(session, limit), 1_000),
        after=after,
    )
    incidents = {one.workflow_id: [step.row for step in one.incident_steps] for one in found.items}
    return page_of(found, lambda one: one.row), incidents


def _table(rows: Page[WorkflowRow], now_ms: int) -> Table:
    is_searched = any(row.search for row in rows)
    found = ["SEARCH"] if is_searched else []
    table = plain_table("WORKFLOW", "STATUS", "STARTED", "TOOK", *found, "REASON", whole=["STATUS", "STARTED", "TOOK"])
    for row in rows:
        status = status_text(row.status, row.incidents, is_paused=row.paused_at_ms is not None)
        taken = duration(row.ended_at_ms - row.started_at_ms) if row.ended_at_ms is not None else ""
        table.add_row(
            Text(printable(row.workflow_id), style="bold"),
            status,
            ago(row.started_at_ms, now_ms),
            taken,
            *([Text(one_line(search_text(row.attributes)))] if is_searched else []),
            Text(one_line(row.reason), style="dim"),
        )
    return table


def _row(row: WorkflowRow, incidents: Sequence[IncidentRow]) -> dict[str, object]:
    return {
        "workflow_id": row.workflow_id,
        "run_id": row.run_id,
        "route": row.route,
        "status": row.status,
        "incidents": row.incidents,
        "paused_at": rfc3339_or_none(row.paused_at_ms),
        "started_at": rfc3339(row.started_at_ms),
        "updated_at": rfc3339(row.updated_at_ms),
        "ended_at": rfc3339_or_none(row.ended_at_ms),
        "reason": row.reason,
        "partition": row.partition,
        "search": row.attributes,
        "incident_steps": list(map(incident_document, incidents)),
    }


@workflows.command("show", short_help="Show a workflow's timeline: when, what, why.")
@click.argument("part", metavar="ID")
@click.option(
    "--step",
    metavar="STEP",
    help="Only this step (with each of its items), this item (check[7]), this compensation (hotel.undo).",
)
@click.option("--payloads", is_flag=True, help="With inputs, outputs and what people were asked: 40 lines of each.")
@click.option("--full", is_flag=True, help="The same, and each payload whole.")
@mesh_command
def show(session: Session, *, part: str, step: str | None, payloads: bool, full: bool) -> None:
    """Show a workflow's timeline: when, what, why.

    ID may be any part that fits only one. The items of a for-each are one line, with those that
    failed by name.
    """
    state, entries, limiters, search, archived, pauses = session.run(_show(session, part))
    if step is not None:
        entries = entries_at(entries, step)
        if not entries:
            raise NotFound(f"nothing has happened yet at {step} of {state.workflow_id}; without --step all is shown")
    if session.as_json:
        shown = [timeline_document(entry, payloads=payloads or full, step=step) for entry in entries]
        document_of = {"workflow": workflow_document(state), "search": search, "timeline": shown}
        session.emit(document_of | ({"archived": archived} if archived else {}))
        return
    now_ms = session.now_ms()
    found = rows(entries, now_ms, step=step)
    session.show(header(state, now_ms, search), "")
    if archived:
        session.show(f"archived in {', '.join(archived)}", "")
    if payloads or full:
        session.show(*in_full(found, limit=None if full else SHOWN_LINES))
    else:
        session.show(timeline_table(found))
    waiting = waits(state, now_ms, limiters, pauses)
    if waiting:
        session.show("", *waiting)


class _Shown(NamedTuple):
    """A workflow, what happened, the limiters that its steps are queued at, how it is found.

    `archived`: the archive's files that have it. `pauses`: of agents and routes, by target.
    """

    state: Workflow
    entries: list[TimelineEntry]
    limiters: dict[str, Workflow]
    search: dict[str, Any]
    archived: list[str]
    pauses: Mapping[str, Pause] = NO_PAUSES


def _archived(session: Session, workflow_id: str) -> list[tuple[str, ArchivedHead, list[ArchivedDecision]]]:
    """The parts of a workflow in the archive; none if there is no archive."""
    place = session.settings.archive_dir
    if place is None:
        return []
    from mesh.wiring.files import open_archive  # noqa: PLC0415 - most meshes have no archive

    try:
        with open_archive(place, session.settings.data_dir) as archive:
            return archive.parts(workflow_id)
    except OperatorError as error:
        # an object store that is down must not hide what runs
        session.note(f"without what the archive may have: {error}")
        return []


async def _show(session: Session, part: str) -> _Shown:
    if session.api is not None:
        from mesh.cli.remote.picks import workflow_of  # noqa: PLC0415 - only where there is no broker

        there = await workflow_of(session, session.api, part)
        return _Shown(there.state, there.entries, there.limiter_states, there.search, [])
    old = _archived(session, part)
    archived = [name for name, _, _ in old]
    before = [entry for _, _, decisions in old for entry in entries_of(decisions)]
    async with session.model() as (_, model):
        if old and not queries.has_workflow(model.db, part):
            last = last_state(before)
            if last is None:
                raise NotFound(f"the archive has no run of {part}, only events that nobody waited for")
            return _Shown(last, before, {}, old[-1][1].search, archived)
        workflow_id = pick_workflow(session, model, part, changes=False)
        state = queries.workflow_state(model.db, workflow_id)
        if state is None:
            raise NotFound(f"workflow {workflow_id} is not in the read model; try again")
        asked = sorted({slots[-1].limit for slots in state.slots.values()})
        limiters = {name: found for name in asked if (found := queries.workflow_state(model.db, name)) is not None}
        search = queries.search_attributes(model.db, workflow_id)
        known = queries.decisions_of(model.db, workflow_id)
        # a read model that was built since has all of it
        first = known[0].offset if known else 0
        before = [entry for entry in before if entry.offset < first]
        pauses = {row.target: row.pause for row in queries.pauses(model.db)}
        return _Shown(state, before + known, limiters, search, archived if before else [], pauses)


for _command in (cancel, retry, skip, fail, complete, pause, resume, fork, migrate, erase):
    workflows.add_command(_command)
