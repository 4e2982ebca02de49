"""From a record of an input topic to its input and its cause.

Also to what the log keeps of a record that can't be processed.
"""

import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final

from mesh.codec.dead_letters import UNREADABLE
from mesh.codec.inbox import decode_inbox, sent_by_person
from mesh.codec.malformed_results import failure_instead
from mesh.codec.tasks import decode_reply
from mesh.core import ids
from mesh.core import inputs as inp
from mesh.core.crossings import CrossingId, parse_crossing_id
from mesh.core.events import AnswerRefused, Cause, CommandRefused, InputParked
from mesh.errors import MalformedRecord
from mesh.ports import Record, UnreadableRecords

_SENDER: Final = re.compile("^/mesh/(ingress|owner)/")
_PEOPLES: Final = frozenset({"answer", "command"})  # kinds of inputs whose senders get a receipt


def place(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def reply_input(record: Record) -> tuple[inp.ResultReceived | inp.SignReceived, Cause]:
    """An agent's reply as an input.

    A malformed result is the failure of its attempt. Raises `MalformedRecord` if it can't be told
    which attempt that is.
    """
    try:
        reply = decode_reply(record)
    except MalformedRecord as error:
        failure = failure_instead(record, str(error)[: ids.MAX_ID])
        if failure is None:
            raise
        reply = failure
    _bound("task_id", reply.task_id)
    return reply, Cause(
        kind="result",
        id=ids.attempt_id(reply.task_id, reply.attempt),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at_ms=record.timestamp_ms,
    )


def inbox_input(record: Record) -> tuple[inp.InboxInput, Cause]:
    """An inbox record as an input. Raises `MalformedRecord`."""
    given = decode_inbox(record)
    kind, cause_id, source = _identity(given)
    _bound("workflow_id", given.workflow_id)
    _bound(f"{kind}'s id", cause_id)
    _bound("source", source)
    return given, Cause(
        kind=kind,
        id=cause_id,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at_ms=given.source_at_ms,
        source_topic=given.source_topic,
        source_partition=given.source_partition,
        source_offset=given.source_offset,
        source_index=given.source_index,
        event_source=source,
        receipt_by_place=kind in _PEOPLES and not ids.is_silent(given.workflow_id),
    )


def _bound(what: str, value: str) -> None:
    if len(value) > ids.MAX_ID:
        raise MalformedRecord(
            f"its {what} has {len(value)} characters, and at most {ids.MAX_ID} are taken: {value[:60]}..."
        )


def _identity(given: inp.InboxInput) -> tuple[str, str, str]:
    """Kind, id and CloudEvents source of the input, for the decision's cause."""
    match given:
        case inp.EventMatched() | inp.EventOffered():
            return "event", given.cloud_event["id"], given.cloud_event["source"]
        case inp.AnswerGiven() | inp.AnswerGiven2() | inp.AnswerUnreadable():
            return "answer", given.answer_id, ""
        case inp.CommandGiven() | inp.CommandUnreadable():
            return "command", given.command_id, ""
        case inp.WorkflowCalled():
            return "call", given.cloud_event["id"], given.cloud_event["source"]
        case inp.CallEnded():
            return "call_ended", ids.attempt_id(given.task_id, given.attempt), ""
        case inp.CallCancelled():
            return "call_cancelled", ids.attempt_id(given.caller.task_id, given.caller.attempt), ""
        case inp.ScheduledStart():
            return "scheduled_start", given.cloud_event["id"], given.cloud_event["source"]
        case inp.EventForwarded():
            return "forwarded_event", given.kept.cloud_event["id"], given.kept.cloud_event["source"]
        case inp.ScheduleSet():
            return "schedule", given.set_id, ""
        case inp.AliasClaimed():
            return "claim", ids.attempt_id(given.claimant.task_id, given.claimant.attempt), ""
        case inp.AliasAnswered():
            return "claim_answered", ids.attempt_id(given.claimant.task_id, given.claimant.attempt), ""
        case inp.AliasReleased():
            return "alias_released", f"{given.claimant}/{given.run_id}", ""
        case inp.SlotWanted() | inp.SlotGiven() | inp.SlotReturned() | inp.SlotDenied():
            return _SLOT_KINDS[type(given)], ids.attempt_id(given.task_id, given.attempt), ""


_SLOT_KINDS: Final[dict[type, str]] = {
    inp.SlotWanted: "slot_wanted",
    inp.SlotGiven: "slot_given",
    inp.SlotReturned: "slot_returned",
    inp.SlotDenied: "slot_denied",
}


def workflow_of(record: Record) -> str:
    """The workflow that a record's key names, for a record that can't be read further."""
    return (record.key or b"")[: ids.MAX_ID].decode("utf-8", "replace")


def cause_of_parked(record: Record) -> Cause:
    source = source_of(record)
    return Cause(
        kind="parked",
        id=place(record),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at_ms=record.timestamp_ms,
        receipt_by_place=bool(source) and sent_by_person(record) is not None,
        **source,
    )


def refused_with(record: Record, code: str, message: str) -> AnswerRefused | CommandRefused | None:
    """What the sender of an answer or a command hears if its record is parked.

    Known by its headers alone, since nobody may read the rest. None for any other record.
    """
    sent = sent_by_person(record)
    if sent is None:
        return None
    own_id, about = sent.id[: ids.MAX_ID], sent.about[: ids.MAX_ID]
    message = message[: ids.MAX_ID]
    if sent.kind == "answer":
        return AnswerRefused(approval_id=about, answer_id=own_id, code=code, message=message)
    return CommandRefused(command_id=own_id, command=about, code=code, message=message)


def parked(record: Record, code: str, message: str) -> Iterator[InputParked]:
    """What the log keeps of the record.

    The whole record; if that is too large, the record without its value; and if that is too large
    too, only its place, which always fits.
    """
    if isinstance(record, UnreadableRecords):
        code, message = UNREADABLE, record.message
    message, headers = message[: ids.MAX_ID], [(name, _base64(value) or "") for name, value in record.headers]
    stays = f"{message}; its bytes stay at {place(record)}"
    for said, key, value, kept in (
        (message, record.key, record.value, headers),
        (stays, record.key, None, headers),
        (stays, None, None, []),
    ):
        yield InputParked(
            code=code,
            message=said,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp_ms,
            key=_base64(key),
            value=_base64(value),
            headers=kept,
        )


def source_of(record: Record) -> dict[str, Any]:
    """Where an inbox record was copied or sent from, by its headers alone.

    So a second copy of a parked record is recognised.
    """
    headers = dict(record.headers)
    topic, _, partition = _SENDER.sub("", headers.get("ce_source", b"").decode(errors="replace")).rpartition("/")
    offset, _, index = headers.get("ce_id", b"").decode(errors="replace").partition("/")
    if not (topic and partition.isdecimal() and offset.isdecimal() and index.isdecimal()):
        return {}
    return {
        "source_topic": topic,
        "source_partition": int(partition),
        "source_offset": int(offset),
        "source_index": int(index),
    }


def name_of_crossing(record: Record) -> CrossingId | None:
    """What a record from another workflow's owner is about.

    Known by its headers alone. None for any other record.
    """
    headers = dict(record.headers)
    if not headers.get("ce_source", b"").startswith(b"/mesh/owner/"):
        return None
    return parse_crossing_id(headers.get("ce_causationid", b"").decode(errors="replace"))


def _base64(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()


def strayed(given: inp.Input | inp.SignReceived, record: Record, *, partitions: int) -> str:
    """Why nobody who reads this partition can take it; empty if its workflow may be here."""
    if not isinstance(given, inp.ResultReceived):
        return ""
    home = ids.partition_of_key(given.workflow_id.encode(), partitions)
    if home == record.partition:
        return ""
    return (
        f"the result of task {given.task_id} was sent to {record.topic}/{record.partition}, and its workflow is in "
        f"partition {home}: send it to {record.topic}/{home}, with the key {given.workflow_id} (docs/agents.md)"
    )
