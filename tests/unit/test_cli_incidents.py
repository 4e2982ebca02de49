"""`mesh incidents`, and the workflows that wait for an operator, by cause."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from sample_mesh import (
    TOPICS,
    Writer,
    dispatched,
    event_cause,
    result_cause,
    run,
    started,
    succeeded,
    workflow,
    write_sample,
)

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.sqlite import SqliteBroker
from mesh.adapters.system import SystemClock
from mesh.cli.app import mesh
from mesh.core import events as ev
from mesh.core.ids import task_id
from mesh.inspection.read_model import ReadModel, model_path, queries
from mesh.ports import Broker


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "MESH_BROKER": f"sqlite://{tmp_path}/mesh.db",
        "MESH_DATA_DIR": str(tmp_path / "data"),
        "COLUMNS": "120",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    connection = MemoryCluster(clock=SystemClock()).connect("test")
    yield connection
    await connection.close()


def with_broker(folder: Path, work: Callable[[Broker], Awaitable[Any]]) -> Any:
    async def open_and_work() -> Any:
        broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
        try:
            return await work(broker)
        finally:
            await broker.close()

    return asyncio.run(open_and_work())


def call(*arguments: str) -> Result:
    return CliRunner().invoke(mesh, list(arguments))


def call_json(*arguments: str, code: int = 0) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def failed(number: int, place: str, message: str, *, version: str = "") -> tuple[ev.Event, ...]:
    """What a decision has when the last attempt at a task fails."""
    failure = ev.TaskFailed(
        step=place,
        task_id=task_id(workflow(number), run(number), place),
        attempt=1,
        kind="Down",
        message=message,
        retryable=False,
        agent_version=version,
    )
    raised = ev.IncidentRaised(step=place, kind="non_retryable", message=f"Down: {message}")
    return failure, raised


async def fail_at(writer: Writer, number: int, step: str, message: str, *, version: str = "", agent: str = "a") -> None:
    """A workflow whose one step ends as an incident."""
    await writer.decide(
        workflow(number), event_cause(number, 0), started(number), dispatched(number, step, agent, writer.now_ms)
    )
    await writer.decide(
        workflow(number), result_cause(number, step), *failed(number, step, message, version=version), after_ms=1_000
    )


async def several(broker: Broker) -> None:
    """Two causes beside the sample's: one of three workflows, and one with another version."""
    writer = await write_sample(broker)
    for number, version in ((11, "1.0"), (12, "1.0"), (13, "1.1"), (14, "1.0")):
        await fail_at(writer, number, "charge", f"order {number} of 'c{number}' is late", version=version, agent="pay")


async def read(broker: Broker, path: Path) -> ReadModel:
    model = ReadModel(broker, TOPICS, model_path(path, "memory://", "mesh."))
    await model.catch_up()
    return model


# What the read model has --------------------------------------------------------------------------


async def test_a_retried_incident_is_gone_and_comes_back_with_the_version_that_failed(
    broker: MemoryBroker, tmp_path: Path
) -> None:
    writer = Writer(broker)
    await writer.create_topics()
    for number in range(2):
        await writer.take_over(number)
    await fail_at(writer, 1, "charge", "order 1", version="1.0")
    async with await read(broker, tmp_path) as model:
        [first] = queries.causes(model.db)
        assert (first.agent_version, first.incidents, first.pattern) == ("1.0", 1, "Down: order …")
        # another decision of this workflow, in a later batch, keeps the version
        command = ev.CommandRefused(command_id="c", command="retry", code="no", message="no", by="ops")
        await writer.decide(workflow(1), ev.Cause(kind="command", id="c"), command)
        await model.catch_up()
        assert list(queries.causes(model.db)) == [first]
        resolved = ev.IncidentResolved(step="charge", action="retry", by="ops")
        again = dispatched(1, "charge", "a", writer.now_ms, attempt=2)
        await writer.decide(workflow(1), ev.Cause(kind="command", id="d"), resolved, again)
        await model.catch_up()
        assert not queries.causes(model.db)
        assert queries.has_cause(model.db, first.cause)
        failure, raised = failed(1, "charge", "order 2", version="1.1")
        assert isinstance(failure, ev.TaskFailed)
        await writer.decide(workflow(1), result_cause(1, "charge", 2), replace(failure, attempt=2), raised)
        await model.catch_up()
        assert [row.agent_version for row in queries.causes(model.db)] == ["1.1"]


async def test_items_of_a_for_each_have_one_cause(broker: MemoryBroker, tmp_path: Path) -> None:
    writer = Writer(broker)
    await writer.create_topics()
    for number in range(2):
        await writer.take_over(number)
    places = [f"check[{item}]" for item in range(3)]
    begun = ev.ForEachStarted(step="check", items=[1, 2, 3], reason="no needs")
    sent = [dispatched(1, place, "a", writer.now_ms) for place in places]
    await writer.decide(workflow(1), event_cause(1, 0), started(1), begun, *sent)
    for item, place in enumerate(places):
        await writer.decide(workflow(1), result_cause(1, place), *failed(1, place, f"item {item}"))
    async with await read(broker, tmp_path) as model:
        [row] = queries.causes(model.db)
        assert (row.step, row.incidents, row.workflows) == ("check", 3, 1)
        assert [one.step for one in queries.incidents(model.db, row.cause)] == places


async def test_a_workflow_that_ended_has_no_incident(broker: MemoryBroker, tmp_path: Path) -> None:
    writer = Writer(broker)
    await writer.create_topics()
    for number in range(2):
        await writer.take_over(number)
    await fail_at(writer, 1, "charge", "x")
    end = ev.WorkflowEnded(status="failed", reason="by ops", run_id=run(1), traceparent="", forget_at_ms=1)
    async with await read(broker, tmp_path) as model:
        assert queries.causes(model.db)
        await writer.decide(workflow(1), ev.Cause(kind="command", id="f"), end)
        await model.catch_up()
        assert not queries.causes(model.db)
        await writer.decide(workflow(1), ev.Cause(kind="timer", id="g"), ev.WorkflowForgotten())
        await model.catch_up()
        assert not queries.causes(model.db)


# The commands -------------------------------------------------------------------------------------


def test_incidents_are_grouped_by_cause_the_most_frequent_first(folder: Path) -> None:
    with_broker(folder, several)
    causes = call_json("incidents")["causes"]
    assert [(one["step"], one["agent_version"], one["incidents"]) for one in causes] == [
        ("charge", "1.0", 3),
        *sorted([("charge", "1.1", 1), ("classify", None, 1)], key=lambda row: _rank(causes, row)),
    ]
    [most, *_] = causes
    assert most["pattern"] == "Down: order … of … is late"
    assert (most["workflows"], most["kind"], most["example"]["workflow_id"]) == (3, "non_retryable", workflow(14))
    assert most["first_at"] < most["last_at"]
    assert most["next"].startswith("remove the cause")
    shown = call("incidents").stdout
    assert shown.startswith(f"{most['cause']}  3 incidents  first ")
    assert "  issue-triage, step charge, agent pay 1.0: non_retryable\n  Down: order … of … is late\n" in shown
    assert f"  such as {workflow(14)}: Down: order 14 of 'c14' is late\n  next: remove the cause" in shown


def _rank(causes: list[dict[str, Any]], row: tuple[str, str | None, int]) -> int:
    return [(one["step"], one["agent_version"], one["incidents"]) for one in causes].index(row)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--step", "charge"], 2),
        (["--agent", "pay", "--kind", "non_retryable", "--route", "issue-triage"], 2),
        (["--kind", "exhausted"], 1),
        (["--agent", "nobody"], 0),
        (["--since", "2020-01-01"], 3),
        (["--since", "1h"], 0),
    ],
)
def test_causes_are_filtered(folder: Path, options: list[str], count: int) -> None:
    with_broker(folder, several)
    assert call_json("incidents", *options)["total"] == count
    assert ("No such incidents." in call("incidents", *options).stdout) == (count == 0)


def test_a_cause_names_its_workflows_by_pages(folder: Path) -> None:
    with_broker(folder, several)
    cause = call_json("incidents")["causes"][0]["cause"]
    first = call_json("incidents", "show", cause, "--limit", "2")
    assert [one["workflow_id"] for one in first["incidents"]] == [workflow(11), workflow(12)]
    assert (first["total"], first["cause"]["incidents"]) == (3, 3)
    rest = call_json("incidents", "show", cause[:6], "--after", first["next"])
    assert [one["workflow_id"] for one in rest["incidents"]] == [workflow(14)]
    shown = call("incidents", "show", cause)
    assert shown.stdout.count("Down: order 12 of 'c12' is late") == 1
    page = call("incidents", "--limit", "1")
    assert "1 of 3 are shown" in page.stderr


def test_workflows_that_wait_for_an_operator_are_shown_with_step_cause_and_age(folder: Path) -> None:
    with_broker(folder, several)
    [most, *_] = call_json("incidents")["causes"]
    chosen = call_json("workflows", "list", "--cause", most["cause"])
    assert [one["workflow_id"] for one in chosen["workflows"]] == [workflow(14), workflow(12), workflow(11)]
    assert [one["cause"] for one in chosen["workflows"][0]["incident_steps"]] == [most["cause"]]
    head, *rows = call("workflows", "list", "--status", "incident").stdout.splitlines()
    assert head.split() == ["WORKFLOW", "STEP", "CAUSE", "AGE", "MESSAGE"]
    rows = [row for row in rows if not row.startswith(" ")]
    assert len(rows) == 5
    assert rows[0].split()[:3] == [workflow(14), "charge", most["cause"]]
    assert "non_retryable: Down: order 14" in rows[0]
    assert call_json("workflows", "list")["workflows"][-1]["incident_steps"] == []


def test_a_cause_that_is_unknown_or_over_is_said_to_be(folder: Path) -> None:
    async def over(broker: Broker) -> None:
        writer = await write_sample(broker)
        await fail_at(writer, 11, "charge", "late")

    async def resolve(broker: Broker) -> None:
        writer = Writer(broker)
        writer.now_ms += 1_000_000
        await writer.decide(workflow(11), result_cause(11, "charge"), succeeded(11, "charge", 1))

    with_broker(folder, over)
    cause = next(one["cause"] for one in call_json("incidents")["causes"] if one["step"] == "charge")
    with_broker(folder, resolve)
    gone = call("incidents", "show", cause)
    assert (gone.exit_code, "no workflow waits because of" in gone.stderr) == (3, True), gone.output
    assert "No such workflows." in call("workflows", "list", "--cause", cause).stdout
    unknown = call("incidents", "show", "ffffffffff")
    assert (unknown.exit_code, "`mesh incidents` lists them" in unknown.stderr) == (3, True)


def test_a_mesh_without_incidents_says_so(folder: Path) -> None:
    async def empty(broker: Broker) -> None:
        await Writer(broker).create_topics()

    with_broker(folder, empty)
    assert call("incidents").stdout == "No incidents.\n"


async def test_causes_are_counted_in_the_index_alone(broker: MemoryBroker, tmp_path: Path) -> None:
    """So a hundred thousand incidents are grouped in a tenth of a second."""
    await Writer(broker).create_topics()
    async with await read(broker, tmp_path) as model:
        seen: list[str] = []

        def keep(_cursor: object, sql: str, _values: object) -> bool:
            seen.append(sql)
            return True

        model.db.set_exec_trace(keep)
        queries.causes(model.db, limit=50)
        [sql] = [one for one in seen if "LIMIT" in one]
        plan = [row[3] for row in model.db.execute(f"EXPLAIN QUERY PLAN {sql}", (0, 50))]
    assert any("incidents USING COVERING INDEX incidents_by_cause" in line for line in plan), plan
