"""The bytes of delegations and absences.

What a person says of themself in an answer, a router puts on `mesh.approvals.delegations`. What who
grants roles says of anybody is on `mesh.approvals.people`, which no router may write: it has the
keys by which an audit checks what routers have counted. Both topics are compacted.

    delegation/<id>       {"from": ..., "to": ..., "start": ..., "until": ..., "roles": [...],
                           "routes": [...], "by": ..., "reason": ..., "signed": ..., "jws": ...}
    delegation-end/<id>   {"by": ..., "reason": ...}
    absent/<person>       {"start": ..., "until": ..., "said": ..., "by": ..., "reason": ...}

All times are RFC 3339. The first two are written once, and are never deleted: a vote that was
given for somebody names its delegation. An absence may be replaced, since it takes no right.
"""

from typing import Any, Final

import msgspec
import orjson

from mesh.codec import exact_json
from mesh.codec.cloudevents import binary_headers
from mesh.codec.places import place
from mesh.codec.times import parse_rfc3339, rfc3339
from mesh.core.delegations import Absence, Delegation, DelegationEnd, PersonalRecord, why_invalid
from mesh.core.signing import Level
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

DELEGATION_TYPE: Final = "mesh.delegation"
END_TYPE: Final = "mesh.delegation-end"
ABSENCE_TYPE: Final = "mesh.absence"
_SOURCE: Final = "/mesh/people"
_DELEGATION: Final = "delegation/"
_END: Final = "delegation-end/"
_ABSENCE: Final = "absent/"
_KEYS: Final = tuple(key.encode() for key in (_DELEGATION, _END, _ABSENCE))


class DelegationBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of a delegation's record."""

    giver: str = msgspec.field(name="from")
    to: str
    start: str
    until: str
    roles: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    by: str = ""
    reason: str = ""
    signed: Level = "none"
    jws: str = ""


class DelegationEndBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of the record that ends a delegation."""

    by: str
    reason: str = ""


class AbsenceBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of an absence's record. `said`: of two the later counts."""

    start: str
    until: str
    said: str
    by: str = ""
    reason: str = ""


def personal_key(record: PersonalRecord) -> str:
    """The key of the record, which names it."""
    match record:
        case Delegation():
            return _DELEGATION + record.id
        case DelegationEnd():
            return _END + record.id
        case Absence():
            return _ABSENCE + record.person


def encode_personal(record: PersonalRecord, *, topics: Topics, at_ms: int, is_said: bool = False) -> OutRecord:
    """The record of a delegation, of its end, or of an absence.

    `is_said`: its person has said it in an answer, and a router writes it.
    """
    kind, body = _body(record)
    key = personal_key(record)
    headers = binary_headers(id=key, source=_SOURCE, type=kind, time=rfc3339(at_ms))
    value = orjson.dumps(msgspec.to_builtins(body))
    topic = topics.delegations if is_said else topics.people
    return OutRecord(topic=topic, key=key.encode(), value=value, headers=headers, partition=0)


def _body(record: PersonalRecord) -> tuple[str, DelegationBody | DelegationEndBody | AbsenceBody]:
    match record:
        case Delegation():
            return DELEGATION_TYPE, DelegationBody(
                giver=record.giver,
                to=record.to,
                start=rfc3339(record.start_ms),
                until=rfc3339(record.until_ms),
                roles=record.roles,
                routes=record.routes,
                by=record.by,
                reason=record.reason,
                signed=record.signed,
                jws=record.jws,
            )
        case DelegationEnd():
            return END_TYPE, DelegationEndBody(by=record.by, reason=record.reason)
        case Absence():
            return ABSENCE_TYPE, AbsenceBody(
                start=rfc3339(record.start_ms),
                until=rfc3339(record.until_ms),
                said=rfc3339(record.said_ms),
                by=record.by,
                reason=record.reason,
            )


def decode_personal(record: Record) -> PersonalRecord | None:
    """The delegation, the end of one, or the absence in a record; None for any other record.

    Raises `MalformedRecord`, also for a delegation that nobody may give.
    """
    if record.value is None or record.key is None or not record.key.startswith(_KEYS):
        return None
    prefix, _, name = record.key.decode("utf-8", "replace").partition("/")
    try:
        found = _decoded(prefix, name, exact_json.decode(record.value))
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(
            f"the record {place(record)} of {prefix} does not hold: {error} (topics/schemas has the form)"
        ) from error
    if isinstance(found, Delegation) and (why := why_invalid(found)):
        raise MalformedRecord(f"the delegation {place(record)} does not hold: {why}")
    return found


def _decoded(prefix: str, name: str, document: Any) -> PersonalRecord:
    if prefix == "delegation":
        body = msgspec.convert(document, DelegationBody)
        return Delegation(
            id=name,
            giver=body.giver,
            to=body.to,
            start_ms=parse_rfc3339(body.start),
            until_ms=parse_rfc3339(body.until),
            roles=body.roles,
            routes=body.routes,
            by=body.by,
            reason=body.reason,
            signed=body.signed,
            jws=body.jws,
        )
    if prefix == "absent":
        absence = msgspec.convert(document, AbsenceBody)
        return Absence(
            person=name,
            start_ms=parse_rfc3339(absence.start),
            until_ms=parse_rfc3339(absence.until),
            said_ms=parse_rfc3339(absence.said),
            by=absence.by,
            reason=absence.reason,
        )
    end = msgspec.convert(document, DelegationEndBody)
    return DelegationEnd(id=name, by=end.by, reason=end.reason)
