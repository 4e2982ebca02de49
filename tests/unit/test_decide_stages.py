"""Decide: an approval that is escalated. Who may answer from when on, and when that is enough."""

from typing import Any

import pytest
from one_partition import Partition, names, only
from voting_kit import asked, closed, code, excluding, receipt

from mesh.core.effects import AskApproval
from mesh.core.events import ApprovalEscalated, ApprovalRequested2, IncidentRaised
from mesh.core.inputs import TimerDue
from mesh.core.receipts import SendReceipt

HOUR_MS = 3_600_000
LEGAL: dict[str, Any] = {"after": "1h", "to": "legal"}


def stage_timer(p: Partition, after_ms: int) -> tuple[Any, ...]:
    """Fire the timer of a stage that comes `after_ms` after the start."""
    due = p.now_ms + after_ms
    p.now_ms = due
    return p.give(
        TimerDue(due_at_ms=due, workflow_id="r:k", kind="approval_stage", step="review", run_id=p.workflow().run_id)
    )


def test_the_instants_of_all_stages_are_in_the_question() -> None:
    p = asked(quorum=2, escalate=[LEGAL, {"after": "2h", "to": {"people": ["x"]}, "quorum": 1, "replace": True}])
    terms = only(p.effects(), AskApproval).terms
    assert terms is not None
    assert [(one.at_ms - p.now_ms, one.who, one.quorum, one.replace) for one in terms.stages] == [
        (HOUR_MS, "legal", 0, False),
        (3 * HOUR_MS, "x", 1, True),
    ]


def test_a_stage_adds_who_may_answer_after_its_instant() -> None:
    p = asked(quorum=2, escalate=[LEGAL])
    assert code(p, "eve") == "role"
    assert names(stage_timer(p, HOUR_MS)) == ["ApprovalEscalated"]
    assert code(p, "eve") == "role"  # of the stage's very instant
    p.now_ms += 1
    assert code(p, "eve") == "counted"
    assert code(p, "ben") == "accepted"


def test_an_answer_after_the_instant_brings_the_stage_about_first() -> None:
    p = asked(quorum=2, escalate=[LEGAL])
    due = p.now_ms + HOUR_MS
    p.now_ms = due + 1
    assert code(p, "eve") == "counted"
    assert names(p.decisions[-1].events) == ["ApprovalEscalated", "VoteCast"]
    late = TimerDue(due_at_ms=due, workflow_id="r:k", kind="approval_stage", step="review", run_id=p.workflow().run_id)
    assert p.give(late) == ()


def test_an_answer_from_before_a_stage_is_judged_by_the_rights_of_before() -> None:
    p = asked(quorum=2, escalate=[{**LEGAL, "replace": True}])
    before = p.now_ms + 5
    stage_timer(p, HOUR_MS)
    assert code(p, "ben", at_ms=before) == "counted"
    assert code(p, "eve", at_ms=before) == "role"
    p.now_ms += 1
    assert code(p, "Cy") == "role"
    assert "legal" in receipt(p).message
    assert code(p, "eve") == "accepted"


def test_a_quorum_of_a_stage_suffices() -> None:
    p = asked(quorum=3, escalate=[{**LEGAL, "quorum": 1}])
    p.now_ms += HOUR_MS + 1
    assert code(p, "ben") == "counted"
    assert (receipt(p).have, receipt(p).need) == (0 + 1, 3)
    assert code(p, "eve") == "accepted"
    assert (closed(p).rule, closed(p).have, closed(p).need) == ("1 of legal", 1, 1)


def test_votes_from_before_a_stage_may_reach_its_quorum_at_once() -> None:
    p = asked(quorum=3, escalate=[{**LEGAL, "quorum": 1}])
    code(p, "ana")
    assert names(stage_timer(p, HOUR_MS))[:2] == ["ApprovalEscalated", "ApprovalClosed2"]
    found = closed(p)
    assert (found.verdict, found.by, found.answer_id, found.rule) == ("approved", "", "", "1 of legal")
    told = only(p.effects(), SendReceipt)
    assert (told.status, told.code, told.verdict, told.closed, told.source) == (
        "closed",
        "reached",
        "approved",
        True,
        None,
    )
    p.check_replay()


def test_an_answer_that_comes_after_such_a_close_is_refused() -> None:
    p = asked(quorum=3, escalate=[{**LEGAL, "quorum": 1}])
    code(p, "ana")
    p.now_ms += HOUR_MS + 1
    p.vote("ben")
    told = [effect for effect in p.effects() if isinstance(effect, SendReceipt)]
    assert [(one.code, one.by) for one in told] == [("reached", ""), ("closed", "ben")]
    p.check_replay()


def test_stages_come_in_the_order_of_their_times() -> None:
    p = asked(quorum=2, escalate=[LEGAL, {"after": "1h", "to": "clerk", "replace": True}])
    p.now_ms += 2 * HOUR_MS + 1
    assert code(p, "dan") == "counted"
    assert [event.stage for event in p.decisions[-1].events if isinstance(event, ApprovalEscalated)] == [1, 2]
    assert code(p, "eve") == "role"
    assert code(p, "eve", at_ms=p.now_ms - 2) == "accepted"


def test_a_deadline_brings_the_stages_before_it_about_first() -> None:
    p = asked(quorum=3, deadline="2h", escalate=[{**LEGAL, "quorum": 1}])
    code(p, "ana")
    p.wait("review")
    found = closed(p)
    assert (found.verdict, found.expired) == ("approved", False)
    other = asked(quorum=3, deadline="2h", escalate=[{**LEGAL, "quorum": 1}])
    other.wait("review")
    assert names(other.decisions[-1].events)[:2] == ["ApprovalEscalated", "ApprovalClosed2"]
    assert closed(other).expired


def test_the_excluded_stay_excluded_in_a_stage() -> None:
    p = asked(quorum=2, escalate=[LEGAL], **excluding({"not": {"people": "eve"}}))
    p.now_ms += HOUR_MS + 1
    assert code(p, "eve") == "excluded"


def test_who_may_answer_by_a_stage_may_edit_too() -> None:
    p = asked(quorum=2, escalate=[LEGAL])
    p.now_ms += HOUR_MS + 1
    assert code(p, "eve", "edit", payload={"n": 2}) == "edited"


def test_what_is_asked_again_begins_at_its_first_stage() -> None:
    p = asked(quorum=2, deadline="2h", on_expiry="incident", escalate=[LEGAL])
    p.wait("review")
    assert only(p.decisions[-1].events, IncidentRaised).kind == "expired"
    p.command("retry")
    assert only(p.decisions[-1].events, ApprovalRequested2).terms.stages[0].at_ms == p.now_ms + HOUR_MS
    asking = p.step("review").asking
    assert asking is not None
    assert (asking.stage, asking.changes) == (0, ())


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"escalate": [{"after": "1h", "to": "${{ event.data.none }}"}]}, "the role of a stage must be a name"),
        ({"escalate": [{"after": "1h", "to": {"people": "${{ event.data.none }}"}}]}, "the people of a stage"),
        ({"deadline": {"at": "${{ event.data.none }}"}}, "deadline needs a time as a string"),
        ({"deadline": {"at": "soon"}}, "deadline needs a time such as"),
        ({"deadline": {"at": "2025-11-23T00:00:00Z"}}, "had passed when it was to be asked"),
    ],
)
def test_a_time_or_a_name_that_a_template_does_not_give_is_an_incident(terms: dict[str, Any], message: str) -> None:
    p = asked(data={"none": None}, **terms)
    assert message in only(p.decisions[-1].events, IncidentRaised).message


def test_a_deadline_may_be_a_time_of_the_event() -> None:
    p = asked(data={"due": "2025-11-23T14:00:00+01:00"}, deadline={"at": "${{ event.data.due }}"})
    assert p.step("review").due_at_ms == 1_763_902_800_000
    assert code(p, "ben", at_ms=1_763_902_800_000) == "accepted"
