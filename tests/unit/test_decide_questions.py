"""Decide: questions that people ask back before they answer, of people and of agents."""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, names, only, route
from voting_kit import CROWD, asked, closed, code, excluding, receipt

from mesh.core.approvals import MOST_NOTES, MOST_TEXT
from mesh.core.decide import get_stuck
from mesh.core.decide.begin.task import question_work
from mesh.core.decide.settle import questions
from mesh.core.effects import SendTask, WithdrawTask
from mesh.core.events import (
    AnswerRefused2,
    IncidentRaised,
    InputDismissed,
    QuestionAnswered,
    QuestionAsked,
    StepCancelled,
    TaskDispatched,
)
from mesh.core.inputs import NOWHERE, AnswerGiven2, SlotDenied, TaskUndeliverable
from mesh.core.open_approvals import Note, ShowApproval
from mesh.core.questions import MOST_PROPOSAL, Addressee, AskingBack
from mesh.core.receipts import SendReceipt
from mesh.core.state import AgentCard

HOUR_MS = 3_600_000
RESEARCHER = {"agent": "researcher"}


def asking(*to: Any, more: dict[str, Any] | None = None, **terms: Any) -> Partition:
    """An approval of two managers who may ask back."""
    return asked(quorum=2, ask_back={"to": list(to), **(more or {})}, **terms)


def ask(p: Partition, by: str = "ana", **more: Any) -> str:
    return code(p, by, "ask", **{"text": "why?", **more})


def answer_of(p: Partition) -> QuestionAnswered:
    return only(p.decisions[-1].events, QuestionAnswered)


def notes(p: Partition) -> list[Note]:
    """What the last decision shows of notes."""
    shown = [one.value for one in p.effects() if isinstance(one, ShowApproval)]
    return [value for value in shown if isinstance(value, Note)]


# People -------------------------------------------------------------------------------------------


def test_a_question_to_people_is_a_note_and_changes_no_vote() -> None:
    p = asking({"role": "clerk"})
    code(p, "ben")
    assert ask(p) == "asked"
    note = only(notes(p), Note)
    assert (note.kind, note.question, note.to, note.by, note.number) == ("question", 1, "clerk", "ana", 1)
    state = p.step("review").asking
    assert state is not None
    assert [vote.by for vote in state.votes] == ["ben"]
    assert [one.number for one in state.questions] == [1]
    assert code(p, "ana") == "accepted"


def test_who_was_asked_answers_without_a_right_to_vote() -> None:
    p = asking({"role": "clerk"})
    ask(p)
    assert code(p, "dan", "inform", text="it is broken") == "informed"
    note = only(notes(p), Note)
    assert (note.kind, note.question, note.by, note.text, note.number) == ("answer", 1, "dan", "it is broken", 2)
    assert code(p, "dan") == "role"
    assert code(p, "dan", "inform", text="more") == "question"


def test_the_requester_answers_though_they_are_excluded() -> None:
    p = asking("requester", requester="${{ event.data.by }}", **excluding({"not": "requester"}))
    assert ask(p, to="requester") == "asked"
    assert code(p, "ben", "inform", text="so it is") == "informed"
    assert code(p, "ben", "ask", text="why?") == "excluded"


def test_who_was_not_asked_cannot_answer() -> None:
    p = asking({"people": ["eve", "dan"]})
    ask(p, to="eve, dan")
    assert code(p, "ben", "inform", text="no") == "role"
    assert "for eve, dan" in receipt(p).message
    assert code(p, "eve", "inform", text="yes") == "informed"


def test_the_addressee_must_be_named_where_there_are_several() -> None:
    p = asking({"role": "clerk"}, RESEARCHER)
    assert ask(p) == "question"
    assert "clerk, researcher" in receipt(p).message
    assert ask(p, to="nobody") == "question"
    assert ask(p, to="clerk") == "asked"


def test_of_several_open_questions_the_answer_names_one() -> None:
    p = asking({"role": "clerk"}, {"people": "dan"})
    ask(p, to="clerk")
    ask(p, to="dan")
    assert code(p, "dan", "inform", text="well") == "question"
    assert "open are 1, 2" in receipt(p).message
    assert code(p, "dan", "inform", text="well", question=3) == "question"
    assert code(p, "dan", "inform", text="well", question=2) == "informed"
    assert code(p, "dan", "inform", text="well") == "informed"
    assert answer_of(p).question == 1
    assert code(p, "dan", "inform", text="well") == "question"
    assert "none is open" in receipt(p).message


def test_where_the_route_lets_nobody_ask_back_a_question_is_refused() -> None:
    p = asked(quorum=2)
    assert ask(p) == "question"


@pytest.mark.parametrize("by", ["dan", "eve"])
def test_who_may_not_answer_may_not_ask(by: str) -> None:
    assert ask(asking({"role": "clerk"}), by) == "role"


def test_who_may_edit_may_ask() -> None:
    assert ask(asking({"role": "legal"}, edit={"role": "clerk"}), "dan") == "asked"


@pytest.mark.parametrize(("text", "why"), [(" ", "malformed"), ("x" * (MOST_TEXT + 1), "too_large")])
def test_a_question_and_its_answer_need_a_text_that_is_not_too_long(text: str, why: str) -> None:
    p = asking({"role": "clerk"})
    assert ask(p, text=text) == why
    ask(p)
    assert code(p, "dan", "inform", text=text) == why


# Limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2])
def test_questions_have_a_limit(limit: int) -> None:
    p = asking({"role": "clerk"}, more={"limit": limit})
    for _ in range(limit):
        assert ask(p) == "asked"
        code(p, "dan", "inform", text="so")
    assert ask(p) == "limit"


def test_the_answer_to_an_open_question_always_has_room() -> None:
    p = asking({"role": "clerk"})
    for number in range(MOST_NOTES - 3):
        assert code(p, ("ana", "ben")[number % 2], "comment", text="hm") == "noted"
    assert ask(p) == "asked"
    assert code(p, "ben", "comment", text="hm") == "noted"
    assert code(p, "ben", "comment", text="hm") == "limit"
    assert ask(p) == "limit"
    assert code(p, "dan", "inform", text="so") == "informed"
    assert answer_of(p).note == MOST_NOTES


# Deadlines ----------------------------------------------------------------------------------------


def test_each_question_moves_the_deadline() -> None:
    p = asking({"role": "clerk"}, more={"extends": "2h"}, deadline="1h")
    due = p.step("review").due_at_ms or 0
    ask(p)
    assert p.step("review").due_at_ms == due + 2 * HOUR_MS
    ask(p)
    assert p.step("review").due_at_ms == due + 4 * HOUR_MS
    p.wait("review")
    assert closed(p).expired


def test_without_extends_the_deadline_stays() -> None:
    p = asking({"role": "clerk"}, deadline="1h")
    due = p.step("review").due_at_ms
    ask(p)
    assert p.step("review").due_at_ms == due


def test_a_question_in_time_lets_late_answers_count() -> None:
    p = asking({"role": "clerk"}, more={"extends": "2h"}, deadline="1h")
    due = p.step("review").due_at_ms or 0
    assert names(p.vote("ben", "approve", at_ms=due + 1)) == ["AnswerHeld"]
    p.vote("ana", "ask", text="why?", at_ms=due)
    assert [effect.code for effect in p.effects() if isinstance(effect, SendReceipt)] == ["asked", "counted"]
    p.check_replay()


def test_a_late_question_is_held_and_asked_when_the_deadline_is_moved() -> None:
    p = asking({"role": "clerk"}, RESEARCHER, more={"extends": "1h"}, deadline="1h")
    due = p.step("review").due_at_ms or 0
    p.vote("ben", "ask", text="and you?", to="researcher", at_ms=due + 2)
    p.vote("dan", "inform", text="so", question=1, at_ms=due + 3)
    p.vote("ana", "ask", text="why?", to="clerk", at_ms=due)
    heard = [effect.code for effect in p.effects() if isinstance(effect, SendReceipt)]
    assert heard == ["asked", "asked", "informed"]
    assert only(p.effects(), SendTask).step == "review.ask2"
    p.check_replay()


def test_an_answer_that_was_in_time_by_a_question_is_refused_as_closed() -> None:
    p = asked(quorum=1, ask_back={"to": [{"role": "clerk"}], "extends": "1h"}, deadline="1h")
    due = p.step("review").due_at_ms or 0
    for by, after in (("ben", 1), ("ana", 2)):
        p.vote(by, "approve", at_ms=due + after)
    p.vote("Cy", "ask", text="why?", at_ms=due)
    refused = only(p.decisions[-1].events, AnswerRefused2)
    assert (refused.by, refused.code) == ("ana", "closed")
    p.check_replay()


# Agents -------------------------------------------------------------------------------------------


def asking_agent(**terms: Any) -> Partition:
    p = asking(RESEARCHER, **terms)
    assert ask(p) == "asked"
    return p


def test_a_question_to_an_agent_is_a_task() -> None:
    p = asking_agent()
    task = only(p.effects(), SendTask)
    asked_id = p.step("review").task_id
    assert (task.step, task.agent, task.attempt) == ("review.ask1", "researcher", 1)
    assert task.task_id == f"{asked_id}.ask1"
    assert task.input == {"question": "why?", "payload": p.step("review").input, "approval_id": asked_id}
    assert p.step("review").status == "asking"


@pytest.mark.parametrize(
    ("output", "text", "proposal"),
    [
        ("because", "because", None),
        ({"text": "because", "proposal": {"n": 2}}, "because", {"n": 2}),
        ({"text": "because"}, "because", None),
        ({"text": 1, "a": 2}, '{"a":2,"text":1}', None),
        (["x"], '["x"]', None),
        (None, "null", None),
        ("x" * (MOST_TEXT + 1), "x" * (MOST_TEXT - 3) + "...", None),
    ],
)
def test_the_agents_result_is_the_answer(output: Any, text: str, proposal: Any) -> None:
    p = asking_agent()
    p.succeed("review.ask1", output)
    found = answer_of(p)
    assert (found.agent, found.by, found.reply.text, found.failed) == ("researcher", "", text, False)
    assert (found.reply.proposal or None) == proposal
    note = only(notes(p), Note)
    assert (note.kind, note.agent, note.proposal) == ("answer", "researcher", found.reply.proposal)
    assert not [effect for effect in p.effects() if isinstance(effect, SendReceipt)]
    assert code(p, "ben") == "counted"
    assert code(p, "ana") == "accepted"


def test_a_proposal_that_is_too_large_is_left_out() -> None:
    p = asking_agent()
    p.succeed("review.ask1", {"text": "x" * MOST_TEXT, "proposal": "y" * (MOST_PROPOSAL + 1)})
    reply = answer_of(p).reply
    assert "its proposal is left out" in reply.text
    assert len(reply.text) == MOST_TEXT


def test_an_agent_that_fails_three_times_is_no_incident() -> None:
    p = asking_agent()
    for attempt in (1, 2, 3):
        p.fail("review.ask1", attempt=attempt)
        if attempt < 3:
            p.wait("review.ask1")
    found = answer_of(p)
    assert (found.failed, found.question) == (True, 1)
    assert "attempt 3 of 3" in found.reply.text
    assert p.step("review.ask1").status == "failed"
    assert p.step("review").status == "asking"
    assert not [event for event in p.decisions[-1].events if isinstance(event, IncidentRaised)]
    p.check_replay()


def test_an_agent_that_never_answers_times_out() -> None:
    p = asking_agent()
    for attempt in (1, 2, 3):
        p.wait("review.ask1")
        if attempt < 3:
            p.wait("review.ask1")
    assert "timeout" in answer_of(p).reply.text


def test_an_agent_cannot_hand_a_question_over() -> None:
    p = asking_agent()
    p.hand_over("review.ask1", "other")
    assert "its route lets it hand over to nobody" in answer_of(p).reply.text


def test_a_question_that_cannot_be_sent_has_failed() -> None:
    p = asking_agent()
    task = p.step("review.ask1").task_id
    p.give(TaskUndeliverable(workflow_id="r:k", task_id=task, attempt=1, code="too_large", message="too large"))
    assert names(p.decisions[-1].events) == ["TaskFailed", "StepGivenUp", "QuestionAnswered"]


def test_an_agent_under_a_limit_of_its_own_is_asked_in_turn() -> None:
    card = AgentCard(name="researcher", version="1", topic="t", max_outstanding=1)
    p = asking(RESEARCHER, directory=replace(CROWD, agents={"researcher": card}))
    ask(p)
    assert p.step("review.ask1").status == "queued"
    slot = p.workflow().slots["review.ask1"][-1]
    p.give(SlotDenied(**_from("r:k"), limit=slot.limit, task_id=slot.task_id, attempt=1, message="unreadable"))
    assert answer_of(p).failed
    assert "SlotReleased" in names(p.decisions[-1].events)
    p.check_replay()


def _from(workflow_id: str) -> dict[str, Any]:
    return {**NOWHERE, "workflow_id": workflow_id, "source_at_ms": 0}


def test_the_close_withdraws_what_is_open() -> None:
    p = asking(RESEARCHER, {"role": "clerk"})
    ask(p, to="researcher")
    ask(p, to="clerk")
    for by in ("ben", "Cy"):
        p.vote(by, "approve")
    assert only(p.decisions[-1].events, StepCancelled).step == "review.ask1"
    assert only(p.effects(), WithdrawTask).agent == "researcher"
    p.succeed("review.ask1", "too late")
    assert only(p.decisions[-1].events, InputDismissed).code == "repeated"
    assert code(p, "dan", "inform", text="too late") == "closed"
    p.check_replay()


def test_a_question_that_a_held_vote_closes_at_once_is_not_sent() -> None:
    p = asked(quorum=1, ask_back={"to": [RESEARCHER], "extends": "1h"}, deadline="1h", more={"budget": {"hops": 9}})
    due = p.step("review").due_at_ms or 0
    p.vote("ben", "approve", at_ms=due + 1)
    p.vote("ana", "ask", text="why?", at_ms=due)
    assert "review.ask1" not in [effect.step for effect in p.effects() if isinstance(effect, SendTask)]
    assert p.step("review.ask1").status == "cancelled"
    account = p.workflow().account
    assert account is not None
    assert account.spent == {"hops": 1.0}  # of the step after the approval
    p.check_replay()


def test_a_deadline_that_is_an_incident_withdraws_questions_and_asks_again_with_the_next_number() -> None:
    p = asking(RESEARCHER, deadline="1h", on_expiry="incident")
    ask(p)
    p.wait("review")
    assert p.step("review.ask1").status == "cancelled"
    p.command("retry")
    assert p.step("review").status == "asking"
    ask(p)
    assert only(p.decisions[-1].events, QuestionAsked).question == 2
    assert only(p.effects(), SendTask).step == "review.ask2"


def test_an_approval_that_is_asked_again_begins_its_questions_again() -> None:
    steps = {
        "review": {"approval": {**_question(), "ask_back": {"to": RESEARCHER}}},
        "pay": {"needs": "review", "capability": "paying", "input": 1},
    }
    p = Partition(route(steps), directory=CROWD)
    p.start(data={"by": "ben"})
    ask(p)
    p.interrupt("review.ask1")
    code(p, "ben")
    p.command("retry", step="review")
    assert "review.ask1" not in p.workflow().steps
    ask(p)
    task = only(p.decisions[-1].events, TaskDispatched)
    assert (task.task_id.rpartition("/")[2], task.deaths, task.hop) == ("review.ask1~2", 0, 2)


def _question() -> dict[str, Any]:
    return {"ask": "Pay?", "payload": 1, "role": "manager"}


def test_in_a_loop_each_round_has_questions_of_its_own() -> None:
    steps = {
        "draft": agent("drafter"),
        "review": {
            "needs": "draft",
            "approval": {**_question(), "ask_back": {"to": RESEARCHER}},
            "repeat": {"from": "draft", "until": "steps.review.verdict == 'approved'", "limit": 3},
        },
    }
    p = Partition(route(steps), directory=CROWD)
    p.start(data={"by": "ben"})
    p.succeed("draft", 1)
    ask(p)
    code(p, "ben", "reject")
    assert p.step("review.ask1").status == "cancelled"
    p.succeed("draft", 2)
    ask(p)
    assert only(p.effects(), SendTask).task_id.rpartition("/")[2] == "review.2.ask1"
    p.succeed("review.ask1", "so")
    assert answer_of(p).reply.text == "so"


def test_a_cancelled_workflow_withdraws_its_questions() -> None:
    p = asking_agent()
    p.command("cancel")
    assert only(p.effects(), WithdrawTask).task_id.endswith("review.ask1")


def test_a_workflow_that_is_undone_cancels_each_question_once() -> None:
    steps = {
        "book": agent("booker", undo={"agent": "unbooker", "input": 1}),
        "review": {"needs": "book", "approval": {**_question(), "ask_back": {"to": RESEARCHER}}},
    }
    p = Partition(route(steps), directory=CROWD)
    p.start(data={"by": "ben"})
    p.succeed("book", 1)
    ask(p)
    p.command("cancel")
    assert [one.step for one in p.decisions[-1].events if isinstance(one, StepCancelled)] == ["review.ask1"]
    p.check_replay()


def test_an_agent_is_not_asked_where_the_budget_lacks_a_hop() -> None:
    p = asked(quorum=2, ask_back={"to": RESEARCHER}, more={"budget": {"hops": 1}})
    assert ask(p) == "asked"
    assert ask(p) == "limit"
    assert "the workflow's budget lacks" in receipt(p).message


def test_a_retry_of_a_question_goes_out_whatever_the_budget_has_left() -> None:
    p = asked(quorum=2, ask_back={"to": RESEARCHER}, more={"budget": {"hops": 1}})
    ask(p)
    p.fail("review.ask1")
    p.wait("review.ask1")
    assert p.step("review.ask1").status == "running"


def test_an_owner_that_is_stuck_with_the_approval_withdraws_its_questions() -> None:
    p = asking_agent()
    decided = get_stuck(p.workflow(), "review", "can't be decided", workflow_id="r:k", now_ms=p.now_ms)
    assert names(decided.events) == ["IncidentRaised", "StepCancelled"]


# What the route says ------------------------------------------------------------------------------


def test_the_terms_name_all_who_can_be_asked() -> None:
    p = asked(
        requester="${{ event.data.by }}",
        ask_back={"to": ["requester", RESEARCHER, {"role": "legal"}, {"people": ["x", "y"]}], "extends": "1h"},
        deadline="1h",
    )
    state = p.step("review").asking
    assert state is not None
    assert state.terms.asking_back == AskingBack(
        to=(
            Addressee(name="requester", people=("ben",)),
            Addressee(name="researcher", agent="researcher"),
            Addressee(name="legal", role="legal"),
            Addressee(name="x, y", people=("x", "y")),
        ),
        extends_ms=HOUR_MS,
    )


@pytest.mark.parametrize("to", [{"role": "${{ event.data.none }}"}, {"people": "${{ event.data.empty }}"}])
def test_a_name_that_is_missing_is_an_incident(to: Any) -> None:
    p = asked(ask_back={"to": to}, data={"by": "ben", "empty": [], "none": ""})
    incident = p.step("review").incident
    assert incident is not None
    assert incident.kind == "expression"


def test_two_who_are_called_alike_are_an_incident() -> None:
    p = asked(
        ask_back={"to": [{"role": "clerk"}, {"people": "${{ event.data.whom }}"}]}, data={"by": "b", "whom": "clerk"}
    )
    incident = p.step("review").incident
    assert incident is not None
    assert "two of those who can be asked back are called clerk" in incident.message


def test_what_nobody_has_judged_is_no_question() -> None:
    p = asked(quorum=2)
    step = p.step("review")
    assert step.asking is not None
    word = AnswerGiven2(**_from("r:k"), approval_id=step.task_id, answer_id="a", decision="ask", by="ana", text="?")
    with pytest.raises(AssertionError, match="nobody was asked"):
        questions.asked({}, word, step, step.asking)
    with pytest.raises(AssertionError, match="no question is answered"):
        questions.informed({}, word, step.asking)
    with pytest.raises(AssertionError, match="is no question"):
        questions.answered(_draft(p), "pay.ask1", "x")


def _draft(p: Partition) -> Any:
    from mesh.core.decide.draft import Draft  # noqa: PLC0415 - of this test alone

    workflow = p.workflow()
    steps = {**workflow.steps, "pay": replace(p.step("review"), asking=None)}
    return Draft(replace(workflow, steps=steps), "r:k", None, CROWD, p.now_ms)


def test_no_route_makes_the_input_of_a_question() -> None:
    assert question_work("researcher").input.render({}) is None
