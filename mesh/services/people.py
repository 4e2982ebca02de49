"""The content of `mesh.approvals.people`: every version of the people, and which is active when.

And, beside it, what people say of themselves on `mesh.approvals.delegations`.
`mesh.services.calendars` has the calendars, which are on the same topic.

Owns reading the topic, for routers and for the command line, and the order of writing: the version
first, and once the broker has it, the activation that names it. Its callers say whether a version
may be activated. `mesh.core.people_versions` has the rule of what is in effect when.
"""

from collections.abc import Sequence
from contextlib import suppress

import msgspec
import structlog

from mesh.codec.approver_keys import decode_key_record
from mesh.codec.delegations import decode_personal, encode_personal
from mesh.codec.people import (
    decode_people,
    decode_people_activation,
    digest_of,
    encode_people,
    encode_people_activation,
    version_of,
)
from mesh.core.approver_keys import KeyTimeline, KnownKey
from mesh.core.delegations import DelegationTimeline, PersonalRecord
from mesh.core.people import People
from mesh.core.people_versions import PeopleTimeline, PlacedPeople
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, MalformedRecord, OperatorError, TopicMissing, UnknownFormat
from mesh.ports import Broker, OutRecord, Record, UnreadableRecords
from mesh.services.calendars import Calendars
from mesh.services.whole_topic import WholeTopic

_log = structlog.get_logger()


class PeopleVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One stored version.

    `people` is None if this version of the mesh can't read it; `problem` says why.
    """

    digest: str
    stored_at_ms: int
    people: People | None
    problem: str = ""


class PeopleReader:
    """All that is known so far. `refresh` reads what has been written since."""

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self.versions: dict[str, PeopleVersion] = {}  # by digest
        self.timeline = PeopleTimeline()
        self.keys = KeyTimeline()
        self.delegations = DelegationTimeline()
        self.calendars = Calendars()
        self.topics = topics
        self._name = topics.people
        self._topic = WholeTopic(broker, topics.people, self._take)
        self._said = WholeTopic(broker, topics.delegations, self._take_said)
        self._has_said = False

    async def start(self) -> None:
        """Read all that is there. Called again after `BrokerUnavailable`, it continues.

        Raises `TopicMissing` too.
        """
        await self._topic.start()
        await self._start_said()

    async def _start_said(self) -> None:
        # of a mesh whose topics were planned by an older version it is not there, and nobody can
        # have said anything
        with suppress(TopicMissing):
            await self._said.start()
            self._has_said = True

    async def refresh(self) -> None:
        """Read up to the current end of both topics: a call for each if nothing is new."""
        await self._topic.refresh()
        if self._has_said:
            await self._said.refresh()
        else:  # it may have been created since
            await self._start_said()

    async def close(self) -> None:
        await self._topic.close()
        await self._said.close()

    def people_at(self, at_ms: int) -> People | None:
        """The people in effect at a time; None: nothing was ever activated.

        Raises `UnknownFormat` if the version in effect can't be read here.
        """
        return self.people_of(self.timeline.at(at_ms))

    def people_of(self, placed: PlacedPeople | None) -> People | None:
        """The people that an activation names. Raises `UnknownFormat`."""
        if placed is None:
            return None
        digest = placed.activation.people
        version = self.versions.get(digest)
        if version is not None and version.people is not None:
            return version.people
        why = version.problem if version is not None else f"it is not on {self._name}"
        raise UnknownFormat(
            f"version {digest} of the people is active and can't be read here: {why}."
            " If a newer agent-mesh wrote it, update this one"
        )

    def _take_said(self, record: Record) -> None:
        if isinstance(record, UnreadableRecords):
            _log.error("delegations_unreadable", error=record.message)
            return
        try:
            said = decode_personal(record)
        except MalformedRecord as error:
            _log.warning("delegation_unreadable", error=str(error))
            return
        if said is not None:
            self.delegations.add(said, record.timestamp_ms, is_said=True)

    def _take(self, record: Record) -> None:
        if isinstance(record, UnreadableRecords):
            _log.error("people_unreadable", error=record.message)
            return
        if self.calendars.take(record):
            return
        try:
            personal = decode_personal(record)
            if personal is not None:
                self.delegations.add(personal, record.timestamp_ms)
                return
            key = decode_key_record(record)
            if key is not None:
                self.keys.add(key)
                return
            activation = decode_people_activation(record)
        except MalformedRecord as error:
            _log.warning("people_record_unreadable", error=str(error))
            return
        if activation is not None:
            self.timeline.add(activation)
        elif version_of(record):
            version = _version(record)
            if version.problem:
                _log.warning("people_unreadable", error=version.problem)
            # a version may be stored twice; it is there since the first time
            known = self.versions.get(version.digest)
            if known is None or known.people is None:
                self.versions[version.digest] = version


def _version(record: Record) -> PeopleVersion:
    try:
        people, problem = decode_people(record), ""
    except MalformedRecord as error:
        people, problem = None, str(error)
    return PeopleVersion(digest=version_of(record), stored_at_ms=record.timestamp_ms, people=people, problem=problem)


async def people_now(broker: Broker, topics: Topics, now_ms: int) -> People | None:
    """The people in effect; None: the topic has none, or the broker does not say.

    Raises `TopicMissing`, and `UnknownFormat` if they can't be read here.
    """
    known = PeopleReader(broker, topics)
    try:
        await known.start()
    except BrokerUnavailable:  # the router waits for it, and looks itself
        return None
    finally:
        await known.close()
    return known.people_at(now_ms)


async def activate_people(
    known: PeopleReader,
    broker: Broker,
    topics: Topics,
    people: People,
    *,
    activation_id: str,
    by: str,
    at_ms: int,
    reason: str = "",
) -> PlacedPeople:
    """Store this version if it is not stored yet, and activate it.

    Raises `BrokerUnavailable` if the outcome is unknown: doing the same again, with a fresh id, is
    then right.
    """
    digest = digest_of(people)
    # The version first: a router that reads the activation must find what it names.
    if digest not in known.versions:
        await _send(broker, [encode_people(people, topics)])
    record = encode_people_activation(
        digest, topics=topics, activation_id=activation_id, by=by, at_ms=at_ms, reason=reason
    )
    await _send(broker, [record])
    await known.refresh()
    for placed in reversed(known.timeline.all()):
        if placed.activation.id == activation_id:
            return placed
    raise BrokerUnavailable(f"the activation {activation_id} is on its way, and can't be read back yet")


async def write_key(known: PeopleReader, broker: Broker, record: OutRecord, kid: str) -> KnownKey:
    """Write the record of a key, or of its end, and read it back.

    Raises `BrokerUnavailable` if the outcome is unknown.
    """
    await _send(broker, [record])
    await known.refresh()
    found = known.keys.get(kid)
    if found is None:
        raise BrokerUnavailable(f"the record of the key {kid} is on its way, and can't be read back yet")
    return found


async def write_personal(known: PeopleReader, broker: Broker, record: PersonalRecord, at_ms: int) -> None:
    """Write the record of a delegation, its end or an absence, and read what is there.

    Raises `BrokerUnavailable` if the outcome is unknown.
    """
    await _send(broker, [encode_personal(record, topics=known.topics, at_ms=at_ms)])
    await known.refresh()


async def _send(broker: Broker, records: Sequence[OutRecord]) -> None:
    failures = await broker.send(records)
    if failures:
        name = (records[failures[0].index].key or b"").decode("utf-8", "replace")
        raise OperatorError(f"{name} could not be stored: {failures[0].message}")
