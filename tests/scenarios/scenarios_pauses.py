"""Scenarios of pauses of agents and of routes."""

import pytest
from scenario_table import begin, scenario

from mesh.testing import MeshKit, Refused, fails


@scenario
def an_agent_is_paused(mesh: MeshKit) -> None:
    """Nothing goes out to a paused agent: no first task, no retry, no item of a list.

    Other agents go on, a result that comes counts, and all that was held goes out afterwards.
    """
    writer = mesh.agent("writer", [fails("Busy", times=1)], then="a text")
    mesh.agent("checker", "checked")
    steps = {
        "write": {"agent": "writer", "input": 1, "retry": {"attempts": 2, "backoff": "500ms"}},
        "check": {"agent": "checker", "input": 1},
        "each": {"agent": "writer", "input": "${{ item }}", "for_each": "${{ event.data }}", "needs": "check"},
        "sum": {"needs": ["write", "each"], "value": "${{ steps.each }}"},
    }
    mesh.route({"route": "r", "on": {"type": "t"}, "key": "${{ event.subject }}", "steps": steps})
    mesh.pause(agent="checker", by="op", reason="it is slow")
    with pytest.raises(Refused, match="paused already, by op"):
        mesh.pause(agent="checker", by="eve")
    run = mesh.publish(type="t", subject="k", data=[1, 2])
    assert run.steps["check"] == "held"
    mesh.pause(agent="writer", by="op", reason="its supplier is down")
    run.reaches("write", "held")
    mesh.resume(agent="checker", by="op")
    assert run.steps["check"] == "succeeded"
    assert len(writer.calls) == 1
    mesh.resume(agent="writer", by="op", reason="the supplier is back")
    assert run.outcome.data == {"sum": ["a text", "a text"]}


@scenario
def a_route_is_paused(mesh: MeshKit) -> None:
    """An event starts a workflow of a paused route, which waits before its first step.

    What is out goes on, answers count, and a call of the route waits in the workflow that it has
    started.
    """
    mesh.agent("drafter", "a draft")
    mesh.agent("printer", "printed")
    mesh.person("ana", roles="editor")
    mesh.route({"route": "printing", "steps": {"print": {"agent": "printer", "input": "${{ event.data }}"}}})
    question = {"ask": "Good?", "payload": "${{ steps.draft }}", "role": "editor"}
    steps = {
        "draft": {"agent": "drafter", "input": 1},
        "review": {"approval": question, "needs": "draft"},
        "print": {"workflow": "printing", "input": "${{ steps.review.payload }}", "needs": "review"},
    }
    first = begin(mesh, steps)
    first.waits_for("review")
    mesh.pause(route="r", by="op", reason="the rules are wrong")
    first.approve("review", by="ana")
    second = mesh.publish(type="t", subject="second")
    assert (second.steps, first.steps["review"]) == ({}, "succeeded")
    mesh.pause(route="printing", by="op")
    mesh.resume(route="r", by="op", reason="they are right")
    assert first.steps["print"] == "calling"
    second.waits_for("review")
    mesh.resume(route="printing", by="op")
    assert first.outcome.data == {"print": {"print": "printed"}}
    second.reject("review", by="ana")
