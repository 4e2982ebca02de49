"""Scenarios of events: which start nothing, and which come early or for nobody.

Also waits that are over, and aliases that others have.
"""

from typing import Any

from scenario_table import begin, scenario

from mesh.testing import MeshKit

PAID = {"event": "paid", "key": "${{ event.subject }}"}


def task(agent: str, value: Any = 1, **more: Any) -> dict[str, Any]:
    return {"agent": agent, "input": value, **more}


@scenario
def events_that_start_nothing(mesh: MeshKit) -> None:
    """A guard is false or can't be evaluated, or no key can be made.

    A repeat after the end starts nothing, until the end is forgotten.
    """
    mesh.agent("x", "done")
    on = {"type": "t", "if": "event.data.size > 1"}
    route = {"route": "r", "on": on, "key": "${{ event.data.name }}", "closed_retention": "300ms"}
    mesh.route({**route, "steps": {"work": task("x")}})
    for data in ({"size": 1}, {}, {"size": 2}, {"size": 2, "name": "k"}, {"size": 3, "name": "k"}):
        mesh.publish(type="t", data=data)
    assert mesh.run("r:k").outcome.data == {"work": "done"}
    mesh.advance("300ms")
    assert mesh.publish(type="t", data={"size": 4, "name": "k"}).outcome.status == "completed"


@scenario
def events_that_come_early_or_for_nobody(mesh: MeshKit) -> None:
    """An event that comes before its workflow is kept for it, and one event counts once.

    What no step takes goes to the dead letters, at the end or when its time is over.
    """
    steps = {"ready": {"wait": "200ms"}, "paid": {"needs": "ready", "wait": PAID}}
    route = {"route": "r", "on": {"type": "t"}, "key": "${{ event.subject }}", "keep_events": "400ms"}
    mesh.route({**route, "steps": steps})
    early = {"type": "paid", "subject": "k", "id": "early", "data": 1}
    mesh.publish(early)
    run = mesh.publish(type="t", subject="k")
    mesh.publish(early)
    mesh.publish(type="paid", subject="k", id="one-too-many", data=2)
    assert run.outcome.status == "completed"
    mesh.publish(type="paid", subject="nobody", data=3)
    mesh.advance("400ms")


@scenario
def waits_that_are_over(mesh: MeshKit) -> None:
    """A time that has passed, and an event that must fit and does not come in time.

    That is an incident, which is tried again, and then a failure.
    """
    steps = {
        "until": {"wait": {"until": "${{ event.data.due }}"}},
        "paid": {"needs": "until", "wait": {**PAID, "if": "event.data.n >= start.data.n", "timeout": "300ms"}},
        "more": {"needs": "paid", "wait": {**PAID, "event": "more", "timeout": "300ms", "on_timeout": "fail"}},
    }
    run = begin(mesh, steps, data={"due": "2020-01-01T00:00:00Z", "n": 5})
    mesh.publish(type="paid", subject="k", data={"n": 4})
    mesh.advance("300ms")
    assert "paid" in run.needs_operator("paid")
    run.retry("paid", by="op")
    mesh.publish(type="paid", subject="k", data={"n": 5})
    assert run.output("paid")["data"] == {"n": 5}
    mesh.advance("300ms")
    assert run.outcome.status == "failed"


@scenario
def an_alias_that_another_has(mesh: MeshKit) -> None:
    """An event that comes before the alias is kept for it.

    Another workflow can't have the alias as long as the first lives. It goes on without it, or asks
    again when the first has ended.
    """
    mesh.agent("psp", {"payment": "p-1"})
    wait = {"event": "settled", "alias": "charge", "key": "${{ event.data.payment }}"}
    steps = {
        "charge": task("psp", alias="${{ steps.charge.payment }}"),
        "settled": {"needs": "charge", "if": "status.charge == 'succeeded'", "wait": wait},
        "again": {"needs": "settled", "wait": {**wait, "event": "paid-out"}},
    }
    mesh.route({"route": "r", "on": {"type": "t"}, "key": "${{ event.subject }}", "steps": steps})
    mesh.publish(type="settled", data={"payment": "p-1"})
    first = mesh.publish(type="t", subject="first")
    first.reaches("again", "waiting")
    second = mesh.publish(type="t", subject="second")
    assert "r:first" in second.needs_operator("charge")
    third = mesh.publish(type="t", subject="third")
    third.skip("charge", by="op")
    assert third.steps["charge"] == "succeeded"
    third.cancel(by="op")
    mesh.publish(type="paid-out", data={"payment": "p-1"})
    assert first.outcome.status == "completed"
    second.retry("charge", by="op")
    second.reaches("settled", "waiting")
    second.cancel(by="op")
    assert second.outcome.status == "cancelled"
