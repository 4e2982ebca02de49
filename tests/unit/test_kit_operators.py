"""What a test of a route does as an operator.

Also what it has of limits, aliases and other versions.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.testing import KitError, MeshKit, Refused, fails, later


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[MeshKit]:
    with MeshKit(folder=tmp_path) as one:
        yield one


def task(agent: str, value: Any = 1, **more: Any) -> dict[str, Any]:
    return {"agent": agent, "input": value, **more}


def route(steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"route": "r", "on": {"type": "t"}, "key": "${{ event.subject }}", "steps": steps, **more}


BROKEN = fails("Boom", retryable=False)


def test_a_step_that_is_an_incident_may_be_skipped(kit: MeshKit) -> None:
    kit.agent("bad", BROKEN)
    kit.agent("good", "done")
    kit.route(route({"a": task("bad"), "b": task("good", needs="a")}))
    run = kit.publish(type="t", subject="k")
    with pytest.raises(Refused, match="takes no skip") as caught:
        run.skip("b")
    assert caught.value.code == "no_incident"
    run.needs_operator("a")
    run.skip("a", by="op", reason="not today")
    assert run.outcome.data == {"b": "done"}
    assert "op orders: skip, because: not today" in kit.transcript()


def test_an_item_alone_may_be_skipped(kit: MeshKit) -> None:
    kit.agent("checker", [fails("Boom", times=1, retryable=False), "b"])
    kit.route(route({"a": {"for_each": ["a", "b"], **task("checker", "${{ item }}")}}))
    run = kit.publish(type="t", subject="k")
    run.needs_operator("a[0]")
    run.skip("a[0]")
    assert run.outcome.data == {"a": [None, "b"]}


def test_an_incident_may_be_the_end(kit: MeshKit) -> None:
    kit.agent("bad", BROKEN)
    kit.route(route({"a": task("bad")}))
    run = kit.publish(type="t", subject="k")
    with pytest.raises(KitError, match="no step b"):
        run.fail("b")
    run.needs_operator("a")
    run.fail("a", by="op", reason="no use")
    assert (run.outcome.status, run.outcome.reason) == ("failed", "a was failed by op: no use")


def test_a_new_version_starts_what_comes_after_and_a_run_can_be_moved_to_it(kit: MeshKit) -> None:
    kit.agent("x", lambda value: value)
    kit.person("ana", roles="boss")
    ask = {"approval": {"ask": "Go?", "payload": 1, "role": "boss"}}
    kit.route(route({"ask": ask, "work": task("x", "old", needs="ask")}))
    stays, moves = (kit.publish(type="t", subject=subject) for subject in ("stays", "moves"))
    kit.apply(route({"ask": ask, "work": task("x", "new", needs="ask")}))
    starts = kit.publish(type="t", subject="starts")
    moves.migrate(by="op")
    for run in (stays, moves, starts):
        run.approve("ask")
    assert [run.outcome.data["work"] for run in (stays, moves, starts)] == ["old", "new", "new"]
    text = kit.transcript()
    assert text.index('"input":"old"') < text.index("route r is this now") < text.index('"input":"new"')


def test_a_route_that_is_new_may_come_while_the_mesh_runs(kit: MeshKit) -> None:
    kit.agent("x", "done")
    kit.route(route({"a": task("x")}))
    assert kit.publish(type="t", subject="k").outcome.status == "completed"
    kit.apply({**route({"b": task("x")}), "route": "s", "on": {"type": "other"}})
    assert kit.publish(type="other", subject="k").outcome.data == {"b": "done"}


def test_a_task_waits_for_its_limit_and_time_passes_for_it(kit: MeshKit) -> None:
    kit.agent("x", later("1m", "done"))
    kit.route(route({"a": task("x", limit="one")}, limits={"one": {"concurrency": 1}}))
    first, second = (kit.publish(type="t", subject=subject) for subject in ("first", "second"))
    assert (first.steps, second.steps) == ({"a": "running"}, {"a": "queued"})
    began = kit.now
    assert second.outcome.data == {"a": "done"}
    assert (kit.now - began).total_seconds() == pytest.approx(120, abs=1)


def test_an_agent_gets_no_more_tasks_at_once_than_it_wants(kit: MeshKit) -> None:
    kit.agent("x", later("1m", "done"), max_outstanding=2)
    kit.route(route({"a": {"for_each": [1, 2, 3], **task("x")}}))
    run = kit.publish(type="t", subject="k")
    assert [run.steps[f"a[{number}]"] for number in range(3)] == ["running", "running", "queued"]
    assert run.outcome.data == {"a": ["done", "done", "done"]}


def test_an_alias_finds_its_run(kit: MeshKit) -> None:
    kit.agent("psp", lambda number: {"payment": f"p-{number}"})
    wait = {"event": "settled", "alias": "charge", "key": "${{ event.data.payment }}"}
    charge = task("psp", "${{ event.subject }}", alias="${{ steps.charge.payment }}")
    kit.route(route({"charge": charge, "settled": {"needs": "charge", "wait": wait}}))
    runs = [kit.publish(type="t", subject=subject) for subject in ("1", "2")]
    kit.publish(type="settled", data={"payment": "p-2"})
    assert [run.status for run in runs] == ["running", "completed"]
