"""Decide: approvals that an agent asks for in the middle of its work, for one call."""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, names, only, route
from voting_kit import CROWD, code

from mesh.core.effects import AskApproval, SendTask
from mesh.core.events import (
    ApprovalClosed2,
    ApprovalRequested2,
    ApprovalWanted,
    ApprovalWithdrawn,
    IncidentRaised,
    InputDismissed,
    StepCancelled,
    TaskDispatched,
    TaskFailed,
    WorkflowEnded,
)
from mesh.core.evolve import evolve
from mesh.core.json_values import digest
from mesh.core.open_approvals import ShowApproval
from mesh.core.tool_approvals import LARGEST_SCHEMA, LONGEST_QUESTION, MOST_ASKED, ToolVerdict

TOOL = "buy.tool-pay"


def buyer(more: dict[str, Any] | None = None, *, steps: dict[str, Any] | None = None, **approve: Any) -> Partition:
    """A workflow whose agent may ask managers."""
    terms = {"role": "manager", **approve}
    buying = agent("buyer", 7, approve=terms, **(more or {}))
    p = Partition(
        route({"buy": buying, **(steps or {"tell": agent("t", "${{ steps.buy }}", needs="buy")})}), directory=CROWD
    )
    p.start(data={"by": "ben"})
    return p


def sent(p: Partition) -> SendTask:
    return only(p.effects(), SendTask)


def answer(p: Partition, by: str, decision: Any = "approve", *, step: str = TOOL, **more: Any) -> str:
    return code(p, by, decision, step=step, **more)


EUROS = {"type": "object", "properties": {"eur": {"type": "integer", "maximum": 9}}}


# From the question to the verdict -----------------------------------------------------------------


def test_an_agent_that_wants_an_approval_frees_its_place_and_people_are_asked() -> None:
    p = buyer()
    assert names(p.want("buy", payload={"eur": 5})) == ["ApprovalWanted", "ApprovalRequested2"]
    asked = only(p.effects(), AskApproval)
    assert (asked.step, asked.question, asked.payload) == (TOOL, "May I?", {"eur": 5})
    assert asked.approval_id == f"{p.workflow().workflow_id}/{p.workflow().run_id}/{TOOL}"
    assert (p.step("buy").status, p.step("buy").due_at_ms) == ("suspended", None)
    assert p.step(TOOL).status == "asking"
    p.check_replay()


def test_an_edit_must_fit_the_schema_that_the_agent_gave() -> None:
    p = buyer()
    asked = only(p.want("buy", payload={"eur": 5}, payload_schema=EUROS), ApprovalRequested2)
    assert asked.payload_schema == EUROS
    assert only(p.effects(), AskApproval).payload_schema == EUROS
    assert answer(p, "ana", payload={"eur": 10}) == "schema"
    assert answer(p, "ana", payload={"eur": 9}) == "accepted"
    p.check_replay()


def test_the_schema_of_the_route_goes_before_the_agents() -> None:
    p = buyer(payload_schema={"type": "object"})
    assert only(p.want("buy", payload={"eur": 5}, payload_schema=EUROS), ApprovalRequested2).payload_schema == {
        "type": "object"
    }
    assert answer(p, "ana", payload={"eur": 10}) == "accepted"


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "string"}, "does not fit"),
        ({"type": "none of them"}, "can't be used"),
        ({"$ref": "https://example.org/schema"}, "can't be used"),
        ({"description": "x" * LARGEST_SCHEMA}, "at most 16,384 bytes"),
    ],
)
def test_a_schema_that_can_t_hold_is_refused(schema: dict[str, Any], why: str) -> None:
    failed = only(buyer().want("buy", payload={"eur": 5}, payload_schema=schema), TaskFailed)
    assert failed.kind == "approval_refused"
    assert why in failed.message


def test_the_verdict_sends_the_task_again_with_it() -> None:
    p = buyer()
    p.want("buy", payload={"eur": 5})
    assert answer(p, "ana", reason="fine") == "accepted"
    task = sent(p)
    assert (task.task_id, task.attempt, task.input, task.agent) == (p.task_id("buy"), 2, 7, "buyer")
    assert task.approvals == (
        ToolVerdict(
            name="pay",
            digest=digest({"eur": 5}),
            approval_id=p.task_id(TOOL),
            verdict="approved",
            choice="approve",
            by="ana",
            reason="fine",
        ),
    )
    p.succeed("buy", "bought")
    p.succeed("tell")
    assert p.workflow().status == "completed"
    p.check_replay()


def test_a_rejection_is_a_verdict_too_and_ends_nothing() -> None:
    p = buyer()
    p.want("buy")
    assert answer(p, "ana", "reject") == "accepted"
    assert sent(p).approvals[0].verdict == "rejected"
    p.succeed("buy")
    p.succeed("tell")
    assert p.workflow().status == "completed"


def test_an_edit_goes_to_the_agent_under_the_digest_that_it_knows() -> None:
    p = buyer()
    p.want("buy", payload={"eur": 5})
    answer(p, "ana", payload={"eur": 4})
    [verdict] = sent(p).approvals
    assert (verdict.payload, verdict.digest) == ({"eur": 4}, digest({"eur": 5}))


def test_an_expiry_is_a_verdict() -> None:
    p = buyer(deadline="1h")
    p.want("buy")
    p.wait(TOOL)
    [verdict] = sent(p).approvals
    assert (verdict.verdict, verdict.expired, verdict.by) == ("rejected", True, "")
    assert answer(p, "ana") == "late"


def test_several_people_decide_where_the_route_says_so() -> None:
    p = buyer(quorum=2)
    p.want("buy")
    assert answer(p, "ana") == "counted"
    assert answer(p, "ben") == "accepted"
    assert sent(p).attempt == 2


def test_the_next_question_goes_out_with_the_first_verdict_known() -> None:
    p = buyer()
    p.want("buy")
    answer(p, "ana")
    p.want("buy", "ship", payload=[1])
    answer(p, "ben", "reject", step="buy.tool-ship")
    assert [(one.name, one.verdict) for one in sent(p).approvals] == [("pay", "approved"), ("ship", "rejected")]


def test_another_payload_under_the_same_name_is_another_question() -> None:
    p = buyer()
    p.want("buy", payload=1)
    first = p.task_id(TOOL)
    answer(p, "ana")
    p.want("buy", payload=2)
    assert p.task_id(TOOL) == f"{first}~2"
    assert answer(p, "ana", approval_id=first) == "closed"
    assert answer(p, "ben", "reject") == "accepted"
    assert [one.verdict for one in sent(p).approvals] == ["approved", "rejected"]


def test_the_agent_may_be_asked_back_about_it() -> None:
    p = buyer(ask_back={"to": {"agent": "researcher"}}, quorum=2)
    p.want("buy")
    assert answer(p, "ana", "ask", text="why?") == "asked"
    p.succeed(f"{TOOL}.ask1", "because")
    answer(p, "ana")
    answer(p, "ben")
    assert sent(p).step == "buy"
    p.check_replay()


# Attempts, time and budget ------------------------------------------------------------------------


def test_the_question_uses_up_no_attempt() -> None:
    p = buyer({"retry": {"attempts": 1}})
    for n in range(3):
        p.want("buy", payload=n)
        answer(p, "ana")
    events = p.fail("buy")
    assert only(events, IncidentRaised).kind == "exhausted"
    assert "(attempt 1 of 1)" in only(events, IncidentRaised).message


def test_an_attempt_that_failed_before_it_counts() -> None:
    p = buyer({"retry": {"attempts": 2}})
    p.fail("buy")
    p.wait("buy")
    p.want("buy")
    answer(p, "ana")
    assert only(p.fail("buy"), IncidentRaised).kind == "exhausted"


def test_while_people_think_no_time_out_runs() -> None:
    p = buyer({"timeout": "1m"})
    p.want("buy")
    p.now_ms += 3_600_000
    answer(p, "ana")
    assert p.step("buy").due_at_ms == p.now_ms + 60_000


def test_what_the_attempt_used_is_charged_once_and_its_reserve_comes_back() -> None:
    steps = {"buy": agent("buyer", approve={"role": "manager"}, reserve={"tokens": 40}), "b": agent("y")}
    p = Partition(route(steps, budget={"tokens": 100}), directory=CROWD)
    p.start()
    p.want("buy", usage={"tokens": 30.0})
    account = p.workflow().account
    assert account is not None
    assert (account.spent, account.reserved) == ({"tokens": 30.0}, {"tokens": 0.0})
    p.succeed("buy", attempt=1, usage={"tokens": 35.0})
    account = p.workflow().account
    assert account is not None
    assert account.spent == {"tokens": 35.0}
    p.check_replay()


def test_the_task_may_have_to_wait_for_its_slot_again() -> None:
    steps = {"buy": agent("buyer", approve={"role": "manager"}, limit="one")}
    p = Partition(route(steps, limits={"one": {"concurrency": 1}}), directory=CROWD)
    p.start()
    p.deliver()
    p.want("buy")
    assert p.workflow().slots == {}
    p.deliver()
    answer(p, "ana")
    assert p.step("buy").status == "queued"
    p.deliver()
    last = only(
        [event for one in p.decisions for event in one.events if getattr(event, "attempt", 0) == 2], TaskDispatched
    )
    assert [one.name for one in last.approvals] == ["pay"]
    p.check_replay()


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("want", "message"),
    [
        ({"name": "Pay"}, "is no name of an approval"),
        ({"name": "a.b"}, "is no name of an approval"),
        ({"name": "x" * 41}, "is no name of an approval"),
        ({"question": " "}, "the question must be a text"),
        ({"question": "x" * (LONGEST_QUESTION + 1)}, "the question must be a text"),
    ],
)
def test_a_question_that_has_no_form_fails_the_attempt_for_good(want: dict[str, Any], message: str) -> None:
    p = buyer()
    failed = only(p.want("buy", **want), TaskFailed)
    assert (failed.kind, failed.retryable) == ("approval_refused", False)
    assert message in failed.message


def test_an_agent_whose_step_allows_none_asks_nobody() -> None:
    p = Partition(route({"buy": agent("buyer")}), directory=CROWD)
    p.start()
    failed = only(p.want("buy"), TaskFailed)
    assert failed.kind == "approval_refused"
    assert "approve: {role: ...}" in failed.message


def test_a_verdict_that_is_there_is_not_asked_for_again() -> None:
    p = buyer()
    p.want("buy", payload=1)
    answer(p, "ana")
    assert "has its verdict" in only(p.want("buy", payload=1), TaskFailed).message


def test_a_task_asks_only_so_often() -> None:
    p = buyer(limit=2)
    for n in range(2):
        p.want("buy", payload=n)
        answer(p, "ana")
    assert "asked for 2 approvals, and its route allows 2" in only(p.want("buy", payload=3), TaskFailed).message
    p.command("retry", step="buy")
    assert only(p.want("buy", payload=3), ApprovalRequested2).step == TOOL
    assert MOST_ASKED == 20


def test_a_result_that_comes_twice_asks_once() -> None:
    p = buyer()
    p.want("buy")
    assert only(p.want("buy"), InputDismissed).code == "repeated"


# Ends while it is open ----------------------------------------------------------------------------


def test_a_late_success_withdraws_the_question() -> None:
    p = buyer({"timeout": "1m", "retry": {"attempts": 2}})
    p.wait("buy")
    p.wait("buy")
    p.want("buy")
    assert names(p.succeed("buy", attempt=1))[:2] == ["ApprovalWithdrawn", "TaskSucceeded"]
    assert answer(p, "ana") == "closed"
    assert p.step("buy").tools is None


def test_a_cancel_withdraws_the_question() -> None:
    p = buyer()
    p.want("buy")
    events = p.command("cancel")
    assert only(events, ApprovalWithdrawn).step == TOOL
    assert only(events, WorkflowEnded).status == "cancelled"
    assert [one.value for one in p.effects() if isinstance(one, ShowApproval)] == [None, None]
    assert answer(p, "ana") == "closed"


def test_a_race_that_is_lost_withdraws_the_question() -> None:
    steps = {
        "other": agent("o"),
        "won": {"value": 1, "needs": {"first_of": ["buy", "other"]}},
    }
    p = buyer(steps=steps)
    p.want("buy")
    events = p.succeed("other")
    assert only(events, ApprovalWithdrawn).step == TOOL
    assert only(events, StepCancelled).step == "buy"


def test_what_was_approved_may_have_been_done_and_is_undone() -> None:
    p = buyer({"undo": agent("buyer", "back")})
    p.want("buy")
    p.command("cancel")
    assert p.workflow().status == "cancelled"
    p = buyer({"undo": agent("buyer", "back")})
    p.want("buy")
    answer(p, "ana")
    p.want("buy", "ship")
    events = p.command("cancel")
    assert [event.step for event in events if isinstance(event, ApprovalWithdrawn)] == ["buy.tool-ship"]
    assert only(events, TaskDispatched).step == "buy.undo"
    p.succeed("buy.undo")
    assert p.workflow().status == "cancelled"
    p.check_replay()


def test_an_agent_that_undoes_asks_for_nothing() -> None:
    p = buyer({"undo": agent("buyer", "back")})
    p.succeed("buy")
    p.command("cancel")
    assert only(p.want("buy.undo"), TaskFailed).kind == "approval_refused"


# Operators ----------------------------------------------------------------------------------------


def test_a_question_that_nobody_can_answer_is_an_incident_and_retry_has_the_agent_ask_again() -> None:
    p = buyer()
    nobody = replace(p.directory, roles={})
    p.directory, able = nobody, p.directory
    assert only(p.want("buy"), IncidentRaised).kind == "nobody"
    assert (p.step("buy").status, p.step(TOOL).status) == ("suspended", "incident")
    p.directory = able
    assert only(p.command("retry", step="buy"), TaskDispatched).attempt == 2
    assert p.step(TOOL).status == "cancelled"
    p.want("buy")
    assert answer(p, "ana") == "accepted"
    p.check_replay()


def test_one_that_expires_as_an_incident_can_be_skipped_with_its_step() -> None:
    p = buyer(deadline="1h", on_expiry="incident")
    p.want("buy")
    assert only(p.wait(TOOL), IncidentRaised).kind == "expired"
    assert answer(p, "ana") == "late"
    p.command("skip", step="buy")
    assert p.step("buy").status == "skipped"
    p.succeed("tell")
    assert p.workflow().status == "completed"
    p.check_replay()


def test_one_that_is_stuck_can_be_failed() -> None:
    p = buyer(deadline="1h", on_expiry="incident")
    p.want("buy")
    p.wait(TOOL)
    assert only(p.command("fail"), WorkflowEnded).status == "failed"


def test_it_takes_no_input_of_an_operator() -> None:
    p = buyer(deadline="1h", on_expiry="incident")
    p.want("buy")
    p.wait(TOOL)
    assert names(p.command("retry", step=TOOL, task_input=3)) == ["CommandRefused"]


@pytest.mark.parametrize(
    ("terms", "kind"),
    [
        ({"role": "${{ event.data.nobody }}"}, "expression"),
        ({"deadline": {"working": "1h", "calendar": "berlin"}}, "calendar"),
    ],
)
def test_terms_that_cannot_be_made_are_an_incident(terms: dict[str, Any], kind: str) -> None:
    p = buyer(**terms)
    raised = only(p.want("buy"), IncidentRaised)
    assert (raised.step, raised.kind) == (TOOL, kind)
    p.check_replay()


def test_a_stuck_one_whose_task_succeeds_late_is_over() -> None:
    p = buyer({"timeout": "1m", "retry": {"attempts": 2}}, deadline="1h", on_expiry="incident")
    p.wait("buy")
    p.wait("buy")
    p.want("buy")
    p.wait(TOOL)
    assert names(p.succeed("buy", attempt=1))[:2] == ["StepCancelled", "TaskSucceeded"]
    p.check_replay()


# Other places -------------------------------------------------------------------------------------


def each(**more: Any) -> Partition:
    items = {"items": ["ana", "ben"], "tolerate": more.pop("tolerate", 0)}
    approve = more.pop("approve", {"people": "${{ item }}"})
    steps = {"buy": agent("buyer", "${{ item }}", for_each=items, approve=approve, **more)}
    p = Partition(route(steps), directory=CROWD)
    p.start()
    return p


def test_an_item_has_approvals_of_its_own() -> None:
    p = each()
    p.want("buy[0]")
    p.want("buy[1]")
    assert answer(p, "ben", step="buy[0].tool-pay") == "role"
    answer(p, "ana", step="buy[0].tool-pay")
    assert sent(p).step == "buy[0]"
    answer(p, "ben", step="buy[1].tool-pay")
    p.succeed("buy[0]")
    p.succeed("buy[1]")
    assert p.workflow().status == "completed"
    p.check_replay()


def test_items_whose_for_each_is_given_up_ask_no_longer() -> None:
    p = each(on_exhausted="continue", retry={"attempts": 1})
    p.want("buy[0]")
    approval = p.task_id("buy[0].tool-pay")
    events = p.fail("buy[1]")
    assert only(events, ApprovalWithdrawn).step == "buy[0].tool-pay"
    p.check_replay()
    assert approval.endswith("buy[0].tool-pay")


def test_an_item_that_is_skipped_while_stuck_counts_as_failed() -> None:
    p = each(approve={"role": "manager", "deadline": "1h", "on_expiry": "incident"}, tolerate=1)
    p.want("buy[0]")
    p.wait("buy[0].tool-pay")
    p.succeed("buy[1]")
    p.command("skip")
    assert p.workflow().status == "completed"
    p.check_replay()


def test_another_agent_that_takes_the_task_over_knows_no_verdict() -> None:
    p = buyer({"handover": {"to": ["second"]}})
    p.want("buy")
    answer(p, "ana")
    p.hand_over("buy", "second", 8)
    assert sent(p).approvals == ()
    p.want("buy")
    assert p.task_id(TOOL).endswith("~2")
    answer(p, "ana")
    assert (sent(p).agent, len(sent(p).approvals)) == ("second", 1)
    p.check_replay()


def test_a_round_of_a_loop_asks_anew() -> None:
    loop = {"repeat": {"from": "buy", "until": "steps.buy == 'done'", "limit": 3}}
    p = buyer(loop)
    p.want("buy")
    answer(p, "ana")
    p.succeed("buy", "more")
    assert sent(p).approvals == ()
    p.want("buy")
    assert p.task_id(TOOL).endswith("buy.2.tool-pay~2")
    answer(p, "ana")
    p.succeed("buy", "done")
    p.check_replay()


def test_a_death_before_it_stays_counted() -> None:
    p = buyer()
    p.interrupt("buy")
    p.want("buy")
    answer(p, "ana")
    assert only(p.decisions[-1].events, TaskDispatched).deaths == 1


def test_the_agent_hears_of_no_other_tasks_verdicts() -> None:
    p = buyer()
    assert sent(p).approvals == ()
    assert only(p.want("buy"), ApprovalWanted).digest == digest(None)


def test_a_verdict_that_no_agent_waits_for_fits_no_log() -> None:
    p = buyer()
    p.want("buy")
    answer(p, "ana")
    closed, workflow = only(p.decisions[-1].events, ApprovalClosed2), p.workflow()
    without = replace(workflow, steps={**workflow.steps, "buy": replace(p.step("buy"), tools=None)})
    with pytest.raises(ValueError, match="the agent of buy wants no approval"):
        evolve(without, closed, workflow_id="r:k", at_ms=1)
