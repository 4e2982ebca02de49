"""The records of `mesh.approvals.open`: what is open, for approvers' tools.

Owns their bytes, keys and partitions; `mesh.core.open_approvals` says when one is sent. Routers
encode, and so does the command that repairs the topic. The inbox of the command line decodes.

A record says at which place of the log it was decided (`LOG_OFFSET`). A router that was cut off may
have a record on its way that lands behind those of the next owner. A reader takes a record only if
it was not decided before the one that it has under this key.
"""

from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from mesh.codec import exact_json
from mesh.codec.approvals import ApprovalRequest
from mesh.codec.cloudevents import binary_headers, header
from mesh.codec.places import place
from mesh.codec.times import rfc3339
from mesh.core.approvals import Ballot, Change, Tally, Terms
from mesh.core.events import ApprovalRequested, ApprovalRequested2
from mesh.core.ids import parse_step_id, partition_of_key
from mesh.core.open_approvals import NewPayload, Note, NoteKind, ShowApproval
from mesh.core.signing import Level
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

OPEN_TYPE: Final = "mesh.approval.open"
OPEN_PARTITIONS: Final = 4  # of the topic; all keys of an approval are in the partition of its id
LOG_OFFSET: Final = "mesh_log_offset"


class OpenRequest(ApprovalRequest, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked, with what a tool shows besides. `reason`: why the step asks."""

    asked_at: str = ""  # RFC 3339
    reason: str = ""


class OpenPayload(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of the newest edition, and who edited."""

    payload: Any
    digest: str
    edition: int
    by: str


class OpenVote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A vote that is in force."""

    by: str
    choice: str
    at: str
    reason: str = ""
    signed: Level = "none"  # none: it is claimed, and nobody has checked by whom
    on_behalf: str = msgspec.field(name="for", default="")  # whose vote it is, if a delegate sent it


class OpenChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who may answer besides, of the answers from `since` on.

    `alone`: from then on nobody else may. `quorum`: how many of them suffice; 0: they fill the
    seats like all others.
    """

    since: str  # RFC 3339
    roles: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    alone: bool = False
    quorum: int = 0


class OpenStanding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an approval of version 2 is: the leading choice fills `have` of `need` seats."""

    edition: int
    digest: str
    have: int
    need: int
    votes: tuple[OpenVote, ...] = ()
    editors: tuple[str, ...] = ()
    deadline_at: str | None = None
    split: bool = False  # the votes would fill all seats, and are for several choices
    stage: int = 0  # how many stages have come about
    besides: tuple[OpenChange, ...] = ()
    claimed_by: str | None = None
    claimed_until: str | None = None
    held: int = 0  # answers that came after the deadline, and wait for it to be moved
    reset: tuple[str, ...] = ()  # whose votes an edit has reset, and who have not spoken since
    questions: tuple[int, ...] = ()  # the numbers of those that are not answered


class OpenNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A comment; a question with its number, and to whom it is; or the answer to one.

    `agent`: it answers, and `by` is empty. `failed`: it could not, and the text says why.
    `proposal`: what it would put in the place of the payload.
    """

    number: int
    by: str
    at: str
    text: str
    kind: NoteKind = "comment"
    question: int = 0
    to: str = ""
    agent: str = ""
    failed: bool = False
    proposal: Any = msgspec.UNSET


class OpenKey(NamedTuple):
    """The key of a record. `part`: request, payload, standing or note/<n>."""

    part: str
    approval_id: str


_encode = msgspec.json.Encoder().encode
_P = TypeVar("_P")
_Part = OpenRequest | OpenPayload | OpenStanding | OpenNote


def encode_shown(effect: ShowApproval, *, topics: Topics) -> OutRecord:
    """A part of an open approval, or a tombstone. `placed` adds where it was decided."""
    headers = binary_headers(
        id=shown_id(effect),
        source="/mesh/router",
        type=OPEN_TYPE,
        workflow_id=effect.workflow_id,
        time=rfc3339(effect.at_ms),
    )
    return OutRecord(
        topic=topics.open_approvals,
        key=effect.key.encode(),
        value=None if effect.value is None else _encode(_value(effect)),
        headers=headers,
        partition=open_partition(effect.approval_id),
    )


def shown_id(effect: ShowApproval) -> str:
    """The record's id: it is idempotent by its key."""
    return f"{effect.approval_id}/open/{effect.part}"


def open_partition(approval_id: str) -> int:
    """The partition of all keys of an approval."""
    return partition_of_key(approval_id.encode("utf-8", "surrogatepass"), OPEN_PARTITIONS)


def placed(record: OutRecord, log_offset: int) -> OutRecord:
    """The record with the place of its decision in the log."""
    return replace(record, headers=(*record.headers, (LOG_OFFSET, str(log_offset).encode())))


def _value(effect: ShowApproval) -> _Part:
    value = effect.value
    match value:
        case ApprovalRequested():
            return open_request(value, effect.at_ms)
        case NewPayload():
            return OpenPayload(payload=value.payload, digest=value.digest, edition=value.edition, by=value.by)
        case Tally():
            return _standing(value)
        case Note():
            return _note(value)
        case _:
            raise AssertionError(f"{effect.key} has no value")


def open_request(event: ApprovalRequested, at_ms: int) -> OpenRequest:
    """What was asked, as a record has it."""
    terms = event.terms if isinstance(event, ApprovalRequested2) else None
    return OpenRequest(
        approval_id=event.approval_id,
        question=event.question,
        payload=event.payload,
        payload_schema=event.payload_schema,
        digest=event.digest,
        role=event.role,
        deadline_at=_time(event.deadline_at_ms),
        on_expiry=event.on_expiry,
        version=1 if terms is None else 2,
        terms=terms,
        asked_at=rfc3339(at_ms),
        reason=event.reason,
    )


def _standing(tally: Tally) -> OpenStanding:
    return OpenStanding(
        edition=tally.edition,
        digest=tally.digest,
        have=tally.have,
        need=tally.need,
        votes=tuple(_vote(vote) for vote in tally.votes),
        editors=tally.editors,
        deadline_at=_time(tally.deadline_at_ms),
        split=tally.split,
        stage=tally.stage,
        besides=tuple(map(_change, tally.changes)),
        claimed_by=None if tally.claim is None else tally.claim.by,
        claimed_until=None if tally.claim is None else rfc3339(tally.claim.until_ms),
        held=tally.held,
        reset=tally.reset,
        questions=tally.questions,
    )


def _note(note: Note) -> OpenNote:
    return OpenNote(
        number=note.number,
        by=note.by,
        at=rfc3339(note.at_ms),
        text=note.text,
        kind=note.kind,
        question=note.question,
        to=note.to,
        agent=note.agent,
        failed=note.failed,
        proposal=note.proposal,
    )


def _vote(vote: Ballot) -> OpenVote:
    return OpenVote(
        by=vote.by,
        choice=vote.choice,
        at=rfc3339(vote.at_ms),
        reason=vote.reason,
        signed=vote.signed,
        on_behalf=vote.on_behalf,
    )


def _change(change: Change) -> OpenChange:
    return OpenChange(
        since=rfc3339(change.from_ms),
        roles=change.roles,
        people=change.people,
        alone=change.alone,
        quorum=change.quorum,
    )


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


# Reading ------------------------------------------------------------------------------------------


def open_key(record: Record) -> OpenKey:
    """What a record is about. Raises `MalformedRecord`."""
    key = (record.key or b"").decode("utf-8", "replace")
    part, _, approval_id = key.partition("/")
    if part == "note":
        number, _, approval_id = approval_id.partition("/")
        part = f"note/{number}"
    if part not in {"request", "payload", "standing"} and not part.startswith("note/"):
        approval_id = ""
    if parse_step_id(approval_id) is None:
        raise MalformedRecord(
            f"{place(record)}: {key[:200]!r} is no key of an open approval; only routers may write to this topic"
        )
    return OpenKey(part, approval_id)


def log_offset(record: Record) -> int:
    """Where the record was decided; -1 if it does not say."""
    found = header(record, LOG_OFFSET)
    return int(found) if found is not None and found.isascii() and found.isdigit() else -1


_requests: msgspec.json.Decoder[OpenRequest] = msgspec.json.Decoder(OpenRequest)
_payloads: msgspec.json.Decoder[OpenPayload] = msgspec.json.Decoder(OpenPayload)
_standings: msgspec.json.Decoder[OpenStanding] = msgspec.json.Decoder(OpenStanding)
_notes: msgspec.json.Decoder[OpenNote] = msgspec.json.Decoder(OpenNote)


def decode_open_request(value: bytes) -> OpenRequest:
    """The request in a value. Raises `MalformedRecord`, as the three below do."""
    return _decoded(_requests, value)


def decode_open_payload(value: bytes) -> OpenPayload:
    return _decoded(_payloads, value)


def decode_open_standing(value: bytes) -> OpenStanding:
    return _decoded(_standings, value)


def decode_open_note(value: bytes) -> OpenNote:
    return _decoded(_notes, value)


class IndexedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What lists and filters need of a request. The payload is not decoded."""

    approval_id: str
    question: str
    role: str
    deadline_at: str | None = None
    asked_at: str = ""
    terms: Terms | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")


_indexed: msgspec.json.Decoder[IndexedRequest] = msgspec.json.Decoder(IndexedRequest)


def decode_indexed_request(value: bytes) -> IndexedRequest:
    """As `decode_open_request`, and less."""
    return _decoded(_indexed, value)


class _WithPayload(msgspec.Struct, frozen=True):
    payload: msgspec.Raw


_with_payload: msgspec.json.Decoder[_WithPayload] = msgspec.json.Decoder(_WithPayload)


def payload_in(value: bytes) -> msgspec.Raw:
    """The payload of an edit, as JSON."""
    return _decoded(_with_payload, value).payload


_any: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def decode_payload(text: str) -> Any:
    """A payload from the JSON of it alone."""
    return _decoded(_any, text)


def _decoded(decoder: msgspec.json.Decoder[_P], value: bytes | str) -> _P:
    try:
        return decoder.decode(value)
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(f"not a record of an open approval ({error})") from error
