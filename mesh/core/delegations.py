"""Delegations and absences: who may answer for whom when, in the order of their topic.

Owns the rules that need nothing but their values. A delegation is in force for answers with
`start <= at < until`, by the broker's time of the answer, and only once its record is in effect:
`DELAY_MS` after the broker took it, as a version of the people is. Its end is in effect as late. So
two routers judge an answer alike, and what is in force at a time never changes once all records
that matter for that time are known.

It is never transitive: an answer for somebody needs a delegation by that very person. An absence
takes no right. It says whom nobody has to remind.

Pure: `mesh.codec.delegations` reads the records.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from mesh.core.activation import Moments
from mesh.core.signing import Level

LONGEST_DAYS: Final = 90
_DAY_MS: Final = 24 * 3_600_000
MOST_NAMED: Final = 100  # roles or routes of one delegation
MOST_UNDER_WAY: Final = 50  # delegations of one person that have not ended
MOST_MANDATES: Final = 8  # of one answer that is held

SAID: Final = "d-"
"""What the ids of delegations begin with that people give in answers, and no others."""


class Delegation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`to` may answer for `giver`, for answers with `start_ms <= at < until_ms`.

    `roles`: only by these roles of the giver; empty: by all that the giver may. `routes`: only
    there; empty: everywhere. `by`: who said so: the giver, or who grants roles. `signed`: what
    proves that; who grants roles counts as the person. `jws`: the signed answer that says so.
    """

    id: str
    giver: str
    to: str
    start_ms: int
    until_ms: int
    roles: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    by: str = ""
    reason: str = ""
    signed: Level = "none"
    jws: str = ""

    def covers(self, route: str) -> bool:
        return not self.routes or route in self.routes


class DelegationEnd(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The end of a delegation. It never comes back."""

    id: str
    by: str
    reason: str = ""


class Absence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person is away, for `start_ms <= at < until_ms`. `said_ms`: the later word counts."""

    person: str
    start_ms: int
    until_ms: int
    said_ms: int
    by: str = ""
    reason: str = ""

    def holds_at(self, at_ms: int) -> bool:
        return self.start_ms <= at_ms < self.until_ms


PersonalRecord = Delegation | DelegationEnd | Absence


class KnownDelegation(msgspec.Struct, frozen=True, kw_only=True):
    """A delegation as the topic has it: its record, and its end if it has one, and since when."""

    delegation: Delegation
    from_ms: int
    end: DelegationEnd | None = None
    ended_ms: int | None = None
    is_said: bool = False  # the giver has said so in an answer, and nobody for them

    def is_in_force(self, at_ms: int) -> bool:
        """Whether an answer of this broker time may be given under it."""
        one = self.delegation
        is_in_effect = self.from_ms <= at_ms and (self.ended_ms is None or at_ms < self.ended_ms)
        return is_in_effect and one.start_ms <= at_ms < one.until_ms

    def is_under_way(self, at_ms: int) -> bool:
        """Whether it is in force at this time, or may be later."""
        return (self.ended_ms is None or at_ms < self.ended_ms) and at_ms < self.delegation.until_ms


class Mandate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A delegation under which an answer is given, with what its giver had at the answer's time.

    `roles`: those that it covers. `names`: further names of the giver, as `person_of` has them.
    `by_roles`: it covers roles alone, and no seat that names the giver.
    """

    delegation: str
    giver: str
    roles: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    by_roles: bool = False
    signed: Level = "none"


class DelegationTimeline:
    """All delegations and absences so far. The first record of each, and of its end, is the one.

    They are on two topics, and may be read in any order of these.
    """

    def __init__(self) -> None:
        self._known: dict[str, KnownDelegation] = {}
        self._ends: dict[str, tuple[DelegationEnd, int]] = {}
        self._absences: dict[str, Absence] = {}
        self._moments: dict[bool, Moments] = {True: Moments(), False: Moments()}
        self._all: tuple[KnownDelegation, ...] | None = ()

    def add(self, record: PersonalRecord, at_ms: int, *, is_said: bool = False) -> None:
        """Take a topic's next record of this kind. `at_ms`: when the broker took it.

        `is_said`: it is on the topic of what people say of themselves, and not on that of those who
        grant roles. The one can't take the name of a delegation of the other.
        """
        if isinstance(record, Absence):
            before = self._absences.get(record.person)
            if before is None or before.said_ms <= record.said_ms:
                self._absences[record.person] = record
            return
        # in the order of the topic, even if the broker's clock was put back (ADR 8)
        from_ms = self._moments[is_said].add(at_ms, beginning=False)
        if isinstance(record, DelegationEnd):
            self._ends.setdefault(record.id, (record, from_ms))
        elif record.id.startswith(SAID) == is_said:
            self._known.setdefault(record.id, KnownDelegation(delegation=record, from_ms=from_ms, is_said=is_said))
        if record.id in self._known and record.id in self._ends:
            end, ended_ms = self._ends[record.id]
            self._known[record.id] = replace(self._known[record.id], end=end, ended_ms=ended_ms)
        self._all = None

    def get(self, delegation_id: str) -> KnownDelegation | None:
        return self._known.get(delegation_id)

    def all(self) -> tuple[KnownDelegation, ...]:
        """All delegations, the oldest first."""
        if self._all is None:
            self._all = tuple(self._known.values())
        return self._all

    def as_of(self, at_ms: int) -> tuple[KnownDelegation, ...]:
        """All delegations, with the ends, whose records were in effect at this time.

        Whatever was read since makes no difference.
        """
        there = (one for one in self._known.values() if one.from_ms <= at_ms)
        return tuple(
            replace(one, end=None, ended_ms=None) if one.ended_ms is not None and one.ended_ms > at_ms else one
            for one in there
        )

    def in_force(self, at_ms: int) -> tuple[KnownDelegation, ...]:
        """The delegations under which an answer of this broker time may be given."""
        return tuple(one for one in self._known.values() if one.is_in_force(at_ms))

    def absences(self) -> Iterator[Absence]:
        """The last word on each person's absence."""
        yield from self._absences.values()

    def absent(self, at_ms: int) -> dict[str, Absence]:
        """Who is away at a time, by id."""
        return {person: one for person, one in self._absences.items() if one.holds_at(at_ms)}


def why_invalid(delegation: Delegation) -> str:
    """Why nobody at all may delegate so; empty if the values hold."""
    if delegation.start_ms >= delegation.until_ms:
        return "it ends before it begins"
    if delegation.until_ms - delegation.start_ms > LONGEST_DAYS * _DAY_MS:
        return f"it lasts longer than {LONGEST_DAYS} days"
    if max(len(delegation.roles), len(delegation.routes)) > MOST_NAMED:
        return f"it names more than {MOST_NAMED} roles or routes"
    return ""


def named_briefly(delegation: Delegation) -> str:
    """The scope in words; empty if it has none."""
    roles = f"as {', '.join(delegation.roles)}" if delegation.roles else ""
    routes = f"in {', '.join(delegation.routes)}" if delegation.routes else ""
    return " ".join(filter(None, (roles, routes)))


def widest(mandates: Iterable[Mandate]) -> tuple[Mandate, ...]:
    """The mandates, those that cover all first, and no more of them than are kept."""
    return tuple(sorted(mandates, key=lambda one: one.by_roles)[:MOST_MANDATES])
