"""Judges who has voted: entitled people alone, each once, for one payload, proven as it is asked.

Owns this part of what `mesh.testing.promises.judge` checks. It goes by records alone: the topics of
people and delegations (`registry`), the answers as their clients sent them (`signatures`), and the
log. It knows the rules of docs/approvals.md, and nothing of how `decide` keeps them.

* an answer counts only if its person had the right to it at the broker's time of the answer; a
  delegate counts for whom they answer, while the delegation is in force, and within its scope
* nobody takes part twice, be it in their own name or through somebody else
* a vote is for the payload as it is; the verdict has the votes in force, and these suffice
* nothing counts after the close, and a quorum that is reached closes
* nobody is refused for want of a right or a signature who has it
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Final, NamedTuple

from mesh.core import ids
from mesh.core.approvals import Change, Group, Source, Terms
from mesh.core.events import (
    AnswerRefused,
    ApprovalClosed,
    ApprovalClosed2,
    ApprovalEscalated,
    ApprovalReassigned,
    ApprovalRequested,
    ApprovalRequested2,
    ApprovalWithdrawn,
    IncidentRaised,
    NoteAdded,
    PayloadEdited,
    QuestionAnswered,
    QuestionAsked,
    VoteCast,
    VoteTakenBack,
)
from mesh.core.events.event import LogEvent
from mesh.core.json_values import digest
from mesh.core.people import person_of
from mesh.core.route import Route
from mesh.core.signing import Level, stricter
from mesh.core.state import Directory
from mesh.core.topics import Topics
from mesh.ports import Record
from mesh.testing.promises.ledger import Step
from mesh.testing.promises.registry import Registry, Written
from mesh.testing.promises.signatures import Said, Signatures, said_in
from mesh.testing.promises.working_hours import wrong_instants

_UNPROVEN: Final = frozenset({"unsigned", "signature", "key", "stale"})
_UNENTITLED: Final = frozenset({"delegation", "excluded", "role"})
_VOTES: Final = frozenset({"approve", "approved", "reject", "rejected", "choose"})


class Standing(NamedTuple):
    """A vote in force. `roles`, `names`: of `person`, by which the vote may fill a seat."""

    by: str
    person: str
    choice: str
    roles: frozenset[str]
    names: frozenset[str]


class _Poll:
    """An approval, and what counts in it."""

    def __init__(self, asked: ApprovalRequested) -> None:
        self.terms = asked.terms if isinstance(asked, ApprovalRequested2) else None
        self.digest = asked.digest
        self.groups = self.terms.groups if self.terms is not None else (Group(need=1, role=asked.role),)
        self.changes: list[Change] = []
        self.editors: set[str] = set()
        self.standing: list[Standing] = []
        self.is_closed = False

    @property
    def signed(self) -> Level:
        return "none" if self.terms is None else self.terms.signed


class Electorate:
    """`known`: what routers have from their files and settings. `mesh`: its name in signatures.

    `is_judging`: all records come, in the order in which they land, and no clock jumps.
    """

    def __init__(
        self,
        known: Directory,
        topics: Topics,
        routes: Mapping[str, Route],
        counts: Counter[str],
        *,
        mesh: str,
        is_judging: bool,
    ) -> None:
        self._counts = counts
        self.known = Registry(known.roles, topics.people)
        self._is_judging = is_judging
        self._routes = routes
        self._topics = topics
        self._signatures = Signatures(self.known, mesh)
        self._answers = known.answers
        self._said: dict[Source, Said] = {}
        self._polls: dict[str, _Poll] = {}  # by approval
        self._at: dict[tuple[str, str], str] = {}  # workflow and step -> approval

    def landed(self, record: Record) -> None:
        """Take a record of the topics of people, delegations and answers."""
        if not self._is_judging:
            return
        if record.topic != self._topics.responses:
            self.known.landed(record)
        elif (said := said_in(record)) is not None:
            self._said[record.topic, record.partition, record.offset] = said

    def take(self, step: Step) -> Iterator[str]:
        """What is wrong with a decision."""
        if self._is_judging:
            yield from self._taken(step)
            yield from wrong_instants(step, self.known, self._routes)

    def _taken(self, step: Step) -> Iterator[str]:
        workflow, cause = step.decision.workflow_id, step.decision.cause
        own = (cause.source_topic, cause.source_partition, cause.source_offset)
        for event in step.decision.events:
            match event:
                case ApprovalRequested():
                    self._counts["instants by a calendar"] += bool(getattr(event, "calendars", None))
                    self._polls[event.approval_id] = _Poll(event)
                    self._at[workflow, event.step] = event.approval_id
                case ApprovalWithdrawn() | IncidentRaised():
                    poll = self._polls.get(self._at.get((workflow, event.step), ""))
                    if poll is not None:
                        poll.is_closed = True
                case _:
                    if (poll := self._polls.get(getattr(event, "approval_id", ""))) is not None:
                        said = self._said.get(getattr(event, "source", None) or own)
                        yield from self._heard(event, poll, said, ids.route_of(workflow))
        for approval in {getattr(event, "approval_id", "") for event in step.decision.events}:
            poll = self._polls.get(approval)
            if poll is not None and not poll.is_closed and poll.terms is not None and _reached(poll, poll.terms):
                yield f"{approval} has the votes that it needs, and nobody has seen it"

    def _heard(self, event: LogEvent, poll: _Poll, said: Said | None, route: str) -> Iterator[str]:
        match event:
            case ApprovalEscalated() | ApprovalReassigned():
                yield from self._late(event, poll)
                poll.changes.append(event.change)
            case VoteCast():
                yield from self._vote(event, poll, said, route)
            case VoteTakenBack():
                yield from self._late(event, poll)
                who = self.known.id_of(event.by, event.at_ms)
                poll.standing = [one for one in poll.standing if who not in (one.by, one.person)]
            case PayloadEdited():
                yield from self._late(event, poll)
                yield from self._proof(event, poll, said, route)
                poll.standing, poll.digest = [], event.digest
                poll.editors.add(self.known.id_of(event.by, event.at_ms))
            case NoteAdded() | QuestionAsked() | QuestionAnswered():
                yield from self._late(event, poll)
                if said is not None:
                    yield from self._proof(event, poll, said, route)
            case ApprovalClosed2():
                yield from self._close(event, poll)
            case ApprovalClosed():
                yield from self._late(event, poll)
                poll.is_closed = True
                if not event.expired and said is not None and (why := self._why_not(said, poll, route)):
                    yield f"{event.by} decides {event.approval_id}, and {why}"
            case AnswerRefused() if said is not None:
                yield from self._refused(event, poll, said, route)
            case _:
                pass

    def _late(self, event: LogEvent, poll: _Poll) -> Iterator[str]:
        if poll.is_closed:
            yield f"{type(event).__name__} after the close of {getattr(event, 'approval_id', '')}"

    def _proof(self, event: LogEvent, poll: _Poll, said: Said | None, route: str) -> Iterator[str]:
        why = "nobody has sent it" if said is None else self._unproven(said, poll, route)
        if why:
            yield f"{type(event).__name__} of {getattr(event, 'by', '')} counts, and {why}"

    def _vote(self, event: VoteCast, poll: _Poll, said: Said | None, route: str) -> Iterator[str]:
        vote, approval = event.vote, event.approval_id
        yield from self._late(event, poll)
        if said is None:
            yield f"{vote.by} votes in {approval}, and nobody has sent it"
            return
        if why := self._why_not(said, poll, route):
            yield f"{vote.by} votes for {vote.person} in {approval}, and {why}"
        at_ms = said.at_ms
        by, person = self.known.id_of(said.by, at_ms), self.known.id_of(said.person, at_ms)
        if (person_of(vote.by), person_of(vote.person), vote.at_ms) != (by, person, at_ms):
            yield f"the answer of {by} for {person} counts in {approval} as one of {vote.by} for {vote.person}"
        # who edits and votes at once votes for the edit
        seen = said.fields.get("digest") if said.payload is None else vote.digest
        if not vote.digest == seen == poll.digest:
            yield f"{vote.by} votes in {approval} for another payload than it has"
        covered = self._covered(by, person, poll, route, at_ms)
        named = self.known.names_of(person, at_ms) if not vote.by_roles else frozenset[str]()
        # what the sender has voted before is replaced, and what others have voted for the sender
        poll.standing = [one for one in poll.standing if by not in (one.by, one.person)]
        if any(person in (one.by, one.person) for one in poll.standing):
            yield f"{person} takes part twice in {approval}"
        self._count(event)
        poll.standing.append(Standing(by, person, vote.choice, covered, named))

    def _count(self, event: VoteCast) -> None:
        proof = event.vote.proof
        self._counts["votes for others"] += event.vote.on_behalf != ""
        self._counts["votes that were signed"] += proof is not None
        self._counts["votes by a gateway"] += proof is not None and proof.how == "gateway"

    # Rights ---------------------------------------------------------------------------------------

    def _unproven(self, said: Said, poll: _Poll, route: str) -> str:
        return self._signatures.why_not(said, stricter(self._answers, poll.signed), route)

    def _why_not(self, said: Said, poll: _Poll, route: str) -> str:
        """Why an answer must not count as a vote; empty if it may."""
        return self._unproven(said, poll, route) or self._unentitled(said, poll, route)

    def _unentitled(self, said: Said, poll: _Poll, route: str) -> str:
        at_ms = said.at_ms
        by, person = self.known.id_of(said.by, at_ms), self.known.id_of(said.person, at_ms)
        for name in (by, person):
            if self._is_excluded(name, poll, at_ms):
                return f"{name} is excluded"
        if by == person:
            may = self._may(poll, self.known.roles_of(by, at_ms), self.known.names_of(by, at_ms), at_ms)
            return "" if may else f"{by} has no seat"
        mandates = self._mandates(by, person, poll, route, at_ms)
        if not mandates:
            return f"{person} has not delegated to {by} here and then"
        if not any(self._covers(one, person, poll, at_ms) for one in mandates):
            return f"what {person} has delegated to {by} covers no seat"
        return ""

    def _is_excluded(self, name: str, poll: _Poll, at_ms: int) -> bool:
        terms = poll.terms
        if terms is None:
            return False
        names = self.known.names_of(name, at_ms)
        return not names.isdisjoint(terms.excluded) or (terms.not_editors and not names.isdisjoint(poll.editors))

    def _mandates(self, by: str, person: str, poll: _Poll, route: str, at_ms: int) -> list[Written]:
        level = stricter(self._answers, poll.signed)
        found = self.known.delegations(person, by, route, at_ms)
        return [one for one in found if self._is_proven(one, level)]

    def _is_proven(self, one: Written, level: Level) -> bool:
        """Whether a delegation was signed as its answers must be. Who grants roles needs no key."""
        if level == "none" or not one.is_said:
            return True
        return bool(one.delegation.jws) and (level != "own" or one.delegation.signed == "own")

    def _covers(self, one: Written, person: str, poll: _Poll, at_ms: int) -> bool:
        held, only = self.known.roles_of(person, at_ms), frozenset(one.delegation.roles)
        if only:
            return self._may(poll, held & only, frozenset(), at_ms)
        return self._may(poll, held, self.known.names_of(person, at_ms), at_ms)

    def _covered(self, by: str, person: str, poll: _Poll, route: str, at_ms: int) -> frozenset[str]:
        """The roles by which the vote may fill a seat."""
        held = self.known.roles_of(person, at_ms)
        if by == person:
            return held
        mandates = [one.delegation.roles for one in self._mandates(by, person, poll, route, at_ms)]
        # of several, one that covers all goes first
        return held if () in mandates else held & frozenset(role for roles in mandates for role in roles)

    def _may(self, poll: _Poll, roles: frozenset[str], names: frozenset[str], at_ms: int) -> bool:
        may = any(_fits(roles, names, (group.role,), group.people) for group in poll.groups)
        for change in sorted(poll.changes, key=lambda one: one.from_ms):
            if change.from_ms <= at_ms:
                may = _fits(roles, names, change.roles, change.people) or (may and not change.alone)
        return may

    def _refused(self, event: AnswerRefused, poll: _Poll, said: Said, route: str) -> Iterator[str]:
        """Nobody who has the right, and has proven it, is refused for want of it."""
        why_not = self._unproven(said, poll, route)
        if event.code in _UNPROVEN and not why_not:
            yield f"the answer {event.answer_id} of {event.by} is refused ({event.code}), and is proven"
        is_vote = said.fields.get("decision") in _VOTES
        if is_vote and event.code in _UNENTITLED and not self._unentitled(said, poll, route):
            yield f"the vote {event.answer_id} of {event.by} is refused ({event.code}), and they may vote"

    # The close ------------------------------------------------------------------------------------

    def _close(self, event: ApprovalClosed2, poll: _Poll) -> Iterator[str]:
        yield from self._late(event, poll)
        poll.is_closed = True
        if digest(event.payload) != poll.digest:
            yield f"{event.approval_id} closes over another payload than was voted on"
        counted = sorted((person_of(vote.by), person_of(vote.person), vote.choice) for vote in event.votes)
        if counted != sorted((one.by, one.person, one.choice) for one in poll.standing):
            yield f"{event.approval_id} closes with other votes than those in force"
        if not event.expired and poll.terms is not None:
            reached = _reached(poll, poll.terms)
            if (event.verdict, event.choice) not in reached:
                yield f"{event.approval_id} is {event.verdict} ({event.choice}) without the votes for it"


def _fits(roles: frozenset[str], names: frozenset[str], wanted: tuple[str, ...], people: tuple[str, ...]) -> bool:
    return not roles.isdisjoint(filter(None, wanted)) or not names.isdisjoint(map(person_of, people))


def _reached(poll: _Poll, terms: Terms) -> set[tuple[str, str]]:
    """The verdicts that the votes in force bring, by trying every seating."""
    against = [one.choice for one in poll.standing if one.choice in terms.rejects]
    if len(against) >= terms.reject_need:
        return {("rejected", choice) for choice in against}
    seats = [group for group in poll.groups for _ in range(group.need)]
    found = set[tuple[str, str]]()
    for choice in terms.choices:
        voters = [one for one in poll.standing if one.choice == choice]
        is_seated = any(
            all(_sits(one, seat, poll.changes) for one, seat in zip(some, seats, strict=True))
            for some in permutations(voters, len(seats))
        )
        if choice not in terms.rejects and (is_seated or any(_suffices(change, voters) for change in poll.changes)):
            found.add(("approved", choice))
    return found


def _sits(one: Standing, seat: Group, changes: list[Change]) -> bool:
    """Whether the vote fills the seat; who was added later may fill any."""
    return _fits(one.roles, one.names, (seat.role,), seat.people) or any(
        _fits(one.roles, one.names, change.roles, change.people) for change in changes
    )


def _suffices(change: Change, voters: list[Standing]) -> bool:
    named = [one for one in voters if _fits(one.roles, one.names, change.roles, change.people)]
    return 0 < change.quorum <= len(named)
