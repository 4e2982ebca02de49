"""Scenarios of what is shared: limits over all workflows, priority, an agent's own wishes.

Also budgets that end a workflow.
"""

from typing import Any

from scenario_table import scenario

from mesh.testing import MeshKit, silent, uses

ON: dict[str, Any] = {"on": {"type": "t"}, "key": "${{ event.subject }}"}


@scenario
def a_limit_and_who_goes_first(mesh: MeshKit) -> None:
    """One at a time for each tenant: of those that wait, the highest priority goes first.

    Another tenant's task does not wait at all.
    """
    mesh.agent("crm", [silent, "for another tenant", "the urgent one", "the other one"])
    limit = {"name": "crm", "key": "${{ event.data.tenant }}"}
    look = {"agent": "crm", "input": 1, "timeout": "400ms", "retry": {"attempts": 1}, "on_exhausted": "fail"}
    route = {"route": "r", **ON, "priority": "${{ event.data.priority }}", "limits": {"crm": {"concurrency": 1}}}
    mesh.route({**route, "steps": {"look": {**look, "limit": limit}}})
    runs = {
        subject: mesh.publish(type="t", subject=subject, data={"tenant": tenant, "priority": priority})
        for subject, tenant, priority in (("a", "x", 0), ("b", "x", 0), ("c", "x", 10), ("d", "y", 0))
    }
    assert [run.steps["look"] for run in runs.values()] == ["running", "queued", "queued", "succeeded"]
    assert runs["a"].outcome.status == "failed"
    assert runs["b"].outcome.data == {"look": "the other one"}


@scenario
def a_rate_that_two_routes_share(mesh: MeshKit) -> None:
    """Two in any half a second, whichever route asks.

    A queued task that is cancelled takes no turn.
    """
    mesh.agent("model", "said")
    for name in ("r", "s"):
        steps = {"say": {"agent": "model", "input": 1, "limit": "model"}}
        mesh.route(
            {"route": name, **ON, "on": {"type": name}, "limits": {"model": {"rate": "2/500ms"}}, "steps": steps}
        )
    for name in ("r", "s"):
        assert mesh.publish(type=name, subject="1").outcome.status == "completed"
    second, third = mesh.publish(type="r", subject="2"), mesh.publish(type="s", subject="3")
    assert (second.steps["say"], third.steps["say"]) == ("queued", "queued")
    second.cancel(by="op")
    assert third.outcome.data == {"say": "said"}


@scenario
def as_many_as_an_agent_wants(mesh: MeshKit) -> None:
    """An agent that wants one task at a time gets the items of a for-each one after the other.

    The limit of the route would let two go.
    """
    mesh.agent("checker", lambda item: item, max_outstanding=1)
    steps = {"check": {"for_each": "${{ event.data }}", "agent": "checker", "input": "${{ item }}", "limit": "two"}}
    mesh.route({"route": "r", **ON, "limits": {"two": {"concurrency": 2}}, "steps": steps})
    assert mesh.publish(type="t", subject="k", data=["a", "b", "c"]).outcome.data == {"check": ["a", "b", "c"]}


@scenario
def budgets_that_end_a_workflow(mesh: MeshKit) -> None:
    """No more tasks than the budget has hops; no more time; and a person who grants nothing."""
    mesh.agent("writer", uses("text", tokens=90))
    mesh.person("ana", roles="lead")
    one = {"agent": "writer", "input": 1}
    dear = {**one, "reserve": {"tokens": 100}}
    two = {"first": one, "second": {"needs": "first", **one}}
    dear_two = {"first": dear, "second": {"needs": "first", **dear}}
    late = {"rest": {"wait": "400ms"}, "write": {"needs": "rest", **one}}
    ask = {"on_exhausted": "ask", "role": "lead", "deadline": "24h"}
    budgets: dict[str, dict[str, Any]] = {
        "hops": {"budget": {"hops": 1, "on_exhausted": "fail"}, "steps": two},
        "time": {"budget": {"time": "200ms", "on_exhausted": "fail"}, "steps": late},
        "tokens": {"budget": {"tokens": 150, **ask}, "steps": dear_two},
    }
    for name, more in budgets.items():
        mesh.route({"route": name, **ON, "on": {"type": name}, **more})
    assert mesh.publish(type="hops", subject="k").outcome.status == "failed"
    assert mesh.publish(type="time", subject="k").outcome.status == "failed"
    run = mesh.publish(type="tokens", subject="k")
    run.reaches("second", "held")
    run.reject("second.budget", by="ana", reason="that was enough")
    assert run.outcome.status == "failed"
