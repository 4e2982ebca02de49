"""Scenarios of what operators do.

Incidents that are tried again, skipped, or the end; undoing that gets stuck; other versions of a
route; calls that are taken back.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pytest
from scenario_table import begin, scenario

from mesh.codec.redrive import By
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.redriving import Redriving
from mesh.testing import MeshKit, Refused, Run, fails, silent

REFUSES = fails("Refused", retryable=False)


def task(agent: str, value: Any = 1, **more: Any) -> dict[str, Any]:
    return {"agent": agent, "input": value, **more}


@scenario
def tried_again_skipped_and_given_up(mesh: MeshKit) -> None:
    """One item of a for-each is tried again, and one step is skipped.

    A step whose input can't be made is the end of the workflow.
    """
    mesh.agent("checker", [fails("Unreadable", times=1, retryable=False), "b", "a"])
    mesh.agent("payer", REFUSES)
    mesh.agent("mailer", lambda how: f"the payment was {how}")
    steps = {
        "check": {"for_each": "${{ event.data }}", **task("checker", "${{ item }}")},
        "pay": task("payer", needs="check"),
        "tell": task("mailer", "${{ status.pay }}", needs="pay"),
        "book": task("payer", "${{ steps.tell.receipt }}", needs="tell"),
    }
    run = begin(mesh, steps, data=["a", "b"])
    run.needs_operator("check[0]")
    run.retry("check[0]", by="op", reason="the file is there now")
    run.needs_operator("pay")
    run.skip("pay", by="op", reason="paid in cash")
    assert (run.output("check"), run.output("tell")) == (["a", "b"], "the payment was skipped")
    assert "steps.tell" in run.needs_operator("book")
    run.fail("book", by="op")
    assert run.outcome.status == "failed"
    with pytest.raises(Refused, match="ended"):
        run.retry(by="op")


@scenario
def paused_and_resumed(mesh: MeshKit) -> None:
    """While it is paused a result and an answer count, and nothing new is sent until it resumes.

    A step that would never get its result has it by hand.
    """
    mesh.agent("drafter", "a draft")
    mesh.agent("scanner", silent)
    mesh.agent("printer", "printed")
    mesh.person("ana", roles="editor")
    steps = {
        "draft": task("drafter"),
        "review": {"approval": {"ask": "Good?", "payload": "${{ steps.draft }}", "role": "editor"}, "needs": "draft"},
        "scan": task("scanner", needs="review"),
        "print": task("printer", "${{ steps.scan }}", needs="scan"),
    }
    run = begin(mesh, steps)
    run.waits_for("review")
    run.pause(by="op", reason="the scanner is being cleaned")
    with pytest.raises(Refused, match="paused already"):
        run.pause(by="op")
    run.approve("review", by="ana")
    assert run.steps["review"] == "succeeded"
    assert "scan" not in run.steps
    run.resume(by="op", reason="it is clean")
    run.reaches("scan", "running")
    run.complete("scan", "scanned by hand", by="op", reason="the scanner is silent")
    assert run.outcome.data == {"print": "printed"}


@scenario
def corrected_by_hand(mesh: MeshKit) -> None:
    """A step is tried again with another input, and another has its output by hand.

    An approval is asked again. A new run goes on from a step of the one that has ended.
    """
    mesh.agent("payer", fails("Refused", times=1, retryable=False), then=lambda amount: f"paid {amount}")
    mesh.agent("printer", REFUSES)
    mesh.person("ana", roles="editor")
    steps = {
        "pay": task("payer", "${{ event.data }}"),
        "print": task("printer", "${{ steps.pay }}", needs="pay"),
        "review": {"approval": {"ask": "Good?", "payload": "${{ steps.print }}", "role": "editor"}, "needs": "print"},
        "sign": {"approval": {"ask": "Signed?", "payload": 1, "role": "editor"}, "needs": "pay"},
    }
    run = begin(mesh, steps, data=-5)
    run.needs_operator("pay")
    with pytest.raises(Refused, match="no_incident"):
        run.retry("print", by="op", input=5)
    run.retry("pay", by="op", reason="a wrong sign", input=5)
    run.needs_operator("print")
    run.complete("print", "printed by hand", by="op", reason="the printer is old")
    run.approve("review", by="ana")
    run.retry("review", by="op", reason="it was the wrong button")
    run.waits_for("review")
    run.reject("review", by="ana", reason="a typo")
    assert run.outcome.status == "rejected"
    fork = run.fork("print", by="op", reason="there is a new printer")
    assert (fork.output("pay"), fork.needs_operator("print")) == (
        "paid 5",
        "Refused: as scripted (trying again would not help)",
    )
    fork.complete("print", "printed again", by="op", reason="not yet")
    fork.approve("review", by="ana")
    fork.approve("sign", by="ana")
    assert fork.outcome.status == "completed"


@scenario
def undoing_that_gets_stuck(mesh: MeshKit) -> None:
    """A task that was out and never answered is undone too.

    The agent that did a step undoes it. A second cancel ends the workflow as it is.
    """
    mesh.agent("north", [{"id": 1}, fails("Down", times=1, retryable=False)], capabilities=["fly"])
    mesh.agent("south", [{"id": 1}, fails("Down", times=1, retryable=False)], capabilities=["fly"])
    mesh.agent("hotel", silent)
    mesh.agent("hotel-cancel", "cancelled")
    undo = {"capability": "fly", "input": {"cancel": "${{ steps.flight.id }}"}}
    steps = {
        "flight": {"capability": "fly", "input": 1, "undo": undo},
        "hotel": task("hotel", needs="flight", undo=task("hotel-cancel", "${{ steps.hotel }}")),
    }
    run = begin(mesh, steps)
    run.cancel(by="op", reason="the trip is off")
    assert "Down" in run.needs_operator("flight.undo")
    run.cancel(by="op", reason="I called them")
    assert run.outcome.status == "cancelled"


@scenario
def moved_to_another_version(mesh: MeshKit) -> None:
    """A new version starts what comes after.

    What runs ends under its own version, or an operator moves it where that fits what it has done.
    """
    mesh.agent("mailer", lambda text: f"mailed {text}")
    mesh.agent("printer", lambda text: f"printed {text}")
    mesh.person("ana", roles="editor")
    review: dict[str, Any] = {"approval": {"ask": "Good?", "payload": "${{ event.data }}", "role": "editor"}}
    send = task("mailer", "${{ steps.review.payload }}", needs="review")
    steps = {"review": review, "send": send, "archive": {**review, "needs": "send"}}
    output = "${{ steps.send }}"
    sent, moved = begin(mesh, steps, data="old", output=output), mesh.publish(type="t", subject="moved", data="moved")
    sent.approve("review", by="ana")
    route = {"route": "r", "on": {"type": "t"}, "key": "${{ event.subject }}", "output": output}
    mesh.apply({**route, "steps": {**steps, "send": {**send, "agent": "printer"}}})
    with pytest.raises(Refused, match="send"):
        sent.migrate(by="op")
    moved.migrate(by="op", reason="the mailer is gone")
    new = mesh.publish(type="t", subject="new", data="new")
    for run in (moved, new):
        run.approve("review", by="ana")
    for run in (sent, moved, new):
        run.approve("archive", by="ana")
    assert [run.outcome.data for run in (sent, moved, new)] == ["mailed old", "printed moved", "printed new"]


@scenario
def calls_that_are_taken_back(mesh: MeshKit) -> None:
    """A call that is not done in time is cancelled.

    So is a call that is under way when its caller is cancelled.
    """
    ask = {"ask": "Good?", "payload": "${{ event.data }}", "role": "editor"}
    mesh.route({"route": "notes", "steps": {"review": {"approval": ask}}})
    steps = {
        "quick": {"workflow": "notes", "input": 1, "timeout": "300ms", "on_exhausted": "continue"},
        "slow": {"needs": "quick", "if": "status.quick == 'failed'", "workflow": "notes", "input": 2},
    }
    run = begin(mesh, steps)
    mesh.advance("300ms")
    run.reaches("slow", "calling")
    assert run.steps["quick"] == "failed"
    run.cancel(by="op")
    assert run.outcome.status == "cancelled"


@scenario
def a_dead_letter_goes_back_once(mesh: MeshKit) -> None:
    """An event that came for nobody is redriven when its workflow is there.

    A second operator finds that it has gone back.
    """
    run = begun_after_its_event(mesh)
    assert handle(mesh, "redrive", "ana", finds=True) == ["redriven"]
    assert run.output("paid")["data"] == 3
    assert handle(mesh, "redrive", "ben", finds=False) == ["stays redriven"]
    assert handle(mesh, "discard", "ben", finds=False) == ["stays redriven"]


@scenario
def a_dead_letter_that_is_discarded(mesh: MeshKit) -> None:
    """It does not go back any more, and its workflow waits on."""
    run = begun_after_its_event(mesh)
    assert handle(mesh, "discard", "ana", finds=True) == ["discarded"]
    assert handle(mesh, "redrive", "ben", finds=False) == ["stays discarded"]
    assert run.steps == {"paid": "waiting"}
    run.cancel(by="op", reason="it was paid elsewhere")


def begun_after_its_event(mesh: MeshKit) -> Run:
    """A workflow that waits for an event, which came too early and is a dead letter."""
    paid = {"event": "paid", "key": "${{ event.subject }}"}
    route = {"route": "r", "on": {"type": "t"}, "key": "${{ event.subject }}", "keep_events": "200ms"}
    mesh.route({**route, "steps": {"paid": {"wait": paid}}})
    mesh.publish(type="paid", subject="k", id="too-early", data=3)
    mesh.advance("200ms")
    run = mesh.publish(type="t", subject="k")
    run.reaches("paid", "waiting")
    return run


def handle(mesh: MeshKit, verb: Literal["redrive", "discard"], by: str, *, finds: bool) -> list[str]:
    """What becomes of all letters. `finds`: one is open, or will be at once."""

    async def act() -> list[str]:
        broker, topics = mesh.stage.broker, mesh.stage.topics
        is_open = queries.LetterFilter(statuses=("open",), code="unclaimed")
        with TemporaryDirectory() as folder:
            async with ReadModel(broker, topics, Path(folder) / "model.sqlite") as model:
                await model.catch_up()
                if finds:
                    await model.wait_until(lambda: queries.dead_letters(model.db, is_open) or None, timeout_s=30)
                who = By(f"{verb} of {by}", by, mesh.now_ms(), "it is there now")
                letters = Redriving(broker, model, topics, who)
                act = letters.redrive if verb == "redrive" else letters.discard
                done = [one async for one in act(queries.dead_letters(model.db))]
                return [f"{one.verdict} {one.code}".strip() for one in done]

    said = mesh.act(act())
    mesh.note(f"{by} orders of the dead letter: {verb}. What becomes of it: {', '.join(said)}")
    return said
