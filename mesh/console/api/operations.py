"""What operators order of many workflows, for programs: the preview, the order, how far it is.

Owns their requests. The preview fixes the workflows, and sends nothing; from the order on it is an
operation as of the pages, and of `mesh workflows retry --cause`.
"""

import secrets
from typing import Any, Final, get_args

import apsw
import msgspec

from mesh.codec.operations import Ordered
from mesh.console.api.answers import USED, Refused
from mesh.console.api.endpoint import PAGED, Asking, Endpoint, Parameter, moment_of
from mesh.console.pages.operations import REASON, forbid_no_operator
from mesh.console.previews import BulkPreview, Kind, Previews
from mesh.errors import NotFound
from mesh.inspection.documents.orders import (
    BulkOrder,
    KindCount,
    OperationItem,
    Preview,
    StopOrder,
    Wanted,
    Whole,
    WorkflowResult,
    operation_document,
    result_document,
)
from mesh.inspection.documents.pages import Listed
from mesh.inspection.kinds import count_kinds
from mesh.inspection.operations import known, results, tallied
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.where import Where
from mesh.services.operations import Operation

_MEANT: Final = {"cancel": "running", "pause": "running", "resume": "paused", "complete": "running"}
_WHOLE: Final = get_args(Whole)
MOST_RATE: Final = 1_000
_FILTERS: Final = ("status", "route", "step", "agent", "cause", "older_than", "where")

# Before it is ordered -----------------------------------------------------------------------------


async def _preview(asking: Asking) -> Preview:
    given: Wanted = asking.body
    forbid_no_operator(asking.reader)
    said = {name: value for name in _FILTERS if (value := getattr(given, name)) is not None}
    if not said:
        raise Refused(422, f"say which workflows: {', '.join(_FILTERS)}")
    now_ms, by = asking.desk.now_ms(), asking.reader.name
    made = await asking.desk.log(lambda db: _previewed(db, given, said, by, now_ms))
    asking.desk.previews.keep(made)
    return Preview(
        id=made.id,
        command=made.command,
        total=len(made.workflow_ids),
        kinds=tuple(KindCount(route=one.route, step=one.step, workflows=one.workflows) for one in made.kinds),
        workflows=tuple(made.workflow_ids),
    )


def _previewed(db: apsw.Connection, given: Wanted, said: dict[str, Any], by: str, now_ms: int) -> BulkPreview:
    page = queries.workflows(
        db,
        status=given.status or _MEANT.get(given.command, "incident"),
        route=given.route,
        step=given.step,
        agent=given.agent,
        cause=given.cause,
        unchanged_since_ms=None if given.older_than is None else moment_of("older_than", given.older_than, now_ms),
        where=None if given.where is None else Where(given.where, now_ms),
    )
    if not page:
        raise NotFound("No workflow fits all of it. Nothing was sent.")
    # the oldest first: they have waited longest
    rows = list(reversed(page))
    kinds = count_kinds(db, rows, given.step)
    return BulkPreview(
        id=Previews.fresh_id(),
        by=by,
        command=given.command,
        step=given.step,
        workflow_ids=[row.workflow_id for row in rows],
        kinds=[Kind(*kind, count) for kind, count in kinds.most_common()],
        filter=" ".join(f"--{name.replace('_', '-')} {value}" for name, value in said.items()),
        query={name: str(value) for name, value in said.items()},
        alike=page.total,
    )


async def _order(asking: Asking) -> OperationItem:
    given: BulkOrder = asking.body
    desk, reader = asking.desk, asking.reader
    forbid_no_operator(reader)
    if not given.reason.strip() or len(given.reason) > REASON:
        raise Refused(422, f"give a `reason` of up to {REASON:,} characters: it is kept in each workflow's log")
    if not 1 <= given.rate <= MOST_RATE:
        raise Refused(422, f"`rate` is from 1 to {MOST_RATE:,} commands a second")
    operation_id = f"op-{asking.once or secrets.token_hex(6)}"
    before = await desk.find_operation(operation_id) if asking.once else None
    if before is not None and before.ordered is not None:
        if before.ordered.reason != given.reason:
            raise Refused(422, USED)
        return await _item(asking, before)
    found = desk.previews.bulk(given.preview, reader.name)
    ordered = _ordered(found, given, operation_id, desk.now_ms())
    if found.ordered:
        raise Refused(409, f"this preview was ordered before, as operation {found.ordered}; make another")
    # before the broker is asked: a second request orders nothing
    found.ordered = operation_id
    try:
        await desk.order(ordered, found.workflow_ids)
    except BaseException:
        found.ordered = ""
        raise
    return await _one_item(asking, operation_id)


def _ordered(found: BulkPreview, given: BulkOrder, operation_id: str, now_ms: int) -> Ordered:
    if (given.output is not msgspec.UNSET) != (found.command == "complete"):
        raise Refused(422, "`output` goes with complete")
    if found.command == "complete" and found.step is None:
        raise Refused(422, "complete needs a `step`: make the preview with it")
    if given.input is not msgspec.UNSET and found.command != "retry":
        raise Refused(422, "`input` goes with retry")
    return Ordered(
        operation=operation_id,
        command=found.command,
        total=len(found.workflow_ids),
        chunks=0,
        rate=given.rate,
        by=found.by,
        reason=given.reason,
        at_ms=now_ms,
        step=None if found.command in _WHOLE else found.step,
        input=given.input,
        output=given.output,
        filter=found.filter,
    )


# From then on -------------------------------------------------------------------------------------


async def _list(asking: Asking) -> Listed[OperationItem]:
    every, given = known(asking.desk.projector.operations), asking.given
    first = _position(asking)
    some = every[first : first + given.rows]
    items = await asking.desk.log(
        lambda db: [operation_document(one, ordered, tallied(db, one)) for one, ordered in some]
    )
    return Listed(items=tuple(items), total=len(every), next=_next(first + given.rows, len(every)))


async def _one(asking: Asking) -> OperationItem:
    return await _one_item(asking, asking.given["id"])


async def _one_item(asking: Asking, operation_id: str) -> OperationItem:
    return await _item(asking, await _operation(asking, operation_id))


async def _operation(asking: Asking, operation_id: str) -> Operation:
    found = await asking.desk.find_operation(operation_id)
    if found is None or found.ordered is None:
        raise NotFound(f"There is no operation {operation_id}.")
    return found


async def _item(asking: Asking, one: Operation) -> OperationItem:
    ordered = one.ordered
    if ordered is None:
        raise NotFound(f"There is no operation {one.id}.")
    counts = await asking.desk.log(lambda db: tallied(db, one))
    return operation_document(one, ordered, counts)


async def _results(asking: Asking) -> Listed[WorkflowResult]:
    one = await _operation(asking, asking.given["id"])
    first, rows = _position(asking), asking.given.rows
    ended = await asking.desk.log(lambda db: results(db, one))
    items = tuple(map(result_document, ended[first : first + rows]))
    return Listed(items=items, total=len(ended), next=_next(first + rows, len(ended)))


def _position(asking: Asking) -> int:
    """Where a page begins, of a list that has an order of its own."""
    after = asking.given.after or "0"
    if not after.isascii() or not after.isdigit() or len(after) > 9:  # noqa: PLR2004 - no list is longer
        raise Refused(400, f"after can't be {after!r}; it is `next` of the page before")
    return int(after)


def _next(end: int, total: int) -> str | None:
    return str(end) if end < total else None


async def _stop(asking: Asking) -> OperationItem:
    given: StopOrder = asking.body
    forbid_no_operator(asking.reader)
    if len(given.reason) > REASON:
        raise Refused(422, f"a reason may have {REASON:,} characters")
    one = await _operation(asking, given.operation)
    # of one that is stopped, or sent to its end, it changes nothing: so a repeat is harmless
    if one.is_to_send:
        await asking.desk.stop_operation(one.id, by=asking.reader.name, reason=given.reason)
    return await _one_item(asking, given.operation)


_ID: Final = Parameter("id", "The whole id.", "id", is_needed=True)
_GONE: Final = {404: "There is none."}

ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "/api/v1/operations/preview",
        "previewOperation",
        "Look which workflows an order would be for. Nothing is sent.",
        _preview,
        Preview,
        takes=Wanted,
        refuses={404: "No workflow fits.", 422: "No filter is given."},
    ),
    Endpoint(
        "POST",
        "/api/v1/operations",
        "orderOperation",
        "Order what a preview has shown. From then on routers carry it out.",
        _order,
        OperationItem,
        takes=BulkOrder,
        writes=True,
        refuses={
            404: "The preview is gone. Nothing was sent: make it again.",
            409: "The preview was ordered before.",
            422: "Something is missing, or the key was used before.",
        },
    ),
    Endpoint(
        "GET",
        "/api/v1/operations",
        "listOperations",
        "What was ordered of many workflows, the last first.",
        _list,
        Listed[OperationItem],
        parameters=PAGED,
        needs_all=True,
    ),
    Endpoint(
        "GET",
        "/api/v1/operation",
        "showOperation",
        "How far an operation is.",
        _one,
        OperationItem,
        parameters=(_ID,),
        needs_all=True,
        refuses=_GONE,
    ),
    Endpoint(
        "GET",
        "/api/v1/operation/results",
        "listResults",
        "What became of each workflow of an operation, in its order.",
        _results,
        Listed[WorkflowResult],
        parameters=(_ID, *PAGED),
        needs_all=True,
        refuses=_GONE,
    ),
    Endpoint(
        "POST",
        "/api/v1/operations/stop",
        "stopOperation",
        "Send no further command of an operation.",
        _stop,
        OperationItem,
        takes=StopOrder,
        writes=True,
        refuses={**_GONE, 422: "The reason is too long."},
    ),
)
