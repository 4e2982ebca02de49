"""Replaying what others say to a run, an operator or an alias.

Changed rules come to it earlier or later, or not at all.
"""

from typing import Any, Literal

import pytest
from one_partition import Partition, agent, called_route, calling, names, route
from test_decide_limits import set_aside
from test_what_if import after, first, runs_of, said

from mesh.core.route import Route
from mesh.inspection.what_if import Rehearsal, rehearse

PAID = "com.psp.settled"
FATAL: dict[str, Any] = {"retry": {"attempts": 1}}


def slow(rest: str, **more: Any) -> Route:
    """A step that comes so much later."""
    return route({"rest": {"wait": rest}, "a": agent(needs="rest", **FATAL, **more), "b": agent(needs="a")})


def stuck(ms: int = 30) -> Partition:
    """The step has failed, and is an incident."""
    made = Partition(slow("1m"))
    made.start()
    made.wait("rest")
    after(made, ms).fail("a")
    return made


def replayed(made: Partition, rules: Route) -> Rehearsal:
    [(run, own), *_] = runs_of(made)
    assert rehearse(run, own).verdict == "same"
    return rehearse(run, rules)


# Operators ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", ["1s", "1d"])
def test_an_operator_sees_to_an_incident_after_as_long_whenever_it_comes(rest: str) -> None:
    made = stuck()
    after(made, 600_000).command("retry", step="a")
    after(made, 5).fail("a")
    after(made, 7_000).command("skip", step="a")
    after(made, 5).succeed("b")
    assert said(replayed(made, slow(rest))) == ("same", "completed", "completed")


@pytest.mark.parametrize("rest", ["1s", "1d"])
def test_an_incident_is_the_end_whenever_it_comes(rest: str) -> None:
    made = stuck()
    after(made, 600_000).command("fail")
    assert said(replayed(made, slow(rest))) == ("same", "failed", "failed")


def test_no_operator_sees_to_an_incident_that_does_not_come() -> None:
    made = stuck()
    after(made, 10).command("fail")
    found = replayed(made, slow("1m", on_exhausted="continue"))
    assert first(found) == ("a", "incident", "given up", ())
    assert found.after == "completed"  # with the step after it blocked: nobody failed it


def test_an_incident_that_nobody_saw_to_is_open() -> None:
    made = stuck()
    made.command("retry", step="b")
    assert said(replayed(made, slow("2m"))) == ("same", "running", "running")


def test_of_several_incidents_the_last_is_the_end() -> None:
    made = Partition(route({"a": agent(**FATAL), "b": agent(**FATAL)}))
    made.start()
    made.fail("a")
    after(made, 10).succeed("a", attempt=1)
    made.fail("b")
    after(made, 10).command("fail")
    assert said(replayed(made, route({"a": agent(**FATAL), "b": agent(**FATAL)}))) == ("same", "failed", "failed")


def test_a_cancel_comes_when_it_came() -> None:
    made = Partition(slow("1m"))
    made.start()
    made.wait("rest")
    after(made, 60_000).command("cancel", reason="no more")
    assert first(replayed(made, slow("1d"))) == ("rest", "time has come", None, ())


# Limits -------------------------------------------------------------------------------------------


def limited(rest: str = "1s", limit: str | None = "two") -> Route:
    one = agent(needs="rest", **({"limit": limit} if limit else {}))
    return route({"rest": {"wait": rest}, "a": one}, limits={"two": {"concurrency": 2}, "one": {"concurrency": 1}})


def asked() -> Partition:
    """Its step waits for a slot."""
    made = Partition(limited())
    made.start()
    made.wait("rest")
    return made


@pytest.mark.parametrize("rules", [limited("1d"), limited(limit=None), limited(limit="one")])
def test_a_slot_comes_after_as_long_as_it_took(rules: Route) -> None:
    made = asked()
    after(made, 3_000).pass_on()
    after(made, 50).succeed("a")
    assert said(replayed(made, rules)) == ("same", "completed", "completed")


def test_a_slot_that_was_denied_is_denied_again_and_an_operator_asks_anew() -> None:
    made = asked()
    [request] = made.crossing()
    after(made, 20)
    set_aside(made, request)
    made.pass_on()
    after(made, 600_000).command("retry", step="a")
    made.pass_on()
    after(made, 50).succeed("a")
    assert said(replayed(made, limited("1d"))) == ("same", "completed", "completed")
    found = replayed(made, limited(limit=None))
    assert first(found) == ("a", "incident", "dispatched", ())


def test_a_slot_whose_grant_got_lost_is_not_known_beyond() -> None:
    made = asked()
    [request] = made.crossing()
    made.give(request)
    [grant] = made.crossing()
    set_aside(made, grant)
    [(run, own), *_] = runs_of(made)
    [unknown] = rehearse(run, own).unknown
    assert unknown.step == "a"
    assert "its slot could not be asked for" in unknown.why


# Calls --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("does", [None, "retry", "skip"])
def test_a_call_whose_end_was_set_aside_is_not_known_beyond(does: Literal["retry", "skip"] | None) -> None:
    made = Partition(route({"a": calling(), "b": agent(needs="a")}), called_route({"x": agent()}))
    made.start()
    made.deliver()
    made.succeed("x", key=f"sub:{made.task_id('a')}")
    [end] = made.crossing()
    assert names(set_aside(made, end).events)[1:] == ["CallFailed", "IncidentRaised"]
    if does is not None:
        after(made, 600_000).command(does, step="a")
    (run, own), *_ = runs_of(made)
    found = rehearse(run, own)
    assert said(found) == ("unknown", "running", None)
    assert [(one.step, one.why) for one in found.unknown] == [("a", "its end was set aside")]


def end_set_aside_that_another_waits_for(does: Literal["retry", "skip"] | None, next_reserve: int = 80) -> Partition:
    """The end of a call that was taken back is set aside.

    So what is held until that end needs an operator.
    """
    steps = {
        "slow": calling(reserve={"tokens": 80}),
        "quick": agent(),
        "next": agent(needs={"first_of": ["slow", "quick"]}, reserve={"tokens": next_reserve}),
    }
    made = Partition(route(steps, budget={"tokens": 160}), called_route({"x": agent(reserve={"tokens": 50})}))
    made.start()
    made.deliver()
    after(made, 100).succeed("quick", usage={"tokens": 10})
    [taken_back] = made.crossing()
    after(made, 100).give(taken_back)
    [end] = made.crossing()
    raised = ["IncidentRaised"] if next_reserve > 70 else []
    assert names(set_aside(made, end).events) == ["InputParked", "UsageReported", *raised]
    if does is not None:
        after(made, 600_000).command(does, step="next")
    return made


@pytest.mark.parametrize(("does", "status"), [(None, "running"), ("skip", "completed"), ("retry", "failed")])
def test_what_was_held_until_an_end_that_was_set_aside_goes_as_it_went(
    does: Literal["retry", "skip"] | None, status: str
) -> None:
    (run, own), *_ = runs_of(end_set_aside_that_another_waits_for(does))
    assert said(rehearse(run, own)) == ("same", status, status)


def test_an_end_that_was_set_aside_is_so_by_other_rules_too_and_what_is_not_held_then_goes_on() -> None:
    (run, own), *_ = runs_of(end_set_aside_that_another_waits_for("skip"))
    definition = own.definition
    cheaper = {**definition["steps"], "next": {**definition["steps"]["next"], "reserve": {"tokens": 60}}}
    found = rehearse(run, route(cheaper, budget={"tokens": 160}))
    assert first(found) == ("next", "held", "dispatched", ())


def test_an_end_that_was_set_aside_and_that_nothing_was_held_for_changes_nothing() -> None:
    made = end_set_aside_that_another_waits_for(None, next_reserve=60)
    after(made, 100).succeed("next", usage={"tokens": 20})
    (run, own), *_ = runs_of(made)
    assert said(rehearse(run, own)) == ("same", "completed", "completed")


# Aliases ------------------------------------------------------------------------------------------


def steps_of(rest: str = "1s", wait: dict[str, Any] | None = None, **charge: Any) -> dict[str, Any]:
    key = "${{ event.data.id }}"
    return {
        "rest": {"wait": rest},
        "charge": agent("psp", needs="rest", **{"alias": "${{ steps.charge.id }}", **charge}),
        "settled": {"needs": "charge", "wait": {"event": PAID, "alias": "charge", "key": key, **(wait or {})}},
    }


def settled() -> Partition:
    """An event has found it by the alias of its payment."""
    made = Partition(route(steps_of()))
    made.start()
    made.wait("rest")
    made.succeed("charge", {"id": "p1", "number": "4711"})
    after(made, 20).pass_on()
    after(made, 60_000).offer_by_alias(PAID, "charge", "p1", data={"id": "p1"})
    made.pass_on()
    assert made.workflow().status == "completed"
    return made


def test_an_event_finds_the_run_by_its_alias_again() -> None:
    assert said(replayed(settled(), route(steps_of(timeout="1m")))) == ("same", "completed", "completed")


def test_an_event_that_comes_before_the_alias_is_kept_for_it() -> None:
    assert said(replayed(settled(), route(steps_of("1d")))) == ("same", "completed", "completed")


def test_another_alias_is_the_difference_and_whose_it_is_nobody_knows() -> None:
    found = replayed(settled(), route(steps_of(alias="${{ steps.charge.number }}")))
    assert first(found) == ("charge", "asks for its alias", "asks for its alias", ("alias",))
    assert [(one.step, one.why) for one in found.unknown] == [("charge", "it never asked for mesh.alias:r.charge/4711")]


def test_an_event_that_comes_by_the_key_now_is_for_another_workflow() -> None:
    steps = steps_of()
    del steps["settled"]["wait"]["alias"]
    found = replayed(settled(), route(steps))
    why = "the event that it took finds another workflow, and which others came is not known"
    assert [(one.step, one.why) for one in found.unknown] == [("settled", why)]


def test_an_event_of_an_alias_that_the_run_does_not_have_is_not_made_up() -> None:
    steps = steps_of(wait={"alias": "other"})
    found = replayed(settled(), route({**steps, "other": {"value": "o1", "needs": "settled", "alias": "o1"}}))
    why = "the event that it took comes by an alias that the workflow does not have"
    assert [(one.step, one.why) for one in found.unknown] == [("settled", why)]


def test_an_event_may_come_by_the_key_and_by_an_alias() -> None:
    steps = {**steps_of(), "by_key": {"wait": {"event": PAID, "key": "k"}}}
    made = Partition(route(steps))
    made.start()
    made.wait("rest")
    made.succeed("charge", {"id": "p1"})
    made.pass_on()
    made.offer(PAID, data={"id": "p1"}, event_id="one")
    made.offer_by_alias(PAID, "charge", "p1", data={"id": "p1"}, event_id="two")
    made.pass_on()
    assert said(replayed(made, route(steps))) == ("same", "completed", "completed")


def test_a_claim_that_was_never_answered_is_open() -> None:
    made = Partition(route(steps_of()))
    made.start()
    made.wait("rest")
    made.succeed("charge", {"id": "p1"})
    assert said(replayed(made, route(steps_of("2s")))) == ("same", "running", "running")


def test_an_alias_that_another_had_is_refused_again_and_gone_without() -> None:
    made = Partition(route(steps_of()))
    made.start("first", event_id="e-first")
    made.wait("rest", key="first")
    made.succeed("charge", {"id": "p1"}, key="first")
    made.pass_on()
    made.start()
    made.wait("rest")
    made.succeed("charge", {"id": "p1"})
    after(made, 30).pass_on()
    after(made, 600_000).command("skip", step="charge")
    after(made, 60_000).command("cancel")
    run, own = next(found for found in runs_of(made) if found[0].workflow_id == "r:k")
    assert rehearse(run, own).verdict == "same"
    assert said(rehearse(run, route(steps_of("2s")))) == ("same", "cancelled", "cancelled")
    found = rehearse(run, route(steps_of(alias="${{ steps.charge.no }}")))
    assert first(found) == ("charge", "asks for its alias", "incident", ())


def test_an_alias_that_is_asked_for_more_often_than_it_was_is_not_known() -> None:
    def rules(rounds: int) -> Route:
        return route({"a": {"value": 1, "alias": "one", "repeat": {"until": f"round == {rounds}", "limit": 5}}})

    made = Partition(rules(1))
    made.start()
    made.pass_on()
    found = replayed(made, rules(2))
    assert [(one.step, one.why) for one in found.unknown] == [("a", "it never asked for mesh.alias:r.a/one so often")]
