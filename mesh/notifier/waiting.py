"""An open approval as the notifier sees it, and for whom it waits.

Owns who may be told. The rules of who may answer are `mesh.core.approvals`'.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import apsw
import msgspec

from mesh.codec.channels import Channel, ChannelKind, DailyTime, daily_time
from mesh.codec.open_approvals import IndexedRequest, OpenStanding, decode_indexed_request, decode_open_standing
from mesh.codec.times import parse_rfc3339
from mesh.core.approvals import Change, Terms
from mesh.core.open_approvals import REQUEST, STANDING
from mesh.core.people import People, person_of
from mesh.core.voting import Body, may_vote, named_people, named_roles, why_excluded
from mesh.errors import MalformedRecord
from mesh.inspection.read_model.schema import select


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """An open approval. `terms` None: of version 1, which anybody with `role` may answer."""

    approval_id: str
    question: str
    role: str
    asked_at: str  # RFC 3339, as the records have it
    deadline_at: str | None
    terms: Terms | None = None
    edition: int = 1
    voters: frozenset[str] = frozenset()  # whose votes are in force, as `person_of` has them
    editors: frozenset[str] = frozenset()
    reset: frozenset[str] = frozenset()  # whose votes an edit has reset
    changes: tuple[Change, ...] = ()

    @property
    def asked_at_ms(self) -> int:
        return parse_rfc3339(self.asked_at) if self.asked_at else 0

    @property
    def deadline_at_ms(self) -> int | None:
        return None if self.deadline_at is None else parse_rfc3339(self.deadline_at)

    @property
    def choices(self) -> tuple[str, ...]:
        return ("approve", "reject") if self.terms is None else self.terms.choices

    def may_answer(self, body: Body, now_ms: int) -> bool:
        if self.terms is None:
            return self.role in body.roles
        is_out = why_excluded(self.terms, body) or (self.terms.not_editors and body.is_among(self.editors))
        return not is_out and may_vote(self.terms, body, self.changes, now_ms)

    def waits_for(self, body: Body, now_ms: int) -> bool:
        """Whether the person may answer, has not voted, and is still in time."""
        is_late = self.deadline_at_ms is not None and now_ms >= self.deadline_at_ms
        return not is_late and not body.is_among(self.voters) and self.may_answer(body, now_ms)

    def is_of_first(self, body: Body) -> bool:
        """Whether the person could answer from the beginning, and by no stage or reassignment."""
        return self.terms is None or may_vote(self.terms, body)


class Reachable(NamedTuple):
    """A person with an address."""

    person: str  # the id
    body: Body
    channel: Channel
    digest: DailyTime | None

    @property
    def kinds(self) -> list[ChannelKind]:
        return [kind for kind, _ in self.channel.addresses()]


class Directory:
    """All people with an address, by the ways in which an approval names people."""

    def __init__(self, people: People | None, channels: Mapping[str, Channel]) -> None:
        self.reachable: dict[str, Reachable] = {}  # by id
        self._by_role: dict[str, list[Reachable]] = {}
        self._by_name: dict[str, Reachable] = {}
        for person in () if people is None else people.persons.values():
            channel = channels.get(person.id)
            if channel is None or not channel.addresses():
                continue
            body = Body(person_of(person.id), person.roles, frozenset(map(person_of, person.names)))
            digest = daily_time(channel.digest) if channel.digest else None
            found = self.reachable[person.id] = Reachable(person.id, body, channel, digest)
            for role in person.roles:
                self._by_role.setdefault(role, []).append(found)
            for name in (body.name, *body.names):
                self._by_name[name] = found

    def named_by(self, waiting: Waiting) -> Iterator[Reachable]:
        """Those whom the approval names in any way, each once."""
        terms = waiting.terms
        roles: Iterable[str] = [waiting.role] if terms is None else named_roles(terms, waiting.changes)
        names: Iterable[str] = () if terms is None else named_people(terms, waiting.changes)
        found = {one.person: one for role in roles for one in self._by_role.get(role, ())}
        found.update((one.person, one) for name in names if (one := self._by_name.get(name)) is not None)
        yield from found.values()


def waiting_of(db: apsw.Connection, approval_id: str) -> Waiting | None:
    """The approval in the inbox's file; None: it is not open, or can't be read here."""
    sql = "SELECT part, value FROM parts WHERE approval_id = ? AND part IN (?, ?) AND value IS NOT NULL"
    parts: dict[str, bytes] = dict(select(db, sql, approval_id, REQUEST, STANDING))
    if REQUEST not in parts:
        return None
    try:
        request = decode_indexed_request(parts[REQUEST])
        standing = decode_open_standing(parts[STANDING]) if STANDING in parts else None
        found = _waiting(request, standing)
        _ = found.asked_at_ms, found.deadline_at_ms
    except (MalformedRecord, ValueError):
        return None
    return found


def _waiting(request: IndexedRequest, standing: OpenStanding | None) -> Waiting:
    found = Waiting(
        approval_id=request.approval_id,
        question=request.question,
        role=request.role,
        asked_at=request.asked_at,
        deadline_at=request.deadline_at,
        terms=request.terms,
    )
    if standing is None:
        return found
    return msgspec.structs.replace(
        found,
        deadline_at=standing.deadline_at,
        edition=standing.edition,
        voters=frozenset(person_of(vote.by) for vote in standing.votes),
        editors=frozenset(map(person_of, standing.editors)),
        reset=frozenset(map(person_of, standing.reset)),
        changes=_changes(standing),
    )


def _changes(standing: OpenStanding) -> tuple[Change, ...]:
    changes: Sequence[Change] = [
        Change(from_ms=parse_rfc3339(one.since), roles=one.roles, people=one.people, alone=one.alone, quorum=one.quorum)
        for one in standing.besides
    ]
    return tuple(changes)
