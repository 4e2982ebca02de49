"""Log records: decisions and changes of owner.

Owns the bytes of `mesh.log`, the hot path of every owner and every fold. The value is the whole
record in JSON. Headers are for readers that know only CloudEvents; reading a record back needs none
of them. A record that can't be read is never skipped: it is `UnknownFormat`, and the owner stops.
"""

from functools import lru_cache
from typing import Final

import msgspec

from mesh.codec import exact_json
from mesh.codec.cloudevents import JSON_CONTENT
from mesh.codec.places import place
from mesh.core.events import Decision, Event, LogRecord, OwnerChanged
from mesh.errors import UnknownFormat
from mesh.ports import Header, OutRecord, Record, UnreadableRecords

DECISION_TYPE: Final = "mesh.log.decision"
OWNER_CHANGED_TYPE: Final = "mesh.log.owner_changed"

_SPECVERSION: Final[Header] = ("ce_specversion", b"1.0")
_DECISION: Final[Header] = ("ce_type", DECISION_TYPE.encode())
_OWNER_CHANGED: Final[Header] = ("ce_type", OWNER_CHANGED_TYPE.encode())
_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[LogRecord] = msgspec.json.Decoder(LogRecord)


@lru_cache(maxsize=4096)
def _source(partition: int, epoch: str) -> Header:
    """The CloudEvent's source."""
    # an epoch has one writer, so source and id together name one decision
    return ("ce_source", f"/mesh/log/{partition}/{epoch}".encode())


def encode_decision(decision: Decision, *, topic: str, partition: int, traceparent: str | None = None) -> OutRecord:
    """Key: the workflow id.

    The CloudEvent's id is the place of the input that was decided, or the timer's own id.
    """
    cause = decision.cause
    key = decision.workflow_id.encode()
    cause_id = cause.id.encode()
    headers: tuple[Header, ...] = (
        _SPECVERSION,
        JSON_CONTENT,
        _DECISION,
        _source(partition, decision.epoch),
        ("ce_id", f"{cause.topic}/{cause.offset}".encode() if cause.topic else cause_id),
        ("ce_correlationid", key),
        ("ce_causationid", cause_id),
    )
    if traceparent is not None:
        headers += (("traceparent", traceparent.encode()),)
    return OutRecord(topic=topic, key=key, value=_encode(decision), headers=headers, partition=partition)


def event_size_bytes(event: Event) -> int:
    """What one event takes in its decision's record."""
    return len(_encode(event))


def encode_owner_changed(change: OwnerChanged, *, topic: str, partition: int) -> OutRecord:
    """Encode a change of owner.

    It has no key, because it belongs to the partition and not to a workflow.
    """
    headers = (
        _SPECVERSION,
        JSON_CONTENT,
        _OWNER_CHANGED,
        _source(partition, change.token),
        ("ce_id", change.token.encode()),
    )
    return OutRecord(topic=topic, key=None, value=_encode(change), headers=headers, partition=partition)


def decode_log_record(record: Record) -> LogRecord:
    """Decode a record of the log.

    Raises `UnknownFormat` if the record is newer than this version or is not a log record; the
    owner then stops.
    """
    if record.value is None:
        raise UnknownFormat(_message(record, _why_empty(record)))
    try:
        return _decoder.decode(record.value)
    except exact_json.DECODE_ERRORS as error:
        # not skipped: a fold that lacks one decision is another state, and nobody could tell
        raise UnknownFormat(_message(record, str(error))) from error


def _why_empty(record: Record) -> str:
    return record.reason if isinstance(record, UnreadableRecords) else "it has no value"


def _message(record: Record, problem: str) -> str:
    return (
        f"{place(record)}: this version can't read the log record ({problem}). Run the newest version of agent-mesh that wrote to "
        "this log; if nothing newer did, another program wrote here: allow only routers to write to the log."
    )
