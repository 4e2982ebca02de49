"""The file that an auditor gets: a workflow's decisions and the records of people, line by line.

Each line is a JSON object. The first says what the file is of. All others are records as the
broker has them: `at` is the broker's time, `value` the record's text.

    {"bundle": 1, "mesh": "mesh.@<cluster>", "workflow_id": ..., "log": "mesh.log", "partition": 3}
    {"people": 17, "at": 1764500000000, "key": "key/<kid>", "value": "..."}
    {"said": 3, "at": 1764500000000, "key": "delegation/<id>", "value": "..."}
    {"log": 1204, "at": 1764500000000, "value": "..."}

Changes of owner are among the log's records: they say which decisions count.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from mesh.codec import exact_json
from mesh.codec.approver_keys import decode_key_record
from mesh.codec.delegations import decode_personal
from mesh.codec.log import decode_log_record
from mesh.codec.people import decode_people, decode_people_activation
from mesh.core.approver_keys import KeyTimeline
from mesh.core.delegations import DelegationTimeline
from mesh.core.events import LogRecord, OwnerChanged
from mesh.core.people import People
from mesh.core.people_versions import PeopleTimeline
from mesh.errors import MeshError, OperatorError
from mesh.ports import Record

VERSION: Final = 1
_PRIVATE: Final = (b"channel/", b"absent/")  # addresses and absences of people prove nothing
_SAID_TOPIC: Final = "approvals.delegations"
_encode = msgspec.json.Encoder().encode


class BundleInvalid(OperatorError):
    """The file is no bundle, or a line of it can't be read. The message says which."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a bundle."""

    bundle: int
    mesh: str
    workflow_id: str
    log: str
    partition: int


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle, read. `log`: offsets and records, in their order."""

    head: Head
    log: list[tuple[int, LogRecord]]
    keys: KeyTimeline
    timeline: PeopleTimeline
    versions: dict[str, People]
    delegations: DelegationTimeline

    def people_at(self, at_ms: int) -> People | None:
        """The people in effect at a time; None: a file had them, or their version is not here."""
        placed = self.timeline.at(at_ms)
        return None if placed is None else self.versions.get(placed.activation.people)


def bundle_lines(head: Head, people: Iterable[Record], log: Iterable[Record]) -> Iterator[bytes]:
    """The lines of a bundle. `log`: all records of the workflow's partition."""
    yield _encode(head)
    for record in people:
        if record.value is not None and not (record.key or b"").startswith(_PRIVATE):
            key = (record.key or b"").decode("utf-8", "replace")
            kind = "said" if record.topic.endswith(_SAID_TOPIC) else "people"
            yield _encode({kind: record.offset, "at": record.timestamp_ms, "key": key, "value": _text(record)})
    for record in log:
        # the key alone says whose decision it is; changes of owner have none
        if record.value is not None and record.key in (None, head.workflow_id.encode()):
            yield _encode({"log": record.offset, "at": record.timestamp_ms, "value": _text(record)})


def _text(record: Record) -> str:
    return (record.value or b"").decode("utf-8", "replace")


def read_bundle(lines: Iterable[bytes]) -> Bundle:
    """The bundle in a file. Raises `BundleInvalid`."""
    numbered = enumerate(lines, 1)
    try:
        head = msgspec.json.decode(next(numbered, (1, b""))[1], type=Head)
    except msgspec.MsgspecError as error:
        raise BundleInvalid(f"line 1 is not the head of a bundle ({error}): `mesh log export` writes one") from error
    if head.bundle != VERSION:
        raise BundleInvalid(f"the bundle has version {head.bundle}, and this agent-mesh reads {VERSION}: update it")
    found = Bundle(
        head=head, log=[], keys=KeyTimeline(), timeline=PeopleTimeline(), versions={}, delegations=DelegationTimeline()
    )
    for number, line in numbered:
        try:
            _take(found, line)
        except (MeshError, KeyError, *exact_json.DECODE_ERRORS) as error:
            raise BundleInvalid(f"line {number} of the bundle can't be read: {error}") from error
    return found


def _take(bundle: Bundle, line: bytes) -> None:
    said = msgspec.json.decode(line, type=dict[str, Any])
    value, at_ms = str(said["value"]).encode(), int(said["at"])
    if "said" in said:
        key = str(said["key"]).encode()
        personal = decode_personal(Record("said", 0, int(said["said"]), at_ms, key, value, ()))
        if personal is not None:
            bundle.delegations.add(personal, at_ms, is_said=True)
        return
    if "people" in said:
        key = str(said["key"]).encode()
        _take_people(bundle, Record("people", 0, int(said["people"]), at_ms, key, value, ()))
        return
    offset = int(said["log"])
    record = decode_log_record(Record(bundle.head.log, bundle.head.partition, offset, at_ms, None, value, ()))
    if isinstance(record, OwnerChanged) or record.workflow_id == bundle.head.workflow_id:
        bundle.log.append((offset, record))


def _take_people(bundle: Bundle, record: Record) -> None:
    if (key := decode_key_record(record)) is not None:
        bundle.keys.add(key)
    elif (personal := decode_personal(record)) is not None:
        bundle.delegations.add(personal, record.timestamp_ms)
    elif (activation := decode_people_activation(record)) is not None:
        bundle.timeline.add(activation)
    elif (people := decode_people(record)) is not None:
        bundle.versions[people.digest] = people
