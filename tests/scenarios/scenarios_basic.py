"""Scenarios of the oldest rules of a route.

Steps, retries, approvals, deadlines, cancelling.
"""

from typing import Any

import pytest
from scenario_table import begin, scenario

from mesh.testing import MeshKit, Refused, fails, silent

REVIEW = {"ask": "Good?", "payload": {"n": 1}, "role": "editor"}


def approval(**more: Any) -> dict[str, Any]:
    return {"approval": {**REVIEW, **more}}


@scenario
def from_event_to_outcome(mesh: MeshKit) -> None:
    """Two steps one after the other, and what they come to."""
    mesh.agent("classifier", lambda issue: {"severity": "high", "title": issue["title"]})
    mesh.agent("drafter", lambda triage: {"text": f"Thanks for {triage['title']!r}"})
    steps = {
        "classify": {"agent": "classifier", "input": "${{ event.data }}"},
        "draft": {"needs": "classify", "agent": "drafter", "input": "${{ steps.classify }}"},
    }
    run = begin(mesh, steps, data={"title": "It crashes"}, output={"reply": "${{ steps.draft.text }}"})
    assert run.outcome.data == {"reply": "Thanks for 'It crashes'"}


@scenario
def a_condition_is_false(mesh: MeshKit) -> None:
    """What is skipped satisfies those who need it.

    A skipped question passes its payload through.
    """
    mesh.agent("publisher", lambda reply: reply)
    steps = {
        "review": {"if": "event.data.delicate", **approval(payload="${{ event.data.reply }}")},
        "publish": {"needs": "review", "agent": "publisher", "input": "${{ steps.review.payload }}"},
    }
    assert begin(mesh, steps, data={"delicate": False, "reply": "Hi"}).outcome.data == {"publish": "Hi"}


@scenario
def retries_until_it_works(mesh: MeshKit) -> None:
    """An agent that fails, says nothing in time, and then works."""
    mesh.agent("flaky", [fails("ConnectError", times=1), silent, "at last"])
    retry = {"attempts": 4, "backoff": "200ms"}
    run = begin(mesh, {"work": {"agent": "flaky", "input": 1, "timeout": "1s", "retry": retry}})
    assert run.outcome.data == {"work": "at last"}


@scenario
def retries_used_up(mesh: MeshKit) -> None:
    """No attempt is left. An operator retries it once the agent is repaired."""
    mesh.agent("broken", [fails("Boom", times=2), "fixed"])
    retry = {"attempts": 2, "backoff": "100ms", "jitter": 0}
    run = begin(mesh, {"work": {"agent": "broken", "input": 1, "retry": retry}})
    assert run.needs_operator("work") == "Boom: as scripted (attempt 2 of 2)"
    run.retry("work", by="op")
    assert run.outcome.data == {"work": "fixed"}


@scenario
def a_failure_that_ends_it(mesh: MeshKit) -> None:
    """The route says that this failure is the end."""
    mesh.agent("payer", fails("CardRefused", retryable=False))
    run = begin(mesh, {"pay": {"agent": "payer", "input": 1, "on_exhausted": "fail"}})
    assert run.outcome.status == "failed"


@scenario
def an_approval_with_an_edit(mesh: MeshKit) -> None:
    """Someone without the role is refused. An editor approves something else than was asked."""
    mesh.agent("publisher", lambda value: value)
    mesh.person("ana", roles="editor")
    mesh.person("eve")
    steps = {
        "review": approval(),
        "publish": {"needs": "review", "agent": "publisher", "input": "${{ steps.review.payload }}"},
    }
    run = begin(mesh, steps)
    with pytest.raises(Refused, match="role"):
        run.approve("review", by="eve")
    run.approve("review", by="ana", payload={"n": 2}, reason="two is better")
    assert run.outcome.data == {"publish": {"n": 2}}


@scenario
def an_edit_that_does_not_fit(mesh: MeshKit) -> None:
    """What a person approves must have the form that the route asks for.

    A question that nobody answers by its deadline is rejected.
    """
    mesh.person("ana", roles="editor")
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "maximum": 10}}}
    review = {"ask": "Good?", "payload": {"n": 1}, "role": "editor", "payload_schema": schema}
    steps = {
        "review": {"approval": review},
        "again": {
            "needs": "review",
            "approval": {**review, "payload": "${{ steps.review.payload }}", "deadline": "300ms"},
        },
    }
    run = begin(mesh, steps)
    with pytest.raises(Refused, match="payload"):
        run.approve("review", by="ana", payload={"n": 11})
    run.approve("review", by="ana", payload={"n": 10})
    mesh.advance("300ms")
    assert run.outcome.status == "rejected"


@scenario
def a_rejection(mesh: MeshKit) -> None:
    """A rejection that a step takes, and one that ends the workflow."""
    mesh.agent("mailer", "sent")
    mesh.person("ana", roles="editor")
    steps = {
        "review": approval(),
        "sorry": {
            "needs": "review",
            "if": "steps.review.verdict == 'rejected'",
            "agent": "mailer",
            "input": "${{ steps.review.reason }}",
        },
        "again": {"needs": "sorry", **approval()},
    }
    run = begin(mesh, steps)
    run.reject("review", by="ana", reason="too harsh")
    run.reject("again", by="ana", reason="no")
    assert (run.outcome.status, run.steps["sorry"]) == ("rejected", "succeeded")


@scenario
def deadlines(mesh: MeshKit) -> None:
    """Nobody answers in time: approved, an incident, rejected, as the route says."""
    mesh.person("ana", roles="editor")
    steps = {
        "soft": approval(deadline="500ms", on_expiry="approve"),
        "hard": {"needs": "soft", **approval(deadline="500ms", on_expiry="incident")},
    }
    run = begin(mesh, steps)
    mesh.advance("500ms")
    run.reaches("soft", "succeeded")
    mesh.advance("500ms")
    assert "nobody with role editor answered" in run.needs_operator("hard")
    with pytest.raises(Refused, match="late"):
        run.approve("hard", by="ana")
    run.cancel(by="op", reason="too late now")
    assert run.outcome.status == "cancelled"


@scenario
def cancelled_by_an_operator(mesh: MeshKit) -> None:
    """With a task out and a question open."""
    mesh.agent("slow", silent)
    mesh.person("ana", roles="editor")
    run = begin(mesh, {"work": {"agent": "slow", "input": 1}, "review": approval()})
    run.waits_for("review")
    run.cancel(by="op", reason="wrong repository")
    assert run.outcome.status == "cancelled"
    with pytest.raises(Refused, match="closed"):
        run.approve("review", by="ana")


@scenario
def parallel_steps_and_a_join(mesh: MeshKit) -> None:
    """Three agents work side by side, and one of them needs a second attempt.

    One more step needs all of them.
    """
    mesh.agent("a", "one")
    mesh.agent("b", fails("Boom", times=1), then="two")
    mesh.agent("c", "three")
    mesh.agent("joiner", "-".join)
    retry = {"backoff": "200ms", "jitter": 0}
    steps: dict[str, Any] = {name: {"agent": name, "input": name, "retry": retry} for name in ("a", "b", "c")}
    found = ["${{ steps.a }}", "${{ steps.b }}", "${{ steps.c }}"]
    steps["join"] = {"needs": ["a", "b", "c"], "agent": "joiner", "input": found}
    assert begin(mesh, steps).outcome.data == {"join": "one-two-three"}


@scenario
def one_event_starts_one_run(mesh: MeshKit) -> None:
    """The same event twice, another one while it runs, and another one after its end."""
    mesh.agent("x", ["one", "two"])
    mesh.person("ana", roles="editor")
    run = begin(mesh, {"work": {"agent": "x", "input": 1}, "review": approval()}, on_repeat="new_run_after_end")
    mesh.publish(type="t", subject="k", id="event-1")
    mesh.publish(type="t", subject="k")
    run.approve("review", by="ana")
    assert run.outcome.status == "completed"
    again = mesh.publish(type="t", subject="k")
    again.reject("review", by="ana")
    assert again.outcome.status == "rejected"
