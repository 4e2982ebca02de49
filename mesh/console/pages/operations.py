"""Commands for many workflows: the preview, the order, and the operation as it goes on.

Owns what is shown before anything is sent. The preview fixes the ids; from the order on it is an
operation as `mesh workflows retry --cause` makes one, and routers carry it out whatever becomes of
the console.
"""

import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import apsw
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mesh.codec.operations import Ordered
from mesh.console.config import PAGE_ROWS
from mesh.console.desk import Desk, Forbidden, link
from mesh.console.pages.sign_in import form_of
from mesh.console.pages.workflows import forbid_others
from mesh.console.parameters import BadParameter, Parameters
from mesh.console.previews import BulkPreview, Kind, Previews
from mesh.console.staff import OPERATOR, Reader
from mesh.core.inputs import Command
from mesh.errors import MeshError, NotFound
from mesh.inspection.operations import Result, Verdict, counts, known, results, standing, tallied
from mesh.inspection.read_model import queries
from mesh.services.operations import Operation

RATE: Final = 20  # commands a second
TYPED_FROM: Final = 100  # workflows above which the number is typed
REASON: Final = 2_000  # characters
COMMANDS: Final[dict[str, Command]] = {"retry": "retry", "skip": "skip", "fail": "fail", "cancel": "cancel"}
FILTERS: Final = ("cause", "route", "step", "agent")
EFFECTS: Final = {
    "retry": "The steps are tried again, with all their attempts. What has ended meanwhile is left alone.",
    "skip": "The runs go on without these steps: those who need them run, and get null.",
    "fail": "The runs end as failed. What they did is undone first, where their routes say how. It can't be taken back.",
    "cancel": "The runs end as cancelled. What they did is undone first, where their routes say how. It can't be taken back.",
}
RESULTS: Final[dict[str, Verdict]] = {"done": "done", "refused": "refused", "waiting": "waiting", "unsent": "not sent"}


def forbid_no_operator(reader: Reader) -> None:
    """Raises `Forbidden` where the person is not an operator."""
    if OPERATOR not in reader.roles:
        raise Forbidden(f"Operators do this (role {OPERATOR}). You are signed in as {reader.name}. Ask one of them.")


def is_operator(reader: Reader) -> bool:
    return OPERATOR in reader.roles


# Before it is ordered -----------------------------------------------------------------------------


async def preview(desk: Desk, request: Request, reader: Reader) -> Response:
    """Look which workflows are meant, and lead to the page that shows it. Nothing is sent."""
    given = await form_of(request)
    forbid_no_operator(reader)
    command = COMMANDS.get(given.get("command", ""))
    if command is None:
        raise BadParameter(f"command can't be {given.get('command', '')!r}; it is one of {', '.join(COMMANDS)}")
    query = {name: given[name] for name in FILTERS if given.get(name)}
    if not query:
        raise BadParameter("say which workflows: a cause, a route, a step or an agent")
    is_one = bool(given.get("one"))
    made = await desk.log(lambda db: _preview(db, reader.name, command, query, is_one=is_one))
    desk.previews.keep(made)
    return RedirectResponse(link("/bulk", id=made.id), 303)


def _preview(db: apsw.Connection, by: str, command: Command, query: Mapping[str, str], *, is_one: bool) -> BulkPreview:
    status = "running" if command == "cancel" and "cause" not in query else "incident"
    page = queries.workflows(
        db,
        status=status,
        cause=query.get("cause"),
        route=query.get("route"),
        step=query.get("step"),
        agent=query.get("agent"),
    )
    # the oldest first: they have waited longest
    ids = [row.workflow_id for row in reversed(page)][: 1 if is_one else None]
    words = ", ".join(f"{name} {value}" for name, value in query.items())
    if not ids:
        raise NotFound(f"No workflow fits any more ({words}). Nothing was sent.")
    kinds = queries.kinds_of(db, ids) if status == "incident" else queries.routes_of(db, ids)
    return BulkPreview(
        id=Previews.fresh_id(),
        by=by,
        command=command,
        step=query.get("step"),
        workflow_ids=ids,
        kinds=[Kind(*kind) for kind in kinds],
        filter=words,
        query=dict(query),
        alike=page.total,
    )


async def bulk(desk: Desk, request: Request, reader: Reader) -> Response:
    """What a command would do, and the form that orders it."""
    given = Parameters(request.scope["query_string"], ["id"])
    forbid_no_operator(reader)
    return await _preview_page(desk, request, reader, desk.previews.bulk(given.needed("id"), reader.name))


async def _preview_page(
    desk: Desk,
    request: Request,
    reader: Reader,
    found: BulkPreview,
    *,
    status: int = 200,
    reason: str = "",
    problem: str = "",
) -> Response:
    if found.ordered:
        return RedirectResponse(link("/operation", id=found.ordered), 303)
    return await desk.page(
        request,
        reader,
        "bulk.html",
        status=status,
        preview=found,
        count=len(found.workflow_ids),
        shown=found.workflow_ids[:PAGE_ROWS],
        effect=EFFECTS[found.command],
        is_typed=len(found.workflow_ids) > TYPED_FROM,
        seconds=max(1, len(found.workflow_ids) // RATE),
        rate=RATE,
        reason=reason,
        problem=problem,
    )


async def order(desk: Desk, request: Request, reader: Reader) -> Response:
    """Order what the preview has shown."""
    given = await form_of(request)
    forbid_no_operator(reader)
    found = desk.previews.bulk(given.get("id", ""), reader.name)
    reason, count = given.get("reason", "").strip(), len(found.workflow_ids)
    problem = _why_not(reason)
    if not problem and count > TYPED_FROM and given.get("count", "").strip().replace(",", "") != str(count):
        problem = f"Type the number of workflows, {count:,}, to say that you mean all of them."
    if problem:
        return await _preview_page(desk, request, reader, found, status=422, reason=reason, problem=problem)
    if not found.ordered:
        # before the broker is asked: a second click orders nothing
        found.ordered = f"op-{secrets.token_hex(6)}"
        try:
            await desk.order(_ordered(found, reason, desk.now_ms()), found.workflow_ids)
        except MeshError as error:
            found.ordered = ""
            said = f"It could not be ordered, and nothing was sent: {error}"
            return await _preview_page(desk, request, reader, found, status=503, reason=reason, problem=said)
    return RedirectResponse(link("/operation", id=found.ordered), 303)


def _ordered(found: BulkPreview, reason: str, now_ms: int) -> Ordered:
    return Ordered(
        operation=found.ordered,
        command=found.command,
        total=len(found.workflow_ids),
        chunks=0,
        rate=RATE,
        by=found.by,
        reason=reason,
        at_ms=now_ms,
        step=found.step if found.command != "cancel" else None,
        filter=found.filter,
    )


def _why_not(reason: str) -> str:
    if not reason:
        return "Give a reason: it is kept in the log of each workflow, with your name."
    return f"The reason has {len(reason):,} characters; {REASON:,} are possible." if len(reason) > REASON else ""


# From then on -------------------------------------------------------------------------------------


class Line(NamedTuple):
    """An operation in the list."""

    operation: Operation
    ordered: Ordered
    counts: dict[Verdict, int]
    standing: str


async def operations(desk: Desk, request: Request, reader: Reader) -> Response:
    """What was ordered of many workflows, the last first."""
    Parameters(request.scope["query_string"], [])
    forbid_others(reader)
    all_of_them = known(desk.projector.operations)

    def found(db: apsw.Connection) -> list[Line]:
        return [_line(db, one, ordered) for one, ordered in all_of_them[:PAGE_ROWS]]

    lines = await desk.log(found)
    return await desk.page(
        request, reader, "operations.html", live="operations workflows", lines=lines, total=len(all_of_them)
    )


def _line(db: apsw.Connection, one: Operation, ordered: Ordered) -> Line:
    found = tallied(db, one)
    return Line(one, ordered, found, standing(one, found))


async def operation(desk: Desk, request: Request, reader: Reader) -> Response:
    """One operation: how far it is, and what became of each workflow."""
    given = Parameters(request.scope["query_string"], ["id", "result"])
    forbid_others(reader)
    wanted = given.among("result", tuple(RESULTS))
    one = await desk.find_operation(given.needed("id"))
    if one is None or one.ordered is None:
        raise NotFound(f"There is no operation {given['id']}.")
    ended = await desk.log(lambda db: results(db, one))
    return await _operation_page(desk, request, reader, one, ended, given=given, wanted=wanted)


async def _operation_page(
    desk: Desk,
    request: Request,
    reader: Reader,
    one: Operation,
    ended: list[Result],
    **more: Any,
) -> Response:
    found = counts(ended)
    wanted = RESULTS.get(more["wanted"])
    fit = [result for result in ended if wanted is None or result.verdict == wanted]
    return await desk.page(
        request,
        reader,
        "operation.html",
        live="operations workflows",
        operation=one,
        ordered=one.ordered,
        tally=found,
        standing=standing(one, found),
        settled=len(ended) - found["waiting"],
        total=len(ended),
        shown=fit[:PAGE_ROWS],
        fit=len(fit),
        views=[
            ("", "All", len(ended)),
            *((name, verdict.capitalize(), found[verdict]) for name, verdict in RESULTS.items()),
        ],
        can_stop=is_operator(reader) and one.is_to_send,
        **more,
    )


async def stop(desk: Desk, request: Request, reader: Reader) -> Response:
    """Send no further command of an operation."""
    given = await form_of(request)
    forbid_no_operator(reader)
    one = await desk.find_operation(given.get("id", ""))
    if one is None or one.ordered is None:
        raise NotFound(f"There is no operation {given.get('id', '')}.")
    if one.is_to_send:
        await desk.stop_operation(one.id, by=reader.name, reason=given.get("reason", "").strip()[:REASON])
    return RedirectResponse(link("/operation", id=one.id), 303)
