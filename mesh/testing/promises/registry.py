"""Who was who when, who might answer for whom, and whose key was whose, by the topics' records.

Owns what `mesh.testing.promises.electorate` needs to know of people. It has rules of its own, which
say the same as docs/approvals.md, and asks nothing that routers ask. So a fault there shows here.
"""

from typing import NamedTuple

from mesh.codec.approver_keys import decode_key_record
from mesh.codec.calendars import decode_calendar, decode_calendar_activation
from mesh.codec.delegations import decode_personal
from mesh.codec.people import decode_people, decode_people_activation
from mesh.core.approver_keys import ApproverKey
from mesh.core.calendars import Calendar
from mesh.core.delegations import Delegation, DelegationEnd
from mesh.core.people import People, Person, person_of
from mesh.ports import Record

DELAY_MS = 2_000  # from a record to the first answer that it bears on


class Written(NamedTuple):
    """A delegation, and when the broker took it. `is_said`: its person has said it."""

    delegation: Delegation
    at_ms: int
    is_said: bool


class Registry:
    """`roles`: who has which until the topic has a version. `topic`: that of the people."""

    def __init__(self, roles: dict[str, frozenset[str]], topic: str) -> None:
        self.calendars: dict[str, Calendar] = {}  # by digest
        self._roles = roles
        self._topic = topic
        self._versions: dict[str, People] = {}
        self._active: list[tuple[int, str]] = []
        self._timed: list[tuple[int, str, str]] = []  # calendars: when, name, digest
        self._keys: dict[str, ApproverKey] = {}
        self._revoked_ms: dict[str, int] = {}
        self._delegations: dict[str, Written] = {}
        self._ended_ms: dict[str, int] = {}

    def landed(self, record: Record) -> None:
        """Take a record of the topic of people, or of that of delegations."""
        at_ms, is_said = record.timestamp_ms, record.topic != self._topic
        personal = decode_personal(record)
        if isinstance(personal, Delegation):
            self._delegations.setdefault(personal.id, Written(personal, at_ms, is_said))
        elif isinstance(personal, DelegationEnd):
            self._ended_ms.setdefault(personal.id, at_ms)
        if not is_said:
            self._take(record, at_ms)

    def _take(self, record: Record, at_ms: int) -> None:
        key = decode_key_record(record)
        if isinstance(key, ApproverKey):
            self._keys.setdefault(key.kid, key)
        elif key is not None:
            self._revoked_ms.setdefault(key.kid, at_ms)
        if (version := decode_people(record)) is not None:
            self._versions[version.digest] = version
        if (active := decode_people_activation(record)) is not None:
            self._active.append((at_ms, active.people))
        if (calendar := decode_calendar(record)) is not None:
            self.calendars[calendar.digest] = calendar
        if (timed := decode_calendar_activation(record)) is not None:
            self._timed.append((at_ms, timed.calendar, timed.version))

    # As of the broker's time of an answer ---------------------------------------------------------

    def _person(self, name: str, at_ms: int) -> Person | None:
        versions = [digest for from_ms, digest in self._active if from_ms + DELAY_MS <= at_ms]
        # the very first version also holds for what came before it
        if not versions and self._active:
            versions = [self._active[0][1]]
        if versions:
            return self._versions[versions[-1]].named(name)
        held = next((roles for one, roles in self._roles.items() if person_of(one) == person_of(name)), None)
        return None if held is None else Person(id=name, roles=held)

    def id_of(self, name: str, at_ms: int) -> str:
        """The one name of a person, in the form in which names are compared."""
        person = self._person(name, at_ms)
        return person_of(name if person is None else person.id)

    def roles_of(self, name: str, at_ms: int) -> frozenset[str]:
        person = self._person(name, at_ms)
        return frozenset() if person is None else person.roles

    def names_of(self, name: str, at_ms: int) -> frozenset[str]:
        """All names of a person."""
        person = self._person(name, at_ms)
        more = () if person is None else (person.id, *person.names)
        return frozenset(map(person_of, (name, *more)))

    def key_at(self, kid: str, at_ms: int) -> ApproverKey | None:
        """The key, if an answer of this time may be signed with it."""
        key, revoked_ms = self._keys.get(kid), self._revoked_ms.get(kid)
        if key is None or at_ms < key.at_ms + DELAY_MS:
            return None
        return None if revoked_ms is not None and at_ms >= revoked_ms + DELAY_MS else key

    def delegations(self, giver: str, to: str, route: str, at_ms: int) -> list[Written]:
        """Those from the one person to the other that are in force in this route."""
        return [
            one
            for one in self._delegations.values()
            if one.at_ms + DELAY_MS <= at_ms
            and one.delegation.start_ms <= at_ms < one.delegation.until_ms
            and not (one.delegation.id in self._ended_ms and at_ms >= self._ended_ms[one.delegation.id] + DELAY_MS)
            and (not one.delegation.routes or route in one.delegation.routes)
            and self.id_of(one.delegation.giver, at_ms) == giver
            and self.id_of(one.delegation.to, at_ms) == to
        ]

    def calendar_at(self, name: str, at_ms: int) -> str:
        """The digest of the version that is in effect; empty: there is none."""
        found = [digest for from_ms, one, digest in self._timed if one == name and from_ms + DELAY_MS <= at_ms]
        return found[-1] if found else ""
