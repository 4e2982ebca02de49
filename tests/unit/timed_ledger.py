"""Judges an approval with stages, a deadline that moves, claims and reassignments.

It knows what was truly sent, and when the broker took it, who the people were at that time, and the
rules of docs/approvals.md. It knows nothing of how `decide` keeps them: it derives who may answer
from the terms and the orders, by their times alone.
"""

from collections import Counter
from typing import NamedTuple

from mesh.core.approvals import MOST_HELD_OF_ONE
from mesh.core.effects import Effect
from mesh.core.events import (
    AnswerHeld,
    AnswerRefused,
    ApprovalClaimed,
    ApprovalClosed,
    ApprovalEscalated,
    ApprovalReassigned,
    ApprovalReleased,
    DeadlineMoved,
    Event,
    QuestionAnswered,
    QuestionAsked,
    VoteCast,
    VoteTakenBack,
)
from mesh.core.inputs import AnswerGiven2
from mesh.core.receipts import SendReceipt

QUESTION_MS = 20
"""How far a question moves the deadline."""


class Right(NamedTuple):
    """Who may answer from a time on: a stage, or an order. `role`: or `p:` and a name."""

    from_ms: int
    role: str
    alone: bool
    quorum: int = 0


class Heard(NamedTuple):
    given: AnswerGiven2
    roles: frozenset[str]


class Timed:
    """Hears what is sent, and what is decided on it.

    `stages`: as they are due. `is_exclusive`: what a claim means. `questions`: how many may be
    asked back, of people with the role b.
    """

    def __init__(
        self,
        stages: tuple[Right, ...],
        due_ms: int,
        *,
        is_exclusive: bool,
        excluded: str,
        times: int,
        seats: int,
        questions: int,
    ) -> None:
        self.faults: list[str] = []
        self.verdict = ""
        self.due_ms = due_ms
        self.counts: set[str] = set()
        self._times = times
        self._seats = seats
        self._late: list[Heard] = []
        self._held: Counter[str] = Counter()
        self._words: dict[str, int] = {}
        self._stages = stages
        self._come: list[Right] = []
        self._orders: list[Right] = []
        self._is_exclusive = is_exclusive
        self._excluded = excluded
        self._by_place: dict[tuple[str, int, int], Heard] = {}
        self._receipts: dict[tuple[str, int, int], int] = {}
        self._votes: dict[str, Heard] = {}
        self._claim: tuple[str, int] | None = None
        self._questions = questions
        self._asked: set[int] = set()
        self._answered: set[int] = set()

    # What it is told ------------------------------------------------------------------------------

    def answer(self, given: AnswerGiven2, roles: frozenset[str]) -> None:
        """Hear an answer. Its `by` is the person's id; `roles` are those of its broker time."""
        self._by_place[place_of(given)] = Heard(given, roles)

    def decided(self, events: tuple[Event, ...], sent: list[Effect], given: AnswerGiven2 | None) -> None:
        """Hear a decision on an answer, or on an order or a timer (None)."""
        for event in events:
            self._hear(event, given)
        for effect in sent:
            if isinstance(effect, SendReceipt) and effect.source is not None:
                place = (effect.source.topic, effect.source.partition, effect.source.offset)
                self._receipts[place] = self._receipts.get(place, 0) + 1
        if not self.verdict and self._is_reached():
            self._fault("the votes suffice, and nobody has seen it")

    def ended(self) -> None:
        """Check at the end that each answer has exactly one receipt."""
        for place, heard in self._by_place.items():
            if self._receipts.get(place, 0) != 1:
                self._fault(f"{self._receipts.get(place, 0)} receipts for {heard.given.answer_id}")

    # What it checks -------------------------------------------------------------------------------

    def _hear(self, event: Event, given: AnswerGiven2 | None) -> None:
        self.counts.add(type(event).__name__)
        heard = self._heard(event, given)
        match event:
            case VoteCast() if heard is not None:
                self._entitled(heard)
                self._in_time(heard)
                self._newest(heard)
                self._votes[heard.given.by] = heard
                self._end_claim(heard.given.by)
            case VoteTakenBack():
                self._take_back(event, heard)
            case ApprovalClaimed() if heard is not None:
                self._in_time(heard)
                self._entitled(heard)
                self._claim = (event.by, event.until_ms)
            case ApprovalReleased() if heard is not None:
                self._end_claim(heard.given.by)
            case DeadlineMoved():
                self._extend(event)
            case QuestionAsked() | QuestionAnswered() if heard is not None:
                self._question(event, heard)
            case ApprovalEscalated():
                if event.change.from_ms != self._stages[event.stage - 1].from_ms:
                    self._fault("a stage comes about at another time than the question said")
                self._come.append(self._stages[event.stage - 1])
            case ApprovalReassigned(change=change):
                role = change.roles[0] if change.roles else f"p:{change.people[0]}"
                if role == f"p:{self._excluded}":
                    self._fault("it is reassigned to somebody whom the route excludes")
                self._orders.append(Right(change.from_ms, role, change.alone))
                self._claim = None
            case AnswerHeld():
                self._held[event.answer.by] += 1
            case AnswerRefused(code="late") if heard is not None and heard.given.source_at_ms <= self.due_ms:
                self._fault(f"{heard.given.answer_id} came in time, and is refused")
            case AnswerRefused() if heard is not None and not self.verdict:
                self._refused(event, heard)
            case ApprovalClosed():
                self._close(event)
            case _:
                pass

    def _take_back(self, event: VoteTakenBack, heard: Heard | None) -> None:
        if event.why == "void":
            self._words[event.by] = event.at_ms
        elif heard is not None:
            self._in_time(heard)
            self._newest(heard)
        self._votes.pop(event.by, None)

    def _question(self, event: QuestionAsked | QuestionAnswered, heard: Heard) -> None:
        self._in_time(heard)
        if isinstance(event, QuestionAnswered):
            self._inform(event, heard)
        else:
            self._entitled(heard)
            self._ask(event)

    def _ask(self, event: QuestionAsked) -> None:
        if event.before_ms != self.due_ms or event.deadline_at_ms != self.due_ms + QUESTION_MS:
            self._fault(
                f"question {event.question} moves the deadline from {event.before_ms} to {event.deadline_at_ms}"
            )
        self._asked.add(event.question)
        if self._asked != set(range(1, len(self._asked) + 1)) or len(self._asked) > self._questions:
            self._fault(f"question {event.question} is asked, of {self._questions}")
        self._move(event.at_ms, self.due_ms + QUESTION_MS)

    def _inform(self, event: QuestionAnswered, heard: Heard) -> None:
        if event.question not in self._asked - self._answered:
            self._fault(f"question {event.question} is answered, and is not open")
        if "b" not in heard.roles:
            self._fault(f"{heard.given.by} answers question {event.question}, and was not asked")
        self._answered.add(event.question)

    def _extend(self, event: DeadlineMoved) -> None:
        self._times -= bool(event.answer_id)
        if self._times < 0:
            self._fault("people have moved the deadline more often than they may")
        self._move(event.at_ms, event.deadline_at_ms)

    def _move(self, at_ms: int, deadline_at_ms: int) -> None:
        if at_ms > self.due_ms:
            self._fault("a deadline is moved that had passed")
        self.due_ms = deadline_at_ms
        for heard in self._late:
            if heard.given.source_at_ms <= self.due_ms:
                self._fault(f"{heard.given.answer_id} was refused as late, and the deadline was moved in time")

    def _newest(self, heard: Heard) -> None:
        by, at_ms = heard.given.by, heard.given.source_at_ms
        if self._words.get(by, -1) > at_ms:
            self._fault(f"an older word of {by} counts")
        self._words[by] = at_ms

    def _heard(self, event: Event, given: AnswerGiven2 | None) -> Heard | None:
        """The answer that an event is of: one that was held, or the one that is decided on."""
        source = getattr(event, "source", None)
        if source is not None:
            return self._by_place[source]
        return None if given is None else self._by_place[place_of(given)]

    def _in_time(self, heard: Heard) -> None:
        if self.verdict:
            self._fault(f"{heard.given.answer_id} counts after the verdict")
        if heard.given.source_at_ms > self.due_ms:
            self._fault(f"{heard.given.answer_id} came after the deadline, and counts")

    def _entitled(self, heard: Heard) -> None:
        given = heard.given
        if not self._may(heard):
            self._fault(f"{given.answer_id} of {given.by} counts without a right")
        if self._is_claimed(given):
            self._fault(f"{given.answer_id} counts beside somebody's exclusive claim")

    def _refused(self, event: AnswerRefused, heard: Heard) -> None:
        given = heard.given
        match event.code:
            case "question" if given.decision == "inform" and given.question in self._asked - self._answered:
                self._fault(f"{given.answer_id} answers an open question, and is refused")
            case "role" if given.decision == "inform" and "b" in heard.roles:
                self._fault(f"{given.by} was asked, and is refused")
            case "limit" if given.decision == "ask" and len(self._asked) < self._questions:
                self._fault(f"{given.answer_id} asks one of the questions that may be asked, and is refused")
            case "role" if given.decision != "inform" and self._may(heard):
                self._fault(f"{given.answer_id} of {given.by} has the right, and is refused")
            case "late" if self._held[given.by] < MOST_HELD_OF_ONE:
                self._late.append(heard)
            case "superseded" if self._words.get(given.by, -1) <= given.source_at_ms:
                self._fault(f"{given.answer_id} is the newest word of {given.by}, and is refused")
            case "claimed" if not self._is_claimed(given):
                self._fault(f"{given.answer_id} is refused, and nobody has claimed it")
            case _:
                pass

    def _close(self, event: ApprovalClosed) -> None:
        if self.verdict:
            self._fault("two verdicts")
        if event.expired:
            for heard in self._by_place.values():
                if heard.given.source_at_ms <= self.due_ms and self._receipts.get(place_of(heard.given)) is None:
                    self._fault(f"{heard.given.answer_id} came before the deadline, and was not read")
        elif not self._is_reached():
            self._fault("it is approved without the votes")
        self.verdict = event.verdict

    def _may(self, heard: Heard) -> bool:
        if heard.given.by == self._excluded:
            return False
        held = heard.roles | {f"p:{heard.given.by}"}
        may = "a" in held
        for right in sorted([*self._stages, *self._orders], key=lambda one: one.from_ms):
            if right.from_ms <= heard.given.source_at_ms:
                may = right.role in held or (may and not right.alone)
        return may

    def _is_claimed(self, given: AnswerGiven2) -> bool:
        claim = self._claim
        return self._is_exclusive and claim is not None and claim[0] != given.by and given.source_at_ms < claim[1]

    def _is_reached(self) -> bool:
        """Whether the votes fill both seats, or a stage's own quorum."""
        held = [heard.roles | {f"p:{by}"} for by, heard in self._votes.items()]
        if any(stage.quorum and sum(stage.role in roles for roles in held) >= stage.quorum for stage in self._come):
            return True
        anywhere = {right.role for right in (*self._come, *self._orders)}
        return sum("a" in roles or bool(anywhere & roles) for roles in held) >= self._seats

    def _end_claim(self, by: str) -> None:
        if self._claim is not None and self._claim[0] == by:
            self._claim = None

    def _fault(self, what: str) -> None:
        self.faults.append(what)


def place_of(given: AnswerGiven2) -> tuple[str, int, int]:
    return given.source_topic, given.source_partition, given.source_offset
