"""Scenarios of bulk operations: operators order one thing of several workflows at once.

The router sends the single commands, and each workflow decides on its own.
"""

from typing import Any

from scenario_table import scenario

from mesh.testing import MeshKit, Run, fails

ROUTE: dict[str, Any] = {"route": "r", "on": {"type": "t"}, "key": "${{ event.subject }}"}


def begun(mesh: MeshKit, *subjects: str) -> list[Run]:
    return [mesh.publish(type="t", subject=subject) for subject in subjects]


@scenario
def retried_completed_and_forked_in_bulk(mesh: MeshKit) -> None:
    """What has ended or has no incident is refused alone.

    The same fork of the same run begins once, however often it is ordered.
    """
    mesh.agent("pricer", 7)
    mesh.agent("payer", fails("Down", times=3, retryable=False), then="paid")
    charge = {"agent": "payer", "input": "${{ steps.price }}", "needs": "price"}
    mesh.route({**ROUTE, "steps": {"price": {"agent": "pricer", "input": 1}, "charge": charge}})
    a, b, c = begun(mesh, "a", "b", "c")
    for run in (a, b, c):
        run.needs_operator("charge")
    done = mesh.operation("retry", [a, b], by="op", step="charge", reason="the bank is back")
    assert done == {"r:a": "accepted", "r:b": "accepted"}
    assert [run.outcome.data for run in (a, b)] == [{"charge": "paid"}] * 2
    done = mesh.operation("complete", [b, c], by="op", step="charge", output="paid by phone", reason="they called")
    assert done == {"r:b": "ended", "r:c": "accepted"}
    assert c.outcome.data == {"charge": "paid by phone"}
    done = mesh.operation("fork", [a, c], by="op", step="charge", reason="the price was wrong")
    assert done == {"r:a": "accepted", "r:c": "accepted"}
    done = mesh.operation("fork", [c], by="op", step="charge", reason="the price was wrong")
    assert done == {"r:c": "already"}


@scenario
def held_moved_and_ended_in_bulk(mesh: MeshKit) -> None:
    """Pause, resume, migrate, skip, fail and cancel, each of several workflows at once."""
    mesh.agent("mailer", fails("Down", retryable=False))
    mesh.agent("printer", fails("Jam", retryable=False))
    mesh.person("ana", roles="editor")
    review: dict[str, Any] = {"approval": {"ask": "Good?", "payload": 1, "role": "editor"}}
    send = {"agent": "mailer", "input": 2, "needs": "review"}
    mesh.route({**ROUTE, "steps": {"review": review, "send": send}})
    a, b, c, d = begun(mesh, "a", "b", "c", "d")
    assert mesh.operation("pause", [a, b], by="op", reason="the mailer moves") == {"r:a": "accepted", "r:b": "accepted"}
    a.approve("review", by="ana")
    assert mesh.operation("pause", [a, c], by="op", reason="it moves") == {"r:a": "already", "r:c": "accepted"}
    mesh.apply({**ROUTE, "steps": {"review": review, "send": {**send, "agent": "printer"}}})
    moved = mesh.operation("migrate", [b, c], by="op", reason="the mailer is gone")
    assert moved == {"r:b": "accepted", "r:c": "accepted"}
    resumed = mesh.operation("resume", [a, b, c, d], by="op", reason="we print now")
    assert resumed == {"r:a": "accepted", "r:b": "accepted", "r:c": "accepted", "r:d": "already"}
    b.approve("review", by="ana")
    assert ("Down" in a.needs_operator("send"), "Jam" in b.needs_operator("send")) == (True, True)
    assert mesh.operation("skip", [a, d], by="op", step="send") == {"r:a": "accepted", "r:d": "no_incident"}
    assert mesh.operation("fail", [a, b], by="op", reason="no printer") == {"r:a": "ended", "r:b": "accepted"}
    assert mesh.operation("cancel", [c, d], by="op", reason="enough") == {"r:c": "accepted", "r:d": "accepted"}
    assert [run.outcome.status for run in (a, b, c, d)] == ["completed", "failed", "cancelled", "cancelled"]
