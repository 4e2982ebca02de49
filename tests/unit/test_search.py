"""`search` in a route: attributes by which people find workflows, in lists and by `--where`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from one_partition import Partition, route
from sample_mesh import Writer, dispatched, event_cause, result_cause, run, started, workflow

from mesh.adapters.sqlite import SqliteBroker
from mesh.cli.app import mesh
from mesh.codec.log import decode_log_record
from mesh.core import events as ev
from mesh.core.searching import MAX_TEXT, MOST, attributes
from mesh.inspection.read_model.where import Where
from mesh.ports import Broker, Record
from mesh.routes.compiler import compile_route
from mesh.routes.problems import RouteRefused

ROUTE: dict[str, Any] = {
    "route": "orders",
    "on": {"type": "t"},
    "key": "${{ event.subject }}",
    "steps": {"charge": {"agent": "pay", "input": 1}},
}


def search(**given: Any) -> Any:
    return compile_route({**ROUTE, "search": given}).search


# In the route and in the log ----------------------------------------------------------------------


def test_attributes_are_what_the_templates_give_of_the_event() -> None:
    templates = search(
        customer="${{ event.data.customer }}",
        total="${{ event.data.total }}",
        urgent="${{ event.data.total > 5 }}",
        label="order of ${{ event.data.customer }}",
        long="${{ event.data.long }}",
        missing="${{ event.data.missing }}",
        nothing="${{ event.data.nothing }}",
        items="${{ event.data.items }}",
    )
    data = {"customer": "acme", "total": 7.5, "long": "x" * 1_000, "nothing": None, "items": [1]}
    assert attributes(templates, {"data": data}) == {
        "customer": "acme",
        "total": 7.5,
        "urgent": True,
        "label": "order of acme",
        "long": "x" * MAX_TEXT,
    }
    assert attributes(search(missing="${{ event.data.missing }}"), {"data": {}}) is None
    assert compile_route(ROUTE).search == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "search names no attribute"),
        ("x", "search must be a mapping"),
        ({f"a{n}": "x" for n in range(MOST + 1)}, "at most 16 are kept"),
        ({"Customer": "x"}, "an attribute can't be named Customer"),
        ({"customer": 1}, "customer must be a string"),
        ({"customer": "${{ steps.charge }}"}, "steps can't be read here"),
        ({"customer": "${{ event. }}"}, "customer"),
        ({"customer": "${{ workflow.id }}"}, "workflow can't be read here"),
    ],
)
def test_a_search_that_does_not_hold_is_refused(given: Any, said: str) -> None:
    with pytest.raises(RouteRefused) as refused:
        compile_route({**ROUTE, "search": given})
    assert said in str(refused.value)


def test_a_start_has_the_attributes_in_the_log_and_one_of_before_has_none() -> None:
    partition = Partition(route(steps={"a": {"agent": "x", "input": 1}}, search={"kind": "${{ event.type }}"}))
    partition.start()
    [decision] = partition.decisions
    [one] = [event for event in decision.events if isinstance(event, ev.WorkflowStarted)]
    assert one.search == {"kind": "t"}
    out = partition.log[-1]
    assert decode_log_record(Record("log", 0, 0, 0, out.key, out.value, out.headers)) == decision
    assert b'"search"' in (out.value or b"")
    old = started(1)
    assert old.search is None


# In the tools -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "MESH_BROKER": f"sqlite://{tmp_path}/mesh.db",
        "MESH_DATA_DIR": str(tmp_path / "data"),
        "COLUMNS": "160",
    }.items():
        monkeypatch.setenv(name, value)

    async def write(broker: Broker) -> None:
        writer = Writer(broker)
        await writer.create_topics()
        for number in range(2):
            await writer.take_over(number)
        for number, given in enumerate(
            [
                {"customer": "acme", "total": 7},
                {"customer": "acme", "total": 3.5},
                {"customer": "b & c", "urgent": True},
                None,
            ]
        ):
            begin = replace(started(number), search=given)
            sent = dispatched(number, "charge", "pay", writer.now_ms)
            await writer.decide(workflow(number), event_cause(number, number), begin, sent, after_ms=60_000)
        failed = ev.IncidentRaised(step="charge", kind="exhausted", message="Down")
        await writer.decide(workflow(1), result_cause(1, "charge"), failed)

    with_broker(tmp_path, write)
    return tmp_path


def with_broker(folder: Path, work: Callable[[Broker], Awaitable[Any]]) -> Any:
    async def open_and_work() -> Any:
        broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
        try:
            return await work(broker)
        finally:
            await broker.close()

    return asyncio.run(open_and_work())


def call(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(mesh, list(arguments))
    assert result.exit_code == code, result.output
    return result


def call_json(*arguments: str) -> Any:
    return json.loads(call(*arguments, "--json").stdout)


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ('search.customer == "acme"', [1, 0]),
        ('"acme" == search.customer && search.total > 5', [0]),
        ('search.customer == "acme" || has(search.urgent)', [1, 2, 0]),
        ("search.total >= 3", [1, 0]),
        ("!has(search.customer)", [3]),
        ('status == "incident"', [1]),
        ('status == "running"', [3, 2, 0]),
        ('"running" == status && search["customer"] == "acme"', [0]),
        ('status == "incident" || status == "running"', [1, 3, 2, 0]),
        ('route == "issue-triage" && step == "charge"', [1, 3, 2, 0]),
        ('step == ""', []),
        ('age > duration("24h")', [1, 3, 2, 0]),
        ("search.customer.startsWith('b &')", [2]),
        ("search.total", []),
    ],
)
def test_workflows_are_found_by_what_they_have(folder: Path, where: str, numbers: list[int]) -> None:
    found = call_json("workflows", "list", "--where", where)
    assert [one["workflow_id"] for one in found["workflows"]] == [workflow(number) for number in numbers]
    assert found["total"] == len(numbers)


def test_a_page_of_what_is_found_goes_on_where_the_one_before_ended(folder: Path) -> None:
    first = call_json("workflows", "list", "--where", "has(search.customer)", "--limit", "2")
    assert (len(first["workflows"]), first["total"], first["more"]) == (2, 3, True)
    rest = call_json("workflows", "list", "--where", "has(search.customer)", "--after", first["next"])
    assert [one["workflow_id"] for one in rest["workflows"]] == [workflow(0)]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("search.customer ==", "column"),
        ("customer == 'acme'", "unknown name customer; there are search, status, route, step, age"),
    ],
)
def test_an_expression_that_does_not_hold_is_refused(folder: Path, where: str, said: str) -> None:
    assert said in call("workflows", "list", "--where", where, code=2).stderr


def test_attributes_are_shown_in_the_list_and_with_the_workflow(folder: Path) -> None:
    [head, *_] = call("workflows").stdout.splitlines()
    assert head.split() == ["WORKFLOW", "STATUS", "STARTED", "TOOK", "SEARCH", "REASON"]
    assert "customer=b & c, urgent=true" in call("workflows").stdout
    assert "\ncustomer=acme, total=7\n" in call("workflow", workflow(0)).stdout
    assert call_json("workflow", workflow(0))["search"] == {"customer": "acme", "total": 7}
    assert "of some workflows it can't be told" in call("workflows", "list", "--where", "search.urgent > 5").stderr


def test_a_new_run_has_its_own_attributes(folder: Path) -> None:
    async def again(broker: Broker) -> None:
        writer = Writer(broker)
        writer.now_ms += 10_000_000
        end = ev.WorkflowEnded(status="failed", reason="r", run_id=run(0), traceparent="", forget_at_ms=1)
        begin = replace(started(0), run_id="ffffffff", search={"customer": "new"})
        await writer.decide(workflow(0), result_cause(0, "charge"), end)
        await writer.decide(workflow(0), event_cause(0, 9), begin)

    assert call_json("workflows", "list", "--where", 'search.customer == "acme"')["total"] == 2
    with_broker(folder, again)
    assert call_json("workflows", "list", "--where", 'search.customer == "acme"')["total"] == 1
    assert call_json("workflows", "list", "--where", 'search.customer == "new"')["total"] == 1


def test_what_an_index_can_tell_is_asked_of_it_first() -> None:
    import apsw  # noqa: PLC0415 - for this alone

    def told(text: str) -> tuple[str, ...]:
        condition = Where(text, 0).condition(apsw.Connection(":memory:"))
        assert condition.sql.count("?") == len(condition.values)
        return condition.values

    assert told('search.a == "x" && (search.b == 1 && "y" == search.c)') == ("a", "x", "c", "y")
    assert told('route == "r" && status == "running" && step == "s"') == ("r", "running")
    assert told('status == "incident" && search["a"] == "x"') == ()
    assert told('search.a == "x" || status == "running"') == ()
    assert told('!(search.a == "x")') == ()
