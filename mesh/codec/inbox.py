"""Inbox records: what ingress copies to a partition's owner, and what other owners send it.

A hot path. Only routers write them, so reading needs only the value.
"""

from functools import lru_cache
from typing import Final, Literal, NamedTuple, assert_never

import msgspec

from mesh.codec import exact_json
from mesh.codec.cloudevents import JSON_CONTENT
from mesh.codec.places import place
from mesh.core import inputs as inp
from mesh.core.crossings import crossing_id
from mesh.errors import MalformedRecord
from mesh.ports import Header, OutRecord, Record

_SPECVERSION: Final[Header] = ("ce_specversion", b"1.0")
_EVENT: Final[Header] = ("ce_type", b"mesh.inbox.event_matched")
_OFFERED: Final[Header] = ("ce_type", b"mesh.inbox.event_offered")
_ANSWER: Final[Header] = ("ce_type", b"mesh.inbox.answer_given")
_COMMAND: Final[Header] = ("ce_type", b"mesh.inbox.command_given")
_UNREADABLE_ANSWER: Final[Header] = ("ce_type", b"mesh.inbox.answer_unreadable")
_UNREADABLE_COMMAND: Final[Header] = ("ce_type", b"mesh.inbox.command_unreadable")
_CALLED: Final[Header] = ("ce_type", b"mesh.inbox.workflow_called")
_FORWARDED: Final[Header] = ("ce_type", b"mesh.inbox.event_forwarded")
_SCHEDULE_SET: Final[Header] = ("ce_type", b"mesh.inbox.schedule_set")
_BETWEEN: Final[dict[type, Header]] = {
    inp.CallEnded: ("ce_type", b"mesh.inbox.call_ended"),
    inp.CallCancelled: ("ce_type", b"mesh.inbox.call_cancelled"),
    inp.ScheduledStart: ("ce_type", b"mesh.inbox.scheduled_start"),
    inp.AliasClaimed: ("ce_type", b"mesh.inbox.alias_claimed"),
    inp.AliasAnswered: ("ce_type", b"mesh.inbox.alias_answered"),
    inp.AliasReleased: ("ce_type", b"mesh.inbox.alias_released"),
    inp.SlotWanted: ("ce_type", b"mesh.inbox.slot_wanted"),
    inp.SlotGiven: ("ce_type", b"mesh.inbox.slot_given"),
    inp.SlotReturned: ("ce_type", b"mesh.inbox.slot_returned"),
    inp.SlotDenied: ("ce_type", b"mesh.inbox.slot_denied"),
}
"""What other owners send, and carries no trace."""

_SENT_BY_PEOPLE: Final[dict[bytes, Literal["answer", "command"]]] = {
    _ANSWER[1]: "answer",
    _UNREADABLE_ANSWER[1]: "answer",
    _COMMAND[1]: "command",
    _UNREADABLE_COMMAND[1]: "command",
}

_ABOUT: Final = "ce_subject"
_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[inp.InboxInput] = msgspec.json.Decoder(inp.InboxInput)


@lru_cache(maxsize=4096)
def _source(sender: str, topic: str, partition: int) -> Header:
    return ("ce_source", f"/mesh/{sender}/{topic}/{partition}".encode())


def encode_inbox(input: inp.InboxInput, *, topic: str, partition: int) -> OutRecord:  # noqa: A002 - the glossary's word
    """Key: the workflow id.

    Source and id of the CloudEvent name the source record and which of its copies this is. What a
    person sent also says in its headers what it is about, in case nobody can read the rest.

    Raises `MalformedRecord` for an event that nests too deep to be written.
    """
    sender, about = "ingress", ""
    match input:
        case inp.EventMatched() | inp.EventOffered():
            kind = _EVENT if isinstance(input, inp.EventMatched) else _OFFERED
            caused_by = str(input.cloud_event.get("id", ""))
            trace = input.cloud_event.get("traceparent")
        case inp.AnswerGiven() | inp.AnswerGiven2():
            kind, caused_by, trace, about = _ANSWER, input.answer_id, input.traceparent, input.approval_id
        case inp.AnswerUnreadable():
            kind, caused_by, trace, about = _UNREADABLE_ANSWER, input.answer_id, None, input.approval_id
        case inp.CommandGiven():
            kind, caused_by, trace, about = _COMMAND, input.command_id, None, input.command
        case inp.CommandUnreadable():
            kind, caused_by, trace, about = _UNREADABLE_COMMAND, input.command_id, None, input.command
        case inp.WorkflowCalled():
            kind, caused_by, sender = _CALLED, crossing_id(input), "owner"
            trace = input.cloud_event.get("traceparent")
        case inp.ScheduleSet():
            kind, caused_by, trace = _SCHEDULE_SET, input.set_id, None
        case inp.EventForwarded():
            kind, caused_by, sender = _FORWARDED, crossing_id(input), "owner"
            trace = input.kept.cloud_event.get("traceparent")
        case (
            inp.CallEnded()
            | inp.CallCancelled()
            | inp.ScheduledStart()
            | inp.AliasClaimed()
            | inp.AliasAnswered()
            | inp.AliasReleased()
            | inp.SlotWanted()
            | inp.SlotGiven()
            | inp.SlotReturned()
            | inp.SlotDenied()
        ):
            kind, caused_by, sender, trace = _BETWEEN[type(input)], crossing_id(input), "owner", None
        case _:
            assert_never(input)
    key = input.workflow_id.encode()
    headers: tuple[Header, ...] = (
        _SPECVERSION,
        JSON_CONTENT,
        kind,
        _source(sender, input.source_topic, input.source_partition),
        # the place and the copy's number: a copy that is made twice has the same id
        ("ce_id", b"%d/%d" % (input.source_offset, input.source_index)),
        ("ce_correlationid", key),
        ("ce_causationid", caused_by.encode()),
    )
    if isinstance(trace, str):
        headers += (("traceparent", trace.encode()),)
    if about:
        headers += ((_ABOUT, about.encode()),)
    try:
        return OutRecord(topic=topic, key=key, value=_encode(input), headers=headers, partition=partition)
    except RecursionError as error:
        raise MalformedRecord(
            f"an input for {input.workflow_id} nests too deep to be written; flatten its data"
        ) from error


class SentByPerson(NamedTuple):
    """What the headers of an answer or a command say.

    `id`: its own. `about`: the approval's id, or the command; empty if they don't say.
    """

    kind: Literal["answer", "command"]
    id: str
    about: str


def sent_by_person(record: OutRecord | Record) -> SentByPerson | None:
    """What the headers of an inbox record say of the person's record that it is a copy of.

    None if it is a copy of no such record.
    """
    headers = dict(record.headers)
    kind = _SENT_BY_PEOPLE.get(headers.get("ce_type", b""))
    if kind is None:
        return None
    own_id, about = headers.get("ce_causationid", b""), headers.get(_ABOUT, b"")
    return SentByPerson(kind, own_id.decode(errors="replace"), about.decode(errors="replace"))


def is_refusal(record: OutRecord) -> bool:
    """Whether an inbox record only says that what a person sent can't be read."""
    return _UNREADABLE_ANSWER in record.headers or _UNREADABLE_COMMAND in record.headers


def decode_inbox(record: Record) -> inp.InboxInput:
    """Raises `MalformedRecord`: the owner parks such a record."""
    if record.value is None:
        raise MalformedRecord(f"{place(record)}: an inbox record without a value; only routers may write to this topic")
    try:
        return _decoder.decode(record.value)
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(
            f"{place(record)}: not an inbox record of this version ({error}); only routers may write to this topic"
        ) from error
