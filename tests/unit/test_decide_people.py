"""Decide: questions to people.

An approval has exactly one verdict, given by people entitled to give it, in time.
"""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import PEOPLE, START_MS, Partition, agent, approval, names, only, route

from mesh.core import schemas
from mesh.core.effects import AskApproval
from mesh.core.events import (
    AnswerRefused,
    ApprovalClosed,
    ApprovalRequested,
    ApprovalWithdrawn,
    IncidentRaised,
    TaskDispatched,
    WorkflowEnded,
)
from mesh.core.inputs import Undeliverable
from mesh.core.json_values import digest
from mesh.core.receipts import SendReceipt
from mesh.core.state import AgentCard, Directory

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}


def asked(directory: Directory = PEOPLE, **more: Any) -> Partition:
    """A workflow that asks, and then publishes what was approved."""
    p = Partition(
        route({"review": approval(**more), "post": agent("p", "${{ steps.review }}", needs="review")}),
        directory=directory,
    )
    p.start()
    return p


def refused(p: Partition, **answer: Any) -> AnswerRefused:
    before = p.state.workflows.get("r:k")
    found = only(p.answer(**answer), AnswerRefused)
    assert len(p.decisions[-1].events) == 1
    assert p.state.workflows.get("r:k") == before
    receipt = only(p.effects(), SendReceipt)
    assert (receipt.status, receipt.code, receipt.closed) == ("refused", found.code, found.closed)
    return found


# Asking -------------------------------------------------------------------------------------------


def test_a_question_carries_all_that_an_approver_needs() -> None:
    p = asked(ask="Post ${{ event.subject }}?", deadline="1h", on_expiry="approve", payload_schema=SCHEMA)
    question = only(p.effects(), AskApproval)
    assert question.approval_id == f"r:k/{p.workflow().run_id}/review"
    assert (question.question, question.payload, question.digest) == ("Post k?", {"n": 1}, digest({"n": 1}))
    assert (question.role, question.on_expiry, question.payload_schema) == ("maintainer", "approve", SCHEMA)
    assert question.deadline_at_ms == START_MS + 3_600_000


def test_a_question_without_a_deadline_waits_for_ever() -> None:
    p = asked()
    assert only(p.effects(), AskApproval).deadline_at_ms is None
    assert p.step("review").due_at_ms is None
    assert names(p.answer(at_ms=START_MS + 10**12)) == ["ApprovalClosed", "TaskDispatched"]


@pytest.mark.parametrize("known", [True, False])
def test_the_schema_for_edits_is_the_agents_whose_output_is_asked_about(known: bool) -> None:
    steps = {"draft": agent("drafter"), "review": approval(payload="${{ steps.draft }}", needs="draft")}
    p = Partition(route(steps), directory=PEOPLE if known else Directory())
    p.start()
    question = only(p.succeed("draft", {"text": "hello"}), ApprovalRequested)
    assert question.payload_schema == (PEOPLE.agents["drafter"].output_schema if known else None)


# Answers that count -------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [None, digest({"n": 1})])
def test_an_approval_lets_the_workflow_go_on(seen: str | None) -> None:
    p = asked()
    events = p.answer(digest=seen, reason="fine")
    assert names(events) == ["ApprovalClosed", "TaskDispatched"]
    closed = only(events, ApprovalClosed)
    assert (closed.verdict, closed.by, closed.role, closed.edited) == ("approved", "ana", "maintainer", False)
    assert only(events, TaskDispatched).input == {
        "verdict": "approved",
        "payload": {"n": 1},
        "by": "ana",
        "reason": "fine",
        "edited": False,
    }
    receipt = next(effect for effect in p.effects() if isinstance(effect, SendReceipt))
    assert (receipt.status, receipt.code, receipt.verdict) == ("accepted", "accepted", "approved")
    assert (receipt.closed, receipt.by, receipt.message) == (True, "ana", "fine")
    assert receipt.answer_id == "mesh.approvals.responses/0/0"


def test_a_rejection_keeps_its_reason_and_not_the_edit_that_came_with_it() -> None:
    p = asked()
    events = p.answer(decision="reject", reason="no", payload={"n": 5})
    closed = only(events, ApprovalClosed)
    assert (closed.verdict, closed.reason, closed.payload, closed.edited) == ("rejected", "no", {"n": 1}, False)
    assert only(events, WorkflowEnded).status == "rejected"


@pytest.mark.parametrize(
    ("payload", "edited"),
    [({"n": 2}, True), ({"n": 1}, False), ({"n": True}, True), (None, True), ({"n": 10**30}, True)],
)
def test_an_edit_replaces_the_payload(payload: Any, edited: bool) -> None:
    p = asked()
    events = p.answer(payload=payload)
    closed = only(events, ApprovalClosed)
    assert (closed.payload, closed.edited) == (payload, edited)
    assert repr(only(events, TaskDispatched).input["payload"]) == repr(payload)


def test_an_edit_must_fit_the_schema() -> None:
    p = asked(payload_schema=SCHEMA)
    assert refused(p, payload={"n": 0}).message == (
        "the edited payload does not fit: payload.n: 0 is less than the minimum of 1"
    )
    assert refused(p, payload={}).message == "the edited payload does not fit: payload: 'n' is a required property"
    assert only(p.answer(payload={"n": 3}), ApprovalClosed).payload == {"n": 3}


def test_an_edit_that_takes_too_long_to_check_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "MAX_STEPS", 10)
    found = refused(asked(payload_schema={"items": {"type": "integer"}}), payload=[1] * 100)
    assert found.message == ("the edited payload can't be checked: the check takes more than 10 steps; make it smaller")


def test_what_was_asked_may_be_approved_though_it_does_not_fit_the_schema() -> None:
    p = asked(payload_schema={"type": "string"})
    assert only(p.answer(payload={"n": 1}), ApprovalClosed).edited is False


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"pattern": "("},
        {"$ref": "https://example.org/schema.json"},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"minimum": "x"},
    ],
)
def test_a_schema_that_cant_be_used_lets_no_edit_pass_and_does_no_more_harm(schema: dict[str, Any]) -> None:
    card = AgentCard(name="drafter", version="1", topic="t", output_schema=schema)
    steps = {"draft": agent("drafter"), "review": approval(payload="${{ steps.draft }}", needs="draft")}
    p = Partition(route(steps), directory=replace(PEOPLE, agents={"drafter": card}))
    p.start()
    p.succeed("draft", "text")
    found = refused(p, payload="another")
    assert found.code == "schema"
    assert found.message.startswith("the edited payload can't be checked, since its schema can't be used: ")
    assert only(p.answer(), ApprovalClosed).verdict == "approved"


# Answers that don't -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "message"),
    [("bo", "bo does not have the role maintainer"), ("eve", "eve does"), ("", "nobody does not have the role maint")],
)
def test_an_answer_by_somebody_without_the_role_is_refused(by: str, message: str) -> None:
    found = refused(asked(), by=by)
    assert (found.code, found.closed, found.verdict) == ("role", False, "")
    assert found.message.startswith(message)


def test_an_answer_to_another_payload_is_refused() -> None:
    found = refused(asked(), digest=digest("another"))
    assert (found.code, found.message) == (
        "digest",
        f"it answers another payload: the one that was asked has {digest({'n': 1})}",
    )


def test_an_answer_after_the_deadline_is_late_however_early_it_is_read() -> None:
    p = asked(deadline="1h")
    assert refused(p, at_ms=START_MS + 3_600_001).code == "late"
    p.now_ms += 10**9
    assert names(p.answer(at_ms=START_MS + 3_600_000)) == ["ApprovalClosed", "TaskDispatched"]


def test_an_answer_to_nothing_that_was_asked_is_unknown() -> None:
    p = Partition(route({"review": approval(), "a": agent()}))
    assert refused(p, approval_id="r:k/1/review").code == "unknown"
    p.start()
    run = p.workflow().run_id
    for wrong in ("nonsense", "r:k/old/review", f"r:k/{run}/nosuch", f"r:other/{run}/review", f"r:k/{run}/a"):
        found = refused(p, approval_id=wrong)
        assert (found.code, found.closed) == ("unknown", False)
        assert found.message == f"no approval {wrong} was asked, or its memory has ended"


def test_a_task_of_a_closed_workflow_is_still_no_approval() -> None:
    p = Partition(route({"a": agent()}))
    p.start()
    p.succeed("a")
    assert refused(p, step="a").code == "unknown"


@pytest.mark.parametrize(("decision", "verdict"), [("approve", "approved"), ("reject", "rejected")])
def test_a_second_answer_is_told_the_verdict(decision: Any, verdict: str) -> None:
    p = asked()
    p.answer(decision=decision)
    found = refused(p, decision="approve")
    assert (found.code, found.verdict, found.closed) == ("closed", verdict, True)
    assert found.message == f"it is closed: {verdict}"


def test_an_answer_after_a_cancel_is_told_so() -> None:
    p = asked()
    events = p.command("cancel")
    assert only(events, ApprovalWithdrawn).reason == "the workflow cancelled: cancelled by op"
    receipt = next(effect for effect in p.effects() if isinstance(effect, SendReceipt))
    assert (receipt.status, receipt.code, receipt.verdict, receipt.closed) == ("closed", "withdrawn", "", True)
    found = refused(p)
    assert (found.code, found.message, found.verdict) == ("closed", "it is closed: cancelled", "")


# Deadlines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_expiry", "verdict", "last"),
    [("reject", "rejected", "WorkflowEnded"), ("approve", "approved", "TaskDispatched")],
)
def test_a_deadline_gives_the_verdict_that_the_route_says(on_expiry: str, verdict: str, last: str) -> None:
    p = asked(deadline="1h", on_expiry=on_expiry)
    events = p.wait("review")
    assert names(events) == ["ApprovalClosed", last]
    closed = only(events, ApprovalClosed)
    assert (closed.verdict, closed.expired, closed.by, closed.payload) == (verdict, True, "", {"n": 1})
    assert closed.reason == f"no answer by the deadline; on_expiry: {on_expiry}"
    receipt = next(effect for effect in p.effects() if isinstance(effect, SendReceipt))
    assert (receipt.status, receipt.code, receipt.verdict, receipt.answer_id) == ("closed", "expired", verdict, "")
    found = refused(p)
    assert (found.code, found.verdict, found.closed) == ("late", verdict, True)
    assert found.message == f"its deadline had passed, and it was {verdict}"


def test_an_expired_approval_that_rejects_says_so_in_the_end() -> None:
    p = asked(deadline="1h")
    reason = only(p.wait("review"), WorkflowEnded).reason
    assert reason == "review was rejected by its deadline: no answer by the deadline; on_expiry: reject"


def test_an_expiry_may_be_an_incident_and_a_retry_asks_anew() -> None:
    p = asked(deadline="1h", on_expiry="incident")
    incident = only(p.wait("review"), IncidentRaised)
    assert (incident.kind, incident.message) == ("expired", "nobody with role maintainer answered by the deadline")
    found = refused(p)
    assert (found.code, found.message) == ("late", "its deadline has passed, and an operator has it now")
    events = p.command("retry")
    assert names(events) == ["CommandAccepted", "IncidentResolved", "ApprovalRequested"]
    assert only(events, ApprovalRequested).deadline_at_ms == p.now_ms + 3_600_000
    assert names(p.answer()) == ["ApprovalClosed", "TaskDispatched"]


def test_an_answer_to_a_question_that_could_not_be_sent_is_told_why() -> None:
    p = asked()
    p.give(Undeliverable(workflow_id="r:k", effect_id=p.task_id("review"), topic="t", code="too_large", message="big"))
    found = refused(p)
    assert (found.code, found.message) == (
        "closed",
        "an operator has it now: the approval request could not be sent: big",
    )
