"""The people as the topic has them, for `mesh.testing.promises.judge`.

Owns who had which role when, by the records alone.
"""

from msgspec.structs import replace

from mesh.codec.approver_keys import decode_key_record
from mesh.codec.calendars import decode_calendar
from mesh.codec.delegations import decode_personal
from mesh.codec.orders import ORDERS
from mesh.codec.people import decode_people, decode_people_activation
from mesh.codec.signed_answers import MAX_AGE_MS, Judge, checked
from mesh.core.approver_keys import KeyTimeline
from mesh.core.calendars import Calendar
from mesh.core.delegations import DelegationTimeline
from mesh.core.events import ApprovalRequested2, CommandAccepted, CommandRefused, Decision, Event, IncidentRaised
from mesh.core.inputs import AnswerGiven, AnswerGiven2
from mesh.core.people import People
from mesh.core.people_versions import PeopleTimeline
from mesh.core.state import Directory
from mesh.ports import Record


class PeopleLedger:
    """`known`: who has which role until the topic has a version. `mesh`: its name in signatures."""

    def __init__(self, known: Directory, topic: str, mesh: str = "") -> None:
        self.timeline = PeopleTimeline()
        self._known = known
        self._topic = topic
        self._versions: dict[str, People] = {}
        self._calendars: dict[str, Calendar] = {}  # by digest
        self.delegations = DelegationTimeline()
        self._keys = KeyTimeline()
        self._mesh = mesh

    def landed(self, record: Record) -> None:
        """Take a record of the people's topic."""
        personal = decode_personal(record)
        if personal is not None:
            self.delegations.add(personal, record.timestamp_ms, is_said=record.topic != self._topic)
        activation, version = decode_people_activation(record), decode_people(record)
        if activation is not None:
            self.timeline.add(activation)
        if version is not None:
            self._versions[version.digest] = version
        key, calendar = decode_key_record(record), decode_calendar(record)
        if key is not None:
            self._keys.add(key)
        if calendar is not None:
            self._calendars[calendar.digest] = calendar

    def at(self, at_ms: int) -> Directory:
        """What every router knows of people as of the broker time of an answer or an order."""
        placed = self.timeline.at(at_ms)
        return self._known if placed is None else self._with(placed.activation.people)

    def for_answer(self, answer: AnswerGiven | AnswerGiven2) -> Directory:
        """The same, with the delegations that are in force then."""
        known = self.at(answer.source_at_ms)
        return replace(known, delegations=self.delegations.in_force(answer.source_at_ms))

    def checked(self, answer: AnswerGiven | AnswerGiven2, known: Directory) -> AnswerGiven | AnswerGiven2:
        """The answer as its owner decides on it: a signed one with its proof."""
        if not isinstance(answer, AnswerGiven2) or not answer.jws:
            return answer
        judge = Judge(
            mesh=self._mesh, key=self._keys.get, people=known.people, roles=known.roles, max_age_ms=MAX_AGE_MS
        )
        return checked(answer, judge)

    def of_decision(self, decision: Decision) -> list[Directory]:
        """What the owner may have known that made this decision: one of these."""
        return [self._with_calendars(one, decision) for one in self._of_people(decision)]

    def _with_calendars(self, known: Directory, decision: Decision) -> Directory:
        asked = [event.calendars for event in decision.events if isinstance(event, ApprovalRequested2)]
        named = {name: self._calendars[version] for one in asked for name, version in one.items()}
        return replace(known, calendars=named) if named else known

    def _of_people(self, decision: Decision) -> list[Directory]:
        if decision.cause.kind == "answer" or any(_is_order(event) for event in decision.events):
            at_ms = decision.cause.at_ms
            known = self.at(at_ms)
            # of a word about delegations the owner looks at all, of every other at those in force
            told = {self.delegations.in_force(at_ms), self.delegations.as_of(at_ms)}
            return [replace(known, delegations=one) for one in told]
        asked = [event.people for event in decision.events if isinstance(event, ApprovalRequested2) and event.people]
        if asked:
            return [self._with(asked[0])]
        # a question goes by what its router knows at that moment, and this event does not say what
        if any(isinstance(event, IncidentRaised) and event.kind == "nobody" for event in decision.events):
            return [self._known, *map(self._with, self._versions)]
        return [self._known]

    def _with(self, digest: str) -> Directory:
        people = self._versions[digest]
        return replace(self._known, people=people, roles=people.roles, roles_from=self._topic)


def _is_order(event: Event) -> bool:
    """Whether an operator has ordered something about an approval, which may name people."""
    return isinstance(event, CommandAccepted | CommandRefused) and event.command in ORDERS
