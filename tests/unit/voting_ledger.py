"""Judges an approval of several people from what was truly sent, and the log, its questions too.

It knows the rules of docs/approvals.md, and nothing of how `decide` keeps them: who had which role
when an answer was read, what a person said last by the broker's time, and every way to seat people.
"""

from collections import Counter
from itertools import permutations
from typing import Any, NamedTuple

from mesh.core.effects import Effect
from mesh.core.events import (
    ApprovalClosed,
    Event,
    PayloadEdited,
    QuestionAnswered,
    QuestionAsked,
    VoteCast,
    VoteTakenBack,
)
from mesh.core.inputs import AnswerGiven2
from mesh.core.json_values import digest
from mesh.core.receipts import SendReceipt

_COUNTED = (VoteCast, VoteTakenBack, PayloadEdited, QuestionAsked, QuestionAnswered, ApprovalClosed)


class Said(NamedTuple):
    """The newest word of a person that counted. `choice` empty: taken back."""

    choice: str
    at_ms: int
    roles: frozenset[str]


class Rule(NamedTuple):
    seats: tuple[str, ...]  # the role of each
    against: int
    excluded: frozenset[str]
    not_editors: bool
    questions: int = 0  # how many may be asked
    asked_role: str = ""  # who can be asked


class Ledger:
    """Hears each answer with the roles that its sender had, and what was decided on it."""

    def __init__(self, rule: Rule, payload: Any) -> None:
        self.faults: list[str] = []
        self.verdict = ""
        self._rule = rule
        self._digest = digest(payload)
        self._said: dict[str, Said] = {}
        self._newest: dict[str, int] = {}
        self._editors: set[str] = set()
        self._ids: Counter[tuple[str, str]] = Counter()
        self.asked = self.answered = 0
        self._open: set[int] = set()  # questions

    def hear(self, given: AnswerGiven2, roles: frozenset[str], events: tuple[Event, ...], sent: list[Effect]) -> None:
        receipts = [effect for effect in sent if isinstance(effect, SendReceipt)]
        if [receipt.answer_id for receipt in receipts] != [given.answer_id]:
            self._fault(f"{len(receipts)} receipts for {given.answer_id}")
        for event in events:
            if isinstance(event, _COUNTED) and self.verdict:
                self._fault(f"{type(event).__name__} after the verdict")
            self._hear(given, roles, event)
        if not self.verdict and (found := self._reached()):
            self._fault(f"it is {found}, and nobody has seen it")

    def _hear(self, given: AnswerGiven2, roles: frozenset[str], event: Event) -> None:
        person = given.by.lower()
        match event:
            case VoteCast(vote=vote):
                self._counts(given, person, is_vote=True)
                if vote.digest != self._digest:
                    self._fault(f"{person} votes for another payload")
                if not roles & {*self._rule.seats}:
                    self._fault(f"{person} votes without a role")
                is_editor = self._rule.not_editors and person in self._editors
                if person in self._rule.excluded or is_editor:
                    self._fault(f"{person} votes, and is excluded")
                self._said[person] = Said(vote.choice, given.source_at_ms, roles)
            case VoteTakenBack():
                self._counts(given, person)
                self._said.pop(person, None)
            case PayloadEdited():
                self._counts(given, person)
                self._said, self._digest = {}, digest(event.payload)
                self._editors.add(person)
            case QuestionAsked():
                self._ask(event, person, roles)
            case QuestionAnswered():
                self._inform(event, person, roles)
            case ApprovalClosed():
                self._close(event)
            case _:
                pass

    def _ask(self, event: QuestionAsked, person: str, roles: frozenset[str]) -> None:
        self.asked += 1
        self._open.add(event.question)
        if event.question != self.asked or self.asked > self._rule.questions:
            self._fault(f"question {event.question} is the {self.asked}. of {self._rule.questions}")
        if not roles & {*self._rule.seats} or person in self._rule.excluded:
            self._fault(f"{person} asks back, and may neither vote nor edit")

    def _inform(self, event: QuestionAnswered, person: str, roles: frozenset[str]) -> None:
        self.answered += 1
        if event.question not in self._open:
            self._fault(f"question {event.question} is answered, and is not open")
        self._open.discard(event.question)
        if self._rule.asked_role not in roles:
            self._fault(f"{person} answers question {event.question}, and was not asked")

    def _counts(self, given: AnswerGiven2, person: str, *, is_vote: bool = False) -> None:
        """An answer counts once (an edit may be a vote too), and before no older one."""
        self._ids[person, given.answer_id] += 1
        if self._ids[person, given.answer_id] > 1 + (is_vote and given.answer_id.endswith("+")):
            self._fault(f"{given.answer_id} of {person} counts again")
        if self._newest.get(person, -1) > given.source_at_ms:
            self._fault(f"an older word of {person} counts")
        self._newest[person] = given.source_at_ms

    def _close(self, event: ApprovalClosed) -> None:
        self.verdict = event.verdict
        if digest(event.payload) != self._digest:
            self._fault("the verdict is over another payload")
        if self._reached() != event.verdict:
            self._fault(f"it is {event.verdict} without the votes for it")
        votes = getattr(event, "votes", ())
        standing = sorted((person, said.choice) for person, said in self._said.items())
        if sorted((vote.by.lower(), vote.choice) for vote in votes) != standing:
            self._fault("other votes count than those that are in force")

    def _reached(self) -> str:
        """The verdict that the words in force bring, by trying every seating."""
        against = [said for said in self._said.values() if said.choice == "reject"]
        if len(against) >= self._rule.against:
            return "rejected"
        voters = [said.roles for said in self._said.values() if said.choice == "approve"]
        for order in permutations(voters, len(self._rule.seats)):
            if all(seat in roles for seat, roles in zip(self._rule.seats, order, strict=True)):
                return "approved"
        return ""

    def _fault(self, what: str) -> None:
        self.faults.append(what)
