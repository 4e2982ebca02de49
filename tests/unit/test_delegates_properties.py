"""What a vote for somebody else promises, for any answers read in any order; and its seeded faults.

Delegations begin and end while people vote for themselves and for each other, and take it back.
`delegates_ledger` judges. Each fault that is put into the rules must be noticed.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from delegates_ledger import Delegates, Written
from msgspec.structs import replace
from one_partition import PEOPLE, Partition, route

from mesh.core import voting
from mesh.core.decide.settle import delegates as settle_delegates
from mesh.core.decide.settle import voting as settle_voting
from mesh.core.decide.settle import words as settle_words
from mesh.core.delegations import Delegation, DelegationEnd, DelegationTimeline, KnownDelegation, Mandate
from mesh.core.evolve import voting as evolve_voting
from mesh.core.inputs import AnswerGiven2
from mesh.core.json_values import digest
from mesh.core.people import Person, people_of, person_of

SEEDS = 60
ROLES = {
    "ana": frozenset({"a", "b"}),
    "ben": frozenset({"a"}),
    "cy": frozenset({"b"}),
    "dan": frozenset({"a"}),
    "eve": frozenset[str](),
}
NAMES = tuple(ROLES)
EXCLUDED = "dan"
ALL = people_of([Person(id=name, roles=roles) for name, roles in ROLES.items()])
LANES = 2


class World:
    """An approval with a seat for each role, and the answers that are sent and not read yet."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        ask = {"ask": "Good?", "payload": 1, "quorum": [{"role": "a"}, {"role": "b"}], "not": {"people": EXCLUDED}}
        directory = replace(PEOPLE, people=ALL, roles=ALL.roles)
        self.p = Partition(route({"review": {"approval": ask}}), directory=directory)
        self.p.start()
        self.approval_id = self.p.step("review").task_id
        self.ledger = Delegates(ROLES, ("a", "b"), EXCLUDED)
        self.timeline = DelegationTimeline()
        self.lanes: tuple[deque[AnswerGiven2], ...] = tuple(deque() for _ in range(LANES))
        self.sent = 0

    def play(self) -> Delegates:
        for _ in range(6):
            self.delegate()
        self.p.now_ms += 2_500
        for _ in range(40):
            self.rng.choices([self.send, self.read, self.delegate, self.end], [8, 6, 1, 1])[0]()
            self.p.now_ms += self.rng.choice([1, 20, 300])
        while any(self.lanes):
            self.read()
        self.p.check_replay()
        return self.ledger

    def delegate(self) -> None:
        giver, to = self.rng.sample(NAMES, 2)
        now_ms, number = self.p.now_ms, len(self.ledger.written)
        start_ms = now_ms + self.rng.choice([0, 0, 2_000, 3_000])
        one = Delegation(
            id=f"o-{number}",
            giver=giver,
            to=to,
            start_ms=start_ms,
            until_ms=start_ms + self.rng.choice([2_600, 4_000, 60_000]),
            roles=self.rng.choice([(), (), ("a",), ("b",)]),
            routes=self.rng.choice([(), (), ("r",), ("other",)]),
        )
        self.timeline.add(one, now_ms)
        self.ledger.written[one.id] = Written(
            one.id, giver, to, start_ms, one.until_ms, frozenset(one.roles), one.routes, now_ms
        )

    def end(self) -> None:
        one = self.rng.choice(list(self.ledger.written.values()))
        if one.end_ms is None:
            self.timeline.add(DelegationEnd(id=one.id, by=one.giver), self.p.now_ms)
            self.ledger.written[one.id] = one._replace(end_ms=self.p.now_ms)

    def send(self) -> None:
        by, on_behalf = self.rng.choice(NAMES), ""
        decision = self.rng.choices(["approve", "withdraw"], [6, 1])[0]
        own = [one.giver for one in self.ledger.written.values() if one.to == by]
        if decision == "approve" and self.rng.random() < 0.7:
            on_behalf = self.rng.choice([*own, *own, *(name for name in NAMES if name != by)])
        given = AnswerGiven2(
            workflow_id="r:k",
            approval_id=self.approval_id,
            answer_id=f"a{self.sent}",
            decision=decision,  # type: ignore[arg-type]
            by=by,
            on_behalf=on_behalf,
            digest=digest(1),
            source_topic="mesh.approvals.responses",
            source_partition=0,
            source_offset=self.sent,
            source_at_ms=self.p.now_ms,
        )
        self.sent += 1
        self.rng.choice(self.lanes).append(given)

    def read(self) -> None:
        """Read the next of some lane, with the delegations as of when it was sent."""
        lane = self.rng.choice([lane for lane in self.lanes if lane] or [None])
        if lane is None:
            return
        given = lane.popleft()
        in_force = self.timeline.in_force(given.source_at_ms)
        self.p.directory = replace(self.p.directory, delegations=in_force)
        events = self.p.give(given)
        self.ledger.hear(given, events, self.p.effects())


def test_no_promise_is_broken() -> None:
    ends = [World(seed).play() for seed in range(SEEDS)]
    assert [(seed, end.faults) for seed, end in enumerate(ends) if end.faults] == []
    met = set[str]().union(*(end.codes for end in ends))
    assert met >= {"accepted", "counted", "delegation", "excluded", "represented", "role", "superseded", "taken_back"}


# Faults, one at a time ----------------------------------------------------------------------------


def _no_until(patch: pytest.MonkeyPatch) -> None:
    """A delegation has no end."""
    patch.setattr(KnownDelegation, "is_in_force", lambda known, at_ms: known.from_ms <= at_ms)


def _at_once(patch: pytest.MonkeyPatch) -> None:
    """A delegation is in force before its record is in effect."""
    patch.setattr(KnownDelegation, "is_in_force", lambda k, at: k.delegation.start_ms <= at < k.delegation.until_ms)


def _no_scope(patch: pytest.MonkeyPatch) -> None:
    """A delegation of a role covers all roles."""
    honest = settle_delegates._mandate

    def mandate(draft: Any, known: Any, word: Any) -> Mandate:
        return replace(honest(draft, known, word), roles=tuple(sorted(ROLES[person_of(word.on_behalf)])))

    patch.setattr(settle_delegates, "_mandate", mandate)


def _every_route(patch: pytest.MonkeyPatch) -> None:
    """A delegation for another route counts here."""
    patch.setattr(Delegation, "covers", lambda *_: True)


def _anybody(patch: pytest.MonkeyPatch) -> None:
    """What was delegated to one counts for all."""
    patch.setattr(
        settle_delegates, "_between", lambda draft, word: (k for k in draft.directory.delegations if k.delegation.giver == word.on_behalf)
    )  # fmt: skip


def _sender_alone(patch: pytest.MonkeyPatch) -> None:
    """Four eyes look at who sends the vote alone."""
    honest = settle_delegates.why_barred
    patch.setattr(
        settle_delegates, "why_barred", lambda asking, body: honest(asking, body) if body.roles != ROLES[EXCLUDED] else ""
    )  # fmt: skip


def _giver_alone(patch: pytest.MonkeyPatch) -> None:
    """Four eyes look at whose vote it is alone."""
    honest = settle_delegates.why_no_delegate

    def why(word: Any, asking: Any, sender: Any, mandates: Any, who_may: str) -> Any:
        return honest(word, asking, sender._replace(name="nobody", names=frozenset()), mandates, who_may)

    patch.setattr(settle_words, "why_no_delegate", why)


def _proxy(patch: pytest.MonkeyPatch) -> None:
    """A person takes part as often as they like."""
    patch.setattr(settle_words, "why_represented", lambda *_: None)
    kept = lambda votes, vote: (*(one for one in votes if one.by != vote.by), vote)  # noqa: E731
    patch.setattr(evolve_voting, "with_vote", kept)


def _own_last(patch: pytest.MonkeyPatch) -> None:
    """A person's own word does not reach the vote that a delegate gave for them."""
    without = lambda votes, by, _=(): tuple(one for one in votes if person_of(one.by) != person_of(by))  # noqa: E731
    patch.setattr(evolve_voting, "without", without)
    patch.setattr(voting, "without", without)


def _old_word(patch: pytest.MonkeyPatch) -> None:
    """A delegate's older vote counts over a newer word of the person."""
    honest = settle_words.judged

    def judged(draft: Any, word: Any, step: Any) -> Any:
        words = {who: at for who, at in step.asking.words.items() if who != person_of(word.on_behalf or "nobody")}
        return honest(draft, word, replace(step, asking=replace(step.asking, words=words)))

    patch.setattr(settle_voting, "judged", judged)


FAULTS: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (
    _no_until,
    _at_once,
    _no_scope,
    _every_route,
    _anybody,
    _sender_alone,
    _giver_alone,
    _proxy,
    _own_last,
    _old_word,
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
