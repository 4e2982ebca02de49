"""The verbs of `mesh workflows` for many workflows, and `mesh operations`."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from sample_mesh import TOPICS, Writer, started, workflow
from test_cli_incidents import fail_at

from mesh.adapters.sqlite import SqliteBroker
from mesh.cli.app import mesh
from mesh.codec.commands import decode_command
from mesh.codec.definitions import encode_definition
from mesh.codec.operations import Progress, encode_operation
from mesh.codec.route_file import load_route_text
from mesh.core import events as ev
from mesh.inspection.read_model.schema import select
from mesh.ports import Broker, TopicPartition, TopicSpec
from mesh.services.operations import send
from mesh.services.router.operations import OperationRunner

NUMBERS = (1, 2, 3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "MESH_BROKER": f"sqlite://{tmp_path}/mesh.db",
        "MESH_DATA_DIR": str(tmp_path / "data"),
        "MESH_BY": "ana",
        "COLUMNS": "160",
    }.items():
        monkeypatch.setenv(name, value)
    with_broker(tmp_path, failing)
    return tmp_path


async def failing(broker: Broker, numbers: Sequence[int] = NUMBERS) -> None:
    writer = Writer(broker)
    await writer.create_topics()
    await broker.create_topics([TopicSpec(TOPICS.operations, 1)])
    for number in range(2):
        await writer.take_over(number)
    for number in numbers:
        await fail_at(writer, number, "charge", f"order {number} is late", agent="pay")


def with_broker(folder: Path, work: Callable[[Broker], Awaitable[Any]]) -> Any:
    async def open_and_work() -> Any:
        broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
        try:
            return await work(broker)
        finally:
            await broker.close()

    return asyncio.run(open_and_work())


def call(*arguments: str, code: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(mesh, list(arguments), input=stdin)
    assert result.exit_code == code, result.output
    return result


def call_json(*arguments: str, code: int = 0) -> Any:
    return json.loads(call(*arguments, "--json", code=code).stdout)


def detached(*more: str) -> Any:
    return call_json("workflows", "retry", "--agent", "pay", "--why", "it is back", "--yes", "--detach", *more)


async def sent(broker: Broker) -> list[str]:
    reader = await broker.reader()
    reader.assign({TopicPartition(TOPICS.commands, 0): 0})
    records = await reader.poll(max_records=100, timeout_s=0)
    await reader.close()
    return [decode_command(record).workflow_id for record in records]


def test_a_dry_run_counts_by_route_and_step_and_orders_nothing(folder: Path) -> None:
    shown = call("workflows", "retry", "--agent", "pay", "--dry-run")
    assert shown.stdout == "retry: 3 workflows\n  3 of issue-triage, step charge\n"
    found = call_json("workflows", "retry", "--step", "charge", "--dry-run")
    assert found["workflows"] == [workflow(number) for number in NUMBERS]
    assert call_json("operations")["total"] == 0


def test_a_preview_asks_as_much_of_many_workflows_as_of_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counting(db: apsw.Connection, sql: str, *values: Any) -> list[Any]:
        asked.append(sql)
        return select(db, sql, *values)

    for module in ("incident_rows", "workflow_rows"):
        monkeypatch.setattr(f"mesh.inspection.read_model.queries.{module}.select", counting)
    call("workflows", "retry", "--agent", "pay", "--dry-run")
    of_three = len(asked)
    (folder / "one").mkdir()
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{folder}/one/mesh.db")
    with_broker(folder / "one", lambda broker: failing(broker, [1]))
    call("workflows", "retry", "--agent", "pay", "--dry-run")
    assert len(asked) == 2 * of_three > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--route", "nosuch", "--agent", "pay"], "--route nosuch alone fits no workflow"),
        (["--agent", "x", "--step", "y"], "--step y and --agent x alone fit no workflow"),
        (["--agent", "pay", "--older-than", "2020-11-01"], "--older-than 2020-11-01 alone fits no workflow"),
    ],
)
def test_a_filter_that_fits_nothing_says_which_part_excludes_everything(
    folder: Path, options: list[str], said: str
) -> None:
    assert said in call("workflows", "retry", *options, "--why", "x", "--yes", code=3).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retry"], "say which workflows"),
        (["retry", "x", "--agent", "pay"], "give one of them"),
        (["retry", "x", "--dry-run"], "goes with a filter"),
        (["retry", "--agent", "pay", "--yes"], "say why"),
        (["cancel", "x", "--step", "a", "--why", "x"], "is for a workflow as a whole"),
    ],
)
def test_what_is_not_clear_is_a_usage_error(folder: Path, arguments: list[str], said: str) -> None:
    assert said in call("workflows", *arguments, code=2).stderr


def test_without_a_terminal_it_needs_yes(folder: Path) -> None:
    refused = call("workflows", "skip", "--agent", "pay", "--why", "x", code=2)
    assert "needs --yes" in refused.stderr
    assert "3 of issue-triage, step charge" in refused.stdout


def test_above_a_hundred_the_number_is_typed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.cli.session.Session.is_interactive", True)
    monkeypatch.setattr("mesh.cli.workflows.bulk.TYPED_FROM", 2)
    order = ("workflows", "cancel", "--agent", "pay", "--why", "x", "--detach")
    assert "nothing is applied" in call(*order, code=2, stdin="y\n").stderr
    call(*order, stdin="3\n")
    assert call_json("operations")["total"] == 1


def test_an_operation_is_ordered_listed_shown_and_stopped(folder: Path) -> None:
    ordered = detached("--rate", "2")["operation"]
    assert (ordered["status"], ordered["total"], ordered["rate"], ordered["reason"]) == ("running", 3, 2, "it is back")
    assert ordered["filter"] == "--status incident --agent pay"
    with_broker(folder, lambda broker: OperationRunner(broker, TOPICS, lambda: True).send_some())
    assert with_broker(folder, sent) == [workflow(1), workflow(2)]

    async def decided(broker: Broker) -> None:
        writer = Writer(broker)
        for number in range(2):
            await writer.take_over(number)
        about = {"command": "retry", "by": "ana", "operation": ordered["id"]}
        for number, event in (
            (1, ev.CommandAccepted(command_id=f"{ordered['id']}/{workflow(1)}", **about)),
            (2, ev.CommandRefused(command_id=f"{ordered['id']}/{workflow(2)}", code="ended", message="over", **about)),
            # sent twice, by two routers
            (2, ev.CommandRefused(command_id=f"{ordered['id']}/{workflow(2)}", code="repeated", message="", **about)),
        ):
            await writer.decide(workflow(number), ev.Cause(kind="command", id="c"), event)

    with_broker(folder, decided)
    shown = call_json("operations", "show", ordered["id"])
    assert shown["operation"]["counts"] == {"done": 1, "refused": 1, "waiting": 1, "not sent": 0}
    assert "1 done, 1 refused, 1 waiting" in call("operations").stdout
    assert "stopped" in call("operations", "stop", ordered["id"], "--reason", "wrong ones").stdout
    text = call("operations", "show", ordered["id"]).stdout
    assert "stopped by ana: wrong ones" in text
    assert "refused   " + workflow(2) + "  ended: over" in text
    assert "not sent  " + workflow(3) in text
    assert "was stopped by ana before" in call("operations", "stop", ordered["id"], code=2).stderr
    assert call_json("operations")["operations"][0]["status"] == "stopped"


def test_what_is_sent_already_cannot_be_stopped(folder: Path) -> None:
    operation = detached()["operation"]["id"]
    note = Progress(operation=operation, sent=3, unsent=(workflow(3),))
    with_broker(folder, lambda broker: send(broker, [encode_operation(note, topics=TOPICS)]))
    assert "all commands of operation" in call("operations", "stop", operation, code=2).stderr
    last = call_json("operations", "show", operation)["workflows"][-1]
    assert (last["workflow_id"], last["result"], last["code"]) == (workflow(3), "not sent", "undeliverable")


def test_without_a_router_the_command_says_that_the_operation_goes_on(folder: Path) -> None:
    order = ("workflows", "fail", "--agent", "pay", "--why", "x", "--yes", "--rate", "1000", "--timeout", "0")
    late = call(*order, code=5)
    assert "it goes on when a router is alive" in late.stderr
    assert "3 workflows" in late.stderr


def test_the_list_has_the_same_filters(folder: Path) -> None:
    assert call_json("workflows", "--agent", "pay", "--step", "charge")["total"] == 3
    assert call_json("workflows", "--agent", "nobody")["total"] == 0
    assert call_json("workflows", "--older-than", "2020-01-01")["total"] == 0


# complete, pause, resume, migrate, fork -----------------------------------------------------------


def ordered(folder: Path, *arguments: str) -> Any:
    """The commands that an operation's router sends, decoded."""
    call("workflows", *arguments, "--yes", "--detach")
    with_broker(folder, lambda broker: OperationRunner(broker, TOPICS, lambda: True).send_some())

    async def commands(broker: Broker) -> list[Any]:
        reader = await broker.reader()
        reader.assign({TopicPartition(TOPICS.commands, 0): 0})
        records = await reader.poll(max_records=100, timeout_s=0)
        await reader.close()
        return [decode_command(record) for record in records]

    return with_broker(folder, commands)


def test_many_are_completed_with_one_output(folder: Path) -> None:
    (folder / "receipt.json").write_text('{"paid": true}')
    output = f"@{folder}/receipt.json"
    found = ordered(folder, "complete", "--step", "charge", "--agent", "pay", "--output", output, "--why", "by phone")
    assert [(one.command, one.step, one.output) for one in found] == [("complete", "charge", {"paid": True})] * 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["complete", "x", "a", "--step", "a"], "STEP and --step say the same"),
        (["complete", "x"], "which step?"),
        (["complete", "x", "a", "--agent", "pay"], "give one of them"),
        (["pause", "x", "--step", "a"], "`pause` is for a workflow as a whole"),
    ],
)
def test_what_is_not_clear_about_the_new_verbs_is_a_usage_error(folder: Path, arguments: list[str], said: str) -> None:
    more = ["--output", "1"] if arguments[0] == "complete" else []
    assert said in call("workflows", *arguments, *more, "--why", "x", code=2).stderr


def test_many_are_paused_shown_and_resumed(folder: Path) -> None:
    found = ordered(folder, "pause", "--step", "charge", "--why", "the supplier is down")
    assert [(one.command, one.step, one.workflow_id) for one in found] == [
        ("pause", None, workflow(number)) for number in NUMBERS
    ]

    async def paused(broker: Broker) -> None:
        writer = Writer(broker)
        for number in range(2):
            await writer.take_over(number)
        event = ev.WorkflowPaused(by="ana", reason="the supplier is down")
        await writer.decide(workflow(1), ev.Cause(kind="command", id="c"), event)

    with_broker(folder, paused)
    [one] = call_json("workflows", "--status", "paused")["workflows"]
    assert (one["workflow_id"], one["status"], one["paused_at"] is None) == (workflow(1), "running", False)
    assert f"{workflow(1)}   paused" in call("workflows", "--status", "paused").stdout
    shown = call("workflows", "show", workflow(1)).stdout
    assert "paused by ana" in shown
    assert "the supplier is down" in shown
    assert "1 of issue-triage" in call("workflows", "resume", "--route", "issue-triage", "--dry-run").stdout
    assert f"{workflow(1)} is paused" in call("status").stdout


RULES = load_route_text(
    """\
route: issue-triage
on: {type: issue}
key: ${{ event.subject }}
steps:
  charge: {agent: pay, input: 1}
""",
    name="rules.yaml",
)[0].route
FORK = ("fork", "--agent", "pay", "--from", "charge", "--why", "the bank was down")


def test_many_are_forked_and_the_same_fork_has_the_same_id(folder: Path) -> None:
    with_broker(folder, lambda broker: send(broker, [encode_definition(RULES, TOPICS)]))
    lost = call("workflows", *FORK, "--yes", code=3).stderr
    assert "3 workflows: version abababababab of issue-triage can't be read here: name another with --to" in lost
    order = (*FORK, "--to", RULES.digest)
    preview = call_json("workflows", *order, "--dry-run")
    kinds = [{"route": "issue-triage", "step": "charge", "workflows": 3}]
    assert (preview["total"], preview["kinds"], preview["left_out"]) == (3, kinds, {})
    found = ordered(folder, *order)
    assert [(one.step, one.to, one.fork.of) for one in found] == [
        ("charge", RULES.digest, workflow(number)) for number in NUMBERS
    ]
    new = [one.workflow_id for one in found]
    assert [one.partition("~")[0] for one in new] == [workflow(number) for number in NUMBERS]
    assert [one.workflow_id for one in ordered(folder, *order)[3:]] == new
    assert set(new).isdisjoint(one.workflow_id for one in ordered(folder, *order, "--input", "2")[6:])


def test_a_fork_leaves_out_what_is_one_and_what_was_forked_so_before(folder: Path) -> None:
    with_broker(folder, lambda broker: send(broker, [encode_definition(RULES, TOPICS)]))
    order = (*FORK, "--to", RULES.digest)
    into = [one.workflow_id for one in ordered(folder, *order)]
    [operation] = [one["id"] for one in call_json("operations")["operations"]]

    async def forked(broker: Broker) -> None:
        writer = Writer(broker)
        for number in range(2):
            await writer.take_over(number)
        about = {"command_id": f"{operation}/{workflow(1)}", "command": "fork", "by": "ana", "operation": operation}
        begun = ev.WorkflowForked(of=workflow(1), of_run_id="aa", step="charge", by="ana", steps={})
        key = into[0].partition(":")[2]
        accepted = ev.CommandAccepted(**about)
        await writer.decide(into[0], ev.Cause(kind="command", id="c"), accepted, replace(started(1), key=key), begun)
        await writer.decide(
            workflow(1), ev.Cause(kind="command", id="d"), ev.WorkflowForked(into=into[0], step="charge", by="ana")
        )

    with_broker(folder, forked)
    wide = ("fork", "--route", "issue-triage", *order[3:])
    left_out = {"a fork from charge itself": 1, "forked from charge before": 1}
    preview = call_json("workflows", *wide, "--dry-run")
    assert (preview["workflows"], preview["left_out"]) == ([workflow(2), workflow(3)], left_out)
    text = call("workflows", *wide, "--dry-run").stdout
    assert "left out: 1 workflow: " in text
    assert call_json("operations", "show", operation)["workflows"][0]["into"] == into[0]
    assert f"done      {workflow(1)}  into {into[0]}" in call("operations", "show", operation).stdout


def test_a_step_that_is_filtered_by_goes_with_a_filter(folder: Path) -> None:
    order = ("workflows", "fork", "x", "--from", "a", "--step", "b", "--why", "x")
    assert "--from is the step from which it goes on" in call(*order, code=2).stderr
