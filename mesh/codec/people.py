"""The bytes of `mesh.approvals.people`: versions of people and roles, and which of them is active.

The topic is compacted.

    people/sha256:<64 digits>   a version, under its digest:
                                {"people": {ID: {"names": [...], "roles": [...]}}}
    activation/<id>             which version is active from then on:
                                {"people": DIGEST, "by": ..., "reason": ...}

Owns the records. Neither kind is ever overwritten or deleted: an answer that was unread for long is
judged by the people of its time. A version is stored before an activation names it. All records are
in partition 0, whose order is theirs. Readers pass over other keys, which are for what is to come
(keys, delegations, calendars). `mesh people apply` writes them, routers read them.
"""

from typing import Any, Final

import msgspec
import orjson

from mesh.codec import exact_json
from mesh.codec.cloudevents import binary_headers
from mesh.codec.event_data import decode_json
from mesh.codec.places import place
from mesh.codec.times import rfc3339
from mesh.core.json_values import digest
from mesh.core.people import People, Person, people_of, shared_names
from mesh.core.people_versions import PeopleActivation
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

PEOPLE_TYPE: Final = "mesh.people"
ACTIVATION_TYPE: Final = "mesh.people-activation"
SOURCE: Final = "/mesh/people"
_PEOPLE: Final = b"people/"
_ACTIVATION: Final = b"activation/"


class PersonBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One person. `names`: all but the id."""

    names: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


class PeopleBody(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a version's record. `people`: by id."""

    people: dict[str, PersonBody]


class PeopleActivationBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of an activation's record. `people`: the version's digest."""

    people: str
    by: str
    reason: str = ""


def document_of(people: People) -> dict[str, Any]:
    """The version as its record has it, the same for the same people in any order."""
    bodies = {
        person.id: PersonBody(names=tuple(sorted(person.names)), roles=tuple(sorted(person.roles)))
        for person in sorted(people.persons.values(), key=lambda one: one.id)
    }
    found: dict[str, Any] = msgspec.to_builtins(PeopleBody(people=bodies))
    return found


def digest_of(people: People) -> str:
    """The digest under which this version is stored."""
    return digest(document_of(people))


def encode_people(people: People, topics: Topics) -> OutRecord:
    """The record that stores this version."""
    document = document_of(people)
    own = digest(document)
    headers = binary_headers(id=own, source=SOURCE, type=PEOPLE_TYPE)
    return OutRecord(
        topic=topics.people, key=_PEOPLE + own.encode(), value=orjson.dumps(document), headers=headers, partition=0
    )


def version_of(record: Record) -> str:
    """The digest of the version that a record holds by its key; empty for any other record."""
    key = record.key or b""
    return key[len(_PEOPLE) :].decode("utf-8", "replace") if key.startswith(_PEOPLE) and record.value else ""


def decode_people(record: Record) -> People | None:
    """The version in a record; None for any other record (another key, or a tombstone).

    Raises `MalformedRecord`.
    """
    own = version_of(record)
    if not own or record.value is None:
        return None
    what = f"the version of the people {place(record)}"
    document = decode_json(record.value, what)
    try:
        body = msgspec.convert(document, PeopleBody)
    except msgspec.ValidationError as error:
        raise MalformedRecord(f"{what} does not hold: {error} (topics/schemas/people.json has the form)") from error
    # votes name the digest: other people under it would change what they say
    if digest(document) != own:
        raise MalformedRecord(f"{what} is not what its key says: its digest is {digest(document)}")
    persons = [Person(id=id_, names=one.names, roles=frozenset(one.roles)) for id_, one in body.people.items()]
    for shared in shared_names(persons):
        raise MalformedRecord(f"{what} does not hold: {shared.one} and {shared.other} share the name {shared.name}")
    return people_of(persons, digest=own)


def encode_people_activation(
    version: str, *, topics: Topics, activation_id: str, by: str, at_ms: int, reason: str = ""
) -> OutRecord:
    """The record that activates the version with this digest.

    `activation_id` is fresh for every sending: compaction would drop the first of two records with
    one id.
    """
    body: dict[str, Any] = msgspec.to_builtins(PeopleActivationBody(people=version, by=by, reason=reason))
    headers = binary_headers(id=activation_id, source=SOURCE, type=ACTIVATION_TYPE, time=rfc3339(at_ms))
    key = _ACTIVATION + activation_id.encode()
    return OutRecord(topic=topics.people, key=key, value=orjson.dumps(body), headers=headers, partition=0)


def decode_people_activation(record: Record) -> PeopleActivation | None:
    """The activation in a record, with the broker's time of it; None for any other record.

    Raises `MalformedRecord`.
    """
    if record.value is None or record.key is None or not record.key.startswith(_ACTIVATION):
        return None
    try:
        body = msgspec.convert(exact_json.decode(record.value), PeopleActivationBody)
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(
            f"the activation of people {place(record)} does not hold: {error}"
            " (topics/schemas/people-activation.json has the form)"
        ) from error
    return PeopleActivation(
        id=record.key[len(_ACTIVATION) :].decode("utf-8", "replace"),
        people=body.people,
        by=body.by,
        # the broker's time, which is the same for every router (ADR 8)
        at_ms=record.timestamp_ms,
        reason=body.reason,
    )
