"""Decide: an approval for each item of a list."""

import json
from pathlib import Path
from typing import Any

import pytest
from one_partition import Partition, agent, names, only, route
from voting_kit import CROWD

from mesh.core.effects import AskApproval, SendTask
from mesh.core.events import (
    AnswerRefused,
    ApprovalClosed2,
    ApprovalRequested2,
    ApprovalWithdrawn,
    IncidentRaised,
    TaskDispatched,
    WorkflowEnded,
)
from mesh.core.open_approvals import ShowApproval
from mesh.core.receipts import SendReceipt
from mesh.inspection.checks.report import check
from mesh.routes.problems import RouteRefused

ITEMS = [{"n": 1}, {"n": 2}, {"n": 3}]


def asking_each(
    items: Any = None, *, each: dict[str, Any] | None = None, more: dict[str, Any] | None = None, **terms: Any
) -> Partition:
    """Managers are asked about each item; then an agent gets the list of verdicts."""
    question = {"ask": "Pay ${{ item.n }}?", "payload": "${{ item }}", "role": "manager", **terms}
    fan = {"items": "${{ event.data.items }}", **(each or {})}
    steps = {
        "review": {"approval": question, "for_each": fan, **(more or {})},
        "pay": agent("p", "${{ steps.review }}", needs="review"),
    }
    p = Partition(route(steps), directory=CROWD)
    p.start(data={"items": ITEMS if items is None else items})
    return p


def say(p: Partition, place: str, by: str = "ben", decision: Any = "approve", **more: Any) -> str:
    p.vote(by, decision, step=place, **more)
    p.check_replay()
    return next(effect.code for effect in p.effects() if isinstance(effect, SendReceipt))


def test_each_item_is_asked_about_at_a_place_of_its_own() -> None:
    p = asking_each()
    asked = [effect for effect in p.effects() if isinstance(effect, AskApproval)]
    assert [(one.step, one.question, one.payload) for one in asked] == [
        (f"review[{n}]", f"Pay {n + 1}?", ITEMS[n]) for n in range(3)
    ]
    assert all(one.approval_id.endswith(f"/{one.step}") and one.terms is not None for one in asked)
    p.check_replay()


def test_the_output_is_the_list_of_verdicts() -> None:
    p = asking_each()
    assert say(p, "review[1]", payload={"n": 9}) == "accepted"
    assert say(p, "review[0]") == "accepted"
    say(p, "review[2]")
    given = only(p.effects(), SendTask).input
    assert [(one["verdict"], one["payload"], one["by"]) for one in given] == [
        ("approved", {"n": 1}, "ben"),
        ("approved", {"n": 9}, "ben"),
        ("approved", {"n": 3}, "ben"),
    ]
    assert [place for place in p.workflow().steps if "[" in place] == []


def test_more_items_are_asked_about_as_others_are_closed() -> None:
    p = asking_each(each={"concurrency": 2})
    assert "review[2]" not in p.workflow().steps
    say(p, "review[0]")
    assert only(p.decisions[-1].events, ApprovalRequested2).step == "review[2]"


def test_a_rejection_ends_the_workflow_where_none_is_tolerated() -> None:
    p = asking_each()
    say(p, "review[1]", decision="reject", reason="no")
    ended = only(p.decisions[-1].events, WorkflowEnded)
    assert (ended.status, ended.reason) == ("rejected", "review[1] was rejected by ben: no")
    withdrawn = [event.step for event in p.decisions[-1].events if isinstance(event, ApprovalWithdrawn)]
    assert withdrawn == ["review[0]", "review[2]"]


def test_tolerated_rejections_are_in_the_list() -> None:
    p = asking_each(each={"tolerate": 1})
    say(p, "review[0]", decision="reject")
    say(p, "review[1]")
    say(p, "review[2]")
    assert [one["verdict"] for one in only(p.effects(), SendTask).input] == ["rejected", "approved", "approved"]


def test_an_empty_list_asks_nobody() -> None:
    p = asking_each([])
    assert only(p.decisions[-1].events, TaskDispatched).input == []


def test_deadlines_are_those_of_the_items() -> None:
    p = asking_each(each={"tolerate": "all"}, deadline="1h")
    p.wait("review[0]")
    assert only(p.decisions[-1].events, ApprovalClosed2).expired
    p.wait("review[1]")
    p.wait("review[2]")
    assert [one["verdict"] for one in only(p.effects(), SendTask).input] == ["rejected"] * 3


@pytest.mark.parametrize("tolerate", [0, 1])
def test_a_late_answer_to_an_item_is_held_and_refused_at_its_end(tolerate: int) -> None:
    p = asking_each([{"n": 1}], deadline="1h", each={"tolerate": tolerate})
    p.vote("ben", step="review[0]", at_ms=(p.step("review[0]").due_at_ms or 0) + 1)
    p.wait("review[0]")
    heard = [(effect.by, effect.code) for effect in p.effects() if isinstance(effect, SendReceipt)]
    assert heard == [("", "expired"), ("ben", "late")]
    p.check_replay()


def test_an_item_that_can_not_be_asked_about_is_an_incident_and_can_be_retried_or_skipped() -> None:
    p = asking_each([{"n": 1}, {"n": 2, "who": "manager"}], role="${{ item.who }}", each={"tolerate": 2})
    assert only(p.decisions[-1].events, IncidentRaised).step == "review[0]"
    p.command("retry", step="review[0]")
    assert p.step("review[0]").status == "incident"
    p.command("skip", step="review[0]")
    say(p, "review[1]")
    assert [one and one["verdict"] for one in only(p.effects(), SendTask).input] == [None, "approved"]


def test_a_payload_that_can_not_be_made_is_an_incident_of_its_item() -> None:
    p = asking_each([{}], payload="${{ item.n + 1 }}", ask="Pay?")
    assert only(p.decisions[-1].events, IncidentRaised).step == "review[0]"


def test_an_expired_item_that_is_an_incident_is_asked_again() -> None:
    p = asking_each([{"n": 1}], deadline="1h", on_expiry="incident")
    p.wait("review[0]")
    p.command("retry")
    assert p.step("review[0]").status == "asking"
    assert say(p, "review[0]") == "accepted"


def test_a_late_answer_to_an_item_of_what_has_ended_is_refused_as_closed() -> None:
    p = asking_each([{"n": 1}])
    about: dict[str, Any] = {"approval_id": p.step("review[0]").task_id, "digest": p.step("review[0]").digest}
    say(p, "review[0]")
    p.answer("approve", by="ana", **about)
    assert only(p.decisions[-1].events, AnswerRefused).code == "closed"
    p.answer("approve", by="ana", approval_id=about["approval_id"].replace("[0]", "[7]"))
    assert only(p.decisions[-1].events, AnswerRefused).code == "closed"


def test_an_item_that_was_never_asked_about_is_unknown() -> None:
    p = asking_each([{"n": 1}])
    p.answer("approve", by="ana", approval_id=p.step("review[0]").task_id.replace("[0]", "[7]"))
    assert only(p.decisions[-1].events, AnswerRefused).code == "unknown"


def test_questions_of_items_are_asked_back_and_go_with_them() -> None:
    p = asking_each([{"n": 1}, {"n": 2}], ask_back={"to": {"agent": "x"}}, quorum=2)
    assert say(p, "review[0]", decision="ask", text="why?") == "asked"
    assert only(p.effects(), SendTask).step == "review[0].ask1"
    p.succeed("review[0].ask1", "so")
    for by in ("ben", "ana"):
        say(p, "review[0]", by)
        say(p, "review[1]", by)
    assert [place for place in p.workflow().steps if "[" in place] == []


def test_a_cancelled_workflow_withdraws_all_items() -> None:
    p = asking_each(ask_back={"to": {"agent": "x"}})
    say(p, "review[0]", decision="ask", text="why?")
    p.command("cancel")
    assert [event.step for event in p.decisions[-1].events if isinstance(event, ApprovalWithdrawn)] == [
        "review[0]", "review[1]", "review[2]",
    ]  # fmt: skip
    assert [place for place in p.workflow().steps if "[" in place] == []
    gone = {effect.key.partition("/")[0] for effect in p.effects() if isinstance(effect, ShowApproval)}
    assert gone == {"request", "standing", "note"}


def test_a_race_that_is_lost_withdraws_the_items() -> None:
    question = {"ask": "Pay?", "payload": "${{ item }}", "role": "manager"}
    steps = {
        "review": {"approval": question, "for_each": [1, 2]},
        "quick": agent("q"),
        "next": agent("n", needs={"first_of": ["review", "quick"]}),
    }
    p = Partition(route(steps), directory=CROWD)
    p.start(data={})
    p.succeed("quick")
    assert names(p.decisions[-1].events)[:4] == [
        "TaskSucceeded",
        "ApprovalWithdrawn",
        "ApprovalWithdrawn",
        "StepCancelled",
    ]
    p.check_replay()


def test_a_for_each_that_is_skipped_by_its_condition_has_no_output() -> None:
    p = asking_each(more={"if": "event.data.items.size() > 3"})
    assert only(p.decisions[-1].events, TaskDispatched).input is None


def test_a_list_that_is_none_can_be_skipped() -> None:
    p = asking_each("none")
    p.command("skip", step="review")
    assert only(p.decisions[-1].events, TaskDispatched).input is None


def test_who_voted_on_any_item_can_be_excluded_later() -> None:
    question = {"ask": "Pay?", "payload": 1, "role": "manager"}
    steps = {
        "first": {"approval": question, "for_each": [1, 2]},
        "second": {"needs": "first", "approval": {**question, "not": {"voters_of": "first"}}},
    }
    p = Partition(route(steps), directory=CROWD)
    p.start(data={})
    say(p, "first[0]", "ana")
    say(p, "first[1]", "ben")
    assert say(p, "second", "ana") == "excluded"
    assert say(p, "second", "ben") == "excluded"
    assert say(p, "second", "Cy") == "accepted"


def test_the_loop_of_an_item_reads_its_round() -> None:
    question = {"ask": "Pay ${{ item }} in ${{ round }}?", "payload": "${{ index }}", "role": "manager"}
    loop = {"until": "steps.review.all(one, one.verdict == 'approved')", "limit": 2}
    p = Partition(
        route({"review": {"approval": question, "for_each": {"items": [7], "tolerate": 1}, "repeat": loop}}),
        directory=CROWD,
    )
    p.start(data={})
    say(p, "review[0]", decision="reject")
    asked = only(p.effects(), AskApproval)
    assert (asked.question, asked.payload, asked.approval_id.rpartition("/")[2]) == ("Pay 7 in 2?", 0, "review.2[0]")
    assert say(p, "review[0]") == "accepted"


def test_item_is_read_where_there_are_items_alone() -> None:
    with pytest.raises(RouteRefused, match="there is no item here"):
        route({"review": {"approval": {"ask": "${{ item }}", "payload": 1, "role": "a"}}})


def test_what_later_steps_read_is_a_list(tmp_path: Path) -> None:
    question = {"ask": "Pay?", "payload": "${{ item }}", "role": "manager"}
    sorry = {"needs": "review", "if": "steps.review.exists(one, one.verdict == 'rejected')", "agent": "x", "input": 1}
    steps = {"review": {"approval": question, "for_each": {"items": [1], "tolerate": 1}}, "sorry": sorry}
    file = tmp_path / "r.json"

    def codes(condition: str) -> list[str]:
        file.write_text(
            json.dumps({"route": "r", "on": {"type": "t"}, "steps": {**steps, "sorry": {**sorry, "if": condition}}})
        )
        return [one.code for one in check([file]).findings if one.severity == "error"]

    assert codes("steps.review.exists(one, one.verdict == 'rejected')") == []
    assert codes("steps.review.verdict == 'rejected'") != []
