"""What an approval of several people promises, for any answers in any order; and its seeded faults.

Answers come late and twice, roles come and go, payloads are edited there and back. `voting_ledger`
judges. Each fault that is put into the rules must be noticed.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import PEOPLE, Partition, route
from voting_ledger import Ledger, Rule

from mesh.core import effects, receipts, voting
from mesh.core.approvals import Group
from mesh.core.decide.settle import approval as settle_approval
from mesh.core.decide.settle import questions as settle_questions
from mesh.core.decide.settle import voting as settle_voting
from mesh.core.decide.settle import words as settle_words
from mesh.core.events import PayloadEdited, QuestionAsked
from mesh.core.evolve import steps as evolve_steps
from mesh.core.evolve import voting as evolve_voting
from mesh.core.inputs import AnswerGiven2
from mesh.core.json_values import digest
from mesh.core.people import person_of
from mesh.core.voting import Body

SEEDS = 150
PAYLOADS: tuple[Any, ...] = ({"n": 1}, {"n": 2})
VERSIONS: tuple[dict[str, frozenset[str]], ...] = (
    {"ana": frozenset({"a", "b"}), "Ben": frozenset({"a"}), "cy": frozenset({"b", "c"}), "dan": frozenset({"a", "c"})},
    {"Ben": frozenset({"a"}), "cy": frozenset({"a", "b"}), "dan": frozenset({"b"}), "eve": frozenset({"b", "c"})},
)
ASKED: dict[str, Any] = {"ask_back": {"to": {"role": "c"}, "limit": 2}}
TERMS: tuple[tuple[dict[str, Any], Rule], ...] = (
    ({"quorum": [{"role": "a"}, {"role": "b"}]}, Rule(("a", "b"), 1, frozenset(), not_editors=False)),
    (
        {"quorum": [{"role": "a", "need": 2}], "reject": 2, "not": {"people": "dan"}},
        Rule(("a", "a"), 2, frozenset({"dan"}), not_editors=False),
    ),
    (
        {"quorum": [{"role": "a"}, {"role": "b"}], "not": ["editors", "requester"], "requester": "${{ 'DAN' }}"},
        Rule(("a", "b"), 1, frozenset({"dan"}), not_editors=True),
    ),
    (
        {"quorum": [{"role": "a"}, {"role": "b"}], "reject": 2, "not": {"people": "dan"}, **ASKED},
        Rule(("a", "b"), 2, frozenset({"dan"}), not_editors=False, questions=2, asked_role="c"),
    ),
)


def played(seed: int) -> Ledger:
    """One approval, and what the ledger has found."""
    rng = Random(seed)
    terms, rule = rng.choice(TERMS)
    p = Partition(
        route({"review": {"approval": {"ask": "Good?", "payload": PAYLOADS[0], **terms}}}),
        directory=replace(PEOPLE, roles=VERSIONS[0], knows_all_roles=False),
    )
    p.start()
    approval_id = p.step("review").task_id
    ledger = Ledger(rule, PAYLOADS[0])
    sent: list[AnswerGiven2] = []
    for number in range(18):
        if rng.random() < 0.1:
            p.directory = replace(p.directory, roles=rng.choice(VERSIONS))
        p.now_ms += 10
        given = replace(rng.choice(sent), source_at_ms=p.now_ms) if sent and rng.random() < 0.2 else None
        given = given or _answer(rng, number, approval_id, p.now_ms)
        given = replace(given, source_offset=number)
        sent.append(given)
        roles = frozenset[str]().union(
            *(r for name, r in p.directory.roles.items() if name.lower() == given.by.lower())
        )
        events = p.give(given)
        ledger.hear(given, roles, events, p.effects())
    return ledger


def _answer(rng: Random, number: int, approval_id: str, now_ms: int) -> AnswerGiven2:
    """An answer that reached the broker some time ago."""
    decision = rng.choices(["approve", "reject", "edit", "withdraw", "ask", "inform"], [8, 1, 1, 2, 2, 3])[0]
    edits = decision == "edit" or (decision == "approve" and rng.random() < 0.1)
    given = AnswerGiven2(
        workflow_id="r:k",
        approval_id=approval_id,
        answer_id=f"a{number}" + ("+" if edits else ""),
        decision=decision,  # type: ignore[arg-type]
        by=rng.choice(["ana", "ANA", "Ben", "cy", "dan", "eve"]),
        digest=digest(rng.choices(PAYLOADS, [4, 1])[0]),
        source_topic="mesh.approvals.responses",
        source_partition=0,
        source_offset=0,
        source_at_ms=now_ms - rng.choice([0, 0, 15, 35]),
    )
    if edits:
        given = replace(given, payload=rng.choice(PAYLOADS))
    asks = decision in ("ask", "inform")
    return replace(given, text="?", question=rng.choice([0, 1, 2])) if asks else given


def test_no_promise_is_broken() -> None:
    ends = [played(seed) for seed in range(SEEDS)]
    assert [(seed, end.faults) for seed, end in enumerate(ends) if end.faults] == []
    assert {end.verdict for end in ends} == {"approved", "rejected", ""}
    assert max(end.asked for end in ends) == 2
    assert sum(end.answered for end in ends) > 0


# Faults, one at a time ----------------------------------------------------------------------------


def _twice(patch: pytest.MonkeyPatch) -> None:
    """A person's second vote does not replace the first."""
    patch.setattr(evolve_voting, "with_vote", lambda votes, vote: (*votes, vote))


def _replay(patch: pytest.MonkeyPatch) -> None:
    """An answer's id is not remembered."""
    patch.setattr(settle_words, "is_repeated", lambda *_: False)
    patch.setattr(settle_approval, "is_repeated", lambda *_: False)


def _old_word(patch: pytest.MonkeyPatch) -> None:
    """A withdrawal that is read before its vote is forgotten."""
    patch.setattr(evolve_voting, "_spoken", lambda asking, by, _, answer_id: evolve_voting._seen(asking, by, answer_id))


def _self_vote(patch: pytest.MonkeyPatch) -> None:
    """Nobody is excluded."""
    honest = settle_words._of_voter
    patch.setattr(settle_words, "_of_voter", lambda d, w, asking, body: honest(d, w, _of_all(asking), body))


def _of_all(asking: Any) -> Any:
    return replace(asking, terms=replace(asking.terms, excluded={}, not_editors=False))


def _editor_vote(patch: pytest.MonkeyPatch) -> None:
    """Who edits may vote."""
    honest = settle_words._of_voter
    patch.setattr(settle_words, "_of_voter", lambda d, w, asking, body: honest(d, w, replace(asking, editors=()), body))


def _no_role(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settle_words, "may_vote", lambda *_: True)


def _stale_roles(patch: pytest.MonkeyPatch) -> None:
    """Judged by the roles that the owner happened to know first."""
    patch.setattr(settle_words, "roles_of", lambda _, by: VERSIONS[0].get(by, frozenset()))


def _edit_keeps(patch: pytest.MonkeyPatch) -> None:
    """An edit keeps earlier votes."""
    honest = evolve_voting.evolve_voting

    def keeping(step: Any, event: Any) -> Any:
        after = honest(step, event)
        if isinstance(event, PayloadEdited):
            kept: Any = after.asking
            after = replace(after, asking=replace(kept, votes=step.asking.votes))
        return after

    patch.setattr(evolve_steps, "evolve_voting", keeping)


def _no_digest(patch: pytest.MonkeyPatch) -> None:
    """Votes are not bound to what was seen: they count for the digest that they name."""
    patch.setattr(settle_words, "_of_digest", lambda *_: None)
    honest = settle_voting._vote

    def vote(draft: Any, word: Any, name: str, choice: str) -> Any:
        cast = honest(draft, word, name, choice)
        return replace(cast, vote=replace(cast.vote, digest=word.digest))

    patch.setattr(settle_voting, "_vote", vote)


def _greedy(patch: pytest.MonkeyPatch) -> None:
    """A vote takes the first seat that it fits, in the order of the votes."""

    def seated(groups: Any, bodies: list[Body]) -> int:
        free: list[Group] = [group for group in groups for _ in range(group.need)]
        for body in bodies:
            seat = next((one for one in free if one.role in body.roles), None)
            if seat is not None:
                free.remove(seat)
        return sum(int(group.need) for group in groups) - len(free)

    patch.setattr(voting, "seated", seated)


def _after_close(patch: pytest.MonkeyPatch) -> None:
    """A verdict does not close it."""
    honest = settle_approval.find_open

    def find(draft: Any, given: Any) -> Any:
        found = settle_approval._asks_voters(draft, given.approval_id)
        return found if found is not None and draft.workflow.status == "running" else honest(draft, given)

    patch.setattr(settle_approval, "find_open", find)
    patch.setattr(settle_approval, "close", lambda draft, closed: draft.add(closed))


def _no_receipt(patch: pytest.MonkeyPatch) -> None:
    """A vote that leaves it open has no receipt."""
    _send_for_words(patch, lambda *_: [])


def _two_receipts(patch: pytest.MonkeyPatch) -> None:
    """An edit that is a vote too has one for each."""
    honest = receipts.receipt_of_word
    _send_for_words(patch, lambda decision, event: honest(replace(decision, events=(event,)), event))


def _send_for_words(patch: pytest.MonkeyPatch, send: Callable[..., Any]) -> None:
    """Send this in place of the receipts of words that leave an approval open."""
    table = effects._DERIVED
    words = {kind: send for kind, derive in table.items() if derive is receipts.receipt_of_word}
    assert words
    patch.setattr(effects, "_DERIVED", {**table, **words})


def _rejections_ignored(patch: pytest.MonkeyPatch) -> None:
    honest = voting.verdict_of

    def verdict(terms: Any, votes: Any, *more: Any) -> Any:
        return honest(replace(terms, reject_need=99), votes, *more)

    patch.setattr(settle_voting, "verdict_of", verdict)


def _asked_on_and_on(patch: pytest.MonkeyPatch) -> None:
    """More questions are asked than the route allows."""
    honest = settle_questions.why_not_asked
    patch.setattr(settle_words, "why_not_asked", lambda d, w, asking: honest(d, w, replace(asking, asked=0)))


def _anybody_informs(patch: pytest.MonkeyPatch) -> None:
    """Who was not asked answers a question."""
    patch.setattr(settle_words, "why_not_answered", _why_no_question)


def _why_no_question(word: Any, asking: Any, _: Any) -> Any:
    anybody = Body(person_of(word.by), frozenset({"c"}))
    return settle_questions.why_not_answered(word, asking, anybody)


def _anybody_asks(patch: pytest.MonkeyPatch) -> None:
    """Who may not answer asks back."""
    honest = settle_words._of_voter
    patch.setattr(settle_words, "_of_voter", lambda d, w, a, b: None if w.decision == "ask" else honest(d, w, a, b))


def _asked_resets(patch: pytest.MonkeyPatch) -> None:
    """A question takes all votes away."""
    honest = evolve_voting.evolve_voting

    def resetting(step: Any, event: Any) -> Any:
        after = honest(step, event)
        reset: Any = after.asking
        return replace(after, asking=replace(reset, votes=())) if isinstance(event, QuestionAsked) else after

    patch.setattr(evolve_steps, "evolve_voting", resetting)


FAULTS: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (
    _twice,
    _replay,
    _old_word,
    _self_vote,
    _editor_vote,
    _no_role,
    _stale_roles,
    _edit_keeps,
    _no_digest,
    _greedy,
    _after_close,
    _no_receipt,
    _two_receipts,
    _rejections_ignored,
    _asked_on_and_on,
    _anybody_informs,
    _anybody_asks,
    _asked_resets,
)


@pytest.mark.deep
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_every_fault_in_the_rules_is_noticed(fault: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    for seed in range(SEEDS):
        try:
            if played(seed).faults:
                return
        except AssertionError:
            return  # the fold and the live state differ
    pytest.fail(f"{fault.__doc__ or fault.__name__}: nobody has noticed")
