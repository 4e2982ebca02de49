"""Judges votes that people give for others, from what was said and what the log has.

It knows the rules of docs/approvals.md, and nothing of how `decide` keeps them. It takes each
delegation as it was written, and each answer as it is read.
"""

from itertools import permutations
from typing import NamedTuple

from mesh.core.effects import Effect
from mesh.core.events import ApprovalClosed2, Event, VoteCast, VoteTakenBack
from mesh.core.inputs import AnswerGiven2
from mesh.core.receipts import SendReceipt

DELAY_MS = 2_000


class Written(NamedTuple):
    """A delegation on its topic. `end_ms`: when its end was written."""

    id: str
    giver: str
    to: str
    start_ms: int
    until_ms: int
    roles: frozenset[str]
    routes: tuple[str, ...]
    at_ms: int
    end_ms: int | None = None

    def holds(self, at_ms: int) -> bool:
        is_ended = self.end_ms is not None and at_ms >= self.end_ms + DELAY_MS
        is_here = not self.routes or "r" in self.routes
        return is_here and at_ms >= self.at_ms + DELAY_MS and self.start_ms <= at_ms < self.until_ms and not is_ended


class Standing(NamedTuple):
    """A vote that is in force."""

    by: str
    person: str
    roles: frozenset[str]


class Delegates:
    """`roles`: of each person. `seats`: the role of each."""

    def __init__(self, roles: dict[str, frozenset[str]], seats: tuple[str, ...], excluded: str) -> None:
        self.faults: list[str] = []
        self.codes: set[str] = set()
        self.verdict = ""
        self.written: dict[str, Written] = {}
        self._roles = roles
        self._seats = seats
        self._excluded = excluded
        self._standing: list[Standing] = []
        self._newest: dict[str, int] = {}

    def hear(self, given: AnswerGiven2, events: tuple[Event, ...], sent: list[Effect]) -> None:
        """Hold one answer against what was decided on it."""
        receipts = [effect for effect in sent if isinstance(effect, SendReceipt)]
        if len(receipts) != 1:
            self._fault(f"{given.answer_id} has {len(receipts)} receipts")
            return
        [receipt] = receipts
        expected = self._expected(given)
        self.codes.add(receipt.code)
        if receipt.code not in expected:
            self._fault(
                f"{given.by} for {given.on_behalf or 'nobody'}: {receipt.code}, and not {' or '.join(expected)}"
            )
        for event in events:
            self._take(given, event)
        if not self.verdict and self._is_reached():
            self._fault("all seats are filled, and nobody has seen it")

    def _expected(self, given: AnswerGiven2) -> set[str]:
        by, person, at_ms = given.by, given.on_behalf or given.by, given.source_at_ms
        if self.verdict:
            return {"closed"}
        if max(self._newest.get(by, -1), self._newest.get(person, -1)) > at_ms:
            return {"superseded"}
        if given.decision == "withdraw":
            takes_part = any(by in (one.by, one.person) for one in self._standing)
            return {"taken_back"} if takes_part or self._roles[by] & {*self._seats} else {"role"}
        mine = self._between(by, person, at_ms)
        if person != by and not mine:
            return {"delegation"}
        if self._excluded in (by, person):
            return {"excluded"}
        covered = [self._covers(one) for one in mine] if person != by else [self._roles[person]]
        if not any(roles & {*self._seats} for roles in covered):
            return {"delegation"} if mine and all(one.roles for one in mine) else {"role"}
        if person != by and any({one.by, one.person} & {by, person} for one in self._standing if one.by != by):
            return {"represented"}
        return {"counted", "accepted"}

    def _between(self, by: str, person: str, at_ms: int) -> list[Written]:
        return [one for one in self.written.values() if (one.giver, one.to) == (person, by) and one.holds(at_ms)]

    def _covers(self, one: Written) -> frozenset[str]:
        return self._roles[one.giver] & one.roles if one.roles else self._roles[one.giver]

    def _take(self, given: AnswerGiven2, event: Event) -> None:
        match event:
            case VoteCast(vote=vote):
                self._newest[given.by] = given.source_at_ms
                self._vote(given, Standing(vote.by, vote.person, frozenset(vote.roles)), vote.delegation)
            case VoteTakenBack():
                self._newest[given.by] = given.source_at_ms
                self._standing = [one for one in self._standing if given.by not in (one.by, one.person)]
            case ApprovalClosed2():
                self._close(event)
            case _:
                pass

    def _vote(self, given: AnswerGiven2, vote: Standing, delegation: str) -> None:
        if (vote.by, vote.person) != (given.by, given.on_behalf or given.by):
            self._fault(f"{given.by} has voted for {given.on_behalf}, and it counts as one of {vote}")
        if given.on_behalf:
            under = self.written.get(delegation)
            if under is None or under not in self._between(vote.by, vote.person, given.source_at_ms):
                self._fault(f"{vote} counts under {delegation}, which was not in force")
            elif not vote.roles <= self._covers(under):
                self._fault(f"{vote} fills more than {delegation} covers")
        self._standing = [one for one in self._standing if vote.by not in (one.by, one.person)]
        self._standing.append(vote)

    def _close(self, event: ApprovalClosed2) -> None:
        if self.verdict:
            self._fault("there are two verdicts")
        self.verdict = event.verdict
        people = [name for vote in event.votes for name in {vote.by, vote.on_behalf or vote.by}]
        if len(people) != len(set(people)):
            self._fault(f"somebody counts twice: {people}")
        if {(vote.by, vote.person) for vote in event.votes} != {(one.by, one.person) for one in self._standing}:
            self._fault("it closed with other votes than those in force")
        if not self._is_reached():
            self._fault("it closed, and its seats are not filled")

    def _is_reached(self) -> bool:
        return any(
            all(seat in one.roles for seat, one in zip(self._seats, some, strict=True))
            for some in permutations(self._standing, len(self._seats))
        )

    def _fault(self, what: str) -> None:
        self.faults.append(what)
