"""What an approval in stages promises, for any answers and orders in any order; and its faults.

Answers and orders reach the broker in one order, and are read in another. Each is judged by the
people as of its broker time, whatever has come about since. A timer fires only once all that came
before it was read. `timed_ledger` judges. Each fault must be noticed.
"""

from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import PEOPLE, Partition, route
from timed_ledger import QUESTION_MS, Right, Timed

from mesh.core import decide as core_decide
from mesh.core import receipts
from mesh.core.approvals import Terms
from mesh.core.decide.settle import approval as settle_approval
from mesh.core.decide.settle import orders as settle_orders
from mesh.core.decide.settle import voting as settle_voting
from mesh.core.decide.settle import words as settle_words
from mesh.core.decide.settle.questions import why_not_answered, why_not_asked
from mesh.core.events import ApprovalClaimed, QuestionAsked
from mesh.core.evolve import voting as evolve_voting
from mesh.core.inputs import AnswerGiven2, ApprovalOrder, CommandGiven, TimerDue
from mesh.core.json_values import digest
from mesh.core.people import People, Person, id_of, people_of, person_of, roles_of
from mesh.core.voting import Body, belongs, may_vote

SEEDS = 120
VERSIONS: tuple[dict[str, frozenset[str]], ...] = (
    {"ana": frozenset({"a"}), "ben": frozenset({"a"}), "cy": frozenset({"b"}), "dan": frozenset({"a"})},
    {"ana": frozenset({"a", "b"}), "ben": frozenset({"c"}), "cy": frozenset({"a"}), "eve": frozenset({"b", "c"})},
)
NAMES = ("ana", "ben", "cy", "dan", "eve")
EXCLUDED = "dan"
TERMS: tuple[dict[str, Any], ...] = (
    {"escalate": [{"after": "20ms", "to": "b"}, {"after": "20ms", "to": "c", "replace": True}]},
    {"escalate": [{"after": "15ms", "to": "b", "quorum": 1}], "extend": {"by": "40ms", "times": 2}},
    {"quorum": 1, "claim": "exclusive", "lease": "20ms"},
    {"extend": {"by": "40ms", "times": 1}},
    {"ask_back": {"to": {"role": "b"}, "limit": 2, "extends": f"{QUESTION_MS}ms"}},
)
LANES = ("answers/0", "answers/1", "commands/0", "commands/1")
Given = AnswerGiven2 | CommandGiven
PEOPLES = tuple(
    people_of([Person(id=name, names=(f"chat:{name}",), roles=roles.get(name, frozenset())) for name in NAMES])
    for roles in VERSIONS
)


class World:
    """An approval, and what is sent about it and not read yet, by lane."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        # orders that are read late are what answers are held for
        self.pace = self.rng.choice([(1, 1, 1, 1), (6, 6, 1, 1)])
        terms = {"quorum": 2, "deadline": "45ms", **self.rng.choice(TERMS)}
        ask = {"ask": "Good?", "payload": 1, "role": "a", "not": {"people": EXCLUDED}, **terms}
        self.p = Partition(
            route({"review": {"approval": ask}}), directory=replace(PEOPLE, roles=VERSIONS[0], knows_all_roles=False)
        )
        self.asks_back = "ask_back" in terms
        self.people = PEOPLES[0]
        self.p.start()
        step = self.p.step("review")
        assert step.asking is not None
        assert step.due_at_ms is not None
        stages = [Right(s.at_ms + 1, s.role, s.replace, s.quorum) for s in step.asking.terms.stages]
        self.ledger = Timed(
            tuple(stages),
            step.due_at_ms,
            is_exclusive="claim" in terms,
            excluded=EXCLUDED,
            times=terms.get("extend", {}).get("times", 0),
            seats=terms["quorum"],
            questions=terms.get("ask_back", {}).get("limit", 0),
        )
        self.approval_id = step.task_id
        self.lanes: dict[str, deque[tuple[Given, People]]] = {lane: deque() for lane in LANES}
        self.sent: dict[str, int] = dict.fromkeys(LANES, 0)

    def play(self) -> Timed:
        for _ in range(70):
            self.rng.choices([self.send, self.read, self.pass_time, self.fire], [6, 4, 5, 4])[0]()
        while any(self.lanes.values()) or self.p.workflow().status == "running":
            for _ in range(30):
                self.read()
            self.p.now_ms += 200
            self.fire()
        self.ledger.ended()
        return self.ledger

    def pass_time(self) -> None:
        self.p.now_ms += self.rng.choice([1, 3, 9])

    def send(self) -> None:
        lane = self.rng.choices(LANES, [5, 5, 2, 2])[0]
        topic, partition = lane.split("/")
        if self.rng.random() < 0.2:
            self.people = self.rng.choice(PEOPLES)
        place: dict[str, Any] = {
            "workflow_id": "r:k",
            "source_topic": topic,
            "source_partition": int(partition),
            "source_offset": self.sent[lane],
            "source_at_ms": self.p.now_ms,
        }
        self.sent[lane] += 1
        self.lanes[lane].append((self.order(place) if topic == "commands" else self.answer(place), self.people))

    def answer(self, place: dict[str, Any]) -> AnswerGiven2:
        kinds = ["approve", "reject", "withdraw", "claim", "release", "extend", "ask", "inform"]
        weights = [5, 0, 1, 1, 1, 1, 4, 8] if self.asks_back else [9, 0, 2, 2, 1, 2, 0, 0]
        decision = self.rng.choices(kinds, weights)[0]
        said: dict[str, Any] = {"text": "why?"} if decision in ("ask", "inform") else {}
        if decision == "inform":
            said["question"] = self.rng.choice([1, 1, 2])
        return AnswerGiven2(
            approval_id=self.approval_id,
            answer_id=f"{place['source_topic']}/{place['source_partition']}/{place['source_offset']}",
            decision=decision,  # type: ignore[arg-type]
            by=self.name(),
            digest=digest(1),
            **said,
            **place,
        )

    def name(self) -> str:
        """Somebody, now and then by a further name."""
        return ("chat:" if self.rng.random() < 0.2 else "") + self.rng.choice(NAMES)

    def order(self, place: dict[str, Any]) -> CommandGiven:
        about: dict[str, Any] = {"approval_id": self.approval_id}
        command = self.rng.choices(["extend", "reassign", "void"], [3, 3, 1])[0]
        match command:
            case "extend":
                about["by_ms"] = 30
            case "void":
                about["voter"] = self.name()
            case _:
                who = self.rng.choice(
                    [{"roles": ("b",)}, {"roles": ("c",)}, {"people": ("chat:eve",)}, {"people": ("chat:dan",)}]
                )
                about |= {**who, "replace": self.rng.random() < 0.4}
        return CommandGiven(
            command_id=f"c{place['source_partition']}/{place['source_offset']}",
            command=command,  # type: ignore[arg-type]
            by="op",
            order=ApprovalOrder(**about),
            **place,
        )

    def read(self) -> None:
        """Read the next of some lane. The directory has the people as of when it was sent."""
        lane = self.rng.choices(LANES, self.pace)[0]
        if not self.lanes[lane]:
            return
        given, people = self.lanes[lane].popleft()
        self.p.directory = replace(self.p.directory, people=people, roles=people.roles)
        answer = given if isinstance(given, AnswerGiven2) else None
        if answer is not None:
            by = id_of(people, answer.by)
            self.ledger.answer(replace(answer, by=by), people.roles[by])
        events = self.p.give(given)
        self.ledger.decided(events, self.p.effects(), answer)

    def fire(self) -> None:
        """Fire what is due and can't be beaten any more."""
        for timer in self.due():
            if all(given.source_at_ms > timer.due_at_ms for lane in self.lanes.values() for given, _ in lane):
                decided = len(self.p.decisions)
                events = self.p.give(timer)
                if len(self.p.decisions) > decided:
                    self.ledger.decided(events, self.p.effects(), None)

    def due(self) -> Iterator[TimerDue]:
        step = self.p.workflow().steps.get("review")
        if step is None or step.status != "asking" or step.asking is None:
            return
        about: dict[str, Any] = {"workflow_id": "r:k", "step": "review", "run_id": self.p.workflow().run_id}
        stage = step.asking.next_stage
        if stage is not None and stage.at_ms < self.p.now_ms:
            yield TimerDue(due_at_ms=stage.at_ms, kind="approval_stage", **about)
        step = self.p.step("review")
        if step.status == "asking" and step.due_at_ms is not None and step.due_at_ms < self.p.now_ms:
            yield TimerDue(due_at_ms=step.due_at_ms, kind="approval_deadline", **about)


def test_no_promise_is_broken() -> None:
    ends = [World(seed).play() for seed in range(SEEDS)]
    assert [(seed, end.faults) for seed, end in enumerate(ends) if end.faults] == []
    assert {end.verdict for end in ends} == {"approved", "rejected"}
    met = set().union(*(end.counts for end in ends))
    wanted = {"AnswerHeld", "DeadlineMoved", "ApprovalEscalated", "ApprovalReassigned", "ApprovalClaimed"}
    wanted |= {"QuestionAsked", "QuestionAnswered"}
    assert wanted <= met


# Faults, one at a time ----------------------------------------------------------------------------


def _stage_late(patch: pytest.MonkeyPatch) -> None:
    """A stage counts from when its timer is decided."""
    patch.setattr(settle_approval, "escalate_by", lambda *_: None)


def _rule_now(patch: pytest.MonkeyPatch) -> None:
    """Judged by who may answer at the time of reading."""
    honest = may_vote
    patch.setattr(settle_words, "may_vote", lambda terms, body, changes, _: honest(terms, body, changes, 10**15))


def _rule_order(patch: pytest.MonkeyPatch) -> None:
    """What changes who may answer counts in the order of reading."""

    def may(terms: Terms, body: Body, changes: Any, at_ms: int) -> bool:
        found = any(belongs(body, group.role, group.people) for group in terms.groups)
        for change in changes:
            if change.from_ms <= at_ms:
                is_named = bool(body.roles & {*change.roles}) or body.name in change.people
                found = is_named or (found and not change.alone)
        return found

    patch.setattr(settle_words, "may_vote", may)


def _lift(patch: pytest.MonkeyPatch) -> None:
    """An operator may hand it to somebody whom the route excludes."""
    patch.setattr(settle_orders, "_why_not_reassigned", lambda *_: None)


def _late_at_once(patch: pytest.MonkeyPatch) -> None:
    """Refused by a deadline that somebody had moved in time."""
    patch.setattr(settle_voting, "may_hold", lambda *_: False)


def _held_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A verdict leaves what was held without a receipt."""
    patch.setattr(core_decide, "refuse_held", lambda *_: None)


def _held_never_judged(patch: pytest.MonkeyPatch) -> None:
    """An extension leaves what was held to the close."""
    patch.setattr(settle_approval, "judge_held", lambda *_: None)
    patch.setattr(settle_orders, "judge_held", lambda *_: None)


def _late_vote(patch: pytest.MonkeyPatch) -> None:
    """A vote counts whatever the deadline."""
    honest = settle_words.judged
    patch.setattr(settle_voting, "judged", lambda d, word, step: honest(d, word, replace(step, due_at_ms=None)))


def _late_order(patch: pytest.MonkeyPatch) -> None:
    """A deadline that has passed may be moved."""
    patch.setattr(settle_orders, "_why_not_extended", lambda *_: None)


def _no_claim(patch: pytest.MonkeyPatch) -> None:
    """An exclusive claim keeps nobody out."""
    patch.setattr(settle_words, "is_claimed", lambda *_: False)


def _chatter(patch: pytest.MonkeyPatch) -> None:
    """A claim that is read first makes an older vote of the person count for nothing."""
    honest = evolve_voting._judged

    def evolve(step: Any, asking: Any, event: Any) -> Any:
        after = honest(step, asking, event)
        if isinstance(event, ApprovalClaimed) and after.asking is not None:
            words = {**after.asking.words, person_of(event.by): event.at_ms}
            after = replace(after, asking=replace(after.asking, words=words))
        return after

    patch.setattr(evolve_voting, "_judged", evolve)


def _roles_now(patch: pytest.MonkeyPatch) -> None:
    """A held answer is judged by the roles of when it is judged."""

    def body(draft: Any, word: Any) -> Body:
        return Body(person_of(word.by), roles_of(draft.directory.roles, word.by))

    patch.setattr(settle_words, "body_of", body)
    patch.setattr(settle_voting, "body_of", body)


def _names_as_they_are(patch: pytest.MonkeyPatch) -> None:
    """An order takes a name for the person."""
    patch.setattr(settle_orders, "id_of", lambda _, name: name)


def _extend_more(patch: pytest.MonkeyPatch) -> None:
    """People may move the deadline as often as they like."""
    honest = settle_words._of_extension

    def why(step: Any) -> Any:
        return honest(replace(step, asking=replace(step.asking, extended=0)))

    patch.setattr(settle_words, "_of_extension", why)


def _two_receipts(patch: pytest.MonkeyPatch) -> None:
    """A vote that brings the verdict has a receipt of its own too."""
    patch.setattr(receipts, "_is_of", lambda *_: False)


def _place_of_the_cause(patch: pytest.MonkeyPatch) -> None:
    """The receipt of a held answer is named by what had it judged."""
    honest = receipts._source
    patch.setattr(receipts, "_source", lambda decision, event=None: honest(decision))


def _question_waits(patch: pytest.MonkeyPatch) -> None:
    """A question leaves the deadline where it is."""
    honest = evolve_voting._judged

    def evolve(step: Any, asking: Any, event: Any) -> Any:
        after = honest(step, asking, event)
        return replace(after, due_at_ms=step.due_at_ms) if isinstance(event, QuestionAsked) else after

    patch.setattr(evolve_voting, "_judged", evolve)


def _question_answered_twice(patch: pytest.MonkeyPatch) -> None:
    """A question stays open when it is answered."""
    honest = evolve_voting._answered

    def answered(asking: Any, event: Any) -> Any:
        return replace(honest(asking, event), questions=asking.questions)

    patch.setattr(evolve_voting, "_answered", answered)


def _anybody_informs(patch: pytest.MonkeyPatch) -> None:
    """Who was not asked may answer, too."""
    patch.setattr(
        settle_words, "why_not_answered", lambda word, asking, body: _unless_open(why_not_answered(word, asking, body))
    )


def _unless_open(why: Any) -> Any:
    return None if why is None or why.code == "role" else why


def _asks_more(patch: pytest.MonkeyPatch) -> None:
    """People may ask as often as they like."""
    patch.setattr(
        settle_words, "why_not_asked", lambda draft, word, asking: why_not_asked(draft, word, replace(asking, asked=0))
    )


FAULTS: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (
    _stage_late,
    _rule_now,
    _rule_order,
    _lift,
    _late_at_once,
    _held_forgotten,
    _held_never_judged,
    _late_vote,
    _late_order,
    _no_claim,
    _chatter,
    _roles_now,
    _names_as_they_are,
    _extend_more,
    _two_receipts,
    _place_of_the_cause,
    _question_waits,
    _question_answered_twice,
    _anybody_informs,
    _asks_more,
)


@pytest.mark.deep
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_every_fault_in_the_rules_is_noticed(fault: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    for seed in range(SEEDS):
        try:
            if World(seed).play().faults:
                return
        except AssertionError:
            return  # the fold and the live state differ
    pytest.fail(f"{fault.__doc__ or fault.__name__}: nobody has noticed")
