"""Long lists: filtered first, shown by pages, counted whole."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from sample_mesh import (
    PARTITIONS,
    TOPICS,
    Writer,
    approved,
    asked,
    dispatched,
    event,
    partition,
    run,
    started,
    workflow,
    write_sample,
)

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.sqlite import SqliteBroker
from mesh.adapters.system import SystemClock
from mesh.cli.app import mesh
from mesh.codec.dead_letters import dead_letter
from mesh.codec.effects import EffectEncoder
from mesh.codec.log import encode_decision
from mesh.core.effects import effects
from mesh.core.events import Cause, Decision, Event, IncidentRaised
from mesh.core.open_approvals import ShowApproval
from mesh.errors import OperatorError
from mesh.inspection.read_model import ReadModel, model_path, queries
from mesh.inspection.read_model.pages import Page, encode_cursor
from mesh.ports import Broker, OutRecord, Record, TopicPartition

MANY = 1_050


async def decide_all(broker: Broker, writer: Writer, decisions: Sequence[tuple[str, tuple[Event, ...]]]) -> None:
    """Like `Writer.decide` for each, in one transaction for each partition."""
    found: dict[int, list[OutRecord]] = {number: [] for number in range(PARTITIONS)}
    sent: list[OutRecord] = []
    for workflow_id, events in decisions:
        writer.now_ms += 1
        number = partition(workflow_id)
        decision = Decision(
            epoch=writer.tokens[number],
            workflow_id=workflow_id,
            at_ms=writer.now_ms,
            cause=Cause(kind="event", id="x"),
            positions={},
            mark=0,
            events=events,
        )
        found[number].append(encode_decision(decision, topic=TOPICS.log, partition=number))
        sent += [EffectEncoder(TOPICS, 0, 1).encode(one) for one in effects(decision) if isinstance(one, ShowApproval)]
    await writer.send(sent)
    for number, records in found.items():
        await broker.append(TopicPartition(TOPICS.log, number), None, records, [])


async def many_approvals(broker: Broker) -> Writer:
    """As many for one role, then one for another."""
    writer = await write_sample(broker)
    questions = [(workflow(n), (started(n), asked(n, writer.now_ms))) for n in range(1_000, 1_000 + MANY)]
    await decide_all(broker, writer, questions)
    last = replace(asked(9, writer.now_ms), role="cfo")
    await decide_all(broker, writer, [(workflow(9), (started(9), last))])
    return writer


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    connection = MemoryCluster(clock=SystemClock()).connect("test")
    yield connection
    await connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return model_path(tmp_path, "memory://", "mesh.")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "MESH_BROKER": f"sqlite://{tmp_path}/mesh.db",
        "MESH_DATA_DIR": str(tmp_path / "data"),
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_broker(folder: Path, work: Callable[[Broker], Awaitable[Any]]) -> None:
    async def open_and_work() -> None:
        broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
        try:
            await work(broker)
        finally:
            await broker.close()

    asyncio.run(open_and_work())


def call(*arguments: str) -> Result:
    return CliRunner().invoke(mesh, list(arguments))


def call_json(*arguments: str) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# The queries --------------------------------------------------------------------------------------


async def long_lists(broker: Broker) -> None:
    """Seven or more rows in each list."""
    writer = await write_sample(broker)
    await writer.publish(*[event(n, event_id=f"e{n % 2}") for n in range(50, 62)])
    for number in range(50, 57):
        failed = IncidentRaised(step="classify", kind="exhausted", message="it failed")
        task = dispatched(number, "classify", "classifier", 0)
        original = Record(TOPICS.events, 0, number, number, None, b"", ())
        letter = dead_letter(original, code="c", message="m", component="c", group="g", topics=TOPICS, at_ms=number)
        await writer.send([letter])
        events = (started(number), asked(number, writer.now_ms), task, failed)
        await decide_all(broker, writer, [(workflow(number), events)])


LISTS: dict[str, Callable[..., Page[Any]]] = {
    "workflows": queries.workflows,
    "running workflows": lambda db, **page: queries.workflows(db, status="running", **page),
    "workflows with incidents": lambda db, **page: queries.workflows(db, status="incident", **page),
    "workflows of a route": lambda db, **page: queries.workflows(db, route="issue-triage", built_in=True, **page),
    "approvals": queries.approvals,
    "approvals of a role": lambda db, **page: queries.approvals(db, role="maintainer", **page),
    "all approvals": lambda db, **page: queries.approvals(db, open_only=False, **page),
    "events": queries.events,
    "events of an id": lambda db, **page: queries.events_by_id(db, "e1", **page),
    "dead letters": queries.dead_letters,
    "dead letters of a kind": lambda db, **page: queries.dead_letters(db, queries.LetterFilter(code="c"), **page),
    "incidents": lambda db, **page: queries.open_steps(db, "incident", **page),
}


@pytest.mark.parametrize("name", LISTS)
async def test_the_pages_of_a_list_are_its_rows_once_each_and_in_order(
    broker: MemoryBroker, path: Path, name: str
) -> None:
    await long_lists(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        whole = LISTS[name](model.db)
        assert (len(whole), whole.after) == (whole.total, None)
        assert len(whole) >= 6
        for limit in (1, 2, len(whole) - 1, len(whole), len(whole) + 1):
            found: list[Any] = []
            after = None
            while True:
                page = LISTS[name](model.db, limit=limit, after=after)
                assert (page.total, len(page) <= limit) == (len(whole), True)
                found += page
                after = page.after
                if after is None:
                    break
            assert found == list(whole)


@pytest.mark.parametrize("name", [name for name in LISTS if name != "all approvals"])
async def test_no_list_reads_its_table_from_end_to_end(broker: MemoryBroker, path: Path, name: str) -> None:
    """Rows hold whole states and payloads: an index orders each list, and counts it."""
    asked_for: list[str] = []

    def note(_: object, sql: str, __: object) -> bool:
        asked_for.append(sql)
        return True

    await write_sample(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        model.db.exec_trace = note
        LISTS[name](model.db, limit=5)
        model.db.exec_trace = None
        assert len(asked_for) == 2
        for sql in asked_for:
            plan = [row[3] for row in model.db.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * sql.count("?"))]
            assert all("INDEX" in line or "PRIMARY KEY" in line for line in plan if line[:4] in {"SCAN", "SEAR"}), plan


async def test_rows_that_leave_meanwhile_shift_no_page(broker: MemoryBroker, path: Path) -> None:
    await long_lists(broker)
    writer = Writer(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        whole = queries.approvals(model.db)
        first = queries.approvals(model.db, limit=3)
        for number in (50, 51):
            await writer.decide(workflow(number), Cause(kind="answer", id="a"), approved(number, f"a{number}"))
        await model.catch_up()
        rest = queries.approvals(model.db, after=first.after)
        assert list(rest) == whole[3:]
        assert rest.total == whole.total - 2


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "W10", encode_cursor([1]), encode_cursor(["a", "b"]), encode_cursor([1, 2, 3])]
)
async def test_what_is_no_cursor_is_refused(broker: MemoryBroker, path: Path, cursor: str) -> None:
    await write_sample(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        with pytest.raises(OperatorError, match="is not the cursor"):
            queries.workflows(model.db, after=cursor)


# The command line ---------------------------------------------------------------------------------


def test_an_approval_behind_a_thousand_others_is_listed_counted_and_answered(folder: Path) -> None:
    with_broker(folder, many_approvals)
    [cfo] = call_json("approvals", "list", "--role", "cfo")["approvals"]
    assert cfo["workflow_id"] == workflow(9)
    assert workflow(9) in call("approvals", "--role", "cfo").stdout
    everyone = call_json("approvals")
    assert (everyone["total"], everyone["shown"], everyone["more"]) == (MANY + 2, 1_000, True)
    rest = call_json("approvals", "--after", everyone["next"])
    assert (rest["total"], rest["shown"], rest["more"], rest["next"]) == (MANY + 2, 52, False, None)
    ids = [one["approval_id"] for one in everyone["approvals"] + rest["approvals"]]
    assert len(set(ids)) == MANY + 2
    text = call("approvals")
    assert f"50 of {MANY + 2:,} are shown" in text.stderr
    assert text.stderr.splitlines()[-1].endswith("mesh approvals answer")
    for name in (workflow(9), workflow(1_000 + MANY - 1), f"{workflow(9)}/{run(9)}/review"):
        assert call("approve", name, "--timeout", "0.01").exit_code == 5
        assert call_json("approvals", "show", name)["workflow_id"] in name
    status = call_json("status")
    assert status["approvals"] == MANY + 2
    assert any(f"{MANY + 2:,} approvals wait" in one["what"] for one in status["stuck"])


def test_incidents_are_all_counted_and_the_first_are_named(folder: Path) -> None:
    async def write(broker: Broker) -> None:
        writer = await write_sample(broker)
        failed = IncidentRaised(step="classify", kind="exhausted", message="it failed")
        task = dispatched(1, "classify", "classifier", 0)
        await decide_all(broker, writer, [(workflow(n), (started(n), task, failed)) for n in range(100, 460)])

    with_broker(folder, write)
    status = call_json("status")
    assert (len(status["incidents"]), status["incidents_total"]) == (20, 361)
    assert any("361 incidents wait" in one["what"] for one in status["stuck"])
    assert len(call_json("status", "--limit", "400")["incidents"]) == 361
    found = call_json("workflows", "--status", "incident", "--limit", "10")
    assert (found["total"], found["shown"], found["more"]) == (361, 10, True)


def test_an_event_that_came_often_is_told_as_often(folder: Path) -> None:
    async def write(broker: Broker) -> None:
        writer = await write_sample(broker)
        await writer.publish(*[event(5, event_id="again") for _ in range(60)])

    with_broker(folder, write)
    found = call_json("events", "show", "again", "--limit", "25")
    assert (found["total"], found["shown"], found["more"]) == (60, 25, True)
    assert len(call_json("event", "aga")["events"]) == 60
    assert "25 of 60 are shown" in call("event", "again", "--limit", "25").stderr
    listed = call_json("events", "--limit", "1")
    assert (listed["total"], listed["events"][0]["id"]) == (66, "again")


def test_the_last_page_is_followed_by_none(folder: Path) -> None:
    with_broker(folder, write_sample)
    first = call_json("workflows", "--limit", "2")
    last = call_json("workflows", "--limit", "2", "--after", first["next"])
    assert (last["shown"], last["total"], last["next"]) == (1, 3, None)
    assert call("workflows", "--limit", "2", "--after", first["next"]).stderr.startswith("1 of 3 are shown")
    assert call("workflows", "--after", "nonsense").exit_code == 2
