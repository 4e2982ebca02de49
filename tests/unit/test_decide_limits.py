"""Decide: limits.

From the step that asks for a slot to the limiter that grants it and gets it back.
"""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import PEOPLE, Partition, agent, names, only, route

from mesh.core.crossings import crossing_id, crossings, inputs_between, parse_crossing_id
from mesh.core.decide import Decided, park
from mesh.core.effects import SendTask
from mesh.core.events import (
    CommandRefused,
    IncidentRaised,
    InputDismissed,
    InputParked,
    SlotFreed,
    SlotGranted,
    SlotQueued,
    SlotRefused,
    SlotReleased,
    SlotRequested,
    TaskDispatched,
    TaskHeld,
    WorkflowEnded,
)
from mesh.core.evolve import evolve
from mesh.core.inputs import SlotDenied, SlotGiven, SlotReturned, SlotWanted, TaskUndeliverable, TimerDue, Undeliverable
from mesh.core.limits import (
    Claim,
    Limit,
    Limiter,
    freed,
    granted,
    has_room,
    is_limiter,
    limiter_id,
    next_grant_at_ms,
    queued,
)
from mesh.core.state import Account, AgentCard, Directory
from mesh.inspection.explanation import explain_event
from mesh.testing.promises.slots import SlotLedger, kept_needlessly

OPENAI = "mesh.limit:openai"
BUSY = replace(PEOPLE, agents={"busy": AgentCard(name="busy", version="1", topic="t", max_outstanding=1)})
ONE = {"openai": {"concurrency": 1}}


def started(steps: dict[str, Any], *, data: Any = None, directory: Directory = BUSY, **more: Any) -> Partition:
    """A workflow whose requests have not been heard yet."""
    p = Partition(route(steps, limits=more.pop("limits", ONE), **more), directory=directory)
    p.start(data=data)
    return p


def running(steps: dict[str, Any], **more: Any) -> Partition:
    p = started(steps, **more)
    p.deliver()
    return p


def limiter(p: Partition, name: str = OPENAI) -> Limiter:
    found = p.workflow(name).limiter
    assert found is not None
    return found


def statuses(p: Partition) -> dict[str, str]:
    return {name: step.status for name, step in p.workflow().steps.items()}


# The step -----------------------------------------------------------------------------------------


def test_a_step_under_a_limit_is_queued_until_its_slot_is_granted_and_its_time_out_counts_from_then() -> None:
    p = started({"a": agent(limit="openai", timeout="30s")})
    asked = only(p.decisions[-1].events, SlotRequested)
    assert (asked.limit, asked.concurrency, asked.rate, asked.priority) == (OPENAI, 1, None, 0.0)
    assert (p.step("a").status, p.step("a").due_at_ms, p.step("a").attempt) == ("queued", None, 1)
    assert not [effect for effect in p.effects() if isinstance(effect, SendTask)]
    [wanted] = p.crossing()
    assert isinstance(wanted, SlotWanted)
    assert wanted.workflow_id == OPENAI
    p.now_ms += 5_000
    p.deliver()
    sent = only(p.effects(), SendTask)
    assert sent.due_at_ms == p.now_ms + 30_000
    assert only(p.decisions[-1].events, TaskDispatched).reason == "openai has granted a slot"
    assert p.workflow(OPENAI).status == "standing"
    p.check_replay()


def test_only_so_many_go_out_and_the_next_when_one_is_done() -> None:
    p = running({"a": agent(limit="openai"), "b": agent(limit="openai")})
    assert statuses(p) == {"a": "running", "b": "queued"}
    p.succeed("a")
    p.deliver()
    assert statuses(p) == {"a": "succeeded", "b": "running"}
    p.succeed("b")
    p.deliver()
    assert p.workflow().slots == {}
    assert limiter(p).is_idle
    p.wait(key=OPENAI)
    assert OPENAI not in p.state.workflows
    p.check_replay()


@pytest.mark.parametrize("way", ["fail", "give up", "time-out", "undeliverable", "hand over", "cancel", "skip"])
def test_a_slot_goes_back_whatever_becomes_of_its_attempt(way: str) -> None:
    p = running(
        {"a": agent(limit="openai", handover={"to": "y"}, retry={"attempts": 2, "backoff": "1s"}), "b": agent()}
    )
    match way:
        case "fail":
            p.fail("a")
        case "give up":
            p.fail("a", retryable=False)
        case "time-out":
            p.wait("a")
        case "undeliverable":
            p.give(
                TaskUndeliverable(workflow_id="r:k", task_id=p.task_id("a"), attempt=1, code="gone", message="no topic")
            )
        case "hand over":
            p.hand_over("a", "y")
        case "skip":
            p.fail("a", retryable=False)
            p.command("skip", step="a")
        case _:
            p.command("cancel")
    assert sum(isinstance(event, SlotReleased) for decision in p.decisions for event in decision.events) == 1
    p.deliver()
    held = [slot.attempt for slots in p.workflow().slots.values() for slot in slots]
    assert held == ([1] if way == "hand over" else [])
    if way != "skip":
        assert len(limiter(p).holders) == len(held)


def test_each_attempt_asks_anew_and_a_late_success_of_the_one_before_counts_while_it_is_queued() -> None:
    p = running({"a": agent(limit="openai", retry={"attempts": 2, "backoff": "1s"}), "b": agent(limit="openai")})
    p.fail("a")
    p.deliver()
    p.wait("a")
    p.deliver()
    assert (p.step("a").status, p.step("a").attempt) == ("queued", 2)
    assert only(p.succeed("a", attempt=2), InputDismissed).code == "unknown", "it has never been sent"
    events = p.succeed("a", attempt=1)
    assert names(events) == ["TaskSucceeded", "SlotReleased"]
    p.deliver()
    assert limiter(p).queue == ()


def test_a_grant_that_crosses_a_cancel_is_passed_over_and_its_slot_goes_back() -> None:
    p = started({"a": agent(limit="openai"), "b": agent()})
    [wanted] = p.crossing()
    p.give(wanted)
    [grant] = p.crossing()
    p.command("cancel")
    [back] = p.crossing()
    assert only(p.give(grant), InputDismissed).code == "late"
    p.give(back)
    assert limiter(p).is_idle


def test_a_grant_of_an_earlier_request_counts_for_no_later_one() -> None:
    p = started({"a": agent(limit="openai")})
    [wanted] = p.crossing()
    p.give(wanted)
    [grant] = p.crossing()
    assert isinstance(grant, SlotGiven)
    assert only(p.give(replace(grant, asked_at_ms=1)), InputDismissed).code == "late"
    assert p.step("a").status == "queued"
    assert only(p.give(replace(grant, limit="mesh.limit:other")), InputDismissed).code == "late"
    assert only(p.give(replace(grant, task_id="nonsense")), InputDismissed).code == "late"
    assert only(p.give(replace(grant, workflow_id="r:other")), InputDismissed).code == "late"
    assert only(p.give(grant), TaskDispatched).attempt == 1


def test_a_limit_with_a_key_is_one_for_each_value() -> None:
    p = Partition(route({"a": agent(limit={"name": "openai", "key": "${{ event.data.tenant }}"})}, limits=ONE))
    for key, tenant in (("k", "acme"), ("l", "acme"), ("m", 7)):
        p.start(key, event_id=key, data={"tenant": tenant})
        p.deliver()
    assert [p.step("a", key).status for key in "klm"] == ["running", "queued", "running"]
    assert sorted(name for name in p.state.workflows if is_limiter(name)) == [
        "mesh.limit:openai/7",
        "mesh.limit:openai/acme",
    ]


@pytest.mark.parametrize(
    ("tenant", "said"), [("", "1 to 512 are taken"), ("x" * 600, "600 characters"), (None, "it must be a string")]
)
def test_a_key_that_can_be_none_is_an_incident(tenant: Any, said: str) -> None:
    p = started({"a": agent(limit={"name": "openai", "key": "${{ event.data }}"})}, data=tenant)
    assert said in only(p.decisions[-1].events, IncidentRaised).message
    assert p.workflow().slots == {}


def test_a_priority_that_is_no_number_is_an_incident() -> None:
    p = started({"a": agent(limit="openai")}, data="high", priority="${{ event.data }}")
    assert (
        only(p.decisions[-1].events, IncidentRaised).message
        == "priority must be a number, and ${{ event.data }} is not"
    )


def test_higher_priority_goes_first_and_among_equals_who_was_heard_of_first() -> None:
    p = Partition(route({"a": agent(limit="openai")}, limits=ONE, priority="${{ event.data }}"))
    for key, priority in (("k", 0), ("l", 1), ("m", 5), ("n", 5.5), ("o", 5)):
        p.start(key, event_id=key, data=priority)
        p.deliver()
    order = ["k"]
    for _ in range(4):
        p.succeed("a", key=order[-1])
        p.deliver()
        order += [key for key in "lmno" if key not in order and p.step("a", key).status == "running"]
    assert order == ["k", "n", "m", "o", "l"]


def test_an_agent_has_no_more_outstanding_than_its_card_says_undoing_too() -> None:
    p = running({"a": agent("busy", undo=agent("busy")), "b": agent("busy")}, limits={"unused": {"rate": "5/1s"}})
    assert statuses(p) == {"a": "running", "b": "queued"}
    assert limiter(p, "mesh.limit:agent/busy").limit == Limit(concurrency=1)
    p.succeed("a")
    p.deliver()
    p.command("cancel")
    assert p.step("a.undo").status == "queued"
    p.deliver()
    assert p.step("a.undo").status == "running"
    p.succeed("a.undo")
    p.deliver()
    assert limiter(p, "mesh.limit:agent/busy").is_idle


def test_a_step_with_two_limits_asks_for_them_in_the_order_of_their_ids() -> None:
    p = started({"a": agent("busy", limit="openai"), "b": agent("x", limit="openai")})
    assert [event.limit for event in p.decisions[-1].events if isinstance(event, SlotRequested)] == [
        "mesh.limit:agent/busy",
        OPENAI,
    ]
    wanted = p.crossing()
    p.give(wanted[0])
    [grant] = p.crossing()
    assert only(p.give(grant), SlotRequested).limit == OPENAI
    [more] = p.crossing()
    p.give(wanted[1])
    p.deliver()
    p.give(more)
    assert statuses(p) == {"a": "queued", "b": "running"}
    assert [slot.limit for slot in p.workflow().slots["a"]] == ["mesh.limit:agent/busy", OPENAI]
    p.succeed("b")
    p.deliver()
    events = p.succeed("a")
    assert sum(isinstance(event, SlotReleased) for event in events) == 2
    p.check_replay()


def test_the_order_of_two_limits_is_that_of_their_ids_whosever_they_are() -> None:
    p = started({"a": agent("busy", limit="aaa")}, limits={"aaa": {"concurrency": 1}})
    asked = [only(p.decisions[-1].events, SlotRequested).limit]
    for _ in range(2):
        [wanted] = p.crossing()
        p.give(wanted)
        [grant] = p.crossing()
        asked += [event.limit for event in p.give(grant) if isinstance(event, SlotRequested)]
    assert asked == ["mesh.limit:aaa", "mesh.limit:agent/busy"]
    assert p.step("a").status == "running"


def test_items_are_queued_one_by_one_and_go_back_together_when_the_for_each_is_cancelled() -> None:
    steps = {
        "each": agent(for_each="${{ event.data }}", limit="openai"),
        "fast": agent(),
        "first": agent("y", needs={"first_of": ["fast", "each"]}),
    }
    p = running(steps, data=[1, 2, 3], limits={"openai": {"concurrency": 2}})
    assert [p.step(f"each[{n}]").status for n in range(3)] == ["running", "running", "queued"]
    events = p.succeed("each[0]")
    assert sum(isinstance(event, SlotReleased) for event in events) == 1
    p.deliver()
    assert p.step("each[2]").status == "running"
    events = p.succeed("fast")
    assert sum(isinstance(event, SlotReleased) for event in events) == 2
    p.deliver()
    assert limiter(p).is_idle


def test_a_loop_that_goes_round_asks_anew_for_what_its_last_round_left_in_the_queue() -> None:
    p = running(
        {
            "z": agent(limit="openai"),
            "s": agent(),
            "a": agent(limit="openai", needs="s"),
            "b": agent(needs="s"),
            "c": agent("y", needs={"any": ["a", "b"]}, repeat={"from": "s", "until": "steps.c == 1", "limit": 2}),
        }
    )
    p.succeed("s")
    p.deliver()
    assert p.step("a").status == "queued"
    p.succeed("b")
    events = p.succeed("c")
    assert "RoundStarted" in names(events)
    assert only(events, SlotReleased).step == "a"
    p.deliver()
    assert limiter(p).queue == ()


# With a budget ------------------------------------------------------------------------------------


def account(p: Partition) -> Account:
    found = p.workflow().account
    assert found is not None
    return found


def test_a_budget_holds_before_a_limit_and_what_is_queued_stays_reserved() -> None:
    p = started(
        {"a": agent(limit="openai", reserve={"tokens": 60}), "b": agent(limit="openai", reserve={"tokens": 60})},
        budget={"tokens": 100, "hops": 5},
    )
    assert statuses(p) == {"a": "queued", "b": "held"}
    assert account(p).reserved == {"tokens": 60, "hops": 1}
    [wanted] = p.crossing()
    p.give(wanted)
    p.deliver()
    assert account(p) == Account(
        limits={"tokens": 100, "hops": 5}, spent={"hops": 1}, reserved={"tokens": 60, "hops": 0}
    )
    events = p.succeed("a", usage={"tokens": 10})
    assert [type(event) for event in events] == [*map(type, events[:1]), SlotRequested, SlotReleased]
    assert account(p).reserved == {"tokens": 60, "hops": 1}
    p.deliver()
    p.succeed("b", usage={"tokens": 10})
    assert account(p).spent == {"tokens": 20, "hops": 2}
    p.check_replay()


def test_what_is_cancelled_in_the_queue_has_cost_nothing() -> None:
    steps = {
        "a": agent(limit="openai", reserve={"tokens": 20}),
        "each": agent(for_each="${{ event.data }}", limit="openai", reserve={"tokens": 20}),
        "b": agent(),
        "first": agent("y", needs={"first_of": ["a", "b", "each"]}),
    }
    p = started(steps, budget={"tokens": 100}, data=[1])
    assert account(p).reserved == {"tokens": 40}
    p.succeed("b")
    assert account(p) == Account(limits={"tokens": 100}, spent={"tokens": 7}, reserved={"tokens": 0})


def test_a_task_that_is_granted_after_the_budgets_time_is_held_and_gives_its_slot_back() -> None:
    p = started(
        {"a": agent(limit="openai", reserve={"tokens": 20})},
        budget={"time": "1m", "tokens": 50, "on_exhausted": "ask", "role": "maintainer"},
    )
    [wanted] = p.crossing()
    p.give(wanted)
    [grant] = p.crossing()
    p.now_ms += 60_000
    p.give(TimerDue(due_at_ms=p.now_ms, workflow_id="r:k", kind="budget_time", run_id=p.workflow().run_id))
    events = p.give(grant)
    assert only(events, TaskHeld).reason == "needs more time"
    assert only(events, SlotReleased).limit == OPENAI
    assert account(p).reserved == {"tokens": 0}
    p.deliver()
    events = p.answer("a.budget", payload={"time_s": 60})
    assert only(events, SlotRequested).attempt == 1
    p.deliver()
    assert p.step("a").status == "running"


# The limiter --------------------------------------------------------------------------------------


def wanted(p: Partition, n: int, *, attempt: int = 1, **numbers: Any) -> SlotWanted:
    return SlotWanted(
        workflow_id=OPENAI,
        task_id=f"r:k/0/s{n}",
        attempt=attempt,
        source_topic="mesh.log",
        source_partition=0,
        source_offset=n,
        source_at_ms=p.now_ms,
        **(numbers or {"concurrency": 1}),
    )


def returned(p: Partition, n: int, *, asked_at_ms: int) -> SlotReturned:
    return SlotReturned(
        workflow_id=OPENAI,
        task_id=f"r:k/0/s{n}",
        attempt=1,
        asked_at_ms=asked_at_ms,
        source_topic="mesh.log",
        source_partition=0,
        source_offset=100 + n,
        source_at_ms=p.now_ms,
    )


def test_what_is_given_back_must_have_been_asked_for() -> None:
    p = Partition(route({"a": agent()}))
    assert only(p.give(returned(p, 0, asked_at_ms=p.now_ms)), InputDismissed).code == "unknown"
    p.give(wanted(p, 0))
    p.give(wanted(p, 2))
    p.give(wanted(p, 1))
    assert only(p.give(returned(p, 0, asked_at_ms=1)), InputDismissed).code == "unknown"
    assert names(p.give(returned(p, 1, asked_at_ms=p.now_ms))) == ["SlotFreed"], "a place in the queue is given up"
    assert names(p.give(returned(p, 0, asked_at_ms=p.now_ms))) == ["SlotFreed", "SlotGranted"]


def test_the_newest_acquire_says_the_numbers() -> None:
    p = Partition(route({"a": agent()}))
    for n in range(4):
        p.give(wanted(p, n, concurrency=1))
    assert [len(limiter(p).holders), len(limiter(p).queue)] == [1, 3]
    events = p.give(wanted(p, 4, concurrency=3))
    assert names(events) == ["SlotQueued", "SlotGranted", "SlotGranted"]
    p.give(wanted(p, 5, concurrency=1))
    assert names(p.give(returned(p, 0, asked_at_ms=p.now_ms))) == ["SlotFreed"], "two are still out"


def test_no_more_than_the_rate_is_granted_and_a_timer_goes_on() -> None:
    p = Partition(route({"a": agent()}))
    for n in range(4):
        p.give(wanted(p, n, rate=2, per_ms=10_000))
        p.now_ms += 1_000
    assert [len(limiter(p).holders), len(limiter(p).queue)] == [2, 2]
    start = p.now_ms - 4_000
    early = TimerDue(due_at_ms=start + 9_999, workflow_id=OPENAI, kind="rate")
    assert p.give(early) == ()
    assert only(p.rate(OPENAI), SlotGranted).granted_at_ms == start + 10_000
    assert only(p.rate(OPENAI), SlotGranted).granted_at_ms == start + 11_000
    assert p.give(early) == (), "nobody waits any more"
    assert p.give(replace(early, workflow_id="mesh.limit:nobody")) == ()
    p.check_replay()


def test_a_clock_that_was_set_back_does_not_set_the_limiter_back() -> None:
    p = Partition(route({"a": agent()}))
    p.give(wanted(p, 0, rate=5, per_ms=10_000))
    before, p.now_ms = p.now_ms, p.now_ms - 60_000
    assert only(p.give(wanted(p, 1, rate=5, per_ms=10_000)), SlotGranted).granted_at_ms == before


def test_one_decision_grants_only_so_many_and_the_rest_at_once_after_it() -> None:
    p = Partition(route({"a": agent()}))
    for n in range(152):
        p.give(wanted(p, n, concurrency=1))
    events = p.give(wanted(p, 152, concurrency=1_000))
    assert sum(isinstance(event, SlotGranted) for event in events) == 100
    assert sum(isinstance(event, SlotGranted) for event in p.rate(OPENAI)) == 52
    assert p.now_ms == p.workflow(OPENAI).updated_at_ms


def test_a_limiter_is_no_workflow_to_command() -> None:
    p = running({"a": agent(limit="openai")})
    assert only(p.command("cancel", key=OPENAI), CommandRefused).code == "built_in"


def test_a_limiter_notes_what_can_not_be_sent_and_passes_over_what_is_not_for_it() -> None:
    p = running({"a": agent(limit="openai")})
    lost = Undeliverable(workflow_id=OPENAI, effect_id="x", topic="mesh.inbox", code="too_large", message="too large")
    assert names(p.give(lost)) == ["EffectUndeliverable"]
    strange = SlotGiven(
        workflow_id=OPENAI,
        limit=OPENAI,
        task_id="t",
        attempt=1,
        asked_at_ms=0,
        source_topic="mesh.log",
        source_partition=0,
        source_offset=99,
        source_at_ms=p.now_ms,
    )
    assert only(p.give(strange), InputDismissed).message == "a limiter takes no SlotGiven"
    assert only(p.give(replace(wanted(p, 0), workflow_id="r:k")), InputDismissed).code == "unknown"


def test_a_limiter_whose_grants_still_count_is_not_forgotten() -> None:
    p = Partition(route({"a": agent()}))
    p.give(wanted(p, 0, rate=1, per_ms=3_600_000))
    p.give(returned(p, 0, asked_at_ms=p.now_ms))
    assert p.workflow(OPENAI).forget_at_ms == p.now_ms + 3_600_000
    p.give(wanted(p, 1, rate=1, per_ms=3_600_000))
    assert p.workflow(OPENAI).forget_at_ms is None


def test_recent_grants_of_a_high_rate_are_counted_in_parts_and_never_too_few() -> None:
    limit = Limit(rate=1_000, per_ms=10_000)
    found = Limiter(limit=limit)
    times = [n * 7 for n in range(1_000)]
    for n, at_ms in enumerate(times):
        found = queued(found, Claim(task_id=f"t{n}", attempt=1, asked_at_ms=0), limit)
        found = granted(found, f"t{n}/1", at_ms)
    assert len(found.recent) <= 101
    assert sum(one.count for one in found.recent) == 1_000
    found = queued(found, Claim(task_id="more", attempt=1, asked_at_ms=0), limit)
    due = next_grant_at_ms(found)
    assert due is not None
    assert sum(at_ms > due - limit.per_ms for at_ms in times) < 1_000
    assert not has_room(found, due - 1)
    assert has_room(found, due)


def test_a_log_that_grants_what_nobody_asked_for_can_not_be_folded() -> None:
    p = Partition(route({"a": agent()}))
    grant = SlotGranted(task_id="t", attempt=1, asked_at_ms=0, granted_at_ms=0)
    with pytest.raises(ValueError, match="which nobody has asked for anything"):
        evolve(None, grant, workflow_id=OPENAI, at_ms=0)
    p.give(wanted(p, 0))
    with pytest.raises(ValueError, match="t/1 is not in the queue"):
        evolve(p.workflow(OPENAI), grant, workflow_id=OPENAI, at_ms=0)
    with pytest.raises(ValueError, match="t/1 is not in the queue"):
        freed(limiter(p), "t/1")


# What gets lost -----------------------------------------------------------------------------------


def parked(p: Partition) -> InputParked:
    return InputParked(
        code="poison",
        message="it is poison",
        topic="mesh.inbox",
        partition=0,
        offset=9,
        timestamp_ms=p.now_ms,
        key=None,
        value=None,
        headers=[],
    )


def set_aside(p: Partition, given: Any) -> Decided:
    about = parse_crossing_id(crossing_id(given))
    assert about is not None
    decided = park(
        p.state.workflows.get(given.workflow_id), parked(p), about, workflow_id=given.workflow_id, now_ms=p.now_ms
    )
    p._write(given, decided)
    return decided


def test_a_request_that_is_parked_is_refused_and_its_step_becomes_an_incident() -> None:
    p = started({"a": agent(limit="openai")})
    [request] = p.crossing()
    refused = only(set_aside(p, request).events, SlotRefused)
    assert "was parked: it is poison" in refused.message
    [denied] = p.crossing()
    assert isinstance(denied, SlotDenied)
    assert only(p.give(replace(denied, limit="mesh.limit:other")), InputDismissed).code == "late"
    events = p.give(denied)
    assert only(events, IncidentRaised).kind == "limit"
    assert only(events, SlotReleased).attempt == 1
    assert only(p.give(denied), InputDismissed).code == "late"
    p.command("retry")
    asked = only(p.decisions[-1].events, SlotRequested)
    assert (asked.attempt, asked.retry_budget_from) == (2, 2), "a grant of the first counts for it no more"


@pytest.mark.parametrize("what", ["grant", "denial"])
def test_an_answer_that_is_parked_makes_its_step_an_incident_and_the_slot_goes_back(what: str) -> None:
    p = started({"a": agent(limit="openai")})
    [request] = p.crossing()
    if what == "grant":
        p.give(request)
    else:
        set_aside(p, request)
    [answer] = p.crossing()
    decided = set_aside(p, answer)
    assert only(decided.events, IncidentRaised).kind == "parked"
    assert only(decided.events, SlotReleased).step == "a"
    decided = set_aside(p, answer)
    assert names(decided.events) == ["InputParked"], "nobody waits for it any more"


def test_a_release_that_is_parked_frees_its_slot_all_the_same() -> None:
    p = running({"a": agent(limit="openai"), "b": agent(limit="openai")})
    p.succeed("a")
    [back] = p.crossing()
    assert names(set_aside(p, back).events) == ["InputParked", "SlotFreed", "SlotGranted"]
    p.deliver()
    assert p.step("b").status == "running"
    assert names(set_aside(p, back).events) == ["InputParked"]
    assert names(set_aside(p, replace(back, workflow_id="mesh.limit:nobody")).events) == ["InputParked"]


def test_a_request_that_can_not_be_sent_makes_its_step_an_incident() -> None:
    p = started({"a": agent(limit="openai")})
    [request] = p.crossing()
    lost = Undeliverable(
        workflow_id="r:k", effect_id=crossing_id(request), topic="mesh.inbox", code="too_large", message="too large"
    )
    events = p.give(lost)
    assert only(events, IncidentRaised).kind == "undeliverable"
    assert only(events, SlotReleased).step == "a"
    assert names(p.give(lost)) == ["EffectUndeliverable"]


# The judge ----------------------------------------------------------------------------------------


def judged(*events: Any) -> list[str]:
    ledger, p = SlotLedger(), running({"a": agent(limit="openai")})
    decision = replace(p.decisions[-1], workflow_id=OPENAI, at_ms=0)
    return [finding for event in events for finding in ledger.take(decision, event)]


def test_the_judge_finds_too_many_out_too_many_at_once_and_what_was_never_granted() -> None:
    def ask(n: int) -> list[Any]:
        task: dict[str, Any] = {"task_id": f"r:k/0/s{n}", "attempt": 1}
        return [
            SlotRequested(step="", limit=OPENAI, agent="", input=None, reason="", **task),
            SlotQueued(asked_at_ms=0, concurrency=1, rate=1, per_ms=1_000, **task),
            SlotGranted(asked_at_ms=0, granted_at_ms=n, **task),
        ]

    assert judged(*ask(1), *ask(2)) == [
        "mesh.limit:openai has 2 out, and may have 1",
        "mesh.limit:openai has granted 2 in 1000 ms, and may grant 1",
    ]
    dispatched = only(running({"a": agent(limit="openai")}).decisions[-1].events, TaskDispatched)
    asked = replace(ask(1)[0], task_id=dispatched.task_id)
    assert judged(asked, dispatched) == [f"{dispatched.task_id}/1 goes out, and {OPENAI} has not granted it a slot"]


def test_the_judge_finds_what_is_kept_for_nobody() -> None:
    p = running({"a": agent(limit="openai")})
    assert list(kept_needlessly(p.workflow())) == []
    assert list(kept_needlessly(None)) == []
    assert list(kept_needlessly(replace(p.workflow(), steps={}))) == [f"a keeps a slot of {OPENAI}, and is not there"]


# Between ------------------------------------------------------------------------------------------


def test_every_record_of_a_slot_says_whose_it_is_and_is_counted() -> None:
    p = started({"a": agent(limit="openai")})
    seen = []
    [one] = p.crossing()
    while True:
        seen.append(crossing_id(one).rpartition("/")[2])
        assert crossings(p.decisions[-1].events) == 1
        p.give(one)
        told = p.crossing()
        if not told:
            break
        [one] = told
    p.succeed("a")
    seen += [crossing_id(one).rpartition("/")[2] for one in p.crossing()]
    assert seen == ["acquire", "grant", "release"]


def test_what_is_told_to_no_task_can_not_be_sent() -> None:
    p = Partition(route({"a": agent()}))
    p.give(wanted(p, 0))
    strange = SlotGranted(task_id="nonsense", attempt=1, asked_at_ms=0, granted_at_ms=0)
    with pytest.raises(ValueError, match="is not a task"):
        inputs_between(replace(p.decisions[-1], events=(strange,)))


def test_an_ended_workflow_gives_everything_back_before_its_end() -> None:
    p = running({"a": agent(limit="openai"), "b": agent(limit="openai")})
    events = p.command("cancel")
    released = [type(event) for event in events if isinstance(event, SlotReleased | WorkflowEnded)]
    assert released == [SlotReleased, SlotReleased, WorkflowEnded]


def test_explain_says_that_a_task_waits_for_its_slot() -> None:
    one = route({"a": agent(limit="openai")}, limits=ONE)
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "k"}
    [said] = explain_event([one], event, now_ms=0)
    assert [(first.what, first.to, first.said) for first in said.first] == [
        ("dispatch", "x", "once openai has granted it a slot")
    ]


def test_ids_of_limiters() -> None:
    assert limiter_id("openai") == OPENAI
    assert limiter_id("openai", "a\nb") == "mesh.limit:openai/a%0Ab"
    assert is_limiter(OPENAI)
    assert not is_limiter("r:k")


def test_what_a_limiter_hears_is_in_its_log() -> None:
    p = running({"a": agent(limit="openai")})
    kinds = [type(event) for decision in p.decisions if decision.workflow_id == OPENAI for event in decision.events]
    assert kinds == [SlotQueued, SlotGranted]
    p.succeed("a")
    p.deliver()
    assert names(p.decisions[-1].events) == [SlotFreed.__name__]
