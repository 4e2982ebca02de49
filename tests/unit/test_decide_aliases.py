"""Deciding: aliases, from a step's claim to the events that come by it, and the end."""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, approval, called_route, calling, names, only, route

from mesh.core import events as ev
from mesh.core import ids
from mesh.core.calls import Caller
from mesh.core.crossings import crossing_id, parse_crossing_id
from mesh.core.decide import Decided, park
from mesh.core.effects import SendDeadLetter
from mesh.core.evolve import evolve
from mesh.core.inputs import (
    AliasAnswered,
    AliasClaimed,
    AliasReleased,
    EventForwarded,
    EventOffered,
    TimerDue,
    Undeliverable,
)

PAID = "com.psp.settled"
ALIAS = "mesh.alias:r.charge/p1"
WAIT = {"event": PAID, "alias": "charge", "key": "${{ event.data.id }}"}


def partition(steps: dict[str, Any] | None = None, **more: Any) -> Partition:
    charge = agent("psp", 1, alias="${{ steps.charge.id }}", **more)
    return Partition(route(steps or {"charge": charge, "settled": {"needs": "charge", "wait": WAIT}}))


def charged(p: Partition, key: str = "k", value: Any = "p1") -> Partition:
    """Its step has succeeded; nothing of it has reached the alias yet."""
    p.start(key, event_id=f"e-{key}")
    p.succeed("charge", {"id": value}, key=key)
    return p


def named(p: Partition, key: str = "k", value: Any = "p1") -> Partition:
    charged(p, key, value).pass_on()
    return p


# The claim ----------------------------------------------------------------------------------------


def test_a_step_is_settled_when_it_has_its_alias_and_not_before() -> None:
    p = charged(partition())
    assert p.step("charge").status == "claiming"
    assert "settled" not in p.workflow().steps
    [claim] = p.crossing()
    assert (claim.workflow_id, crossing_id(claim)) == (ALIAS, f"{p.task_id('charge')}/1/claim")
    assert names(p.give(claim)) == [ev.AliasBound.__name__]
    [answer] = p.crossing()
    assert names(p.give(answer)) == [ev.AliasGranted.__name__, "WaitStarted"]
    assert p.step("charge").output == {"id": "p1"}
    p.check_replay()


@pytest.mark.parametrize(("value", "made"), [(12, "12"), (True, "true"), ("a/b c", "a/b c"), ("50%", "50%25")])
def test_an_alias_is_text_as_a_key_is(value: Any, made: str) -> None:
    p = charged(partition(), value=value)
    assert p.step("charge").alias == f"mesh.alias:r.charge/{made}"
    assert ids.parse_alias_id(p.step("charge").alias) == ("r", "charge", made)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "must be a string, a number or a bool"),
        ([1], "must be a string, a number or a bool"),
        (" ", "it is empty"),
        ("x" * 513, "it has 513 characters, and 512 are taken"),
    ],
)
def test_what_makes_no_alias_is_an_incident(value: Any, problem: str) -> None:
    p = charged(partition(), value=value)
    incident = p.step("charge").incident
    assert incident is not None
    assert incident.kind == "alias"
    assert problem in incident.message
    p.command("skip")
    assert (p.step("charge").status, p.step("settled").status) == ("succeeded", "waiting")


def test_each_kind_of_step_may_have_one() -> None:
    steps: dict[str, Any] = {
        "value": {"value": "v", "alias": "${{ steps.value }}"},
        "ask": {**approval(payload={"id": 7}), "alias": "${{ steps.ask.payload.id }}"},
        "call": {**calling(value=1), "alias": "${{ steps.call }}"},
        "all": {**agent("x", for_each=[1, 2]), "alias": "${{ size(steps.all) }}"},
        "rest": {"wait": "1s", "alias": "${{ workflow.key }}"},
        "skipped": {**agent("x"), "if": "false", "alias": "${{ steps.skipped.id }}"},
    }
    p = Partition(route(steps), called_route({"a": {"value": 1}}, output="of the call"))
    p.start()
    p.pass_on()
    p.answer("ask")
    p.pass_on()
    p.succeed("all[0]")
    p.succeed("all[1]")
    p.pass_on()
    p.wait("rest")
    last = p.crossing()
    assert set(p.workflow().aliases) == {
        "mesh.alias:r.value/v",
        "mesh.alias:r.ask/7",
        "mesh.alias:r.call/of the call",
        "mesh.alias:r.all/2",
        "mesh.alias:r.rest/k",
    }
    p.give(last[0])
    p.pass_on()
    assert p.workflow().status == "completed"
    assert p.workflow().aliases == ()
    p.check_replay()


def test_each_round_of_a_loop_has_an_alias_of_its_own() -> None:
    loop = {"from": "charge", "until": "steps.check", "limit": 3}
    steps = {
        "charge": agent("psp", alias="${{ steps.charge.id }}"),
        "check": agent("y", needs="charge", repeat=loop),
    }
    p = named(partition(steps))
    p.succeed("check", False)
    p.succeed("charge", {"id": "p2"})
    p.pass_on()
    assert p.workflow().aliases == (ALIAS, "mesh.alias:r.charge/p2")
    p.succeed("check", False)
    p.succeed("charge", {"id": "p2"})
    assert only(p.decisions[-1].events, ev.AliasSought).task_id.endswith("/charge.3")
    p.pass_on()
    assert p.workflow().aliases == (ALIAS, "mesh.alias:r.charge/p2")
    p.succeed("check", True)
    assert [event.alias for event in p.decisions[-1].events if isinstance(event, ev.AliasReturned)] == [
        ALIAS,
        "mesh.alias:r.charge/p2",
    ]
    p.check_replay()


def test_a_step_that_closes_a_loop_has_its_alias_before_the_loop_goes_round() -> None:
    steps = {
        "charge": agent("psp", alias="${{ steps.charge.id }}", repeat={"until": "steps.charge.id == 'p2'", "limit": 3})
    }
    p = charged(partition(steps))
    assert p.step("charge").round == 1
    p.pass_on()
    assert (p.step("charge").status, p.step("charge").round) == ("running", 2)
    p.succeed("charge", {"id": "p2"})
    p.pass_on()
    assert p.workflow().status == "completed"


# Answers to it ------------------------------------------------------------------------------------


def answer_to(p: Partition, **more: Any) -> AliasAnswered:
    claimant = Caller(workflow_id="r:k", task_id=p.task_id("charge"), attempt=1)
    source = {"source_topic": "mesh.log", "source_partition": 9, "source_offset": 0, "source_at_ms": p.now_ms}
    fields: dict[str, Any] = {"workflow_id": "r:k", "claimant": claimant, "alias": ALIAS, **source, **more}
    return AliasAnswered(**fields)


def test_an_answer_counts_once_and_for_the_claim_that_is_open() -> None:
    p = charged(partition())
    good = answer_to(p)
    run = p.workflow().run_id
    other_run = Caller(workflow_id="r:k", task_id="r:k/00000000/charge")
    later = Caller(workflow_id="r:k", task_id=f"r:k/{run}/charge", attempt=2)
    nobody = Caller(workflow_id="r:k", task_id=f"r:k/{run}/nobody")
    no_task = Caller(workflow_id="r:k", task_id="?")
    for claimant, code in ((other_run, "late"), (later, "repeated"), (nobody, "repeated"), (no_task, "unknown")):
        assert only(p.give(replace(good, claimant=claimant)), ev.InputDismissed).code == code
    assert only(p.give(replace(good, alias="mesh.alias:r.charge/p9")), ev.InputDismissed).code == "repeated"
    assert only(p.give(replace(good, workflow_id="r:x")), ev.InputDismissed).code == "unknown"
    assert only(p.give(good), ev.AliasGranted).alias == ALIAS
    assert only(p.give(good), ev.InputDismissed).code == "repeated"
    p.command("cancel")
    assert only(p.give(good), ev.InputDismissed).code == "closed"


def test_what_another_workflow_has_is_an_incident_that_names_it() -> None:
    p = named(partition(), "one")
    charged(p, "two")
    [claim] = p.crossing()
    refused = only(p.give(claim), ev.AliasRefused)
    assert "is the alias of r:one" in refused.message
    p.pass_on()
    incident = p.step("charge", "two").incident
    assert incident is not None
    assert (incident.kind, incident.message) == ("alias", refused.message)
    holder = p.state.workflows[ALIAS].holder
    assert holder is not None
    assert holder.workflow_id == "r:one"


def test_a_retry_asks_again_and_gets_it_once_it_is_free() -> None:
    p = named(named(partition(), "one"), "two")
    p.command("retry", key="two")
    p.pass_on()
    assert p.step("charge", "two").status == "incident"
    p.command("cancel", key="one")
    p.pass_on()
    p.command("retry", key="two")
    p.pass_on()
    assert p.step("settled", "two").status == "waiting"
    assert p.state.workflows[ALIAS].holder == Caller(workflow_id="r:two", task_id=p.task_id("charge", "two"), attempt=3)


def test_an_operator_lets_it_go_on_without_its_alias() -> None:
    p = named(named(partition(), "one"), "two")
    assert names(p.command("skip", key="two")) == [
        "CommandAccepted",
        "IncidentResolved",
        "AliasWaived",
        "WaitStarted",
    ]
    assert p.step("charge", "two").output == {"id": "p1"}


def test_an_operator_may_fail_it() -> None:
    p = named(named(partition(), "one"), "two")
    p.command("fail", key="two")
    assert p.workflow("two").status == "failed"
    p.pass_on()
    assert p.state.workflows[ALIAS].holder is not None  # it never was the second's to give back


def test_a_late_result_of_a_step_that_waits_for_its_alias_counts_no_more() -> None:
    p = named(named(partition(), "one"), "two")
    assert only(p.succeed("charge", {"id": "p7"}, key="two"), ev.InputDismissed).code == "repeated"


def test_a_late_end_of_a_call_that_waits_for_its_alias_counts_no_more() -> None:
    steps = {"charge": {**calling(value=1), "alias": "${{ steps.charge }}"}}
    p = Partition(route(steps), called_route({"a": {"value": 1}}, output="p1"))
    for key in ("one", "two"):
        p.start(key, event_id=key)
        p.pass_on()
    assert p.workflow("one").status == "completed"
    p = Partition(route({**steps, "b": agent()}), called_route({"a": {"value": 1}}, output="p1"))
    for key in ("one", "two"):
        p.start(key, event_id=key)
        [call] = p.crossing()
        p.give(call)
        [end] = p.crossing()
        p.give(end)
        p.pass_on()
    assert p.step("charge", "two").status == "incident"
    assert only(p.give(end), ev.InputDismissed).code == "repeated"


def test_a_claim_that_can_not_be_sent_needs_an_operator() -> None:
    p = charged(partition())
    name = f"{p.task_id('charge')}/1/claim"
    other = Undeliverable(workflow_id="r:k", effect_id=f"{name}x", topic="mesh.inbox", code="gone", message="gone")
    assert names(p.give(other)) == [ev.EffectUndeliverable.__name__]
    assert names(p.give(replace(other, effect_id=name))) == [
        ev.EffectUndeliverable.__name__,
        ev.IncidentRaised.__name__,
    ]
    assert p.step("charge").status == "incident"


def parked(about: str) -> tuple[ev.InputParked, Any]:
    event = ev.InputParked(
        code="poison",
        message="too bad",
        topic="mesh.inbox",
        partition=0,
        offset=7,
        timestamp_ms=1,
        key=None,
        value=None,
        headers=[],
    )
    return event, parse_crossing_id(about)


def park_at(p: Partition, workflow_id: str, about: str) -> Decided:
    event, name = parked(about)
    return park(p.state.workflows.get(workflow_id), event, name, workflow_id=workflow_id, now_ms=p.now_ms)


def test_a_claim_that_is_parked_is_refused() -> None:
    p = charged(partition())
    refused = only(park_at(p, ALIAS, f"{p.task_id('charge')}/1/claim").events, ev.AliasRefused)
    assert refused.claimant == Caller(workflow_id="r:k", task_id=p.task_id("charge"))
    assert "was parked: too bad" in refused.message


def test_an_answer_that_is_parked_needs_an_operator() -> None:
    p = charged(partition())
    name = p.task_id("charge")
    found = park_at(p, "r:k", f"{name}/1/claimed").events
    assert only(found, ev.IncidentRaised).kind == "alias"
    for other in (f"{name}/2/claimed", f"{name[:-6]}nobody/1/claimed"):
        assert names(park_at(p, "r:k", other).events) == [ev.InputParked.__name__]
    assert names(park_at(p, "r:x", f"{name}/1/claimed").events) == [ev.InputParked.__name__]


def test_records_that_nobody_waits_for_are_parked_and_no_more() -> None:
    p = named(partition())
    for name in ("/orders/o1/forward", "r:k/4f2a9c01/release", "r:2026-01-01T00:00:00Z/start"):
        assert parse_crossing_id(name) is None
        assert names(park_at(p, "r:k", name).events) == [ev.InputParked.__name__]


# Events by it -------------------------------------------------------------------------------------


def offer(p: Partition, event_id: str = "o1", value: str = "p1") -> tuple[Any, ...]:
    return p.offer_by_alias(PAID, "charge", value, event_id=event_id, data={"id": value})


def test_an_event_finds_its_workflow() -> None:
    p = named(partition())
    assert names(offer(p)) == [ev.EventRedirected.__name__]
    [forwarded] = p.crossing()
    assert isinstance(forwarded, EventForwarded)
    assert (forwarded.workflow_id, forwarded.kept.alias, forwarded.kept.topic) == ("r:k", "charge", "mesh.events")
    assert names(p.give(forwarded)) == ["EventReceived", "AliasReturned", "WorkflowEnded"]
    assert only(p.give(forwarded), ev.InputDismissed).code == "closed"


def test_an_event_that_comes_before_the_alias_is_kept_for_it() -> None:
    p = partition()
    assert names(offer(p)) == [ev.EventKept.__name__]
    assert only(offer(p), ev.InputDismissed).code == "repeated"
    offer(p, "o2")
    charged(p)
    [claim] = p.crossing()
    assert names(p.give(claim)) == [ev.AliasBound.__name__, ev.EventRedirected.__name__, ev.EventRedirected.__name__]
    p.pass_on()
    assert p.workflow().status == "completed"
    assert ALIAS not in p.state.workflows
    p.check_replay()


def test_what_nobody_takes_goes_to_the_dead_letters_when_its_time_is_over() -> None:
    p = partition()
    offer(p)
    expected = p.state.workflows[ALIAS]
    early = TimerDue(due_at_ms=(expected.forget_at_ms or 0) - 1, workflow_id=ALIAS, kind="forget")
    assert p.give(early) == ()
    assert names(p.wait(key=ALIAS)) == ["EventUnclaimed", "WorkflowForgotten"]
    letter = only(p.effects(), SendDeadLetter)
    assert letter.parked.code == "unclaimed"
    assert letter.parked.message == f"no workflow took the alias in time; it waits for {ALIAS}"
    assert p.give(early) == ()


def test_an_alias_that_a_workflow_has_is_forgotten_by_no_timer() -> None:
    p = partition()
    offer(p)
    due = p.state.workflows[ALIAS].forget_at_ms or 0
    named(p)
    named(p, "l", "p2")
    p.now_ms = due
    for name in (ALIAS, "mesh.alias:r.charge/p2"):
        assert p.give(TimerDue(due_at_ms=due, workflow_id=name, kind="forget")) == ()


def test_an_event_by_alias_is_for_those_alone_who_wait_for_it_by_this_alias() -> None:
    steps = {
        "charge": agent("psp", alias="${{ steps.charge.id }}"),
        "by_alias": {"wait": WAIT},
        "by_key": {"wait": {"event": PAID}},
    }
    p = named(partition(steps))
    p.offer(PAID, data={"id": "p1"})
    assert (p.step("by_alias").status, p.step("by_key").status) == ("waiting", "succeeded")
    offer(p, "o2")
    p.pass_on()
    assert p.workflow().status == "completed"


def test_an_event_that_is_kept_waits_for_a_step_of_its_own_way() -> None:
    steps = {
        "charge": agent("psp", alias="${{ steps.charge.id }}"),
        "go": agent("y"),
        "by_key": {"needs": "go", "wait": {"event": PAID}},
        "by_alias": {"needs": "by_key", "wait": WAIT},
    }
    p = named(partition(steps))
    offer(p)
    p.pass_on()
    p.offer(PAID, event_id="o1")
    assert [kept.alias for kept in p.workflow().kept] == ["charge", ""]
    assert only(p.offer(PAID, event_id="o1"), ev.InputDismissed).code == "repeated"
    p.succeed("go")
    assert p.step("by_key").status == "succeeded"


def test_an_event_that_comes_by_the_alias_of_an_ended_run_is_dismissed() -> None:
    p = named(partition())
    offer(p)
    [forwarded] = p.crossing()
    other = replace(forwarded, workflow_id="r:never")
    assert only(p.give(other), ev.InputDismissed).code == "closed"
    p.offer(PAID, "soon")
    assert p.workflow("soon").status == "expected"
    assert only(p.give(replace(forwarded, workflow_id="r:soon")), ev.InputDismissed).code == "closed"


def test_an_event_that_only_an_earlier_version_waits_for_is_not_kept_but_still_passed_on() -> None:
    p = partition()
    offered = EventOffered(
        workflow_id=ALIAS,
        route="r",
        digest=next(iter(p.routes)),
        key="p1",
        cloud_event={"id": "o1", "source": "/s", "type": PAID, "data": {}},
        only_live=True,
        **p._inbox("mesh.events", None),
    )
    assert only(p.give(offered), ev.InputDismissed).code == "unclaimed"
    named(p)
    assert names(p.give(offered)) == [ev.EventRedirected.__name__]


# The end of it ------------------------------------------------------------------------------------


def test_the_end_of_a_workflow_gives_its_aliases_back() -> None:
    p = named(partition())
    assert names(p.command("cancel")) == ["CommandAccepted", "AliasReturned", "WorkflowEnded"]
    [release] = p.crossing()
    assert isinstance(release, AliasReleased)
    assert names(p.give(release)) == [ev.WorkflowForgotten.__name__]
    assert only(p.give(release), ev.InputDismissed).code == "unknown"


def test_another_run_keeps_what_it_has() -> None:
    p = named(partition())
    other = AliasReleased(workflow_id=ALIAS, claimant="r:k", run_id="00000000", **p._inbox("mesh.commands", None))
    assert only(p.give(other), ev.InputDismissed).code == "unknown"
    offer(p, value="p3")
    kept = replace(other, workflow_id="mesh.alias:r.charge/p3")
    assert only(p.give(kept), ev.InputDismissed).code == "unknown"


def test_a_cancel_before_the_answer_gives_back_what_it_asked_for() -> None:
    p = charged(partition())
    [claim] = p.crossing()
    p.command("cancel")
    [release] = p.crossing()
    p.give(claim)
    [answer] = p.crossing()
    assert only(p.give(answer), ev.InputDismissed).code == "closed"
    p.give(release)
    assert ALIAS not in p.state.workflows


def test_an_operator_frees_an_alias() -> None:
    p = named(partition())
    assert names(p.command("cancel", key=ALIAS)) == [ev.CommandAccepted.__name__, ev.WorkflowForgotten.__name__]
    assert only(p.command("cancel", key=ALIAS), ev.CommandRefused).code == "built_in"
    named(p, "two")
    assert only(p.command("retry", key=ALIAS), ev.CommandRefused).code == "built_in"
    offer(p, value="p3")
    assert only(p.command("cancel", key="mesh.alias:r.charge/p3"), ev.CommandRefused).code == "built_in"


def test_an_alias_notes_what_it_could_not_send_and_takes_nothing_else() -> None:
    p = named(partition())
    lost = Undeliverable(workflow_id=ALIAS, effect_id="x/claimed", topic="mesh.inbox", code="gone", message="gone")
    assert names(p.give(lost)) == [ev.EffectUndeliverable.__name__]
    assert only(p.give(replace(answer_to(p), workflow_id=ALIAS)), ev.InputDismissed).code == "unknown"
    claim = AliasClaimed(
        workflow_id="r:k", claimant=Caller(workflow_id="r:x", task_id="t"), **p._inbox("mesh.commands", None)
    )
    assert only(p.give(claim), ev.InputDismissed).code == "unknown"


def test_what_is_done_but_for_its_alias_is_undone_too() -> None:
    undo = {"agent": "refunder", "input": "${{ steps.charge.id }}"}
    steps = {
        "charge": agent("psp", alias="${{ steps.charge.id }}", undo=undo),
        "other": agent("y", on_exhausted="fail", retry={"attempts": 1}),
    }
    for refused in (False, True):
        p = partition(steps)
        if refused:
            named(p, "first")
        charged(p)
        if refused:
            p.pass_on()
        events = p.fail("other")
        assert only(events, ev.AliasWaived).step == "charge"
        assert only(events, ev.CompensationStarted).steps == ("charge",)
        assert only(events, ev.TaskDispatched).input == "p1"
        p.succeed("charge.undo")
        assert only(p.decisions[-1].events, ev.WorkflowEnded).status == "failed"
        p.check_replay()


def test_a_race_that_is_won_does_not_wait_for_an_alias() -> None:
    steps = {
        "charge": agent("psp", alias="${{ steps.charge.id }}"),
        "fast": agent("y"),
        "last": agent("z", needs={"first_of": ["fast", "charge"]}),
    }
    p = charged(partition(steps))
    [claim] = p.crossing()
    assert only(p.succeed("fast"), ev.StepCancelled).step == "charge"
    p.give(claim)
    [answer] = p.crossing()
    assert only(p.give(answer), ev.InputDismissed).code == "repeated"
    p.succeed("last")
    p.pass_on()
    assert ALIAS not in p.state.workflows


def test_a_log_in_which_a_step_that_never_began_has_an_alias_is_refused() -> None:
    p = named(partition())
    with pytest.raises(ValueError, match="which has not begun"):
        evolve(p.workflow(), ev.AliasGranted(step="nobody", alias=ALIAS), workflow_id="r:k", at_ms=1)


def test_an_event_that_was_taken_is_received() -> None:
    p = named(partition())
    offer(p)
    [forwarded] = p.crossing()
    assert only(p.give(forwarded), ev.EventReceived).cloud_event["id"] == "o1"
