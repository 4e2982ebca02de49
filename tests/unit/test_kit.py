"""The kit for tests of routes: time, scripts, people, and what it says where a test is wrong."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mesh import Context, HandOver, NonRetryable, agent
from mesh.errors import RouteInvalid
from mesh.testing import (
    KitError,
    MeshKit,
    Question,
    Refused,
    StandsStill,
    approves,
    dies,
    fails,
    hangs,
    later,
    rejects,
    silent,
    uses,
)

REFUND = """
route: refund
on: {type: shop.refund}
key: ${{ event.subject }}
steps:
  check: {agent: checker, input: "${{ event.data }}"}
  approve:
    needs: check
    if: steps.check.risk == 'high'
    approval: {ask: "Refund ${{ event.data.amount }}?", payload: "${{ event.data }}", role: manager, deadline: 24h}
  pay: {needs: approve, agent: payer, input: "${{ steps.approve.payload }}", timeout: 30s, retry: {attempts: 3, backoff: 1s, jitter: 0}}
"""


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[MeshKit]:
    with MeshKit(folder=tmp_path) as one:
        yield one


@pytest.fixture
def desk(kit: MeshKit) -> MeshKit:
    """The refund desk, where nothing is risky and all is paid."""
    kit.route(REFUND)
    kit.agent("checker", {"risk": "low"})
    kit.agent("payer", {"paid": True})
    kit.person("ana", roles=["manager"])
    return kit


def one_step(kit: MeshKit, **more: Any) -> None:
    step = {"agent": "worker", "input": "${{ event.data }}", "timeout": "30s", "retry": {"backoff": "1s", "jitter": 0}}
    kit.route({"route": "r", "on": {"type": "t"}, "key": "k", "steps": {"work": {**step, **more}}})


# Time ---------------------------------------------------------------------------------------------


def test_all_that_needs_no_time_has_happened_after_each_call(desk: MeshKit) -> None:
    began = desk.now
    run = desk.publish(type="shop.refund", subject="42", data={"amount": 9})
    assert run.steps == {"check": "succeeded", "approve": "skipped", "pay": "succeeded"}
    assert (run.outcome.status, run.outcome.data) == ("completed", {"pay": {"paid": True}})
    assert (desk.now - began).total_seconds() < 2


def test_days_cost_no_more_than_a_moment(desk: MeshKit) -> None:
    desk.agent("checker", {"risk": "high"})
    run = desk.publish(type="shop.refund", subject="42", data={"amount": 9})
    before = desk.steps
    desk.advance("23h 59m")
    assert (
        desk.steps - before < 500
    )  # steps of the event loop; a router that polled through that day would take a million
    assert run.steps["approve"] == "asking"
    before = desk.steps
    desk.advance("20d")
    assert desk.steps - before < 1_500
    assert run.steps["approve"] == "rejected"


def test_what_is_due_after_a_time_has_happened_then_and_not_before(desk: MeshKit) -> None:
    desk.agent("checker", {"risk": "high"})
    run = desk.publish(type="shop.refund", subject="42", data={"amount": 9})
    desk.advance("23h 59m 59.9s")
    assert run.status == "running"
    desk.advance("100ms")
    assert run.status == "rejected"


def test_time_passes_only_as_far_as_is_needed(kit: MeshKit) -> None:
    steps = {"rest": {"wait": "2d"}, "work": {"needs": "rest", "agent": "worker", "input": 1}}
    kit.route({"route": "r", "on": {"type": "t"}, "steps": steps})
    kit.agent("worker", "done")
    began = kit.now
    run = kit.publish(type="t")
    assert run.outcome.data == {"work": "done"}
    assert 0 <= (kit.now - began).total_seconds() - 2 * 86_400 < 2


@pytest.mark.parametrize("wrong", ["", "soon", "5", "5 parsecs", "-1h", -1])
def test_a_duration_that_is_none_is_refused(desk: MeshKit, wrong: str | float) -> None:
    with pytest.raises(KitError, match="a duration can't be"):
        desk.advance(wrong)


# Agents -------------------------------------------------------------------------------------------


def test_an_agent_fails_as_often_as_it_is_scripted(desk: MeshKit) -> None:
    payer = desk.agent("payer", fails("ConnectError", times=2), then={"paid": True})
    run = desk.publish(type="shop.refund", subject="42", data={"amount": 9})
    assert run.outcome.status == "completed"
    assert [call.attempt for call in payer.calls] == [1, 2, 3]
    assert payer.inputs == [{"amount": 9}] * 3


@pytest.mark.parametrize(
    ("script", "ends"),
    [
        ([TimeoutError("slow"), ValueError, "done"], "succeeded"),
        (iter([TimeoutError("slow"), "done"]), "succeeded"),
        ([fails("Boom", times=2), "done"], "succeeded"),
        ([silent, "done"], "succeeded"),
        (later("29s", "done"), "succeeded"),
        ([later("31s", "late"), "done"], "succeeded"),
        (lambda value: value, "succeeded"),
        (lambda value, ctx: [value, ctx.attempt], "succeeded"),
        (fails("Boom"), "incident"),
        (fails("Boom", retryable=False), "incident"),
        (silent, "incident"),
        (NonRetryable("no title", kind="no_title"), "incident"),
        (later("31s", "late"), "succeeded"),
    ],
)
def test_a_script_is_played(kit: MeshKit, script: Any, ends: str) -> None:
    one_step(kit)
    kit.agent("worker", script)
    kit.publish(type="t", data=1).reaches("work", ends)


def test_a_real_agent_works_as_in_production(kit: MeshKit) -> None:
    class Claim(BaseModel):
        amount: int

    class Risk(BaseModel):
        risk: str

    @agent("checker")
    def check(claim: Claim, ctx: Context) -> Risk:
        async def look() -> str:
            return "high" if claim.amount > 100 else "low"

        # which it may: in production it has a thread of its own
        return Risk(risk=asyncio.run(look()))

    @agent("payer")
    async def pay(claim: Claim) -> dict[str, bool]:
        await asyncio.sleep(20)  # takes no time
        return {"paid": True}

    kit.route(REFUND)
    kit.agent(check)
    kit.agent(pay)
    kit.person("ana", roles="manager")
    assert kit.publish(type="shop.refund", subject="1", data={"amount": 9}).outcome.data == {"pay": {"paid": True}}
    failed = kit.publish(type="shop.refund", subject="2", data={"amount": "much"})
    assert "amount: Input should be a valid integer" in failed.needs_operator("check")


def test_the_form_of_a_real_agents_output_holds_for_edits(kit: MeshKit) -> None:
    class Text(BaseModel):
        text: str

    @agent("writer")
    async def write(value: int) -> Text:
        return Text(text="Thanks")

    steps = {
        "draft": {"agent": "writer", "input": 1},
        "review": {"needs": "draft", "approval": {"ask": "Good?", "payload": "${{ steps.draft }}", "role": "editor"}},
    }
    kit.route({"route": "r", "on": {"type": "t"}, "steps": steps})
    kit.agent(write)
    kit.person("ana", roles="editor")
    run = kit.publish(type="t")
    with pytest.raises(Refused, match="'text' is a required property") as refused:
        run.approve("review", payload={"txt": "Thank you"})
    assert refused.value.code == "schema"
    run.approve("review", payload={"text": "Thank you"})
    assert run.output("review")["payload"] == {"text": "Thank you"}


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (silent, "start_timeout"),
        (dies(after="1m"), "heartbeat_timeout"),
        (hangs, "run_timeout"),
        (later("4m", "done"), None),
    ],
)
def test_signs_of_life_are_given_as_long_as_an_agent_lives(kit: MeshKit, script: Any, kind: str | None) -> None:
    periods = {"timeout": "1h", "start_timeout": "30s", "run_timeout": "5m", "heartbeat": "20s"}
    one_step(kit, **periods, retry={"attempts": 1})
    kit.agent("worker", script)
    run = kit.publish(type="t", data=1)
    if kind is None:
        assert run.outcome.data == {"work": "done"}
    else:
        assert run.needs_operator("work").startswith(kind)


def test_what_an_agent_uses_is_taken_from_the_budget(kit: MeshKit) -> None:
    @agent("second")
    async def work(value: int, ctx: Context) -> int:
        ctx.used(tokens=50)
        return value

    steps = {
        name: {"agent": name, "input": 1, "reserve": {"tokens": 60}, **({"needs": need} if need else {})}
        for name, need in (("first", ""), ("second", "first"), ("third", "second"))
    }
    kit.route(
        {
            "route": "r",
            "on": {"type": "t"},
            "key": "k",
            "budget": {"tokens": 150, "on_exhausted": "fail"},
            "steps": steps,
        }
    )
    kit.agent("first", uses(1, tokens=40))
    kit.agent(work)
    kit.agent("third", uses(3, tokens=1))
    assert kit.publish(type="t").outcome.status == "completed"  # 60 of 150 were left for the third


def test_a_task_may_be_handed_over(kit: MeshKit) -> None:
    one_step(kit, handover={"to": ["expert"]})
    kit.agent("worker", HandOver("expert", {"for": "you"}))
    expert = kit.agent("expert", "done")
    assert kit.publish(type="t", data=1).outcome.data == {"work": "done"}
    assert expert.inputs == [{"for": "you"}]


def test_what_a_script_asserts_is_for_the_test(kit: MeshKit) -> None:
    def work(value: int) -> int:
        assert value == 2, "the amount is doubled"
        return value

    one_step(kit)
    kit.agent("worker", work)
    with pytest.raises(AssertionError, match="the amount is doubled"):
        kit.publish(type="t", data=1)


def test_an_agent_that_nobody_plays_is_named(kit: MeshKit) -> None:
    one_step(kit)
    kit.agent("werker", "done")
    with pytest.raises(KitError, match=r"r:k has its step work for the agent worker \(did you mean werker\?\)"):
        kit.publish(type="t", data=1)


def test_a_script_that_is_too_short_is_named(kit: MeshKit) -> None:
    one_step(kit)
    kit.agent("worker", [TimeoutError("slow")])
    run = kit.publish(type="t", data=1)
    with pytest.raises(
        KitError, match="r:k asks the agent worker for work, attempt 2, and its script has come to its end after 1 rep"
    ):
        _ = run.outcome


def test_an_agent_may_come_later_and_a_new_script_takes_the_place_of_the_old(kit: MeshKit) -> None:
    steps = {
        "rest": {"wait": "1h"},
        "work": {"needs": "rest", "agent": "worker", "input": 1},
    }
    kit.route({"route": "r", "on": {"type": "t"}, "steps": steps})
    first, second = kit.publish(type="t"), None
    kit.agent("worker", "one")
    assert first.outcome.data == {"work": "one"}
    kit.agent("worker", "two")
    second = kit.publish(type="t")
    assert second.outcome.data == {"work": "two"}


# People -------------------------------------------------------------------------------------------


def test_a_person_is_asked_and_answers(desk: MeshKit) -> None:
    desk.agent("checker", {"risk": "high"})
    payer = desk.agent("payer", {"paid": True})
    run = desk.publish(type="shop.refund", subject="42", data={"amount": 900})
    question = run.waits_for("approve")
    assert (question.question, question.payload, question.role) == ("Refund 900?", {"amount": 900}, "manager")
    desk.advance("23h")
    run.approve("approve", by="ana", payload={"amount": 800})
    assert run.outcome.status == "completed"
    assert payer.inputs == [{"amount": 800}]


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        (approves(after="2h"), "completed"),
        (rejects(reason="too much"), "rejected"),
        ({"approve": rejects()}, "rejected"),
        ([approves()], "completed"),
        (lambda question: approves(payload={"amount": question.payload["amount"] - 1}), "completed"),
    ],
)
def test_people_answer_by_script(desk: MeshKit, answers: Any, status: str) -> None:
    desk.agent("checker", {"risk": "high"})
    desk.person("ben", roles=["manager"], answers=answers)
    assert desk.publish(type="shop.refund", subject="42", data={"amount": 900}).outcome.status == status


def test_a_question_that_nobody_answers_is_named_and_not_waited_for(desk: MeshKit) -> None:
    desk.agent("checker", {"risk": "high"})
    run = desk.publish(type="shop.refund", subject="42", data={"amount": 900})
    began = desk.now
    with pytest.raises(StandsStill) as stands:
        _ = run.outcome
    assert "refund:42 stands still before its end: it waits for approve (role manager) until 2026-01-02T00:00:" in str(
        stands.value
    )
    assert "run.approve('approve', by='ana')" in str(stands.value)
    assert desk.now == began


def test_what_a_called_workflow_waits_for_is_answered_in_that_one(kit: MeshKit) -> None:
    ask = {"ask": "Well?", "payload": 1, "role": "manager"}
    kit.route({"route": "sub", "steps": {"ok": {"approval": ask}, "bad": {"agent": "bad", "input": 1}}})
    call = {"workflow": "sub", "input": 1}
    kit.route({"route": "r", "on": {"type": "t"}, "key": "k", "steps": {"a": call}})
    kit.agent("bad", [fails("Boom", times=1, retryable=False), "good"])
    kit.person("ana", roles=["manager"])
    run = kit.publish(type="t")
    with pytest.raises(StandsStill) as stands:
        _ = run.outcome
    called = f"sub:r:k/{run._workflow().run_id}/a"
    assert "with run.called('a').approve('ok', by='ana')" in str(stands.value)
    assert "run.called('a').retry('bad')" in str(stands.value)
    assert run.called("a").id == kit.run(called).id == called
    run.called("a").approve("ok", by="ana")
    kit.run(called).retry("bad")
    assert run.outcome.status == "completed"
    assert run.called("a").outcome.status == "completed"
    with pytest.raises(KitError, match="the route sub has no step nothing"):
        run.called("a").called("nothing")
    with pytest.raises(StandsStill, match="ok to call its workflow"):
        run.called("a").called("ok")


def test_each_item_s_call_is_found_by_its_place(kit: MeshKit) -> None:
    kit.route({"route": "sub", "steps": {"n": {"value": "${{ event.data }}"}}})
    call = {"workflow": "sub", "for_each": [1, 2], "input": "${{ item }}"}
    kit.route({"route": "r", "on": {"type": "t"}, "key": "k", "steps": {"a": call}})
    run = kit.publish(type="t")
    assert [run.called(f"a[{number}]").outcome.data for number in (0, 1)] == [{"n": 1}, {"n": 2}]


def test_a_neighbour_s_schedule_is_told_only_once_it_does_something() -> None:
    with MeshKit() as mesh:
        mesh.route({"route": "daily", "on": {"schedule": "0 9 * * *"}, "steps": {"a": {"value": 1}}})
        mesh.route({"route": "r", "on": {"type": "t"}, "key": "k", "steps": {"a": {"value": 1}}})
        assert mesh.publish(type="t").outcome.status == "completed"
        for times in (True, False):
            assert "mesh.schedule:daily" not in mesh.transcript(times=times)
            assert "r:k" in mesh.transcript(times=times)
        mesh.next_start("daily")
        assert "mesh.schedule:daily" in mesh.transcript()


def test_a_script_without_an_answer_to_this_question_leaves_it_open(desk: MeshKit) -> None:
    def answer(question: Question) -> None:
        assert question.step == "approve"

    desk.agent("checker", {"risk": "high"})
    desk.person("ben", roles=["manager"], answers=answer)
    run = desk.publish(type="shop.refund", subject="42", data={"amount": 900})
    with pytest.raises(StandsStill):
        _ = run.outcome


def test_an_answer_that_does_not_count_says_why(desk: MeshKit) -> None:
    desk.agent("checker", {"risk": "high"})
    desk.person("eve")
    run = desk.publish(type="shop.refund", subject="42", data={"amount": 900})
    with pytest.raises(
        Refused, match="eve's answer to approve of refund:42 does not count: eve does not have the role manager"
    ) as refused:
        run.approve("approve", by="eve")
    assert refused.value.code == "role"
    desk.advance("25h")
    with pytest.raises(Refused) as late:
        run.approve("approve", by="ana")
    assert late.value.code == "late"


def test_names_that_nobody_has_are_refused_with_those_there_are(desk: MeshKit) -> None:
    desk.agent("checker", {"risk": "high"})
    run = desk.publish(type="shop.refund", subject="42", data={"amount": 900})
    with pytest.raises(KitError, match=r"no step aprove \(did you mean approve\?\)"):
        run.approve("aprove")
    with pytest.raises(KitError, match=r"nobody named anna \(did you mean ana\?\)"):
        run.approve("approve", by="anna")
    with pytest.raises(KitError, match=r"refund:42 has not asked pay yet: it waits for approve"):
        run.approve("pay")
    with pytest.raises(KitError, match=r"there is no workflow refund:41 \(did you mean refund:42\?\)"):
        _ = desk.run("refund:41").status
    desk.person("ben", roles=["manager"])
    with pytest.raises(KitError, match="ana, ben have it: say by="):
        run.approve("approve")


def test_the_approvers_of_a_file_are_people(desk: MeshKit, tmp_path: Path) -> None:
    (tmp_path / "approvers.yaml").write_text("manager: [zoe@example.org]\n")
    desk.people("approvers.yaml")
    desk.agent("checker", {"risk": "high"})
    run = desk.publish(type="shop.refund", subject="42", data={"amount": 900})
    run.approve("approve", by="zoe@example.org")
    assert run.output("approve")["by"] == "zoe@example.org"


# Operators, events --------------------------------------------------------------------------------


def test_an_incident_is_named_and_an_operator_can_end_it(desk: MeshKit) -> None:
    desk.agent("payer", [fails("ConnectError", times=3), {"paid": True}])
    run = desk.publish(type="shop.refund", subject="42", data={"amount": 9})
    with pytest.raises(
        StandsStill, match=r"pay needs an operator: ConnectError: as scripted \(attempt 3 of 3\); run\.retry\('pay'\)"
    ):
        _ = run.outcome
    assert "ConnectError" in run.needs_operator("pay")
    run.retry("pay")
    assert run.outcome.status == "completed"
    with pytest.raises(Refused, match="refund:42 takes no cancel: the workflow has ended: completed"):
        run.cancel()


def test_a_cancelled_run_ends(desk: MeshKit) -> None:
    desk.agent("payer", silent)
    run = desk.publish(type="shop.refund", subject="42", data={"amount": 9})
    run.cancel(by="op", reason="wrong customer")
    assert (run.outcome.status, run.outcome.reason) == ("cancelled", "cancelled by op: wrong customer")
    with pytest.raises(StandsStill, match="refund:42 does not come to pay to be succeeded: it has ended: cancelled"):
        run.reaches("pay", "succeeded")


def test_an_event_that_is_waited_for_is_named_and_moves_the_run(kit: MeshKit) -> None:
    steps = {"paid": {"wait": {"event": "shop.paid", "key": "${{ event.subject }}", "timeout": "3d"}}}
    kit.route({"route": "r", "on": {"type": "t"}, "key": "${{ event.subject }}", "steps": steps})
    run = kit.publish(type="t", subject="7")
    with pytest.raises(StandsStill, match=r"paid waits for an event of type shop\.paid until 2026-01-04T00:00:"):
        _ = run.outcome
    kit.publish(type="shop.paid", subject="7", data={"amount": 5})
    assert run.outcome.status == "completed"


def test_an_event_that_begins_nothing_says_why(desk: MeshKit) -> None:
    run = desk.publish(type="shop.refnd", subject="42")
    with pytest.raises(
        KitError, match=r"event-1 began nothing\. refund: it takes events of type shop\.refund, not shop\.refnd"
    ):
        _ = run.status
    with pytest.raises(KitError, match="this is not a CloudEvent"):
        desk.publish(subject="42")


def test_an_event_that_begins_two_runs_asks_which(kit: MeshKit) -> None:
    for name in ("a", "b"):
        kit.route({"route": name, "on": {"type": "t"}, "key": "k", "steps": {"rest": {"wait": "1h"}}})
    run = kit.publish(type="t")
    with pytest.raises(KitError, match=r"event-1 came to 2 workflows, .*: take one with mesh_kit\.run"):
        _ = run.outcome
    assert kit.run("b:k").outcome.status == "completed"


def test_a_repeated_start_is_the_same_run(desk: MeshKit) -> None:
    first = desk.publish(type="shop.refund", subject="42", data={"amount": 9})
    again = desk.publish(type="shop.refund", subject="42", data={"amount": 9})
    assert again.id == first.id
    assert again.outcome == first.outcome


# Routes -------------------------------------------------------------------------------------------


def test_a_route_that_does_not_hold_names_file_line_and_mend(kit: MeshKit, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("route: r\non: {type: t}\nsteps:\n  a: {agent: x, inptu: 1}\n")
    with pytest.raises(RouteInvalid, match=r"wrong\.yaml:4: step a: unknown key inptu \(did you mean input\?\)"):
        kit.route("wrong.yaml")
    with pytest.raises(RouteInvalid, match=r"the route in the test:4: .*unknown key inptu"):
        kit.route("route: r\non: {type: t}\nsteps:\n  a: {agent: x, inptu: 1}\n")
    with pytest.raises(RouteInvalid, match=r"route r: steps\.a.*unknown key inptu"):
        kit.route({"route": "r", "on": {"type": "t"}, "steps": {"a": {"agent": "x", "inptu": 1}}})
    with pytest.raises(KitError, match=r"there is no .*nowhere\.yaml"):
        kit.route("nowhere.yaml")
    with pytest.raises(KitError, match="no route yet"):
        kit.publish(type="t")


def test_routes_come_before_events_and_each_once(desk: MeshKit) -> None:
    with pytest.raises(KitError, match="a route refund already"):
        desk.route(REFUND)
    desk.publish(type="shop.refund", subject="42", data={"amount": 9})
    with pytest.raises(KitError, match="every route before the first event"):
        desk.route(REFUND)


# The house ----------------------------------------------------------------------------------------


def test_two_kits_do_not_see_each_other(tmp_path: Path) -> None:
    with MeshKit(folder=tmp_path) as one, MeshKit(folder=tmp_path) as other:
        for kit, output in ((one, "one"), (other, "other")):
            one_step(kit)
            kit.agent("worker", output)
        assert one.publish(type="t", data=1).outcome.data == {"work": "one"}
        assert not other.stage.heard
        assert other.publish(type="t", data=1).outcome.data == {"work": "other"}


def test_equal_tests_give_equal_transcripts(tmp_path: Path) -> None:
    def play() -> str:
        with MeshKit(folder=tmp_path) as kit:
            kit.route(REFUND)
            kit.agent("checker", {"risk": "high"})
            kit.agent("payer", [fails("Boom"), later("40s", {"paid": True}), {"paid": True}])
            kit.person("ana", roles="manager", answers=approves(after="3h"))
            kit.publish(type="shop.refund", subject="42", data={"amount": 900})
            kit.advance("40d")
            return kit.transcript()

    assert play() == play()


async def test_an_async_test_is_told_to_be_a_plain_one(desk: MeshKit) -> None:
    with pytest.raises(KitError, match="write the test as `def`"):
        desk.publish(type="shop.refund", subject="42", data={"amount": 9})


def test_a_fault_of_the_router_reaches_the_test(desk: MeshKit, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("mesh.services.router.router.Router._change_owners", broken)
    with pytest.raises(BaseExceptionGroup):
        desk.publish(type="shop.refund", subject="42", data={"amount": 9})


def test_a_schedule_starts_its_route_each_day_in_no_time() -> None:
    steps = {"a": {"agent": "reporter", "input": "${{ event.data.scheduled_at }}"}}
    with MeshKit() as mesh:
        mesh.agent("reporter", lambda at: f"until {at}")
        mesh.route({"route": "daily", "on": {"schedule": "0 9 * * *", "timezone": "Europe/Berlin"}, "steps": steps})
        mesh.advance("3d")
        for day in (1, 2, 3):
            time = f"2026-01-0{day}T08:00:00Z"
            assert mesh.run(f"daily:{time}").outcome.data == {"a": f"until {time}"}


def test_the_next_time_of_a_schedule_is_waited_for_and_no_further() -> None:
    with MeshKit() as mesh:
        mesh.route({"route": "daily", "on": {"schedule": "0 9 * * *"}, "steps": {"a": {"value": 1}}})
        for day in (1, 2):
            run = mesh.next_start("daily")
            assert (run.id, run.outcome.status) == (f"daily:2026-01-0{day}T09:00:00Z", "completed")
            assert mesh.now.isoformat().startswith(f"2026-01-0{day}T09:00:00")
        assert "2026-01-01T09:00:00Z" in mesh.transcript()
        timeless = mesh.transcript(times=False)
        assert "-> start of daily, for TIME2" in timeless
        assert "2026-01" not in timeless
        mesh.run("mesh.schedule:daily").cancel()
        with pytest.raises(KitError, match="the schedule of daily has ended"):
            mesh.next_start("daily")


def test_what_no_schedule_starts_has_no_next_time(desk: MeshKit) -> None:
    with pytest.raises(KitError, match="the mesh has no route refunds"):
        desk.next_start("refunds")
    with pytest.raises(KitError, match="the route refund has no schedule"):
        desk.next_start("refund")


# Bounds: as in the agent runtime ------------------------------------------------------------------


def bounded(mesh_kit: MeshKit, handler: Any, **step: Any) -> Any:
    """How a workflow ends whose one step is done by this real agent; its time-out is 30 s."""
    work = {"agent": "real", "input": 1, "timeout": "30s", "retry": {"attempts": 1}, "on_exhausted": "fail", **step}
    mesh_kit.route({"route": "r", "on": {"type": "t"}, "key": "k", "steps": {"a": work}})
    mesh_kit.agent(agent("real")(handler))
    return mesh_kit.publish(type="t", data={}).outcome


def test_a_handler_that_runs_past_its_deadline_is_cancelled_and_has_failed(mesh_kit: MeshKit) -> None:
    cancelled = []

    async def slow(_: int) -> int:
        try:
            await asyncio.sleep(100)
        finally:
            cancelled.append(True)
        return 1

    ended = bounded(mesh_kit, slow)
    assert (ended.status, "timeout" in ended.reason) == ("failed", True)
    assert cancelled == [True]


def test_the_time_to_run_bounds_a_handler(mesh_kit: MeshKit) -> None:
    async def slow(_: int) -> int:
        await asyncio.sleep(20)
        return 1

    ended = bounded(mesh_kit, slow, run_timeout="5s")
    assert (ended.status, "run_timeout" in ended.reason) == ("failed", True)


def test_a_handler_that_is_cancelled_from_within_has_failed_so(mesh_kit: MeshKit) -> None:
    async def gone(_: int) -> int:
        raise asyncio.CancelledError

    assert "CancelledError: the handler was cancelled from within" in bounded(mesh_kit, gone).reason


def test_an_output_that_is_larger_than_the_broker_takes_has_failed(mesh_kit: MeshKit) -> None:
    async def large(_: int) -> str:
        return "x" * 70_000_000

    assert "output_too_large" in bounded(mesh_kit, large).reason


def test_a_plain_function_is_held_to_the_real_time_that_it_takes(mesh_kit: MeshKit) -> None:
    def blocking(_: int) -> int:
        time.sleep(0.05)
        return 1

    assert "timeout" in bounded(mesh_kit, blocking, timeout="20ms").reason
