"""Which approval an id means.

Owns the order in which an id is understood: an approval's whole id, a workflow's whole id, a part.
If the id names a closed approval, another one is never taken instead: the answer is how it ended.
What is open is in the inbox. How something ended is in the receipts, which everybody has who may
answer, and in the log for those who may read it. The commands of `mesh approvals` call it.
"""

from typing import TYPE_CHECKING

import msgspec

from mesh.cli.choice import SHOWN, Among, listed, pick
from mesh.cli.session import Session
from mesh.cli.text.format import ago
from mesh.codec.approvals import Receipt, decode_receipt
from mesh.codec.open_approvals import open_request
from mesh.codec.times import parse_rfc3339
from mesh.core.events import ApprovalRequested
from mesh.core.ids import parse_step_id, route_of
from mesh.errors import BrokerRefused, MalformedRecord, NotFound, OperatorError, SenderError, TopicMissing
from mesh.inspection.inbox import Inbox, OpenRow, Waiting, find, ids_containing, of_workflow
from mesh.inspection.read_model.pages import Found
from mesh.ports import Broker, Record, TopicPartition
from mesh.services.reading import read_up_to

if TYPE_CHECKING:
    from mesh.cli.remote.api import Api
    from mesh.inspection.read_model import ReadModel
    from mesh.inspection.read_model.queries import ApprovalRow

WHERE = "mesh approvals list"


class Ended(msgspec.Struct, frozen=True):
    """An approval that is closed. `asked`: what was asked, for those who may read the log."""

    approval_id: str
    verdict: str
    by: str
    at_ms: int
    reason: str
    asked: Waiting | None = None


def as_waiting(row: "ApprovalRow", event: ApprovalRequested) -> Waiting:
    """An approval as the log has it, in the form that cards show."""
    return Waiting(
        OpenRow(
            approval_id=row.approval_id,
            workflow_id=row.workflow_id,
            route=route_of(row.workflow_id),
            step=row.step,
            question=row.question,
            role=row.role,
            asked_at_ms=row.asked_at_ms,
            deadline_at_ms=row.deadline_at_ms,
        ),
        open_request(event, row.asked_at_ms),
    )


async def pick_open(session: Session, broker: Broker, inbox: Inbox, given: str) -> Waiting:
    """The open approval that an answer to `given` is for.

    Raises `SenderError` if it is closed, `NotFound` if there is none, and `OperatorError` if
    `given` fits several.
    """
    one = _whole(inbox, given)
    if one is not None:
        return one
    # before its parts are looked for: a whole id of what is closed may be a part of an open one's
    is_part = ids_containing(inbox.db, given, limit=1).total > 0
    if ":" in given or not is_part:
        ended = await ended_by_receipt(session, broker, given)
        if ended is not None and (not is_part or _is_whole(given, ended.approval_id)):
            raise SenderError(f"{ended.approval_id} is closed: {ending(ended, session.now_ms())}. Nothing was sent")
    return _open(inbox, pick(session, given, _among(inbox), changes=True))


async def pick_any(session: Session, broker: Broker, inbox: Inbox, given: str) -> Waiting | Ended:
    """The approval to show: by a whole id, else an open one before a closed one."""
    one = _whole(inbox, given)
    if one is not None:
        return one
    ended = await ended_by_receipt(session, broker, given) if ":" in given else None
    is_ended = ended is not None and _is_whole(given, ended.approval_id)
    if not is_ended and ids_containing(inbox.db, given, limit=1).total:
        return _open(inbox, pick(session, given, _among(inbox), changes=False))
    if session.api is not None:
        ended = ended or await _ended_at_console(session.api, given)
        if ended is None:
            raise NotFound(f"no approval that you may see has the id {given!r}; `{WHERE}` lists those that are open")
        return ended
    try:
        async with session.model() as (_, model):
            return _from_log(session, model, given)
    # an approver may not read the log, and it looks as if there were none
    except (NotFound, BrokerRefused, TopicMissing):
        ended = ended or await ended_by_receipt(session, broker, given)
    if ended is None:
        raise NotFound(f"no approval has {given!r} in its id; `{WHERE}` lists those that are open")
    return ended


def ending(ended: Ended, now_ms: int) -> str:
    """How a closed approval ended: the verdict, by whom, when and why."""
    by = f" by {ended.by}" if ended.by else ""
    return f"{ended.verdict}{by} {ago(ended.at_ms, now_ms)}" + (f" ({ended.reason})" if ended.reason else "")


async def ended_by_receipt(session: Session, broker: Broker, given: str) -> Ended | None:
    """How the approval with this whole id ended, or the last one of the workflow with this id.

    Else the only one with `given` in its id. None where no receipt says so: it never was, it is
    open, or the receipts are gone.
    """
    if session.api is not None:
        return await _ended_at_console(session.api, given)
    topic = session.topics.receipts
    info = (await broker.topics()).get(topic)
    ends = await broker.end_offsets([TopicPartition(topic, p) for p in range(info.partitions)]) if info else {}
    begins = await broker.begin_offsets(list(ends)) if ends else {}
    found: dict[str, Receipt] = {}
    reader = await broker.reader()
    try:
        reader.assign(begins)
        async for records in read_up_to(reader, {at: end for at, end in ends.items() if begins[at] < end}):
            for record in records:
                # most are of others, and need not be read
                receipt = _end_in(record) if given.encode() in (record.value or b"") else None
                if receipt is not None and given in receipt.approval_id:
                    found.pop(receipt.approval_id, None)
                    found[receipt.approval_id] = receipt
    finally:
        await reader.close()
    own = [receipt for receipt in found.values() if _is_whole(given, receipt.approval_id)]
    if not own and len(found) != 1:
        return None
    last = own[-1] if own else next(iter(found.values()))
    at_ms = parse_rfc3339(last.at) if last.at else 0
    return Ended(last.approval_id, last.verdict or last.code, last.by, at_ms, last.message)


async def _ended_at_console(api: "Api", given: str) -> Ended | None:
    """How the approval with this whole id ended; None if the console knows none that is closed."""
    try:
        found = await api.approval(given)
    except NotFound:
        return None
    if found.closed is None:
        return None
    row = found.ended
    return Ended(
        row.approval_id, row.verdict or "withdrawn", row.closed_by, row.closed_at_ms or 0, row.reason, found.waiting
    )


def _end_in(record: Record) -> Receipt | None:
    """The receipt of the end of an approval; None if it is another record."""
    try:
        receipt = decode_receipt(record)
    except MalformedRecord:
        return None
    return receipt if receipt.closed and receipt.status != "refused" else None


def _is_whole(given: str, approval_id: str) -> bool:
    named = parse_step_id(approval_id)
    return approval_id == given or (named is not None and named.workflow_id == given)


def _whole(inbox: Inbox, given: str) -> Waiting | None:
    """The open approval with this whole id, or the only one of the workflow with this whole id."""
    one = find(inbox.db, given)
    own = [] if one is not None else of_workflow(inbox.db, given)
    if len(own) > 1:
        found = Found(len(own), own[:SHOWN])
        raise OperatorError(f"workflow {given} has {len(own):,} open approvals; give the id of one:{listed(found)}")
    return _open(inbox, own[0]) if own else one


def _open(inbox: Inbox, approval_id: str) -> Waiting:
    one = find(inbox.db, approval_id)
    if one is None:
        raise NotFound(f"{approval_id} is not open any more; `{WHERE}` lists what is")
    return one


def _among(inbox: Inbox) -> Among:
    def containing(part: str, limit: int) -> Found:
        return ids_containing(inbox.db, part, limit=limit)

    return Among("open approval", "open approvals", WHERE, lambda _: None, containing)


# From the log -------------------------------------------------------------------------------------


def _from_log(session: Session, model: "ReadModel", given: str) -> Waiting | Ended:
    """The approval that the log has.

    One that is open there is not on the topic yet, or not any more.
    """
    from mesh.inspection.read_model import queries  # noqa: PLC0415 - as below

    row = row_in_log(session, model, given)
    event = queries.approval_asked(model.db, row)
    if event is None:
        raise NotFound(f"the request of {given} is not in the read model; try again")
    asked = as_waiting(row, event)
    if row.closed_at_ms is None:
        session.note("it is open, and the inbox does not have it: `mesh approvals republish` puts it there")
        return asked
    verdict = row.verdict or "withdrawn"
    return Ended(row.approval_id, verdict, row.closed_by, row.closed_at_ms, row.reason, asked)


def row_in_log(session: Session, model: "ReadModel", given: str) -> "ApprovalRow":
    """The approval that the log has by this id, its workflow's, or a part that fits only one."""
    from mesh.inspection.read_model import queries  # noqa: PLC0415 - who answers seldom reads the log

    row = queries.approval(model.db, given)
    if row is not None:
        return row
    if queries.has_workflow(model.db, given):
        row = queries.last_approval(model.db, given)
        if row is None:
            raise NotFound(f"workflow {given} has asked nobody; `{WHERE}` lists what waits for a person")
        return row

    def containing(part: str, limit: int) -> Found:
        return queries.approvals_containing(model.db, part, open_only=False, limit=limit)

    found = pick(session, given, Among("approval", "approvals", WHERE, lambda _: None, containing), changes=False)
    row = queries.approval(model.db, found)
    if row is None:
        raise NotFound(f"{found} is not in the read model; try again")
    return row
