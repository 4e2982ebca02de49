"""An open approval as the notifier sees it, and for whom it waits.

Owns who may be told. The rules of who may answer are `mesh.core.approvals`'.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

import apsw
import msgspec

from mesh.codec.channels import Channel, ChannelKind, DailyTime, daily_time
from mesh.codec.open_approvals import (
    IndexedRequest,
    OpenNote,
    OpenStanding,
    decode_indexed_request,
    decode_open_note,
    decode_open_standing,
)
from mesh.codec.times import parse_rfc3339
from mesh.core.approvals import Change, Terms
from mesh.core.calendars import Calendar
from mesh.core.delegations import KnownDelegation
from mesh.core.ids import route_of
from mesh.core.open_approvals import PAYLOAD, REQUEST, STANDING
from mesh.core.people import People, id_of, person_of
from mesh.core.questions import Addressee
from mesh.core.signing import LEVELS, Level
from mesh.core.voting import Body, belongs, may_vote, named_people, named_roles, why_excluded
from mesh.errors import MalformedRecord
from mesh.inspection.read_model.schema import select


class AskedBack(msgspec.Struct, frozen=True, kw_only=True):
    """A question that somebody asked back. `to` None: an agent is asked.

    `answer` None: nobody has answered yet.
    """

    number: int
    by: str
    text: str
    to: Addressee | None = None
    answer: OpenNote | None = None


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """An open approval. `terms` None: of version 1, which anybody with `role` may answer."""

    approval_id: str
    question: str
    role: str
    asked_at: str  # RFC 3339, as the records have it
    deadline_at: str | None
    asked_at_ms: int
    deadline_at_ms: int | None
    terms: Terms | None = None
    edition: int = 1
    voters: frozenset[str] = frozenset()  # whose votes are in force, as `person_of` has them
    editors: frozenset[str] = frozenset()
    reset: frozenset[str] = frozenset()  # whose votes an edit has reset
    changes: tuple[Change, ...] = ()
    questions: tuple[AskedBack, ...] = ()

    @property
    def choices(self) -> tuple[str, ...]:
        return ("approve", "reject") if self.terms is None else self.terms.choices

    def may_answer(self, body: Body, now_ms: int) -> bool:
        if self.terms is None:
            return self.role in body.roles
        return not self.is_excluded(body) and may_vote(self.terms, body, self.changes, now_ms)

    def is_excluded(self, body: Body) -> bool:
        terms = self.terms
        if terms is None:
            return False
        return bool(why_excluded(terms, body)) or (terms.not_editors and body.is_among(self.editors))

    def waits_for(self, body: Body, now_ms: int) -> bool:
        """Whether the person may answer, has not voted, and is still in time."""
        is_late = self.deadline_at_ms is not None and now_ms >= self.deadline_at_ms
        return not is_late and not body.is_among(self.voters) and self.may_answer(body, now_ms)

    def waits_on_behalf(self, delegate: "Reachable", giver: "Giver", now_ms: int) -> bool:
        """Whether the delegate may answer for this person, and neither has taken part."""
        is_signed = self.terms is None or LEVELS.index(giver.signed) >= LEVELS.index(self.terms.signed)
        if not giver.covers(self.approval_id) or not is_signed or delegate.body.is_among(self.voters):
            return False
        return not self.is_excluded(delegate.body) and self.waits_for(giver.body, now_ms)

    def for_whom(self, reach: "Reachable", now_ms: int) -> str | None:
        """For whom the person is wanted: empty for themself, or the id of somebody who is away.

        None: for nobody.
        """
        if self.waits_for(reach.body, now_ms):
            return ""
        return next((one.person for one in reach.givers if self.waits_on_behalf(reach, one, now_ms)), None)

    def is_asked(self, body: Body, number: int) -> bool:
        """Whether the person can answer this question, and nobody has."""
        return any(
            one.number == number
            and one.answer is None
            and one.to is not None
            and belongs(body, one.to.role, one.to.people)
            for one in self.questions
        )

    def is_of_first(self, body: Body) -> bool:
        """Whether the person could answer from the beginning, and by no stage or reassignment."""
        return self.terms is None or may_vote(self.terms, body)


class Giver(NamedTuple):
    """Somebody who is away, as far as a delegation lets another one answer for them.

    `routes` empty: in all of them. `signed`: what proves the delegation.
    """

    person: str  # the id
    body: Body
    routes: tuple[str, ...]
    signed: Level

    def covers(self, approval_id: str) -> bool:
        return not self.routes or route_of(approval_id) in self.routes


class Reachable(NamedTuple):
    """A person with an address. `givers`: who is away, and lets this person answer for them."""

    person: str  # the id
    body: Body
    channel: Channel
    digest: DailyTime | None
    hours: Calendar | None = None  # None: any time will do
    is_absent: bool = False
    givers: tuple[Giver, ...] = ()

    @property
    def roles(self) -> frozenset[str]:
        """All roles by which something may wait for the person, in anybody's name."""
        return self.body.roles.union(*(one.body.roles for one in self.givers))

    @property
    def names(self) -> frozenset[str]:
        """All names by which something may wait for the person, as `roles`."""
        named = (one.body for one in self.givers if not one.body.by_roles)
        return frozenset(name for body in (self.body, *named) for name in (body.name, *body.names))

    @property
    def kinds(self) -> list[ChannelKind]:
        return [kind for kind, _ in self.channel.addresses()]

    def opens_at(self, at_ms: int) -> int:
        """The first instant at or behind `at_ms` at which the person may be told anything."""
        opens_ms = None if self.hours is None else self.hours.opens_at(at_ms)
        return at_ms if opens_ms is None else opens_ms

    @property
    def mark(self) -> str:
        """All of it in short: with another one, what waits for the person is looked at again."""
        hours = "" if self.hours is None else self.hours.digest
        who = (self.person, sorted(self.body.roles), sorted(self.body.names))
        away = [(one.person, sorted(one.body.roles), sorted(one.body.names), one.routes) for one in self.givers]
        rest = (self.kinds, self.channel.digest, hours, self.is_absent, *([away] if away else []))
        return sha256(repr((*who, *rest)).encode()).hexdigest()


class Directory:
    """All people with an address, by the ways in which an approval names people.

    `absent`: the ids of those who are away, whom nobody reminds. `delegations`: those in force;
    who answers for somebody who is away gets their notices.
    """

    def __init__(
        self,
        people: People | None,
        channels: Mapping[str, Channel],
        calendars: Mapping[str, Calendar] | None = None,
        absent: Collection[str] = frozenset(),
        delegations: Collection[KnownDelegation] = (),
    ) -> None:
        self.reachable: dict[str, Reachable] = {}  # by id
        self._by_role: dict[str, list[Reachable]] = {}
        self._by_name: dict[str, Reachable] = {}
        self._delegates: dict[str, list[Reachable]] = {}  # of who is away, by their names
        givers = {} if people is None else _givers(people, absent, delegations)
        for person in () if people is None else people.persons.values():
            channel = channels.get(person.id)
            if channel is None or not channel.addresses():
                continue
            body = Body(person_of(person.id), person.roles, frozenset(map(person_of, person.names)))
            digest = daily_time(channel.digest) if channel.digest else None
            hours, is_absent = (calendars or {}).get(channel.hours), person.id in absent
            found = self.reachable[person.id] = Reachable(
                person.id, body, channel, digest, hours, is_absent, givers.get(person.id, ())
            )
            for role in found.roles:
                self._by_role.setdefault(role, []).append(found)
            for name in (body.name, *body.names):
                self._by_name[name] = found
            for name in found.names - {body.name, *body.names}:
                self._delegates.setdefault(name, []).append(found)

    def named_by(self, waiting: Waiting) -> Iterator[Reachable]:
        """Those whom the approval names in any way, each once."""
        terms = waiting.terms
        roles: Iterable[str] = [waiting.role] if terms is None else named_roles(terms, waiting.changes)
        names: Iterable[str] = () if terms is None else named_people(terms, waiting.changes)
        return self.among(roles, names)

    def among(self, roles: Iterable[str], names: Iterable[str]) -> Iterator[Reachable]:
        """Those with one of these roles or names, each once. Names are as `person_of` has them."""
        found = {one.person: one for role in roles for one in self._by_role.get(role, ())}
        for name in names:
            named = self._by_name.get(name)
            found.update(
                (one.person, one) for one in (*([] if named is None else [named]), *self._delegates.get(name, ()))
            )
        yield from found.values()


def _givers(
    people: People, absent: Collection[str], delegations: Collection[KnownDelegation]
) -> dict[str, tuple[Giver, ...]]:
    """Who is away and lets others answer for them, by the ids of these."""
    found: dict[str, list[Giver]] = {}
    for known in delegations:
        one = known.delegation
        giver = people.named(one.giver)
        if giver is None or giver.id not in absent:
            continue
        roles = giver.roles & frozenset(one.roles) if one.roles else giver.roles
        names = frozenset(map(person_of, giver.names))
        body = Body(person_of(giver.id), roles, names, by_roles=bool(one.roles))
        found.setdefault(id_of(people, one.to), []).append(Giver(giver.id, body, one.routes, one.signed))
    return {to: tuple(some) for to, some in found.items()}


def waiting_among(db: apsw.Connection, approval_ids: Sequence[str]) -> dict[str, Waiting]:
    """Those of these approvals that are open in the inbox's file, and can be read here."""
    sql = (
        "SELECT approval_id, part, value FROM parts WHERE approval_id IN (SELECT value FROM json_each(?)) "
        "AND part <> ? AND value IS NOT NULL"
    )
    parts: dict[str, dict[str, bytes]] = {}
    for approval_id, part, value in select(db, sql, json.dumps(approval_ids), PAYLOAD):
        parts.setdefault(approval_id, {})[part] = value
    found = ((approval_id, _waiting_in(some)) for approval_id, some in parts.items() if REQUEST in some)
    return {approval_id: one for approval_id, one in found if one is not None}


def _waiting_in(parts: Mapping[str, bytes]) -> Waiting | None:
    try:
        request = decode_indexed_request(parts[REQUEST])
        standing = decode_open_standing(parts[STANDING]) if STANDING in parts else None
        notes = [decode_open_note(value) for part, value in parts.items() if part.startswith("note/")]
        return _waiting(request, standing, notes)
    except (MalformedRecord, ValueError):
        return None


def _waiting(request: IndexedRequest, standing: OpenStanding | None, notes: Sequence[OpenNote]) -> Waiting:
    deadline_at = request.deadline_at if standing is None else standing.deadline_at
    found = Waiting(
        approval_id=request.approval_id,
        question=request.question,
        role=request.role,
        asked_at=request.asked_at,
        deadline_at=deadline_at,
        asked_at_ms=parse_rfc3339(request.asked_at) if request.asked_at else 0,
        deadline_at_ms=None if deadline_at is None else parse_rfc3339(deadline_at),
        terms=request.terms,
        questions=_questions(request.terms, notes) if notes else (),
    )
    if standing is None:
        return found
    return msgspec.structs.replace(
        found,
        edition=standing.edition,
        voters=frozenset(person_of(name) for vote in standing.votes for name in (vote.by, vote.on_behalf) if name),
        editors=frozenset(map(person_of, standing.editors)),
        reset=frozenset(map(person_of, standing.reset)),
        changes=_changes(standing),
    )


def _questions(terms: Terms | None, notes: Sequence[OpenNote]) -> tuple[AskedBack, ...]:
    known = () if terms is None or terms.asking_back is None else terms.asking_back.to
    answers = {note.question: note for note in notes if note.kind == "answer"}
    return tuple(
        AskedBack(
            number=note.question,
            by=note.by,
            text=note.text,
            to=next((one for one in known if one.name == note.to and not one.agent), None),
            answer=answers.get(note.question),
        )
        for note in sorted(notes, key=lambda one: one.number)
        if note.kind == "question"
    )


def _changes(standing: OpenStanding) -> tuple[Change, ...]:
    changes: Sequence[Change] = [
        Change(from_ms=parse_rfc3339(one.since), roles=one.roles, people=one.people, alone=one.alone, quorum=one.quorum)
        for one in standing.besides
    ]
    return tuple(changes)


def gone_among(db: apsw.Connection, approval_ids: Collection[str]) -> list[str]:
    """Those of these approvals that are not open in the inbox's file."""
    sql = (
        "SELECT approval_id FROM parts WHERE approval_id IN (SELECT value FROM json_each(?)) "
        "AND part = ? AND value IS NOT NULL"
    )
    found = {row[0] for row in select(db, sql, json.dumps(list(approval_ids)), REQUEST)}
    return [one for one in approval_ids if one not in found]


def naming(db: apsw.Connection, reachable: Iterable[Reachable]) -> Iterator[str]:
    """The open approvals that may concern one of these people, some perhaps twice."""
    people = list(reachable)
    roles = json.dumps(sorted({role for one in people for role in one.roles}))
    names = json.dumps(sorted({name for one in people for name in one.names}))
    among = "SELECT approval_id FROM entitled WHERE kind = ? AND name IN (SELECT value FROM json_each(?))"
    for kind, some in (("role", roles), ("person", names)):
        yield from (row[0] for row in db.execute(among, (kind, some)))
    if people:
        # a note may be a question to anybody
        sql = "SELECT DISTINCT approval_id FROM parts WHERE part GLOB 'note/*' AND value IS NOT NULL"
        yield from (row[0] for row in db.execute(sql))
