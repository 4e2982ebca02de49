"""Every command against a mesh on SQLite.

What people read, what programs read, and the exit code.
"""

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner, Result
from sample_mesh import TOPICS, Writer, approved, asked, command_events, event, partition, run, workflow, write_sample
from told_mesh import commit_ingress

from mesh.adapters.sqlite import SqliteBroker
from mesh.cli.app import COMMANDS, mesh
from mesh.cli.session import Session
from mesh.codec.approvals import decode_response, encode_receipt, encode_request
from mesh.codec.cards import encode_card
from mesh.codec.commands import decode_command
from mesh.codec.definitions import encode_definition
from mesh.codec.outcomes import encode_outcome
from mesh.core.calls import Caller
from mesh.core.effects import AskApproval, PublishOutcome
from mesh.core.events import (
    AliasBound,
    AliasRefused,
    Cause,
    EventRedirected,
    IncidentResolved,
    ScheduleChanged,
    WorkflowForgotten,
)
from mesh.core.receipts import SendReceipt
from mesh.core.schedules import Schedule
from mesh.core.state import AgentCard, KeptEvent
from mesh.ports import Broker, OutRecord, Record, TopicPartition
from mesh.routes.compiler import compile_route

ROUTE = compile_route(
    {
        "route": "issue-triage",
        "on": {"type": "com.github.issues.opened"},
        "key": "${{ event.subject }}",
        "steps": {"classify": {"agent": "classifier", "input": "${{ event.data }}"}},
    }
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "MESH_BROKER": f"sqlite://{tmp_path}/mesh.db",
        "MESH_DATA_DIR": str(tmp_path / "data"),
        "MESH_BY": "ana@example.org",
        "COLUMNS": "120",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_broker(folder: Path, work: Callable[[Broker], Awaitable[Any]]) -> Any:
    async def open_and_work() -> Any:
        broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
        try:
            return await work(broker)
        finally:
            await broker.close()

    return asyncio.run(open_and_work())


async def sample_with_route(broker: Broker) -> None:
    writer = await write_sample(broker)
    await writer.send([encode_definition(ROUTE, TOPICS)])


@pytest.fixture
def sample(folder: Path) -> Path:
    with_broker(folder, sample_with_route)
    return folder


def call(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(mesh, list(arguments), input=stdin)


def call_json(*arguments: str, code: int = 0) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code == code, result.output
    assert "\x1b" not in result.stdout
    return json.loads(result.stdout)


@pytest.fixture
def answering(sample: Path) -> Iterator[Callable[[str, Callable[[Broker, Record], Awaitable[None]]], None]]:
    """A router's part, in a thread: what it does with the next record of a topic."""
    threads: list[threading.Thread] = []
    failures: list[BaseException] = []

    def start(topic: str, act: Callable[[Broker, Record], Awaitable[None]]) -> None:
        async def wait(broker: Broker) -> None:
            reader = await broker.reader()
            reader.assign({TopicPartition(topic, 0): 0})
            async with asyncio.timeout(60):
                while not (records := await reader.poll(max_records=1, timeout_s=1)):
                    pass
            await act(broker, records[0])
            await reader.close()

        def work() -> None:
            try:
                with_broker(sample, wait)
            except BaseException as error:  # noqa: BLE001 - told to the test below
                failures.append(error)

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(60)
    assert not failures


def receipts(status: Any, code: str) -> Callable[[Broker, Record], Awaitable[None]]:
    async def act(broker: Broker, record: Record) -> None:
        given = decode_response(record)
        effect = SendReceipt(
            workflow_id=given.workflow_id,
            approval_id=given.approval_id,
            answer_id=given.answer_id,
            status=status,
            code=code,
            message=f"{given.by} {given.decision} {given.reason}".strip(),
            verdict="approved",
            closed=True,
            by=given.by,
            at_ms=1,
        )
        await broker.send([encode_receipt(effect, topics=TOPICS)])

    return act


# The whole ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_says_what_the_list_says(name: str) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    command = mesh.get_command(click.Context(mesh), name)
    assert command is not None
    assert command.short_help == COMMANDS[name].help


def test_help_and_import_load_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from mesh.cli.app import mesh;"
        "assert CliRunner().invoke(mesh, ['--help']).exit_code == 0;"
        "print(sorted({'rich', 'pydantic', 'apsw', 'aiokafka', 'structlog', 'jsonschema'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("command", "module", "besides"),
    [("status", "mesh.cli.status", ""), ("approvals", "mesh.inspection.inbox", "ruamel")],
)
def test_a_command_that_only_reads_loads_no_service(command: str, module: str, besides: str, tmp_path: Path) -> None:
    heavy = ("mesh.services.router.router", "mesh.core.decide", "jsonschema", "mesh.services.agent_runtime.runtime")
    code = (
        "import sys; from click.testing import CliRunner; from mesh.cli.app import mesh;"
        f"CliRunner().invoke(mesh, [{command!r}, '--broker', 'sqlite://{tmp_path}/none.db']);"
        f"print([name for name in {(module, 'aiokafka', besides, *heavy)!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == f"['{module}']"


def test_a_mistyped_command_is_told_what_is_near() -> None:
    result = call("statsu")
    assert result.exit_code == 2
    assert "did you mean `mesh status`?" in result.stderr


def test_where_no_mesh_is_says_how_to_start_one(folder: Path) -> None:
    result = call("status")
    assert result.exit_code == 3
    assert result.stderr.startswith("error: there is no mesh at")
    assert len(result.stderr.splitlines()) == 1


def test_a_bad_broker_address_is_a_usage_error(folder: Path) -> None:
    assert call("status", "--broker", "ftp://x").exit_code == 2


def test_an_error_is_json_where_json_was_asked_for(folder: Path) -> None:
    error = json.loads(call("status", "--json").stderr)["error"]
    assert (error["kind"], error["exit_code"]) == ("NotFound", 3)


# Upstream -----------------------------------------------------------------------------------------


def test_publish_takes_options_and_event_finds_it_waiting(sample: Path) -> None:
    published = call_json("publish", "--type", "t", "--source", "/s", "--id", "e-1", "--data", '{"n": 1}')
    assert published == {"published": [{"id": "e-1", "source": "/s", "type": "t"}]}
    [found] = call_json("event", "e-1")["events"]
    assert found["fate"] == "waiting"


def test_publish_takes_files_lists_and_lines(sample: Path) -> None:
    (sample / "one.json").write_text(json.dumps(event(21)))
    (sample / "two.json").write_text(json.dumps([event(22), event(23)]))
    assert call("publish", "one.json").stdout == "published delivery-21\n"
    assert call("publish", "two.json").stdout == "published 2 events\n"
    lines = "\n".join(json.dumps(event(n)) for n in (24, 25, 26))
    assert call("publish", "-", stdin=lines + "\n\n").stdout == "published 3 events\n"


def test_publish_stops_at_a_malformed_line_and_says_what_it_has_done(sample: Path) -> None:
    result = call("publish", "-", stdin=json.dumps(event(24)) + '\n{"type": "b"}\n')
    assert result.exit_code == 1
    assert "line 2" in result.stderr
    assert "1 event before it: published" in result.stderr
    assert len(call_json("event", "delivery-24")["events"]) == 1


def test_publish_refuses_an_event_that_is_too_large_before_it_is_sent(sample: Path) -> None:
    large = event(24) | {"data": "x" * 600_000}
    (sample / "large.json").write_text(json.dumps(large))
    lines = "\n".join(json.dumps(one) for one in (event(25), large, event(26)))
    for given, stdin, before in (("large.json", None, ""), ("-", lines, "(1 event before it: published)")):
        result = call("publish", given, stdin=stdin)
        assert result.exit_code == 1
        assert "'delivery-24' has 600002 bytes, and the mesh takes 524288" in result.stderr
        assert before in result.stderr
    assert call("event", "delivery-24").exit_code != 0
    assert len(call_json("event", "delivery-25")["events"]) == 1


def test_publish_takes_null_attributes_as_absent_as_structured_mode_does(sample: Path) -> None:
    (sample / "null.json").write_text(json.dumps(event(24) | {"subject": None, "tenant": None, "time": ""}))
    assert call("publish", "null.json").stdout == "published delivery-24\n"
    [found] = call_json("event", "delivery-24")["events"]
    assert (found["subject"], found["problem"]) == ("", "")
    (sample / "fresh.json").write_text(json.dumps(event(25) | {"id": None}))
    assert call("publish", "fresh.json").stdout.startswith("published ")


def test_publish_maps_githubs_payload(sample: Path) -> None:
    payload = {
        "action": "opened",
        "issue": {"number": 7, "title": "t"},
        "repository": {"url": "https://api.github.com/repos/o/r", "full_name": "o/r"},
    }
    (sample / "payload.json").write_text(json.dumps(payload))
    [published] = call_json("publish", "--github", "payload.json", "--delivery", "d-7")["published"]
    assert published == {"id": "d-7", "source": "https://api.github.com/repos/o/r", "type": "com.github.issues.opened"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish"],
        ["publish", "--type", "t"],
        ["publish", "--type", "t", "--source", "/s", "-"],
        ["publish", "--delivery", "x", "--type", "t", "--source", "/s"],
        ["publish", "--type", "t", "--source", "/s", "--data", "{not json"],
        ["publish", "--type", "t", "--source", "/s", "--data", "@missing.json"],
        ["publish", "missing.json"],
    ],
)
def test_publish_refuses_what_it_cant_mean(sample: Path, arguments: list[str]) -> None:
    assert call(*arguments).exit_code == 2


def test_event_tells_every_fate(sample: Path) -> None:
    with_broker(sample, lambda broker: commit_ingress(broker, 6))
    first, second = call_json("event", "delivery-1")["events"]
    assert (first["workflows"][0]["effect"], second["workflows"][0]["effect"]) == ("started", "repeated")
    assert first["workflows"][0]["workflow_id"] == workflow(1)
    [unwanted] = call_json("event", "delivery-9")["events"]
    assert unwanted["fate"] == "unwanted"
    assert "com.github.issues.labeled" in unwanted["routes"][0]["reason"]
    [dead] = call_json("event", "mesh.events/0/5")["events"]
    assert dead["fate"] == "dead_lettered"
    text = call("event", "delivery-9").stdout
    assert "unwanted: no route wants it" in text
    assert call("event", "nobody").exit_code == 3


async def outcome_of(broker: Broker, record: Record) -> None:
    from mesh.codec.cloudevents import from_record  # noqa: PLC0415 - this one helper's
    from mesh.core.ids import run_id  # noqa: PLC0415 - as above

    started = from_record(record)
    effect = PublishOutcome(
        workflow_id="issue-triage:77",
        run_id=run_id(started["source"], started["id"]),
        route="issue-triage",
        status="failed",
        reason="classify failed",
        output=None,
        at_ms=1,
        traceparent=f"00-{'1' * 32}-{'1' * 16}-01",
    )
    await broker.send([encode_outcome(effect, topics=TOPICS)])


def test_run_waits_for_the_end_and_fails_with_it(folder: Path) -> None:
    async def prepare(broker: Broker) -> None:
        writer = Writer(broker)
        await writer.create_topics()
        await writer.send([encode_definition(ROUTE, TOPICS)])

    with_broker(folder, prepare)

    def route() -> None:
        async def work(broker: Broker) -> None:
            reader = await broker.reader()
            reader.assign({TopicPartition(TOPICS.events, 0): 0})
            async with asyncio.timeout(60):
                while not (records := await reader.poll(max_records=1, timeout_s=1)):
                    pass
            await outcome_of(broker, records[0])

        with_broker(folder, work)

    thread = threading.Thread(target=route)
    thread.start()
    found = call_json("run", "issue-triage", "--data", '{"a": 1}', "--subject", "77", "--wait", code=1)
    thread.join(60)
    assert (found["status"], found["workflow_id"]) == ("failed", "issue-triage:77")


def test_run_says_once_that_the_workflow_waits_for_a_person(folder: Path) -> None:
    async def prepare(broker: Broker) -> None:
        writer = Writer(broker)
        await writer.create_topics()
        await writer.send([encode_definition(ROUTE, TOPICS)])

    def ask(workflow_id: str, question: str) -> OutRecord:
        asked_id = f"{workflow_id}/00000001/review"
        effect = AskApproval(
            workflow_id=workflow_id, route="issue-triage", step="review", approval_id=asked_id, question=question,
            payload={}, payload_schema=None, digest="sha256:0", role="maintainer", deadline_at_ms=None,
            on_expiry="incident", traceparent=f"00-{'1' * 32}-{'1' * 16}-01", at_ms=1,
        )  # fmt: skip
        return encode_request(effect, topics=TOPICS)

    async def work(broker: Broker) -> None:
        reader = await broker.reader()
        reader.assign({TopicPartition(TOPICS.events, 0): 0})
        async with asyncio.timeout(60):
            while not (records := await reader.poll(max_records=1, timeout_s=1)):
                pass
        mine, other = ask("issue-triage:78", "Send it?"), ask("issue-triage:79", "Other?")
        assert not await broker.send([other, mine, mine])
        assert told.wait(60)
        await outcome_of(broker, records[0])

    told = threading.Event()
    notes: list[str] = []

    def note(_: Session, text: str) -> None:
        notes.append(text)
        if "waits for a person" in text:
            told.set()

    with_broker(folder, prepare)
    thread = threading.Thread(target=with_broker, args=(folder, work))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "note", note)
        thread.start()
        call("run", "issue-triage", "--data", '{"a": 1}', "--subject", "78", "--wait")
        thread.join(60)
    pauses = [text for text in notes if "waits for" in text]
    assert pauses == ["it waits for a person with role maintainer: Send it? (`mesh approvals` answers)"]


def test_run_publishes_nothing_that_its_route_does_not_want(sample: Path) -> None:
    assert call_json("run", "issue-triage", "--subject", "5", "--id", "e-5") == {
        "event_id": "e-5",
        "workflow_id": "issue-triage:5",
    }
    refused = call("run", "issue-triage", "--type", "other", "--id", "e-6")
    assert refused.exit_code == 1
    assert "does not want this event" in refused.stderr
    assert "can't start with this event" in call("run", "issue-triage", "--id", "e-7").stderr
    assert call("event", "e-6").exit_code == 3
    unknown = call("run", "nothing")
    assert unknown.exit_code == 3
    assert "there are issue-triage" in unknown.stderr


# Approvers ----------------------------------------------------------------------------------------


def test_approvals_lists_without_asking_where_no_terminal_is(sample: Path) -> None:
    listed = call("approvals")
    assert f"{workflow(1)}/{run(1)}/review" in listed.stdout
    assert "Post this reply?" in listed.stdout
    assert listed.stderr.splitlines()[-1].endswith("mesh approvals answer")
    [found] = call_json("approvals")["approvals"]
    assert (found["role"], found["on_expiry"]) == ("maintainer", "reject")
    assert found["payload"]["labels"] == ["bug"]
    assert call_json("approvals", "--role", "nobody")["total"] == 0


def test_approve_takes_a_workflows_id_and_waits_for_its_receipt(sample: Path, answering: Any) -> None:
    answering(TOPICS.responses, receipts("accepted", "accepted"))
    found = call_json("approve", workflow(1), "--reason", "fine")
    assert (found["status"], found["message"]) == ("accepted", "ana@example.org approve fine")


def test_a_refused_answer_exits_with_1_and_says_why(sample: Path, answering: Any) -> None:
    answering(TOPICS.responses, receipts("refused", "role"))
    result = call("reject", workflow(1), "--reason", "no", "--by", "eve")
    assert result.exit_code == 1
    assert "refused (role)" in result.stdout
    assert "`mesh people` shows who has which role" in result.stdout


def test_an_answer_nobody_receives_times_out_with_5(sample: Path) -> None:
    result = call("approve", workflow(1), "--timeout", "0.05")
    assert result.exit_code == 5
    assert "mesh status" in result.stderr


def test_answers_need_a_known_open_approval_and_sound_options(sample: Path) -> None:
    assert call("approve", "nothing").exit_code == 3
    assert call("reject", "repo#1").exit_code == 2
    assert call("approve", "repo#1", "--edit").exit_code == 2
    assert call("approve", "repo#1", "--edit", "--payload", "1").exit_code == 2

    async def close(broker: Broker) -> None:
        writer = Writer(broker)
        await writer.decide(workflow(1), Cause(kind="answer", id="a1"), approved(1, "a1"))

    with_broker(sample, close)
    result = call("approve", "repo#1")
    assert result.exit_code == 1
    assert "closed: approved by ana@example.org" in result.stderr


# Operators ----------------------------------------------------------------------------------------


def test_status_says_what_is_stuck_and_why(sample: Path) -> None:
    text = call("status").stdout
    assert "2 running, 1 completed" in text
    assert "1 incident waits for an operator" in text
    assert f"mesh workflows retry '{workflow(3)}'" in text
    found = call_json("status")
    assert found["events"]["seen"] == 6
    assert found["steps"]["asking"] == 1
    assert [one["owner"] for one in found["partitions"]] == ["router-1", "router-1"]
    assert {"approvals"} <= {one["next"].removeprefix("mesh ") for one in found["stuck"]}


def test_status_names_the_agent_that_nobody_runs(sample: Path) -> None:
    async def dispatch(broker: Broker) -> None:
        from sample_mesh import dispatched, started  # noqa: PLC0415 - this one test's

        writer = Writer(broker)
        await writer.decide(workflow(6), Cause(kind="event", id="x"), started(6), dispatched(6, "draft", "drafter", 0))

    with_broker(sample, dispatch)
    text = call("status").stdout
    assert re.search(r"a task waits for \d+ \w+: nobody alive consumes mesh.tasks.drafter", text)
    assert "What has a ! will not move by itself." in text


def test_status_does_not_call_a_task_stuck_that_was_sent_just_now(sample: Path) -> None:
    async def dispatch(broker: Broker) -> None:
        from sample_mesh import dispatched, started  # noqa: PLC0415 - this one test's

        writer = Writer(broker)
        writer.now_ms = int(time.time() * 1000) + 60_000  # however slow the machine is
        await writer.decide(workflow(6), Cause(kind="event", id="x"), started(6), dispatched(6, "draft", "drafter", 0))

    with_broker(sample, dispatch)
    assert "nobody alive" not in call("status").stdout


def test_workflows_are_listed_and_chosen(sample: Path) -> None:
    assert {row["workflow_id"] for row in call_json("workflows")["workflows"]} == {workflow(n) for n in (1, 2, 3)}
    assert [row["workflow_id"] for row in call_json("workflows", "--status", "incident")["workflows"]] == [workflow(3)]
    assert [row["status"] for row in call_json("workflows", "--status", "completed")["workflows"]] == ["completed"]
    assert call_json("workflows", "--route", "other")["total"] == 0
    assert len(call_json("workflows", "--limit", "1")["workflows"]) == 1
    assert workflow(3) in call("workflows").stdout


async def with_built_in(broker: Broker) -> None:
    writer = await write_sample(broker)
    name, alias = "mesh.schedule:daily", "mesh.alias:daily.charge/p1"
    changed = ScheduleChanged(
        route="daily", digest="sha256:d", since_ms=1, schedule=Schedule(cron="0 9 * * *"), next_at_ms=2**43, by="r1"
    )
    await writer.decide(name, Cause(kind="schedule", id="s1"), changed)
    claimant = Caller(workflow_id="daily:x", task_id="daily:x/4f2a9c01/charge")
    kept = KeptEvent(cloud_event={"id": "o1", "source": "/s", "type": "t"}, topic="t", partition=0, offset=0, at_ms=0)
    for said in (
        AliasBound(claimant=claimant),
        AliasRefused(claimant=claimant, message="another's"),
        EventRedirected(kept=kept, to="daily:x"),
    ):
        await writer.decide(alias, Cause(kind="claim", id="c1"), said)
    for forgotten in (AliasBound(claimant=claimant), WorkflowForgotten()):
        await writer.decide(f"{alias}9", Cause(kind="claim", id="c1"), forgotten)


def test_workflows_of_the_mesh_itself_are_listed_where_they_are_asked_for(folder: Path) -> None:
    with_broker(folder, with_built_in)
    shown = {row["workflow_id"] for row in call_json("workflows")["workflows"]}
    assert shown == {workflow(n) for n in (1, 2, 3)}
    everything = {row["workflow_id"]: row["status"] for row in call_json("workflows", "--all")["workflows"]}
    assert {name: status for name, status in everything.items() if name not in shown} == {
        "mesh.schedule:daily": "standing",
        "mesh.alias:daily.charge/p1": "standing",
    }
    assert "standing" in call("workflows", "--all").stdout
    assert "mesh.schedule" not in str(call_json("status")["workflows"])
    schedule = call("workflow", "mesh.schedule:daily").stdout
    assert "0 9 * * *" in schedule
    assert "next start in" in schedule
    alias = call("workflow", "mesh.alias:daily.charge/p1").stdout
    assert "the alias of daily:x" in alias
    assert "refused to daily:x" in alias
    assert "event o1 goes on to daily:x" in alias


def test_a_workflows_timeline_says_when_what_and_why(sample: Path) -> None:
    text = call("workflow", "repo#3").stdout
    for part in (
        "attempt 1 failed",
        "OSError: disk full",
        "dispatched to classifier, attempt 2",
        "incident: exhausted",
    ):
        assert part in text
    assert "It does not start." not in text
    assert "It does not start." in call("workflow", "repo#3", "--payloads").stdout
    assert "asks role maintainer: Post this reply?" in call("workflow", "repo#1").stdout


def test_a_workflow_with_an_incident_is_called_so_everywhere(sample: Path) -> None:
    assert re.search(rf"{re.escape(workflow(3))} +incident", call("workflows").stdout)
    assert call("workflow", "repo#3").stdout.startswith(f"{workflow(3)}  incident")
    assert call("workflow", "repo#1").stdout.startswith(f"{workflow(1)}  running")


def test_long_payloads_are_cut_off_unless_all_is_asked_for(sample: Path) -> None:
    async def start(broker: Broker) -> None:
        from sample_mesh import dispatched, started  # noqa: PLC0415 - this one test's

        task = dispatched(6, "draft", "drafter", 0)
        task = msgspec.structs.replace(task, input={"log": "\n".join(f"line {n}" for n in range(100))})
        await Writer(broker).decide(workflow(6), Cause(kind="event", id="x"), started(6), task)

    with_broker(sample, start)
    cut, full = (call("workflow", "repo#6", option).stdout for option in ("--payloads", "--full"))
    assert "line 38" in cut
    assert "line 39" not in cut
    assert "... and 61 more lines; --full shows all" in cut
    assert "line 99" in full


def test_a_timeline_in_json_has_the_state_and_every_decision(sample: Path) -> None:
    found = call_json("workflow", "repo#3")
    assert found["workflow"]["steps"]["classify"]["status"] == "incident"
    events = [one for entry in found["timeline"] for one in entry["events"]]
    assert events[1]["event"] == "TaskDispatched.1"
    assert "input" not in events[1]
    full = call_json("workflow", "repo#3", "--payloads")
    assert full["timeline"][0]["events"][1]["input"]["title"] == "Issue 3"


def test_an_ambiguous_or_unknown_workflow_is_told_so(sample: Path) -> None:
    ambiguous = call("workflow", "octo/repo")
    assert ambiguous.exit_code == 2
    assert workflow(2) in ambiguous.stderr
    assert call("workflow", "nothing").exit_code == 3


@pytest.mark.parametrize(("accepted", "code"), [(True, 0), (False, 1)])
def test_retry_waits_for_the_decision_and_says_what_it_was(
    sample: Path, answering: Any, accepted: bool, code: int
) -> None:
    async def decide(broker: Broker, record: Record) -> None:
        given = decode_command(record)
        writer = Writer(broker)
        await writer.obey(given, command_events(given.command_id, accepted=accepted))

    answering(TOPICS.commands, decide)
    found = call_json("workflow", "retry", workflow(3), code=code)
    assert found["accepted"] is accepted


def test_retry_shows_what_it_led_to(sample: Path, answering: Any) -> None:
    async def decide(broker: Broker, record: Record) -> None:
        from sample_mesh import dispatched, result_cause, succeeded  # noqa: PLC0415 - this one test's

        given = decode_command(record)
        writer = Writer(broker)
        accepted = command_events(given.command_id, accepted=True)
        resolved = IncidentResolved(step="classify", action="retry", by="ops")
        again = dispatched(3, "classify", "classifier", 0, attempt=3)
        await writer.obey(given, accepted, resolved, again)
        done = msgspec.structs.replace(succeeded(3, "classify", {}), attempt=3)
        await writer.decide(workflow(3), result_cause(3, "classify", 3), done, asked(3, writer.now_ms))

    answering(TOPICS.commands, decide)
    text = call("workflow", "retry", workflow(3)).stdout
    assert "it is now: running" in text
    assert "review: asking role maintainer" in text


def test_a_command_that_no_router_decides_times_out(sample: Path) -> None:
    result = call("workflow", "cancel", workflow(1), "--reason", "not needed", "--timeout", "0.05")
    assert result.exit_code == 5
    assert f"no receipt on mesh.commands.receipts for `cancel` of {workflow(1)}" in result.stderr
    assert call("workflow", "cancel", "repo#1").exit_code == 2


def test_agents_shows_who_is_alive(sample: Path) -> None:
    found = {one["name"]: one for one in call_json("agents")["agents"]}
    assert found["classifier"]["alive"] == 1
    assert found["drafter"]["alive"] == 0
    assert "never seen" in call("agents").stdout
    assert "input_schema" in call_json("agents", "--schemas")["agents"][0]["replicas"][0]


def test_a_registered_agent_is_shown_as_such_and_can_be_forgotten(sample: Path) -> None:
    async def register(broker: Broker) -> None:
        one = AgentCard(name="deepl", version="1", topic="t", capabilities=("translate",), registration=True)
        alive = msgspec.structs.replace(one, name="llm", instance="host-1", registration=False)
        records = [one, msgspec.structs.replace(one, name="llm"), alive]
        assert not await broker.send([encode_card(card, topics=TOPICS) for card in records])

    with_broker(sample, register)
    found = {one["name"]: one for one in call_json("agents")["agents"]}
    assert (found["deepl"]["alive"], found["deepl"]["capabilities"], found["deepl"]["replicas"]) == (
        0,
        ["translate"],
        [],
    )
    assert (found["llm"]["alive"], len(found["llm"]["replicas"])) == (1, 1)
    assert found["classifier"]["capabilities"] == []
    text = call("agents").stdout
    assert re.search(r"deepl\s+registered\s+translate", text)
    assert re.search(r"llm\s+alive\s+1\s+translate", text)
    assert call("agents", "forget", "llm").exit_code == 2
    assert "stop it first" in call("agents", "forget", "llm").stderr
    assert call("agents", "forget", "classifier").exit_code == 3
    assert call_json("agents", "forget", "deepl") == {"forgotten": "deepl"}
    assert "deepl" not in {one["name"] for one in call_json("agents")["agents"]}
    assert call("agents", "forget", "deepl").exit_code == 3


def test_dead_letters_are_listed_and_shown_with_their_own_bytes(sample: Path) -> None:
    [letter] = call_json("dlq", "list")["dead_letters"]
    assert (letter["topic"], letter["offset"], letter["code"]) == ("mesh.events", 5, "malformed")
    assert "malformed" in call("dlq", "list").stdout
    shown = call("dlq", "show", letter["id"]).stdout
    assert "not an event" in shown
    assert call("dlq", "show", "mesh.events/0/5", "--raw").stdout_bytes == b"not an event"
    assert call_json("dlq", "show", "mesh.events/0/5")["original"]["value_base64"]
    assert call("dlq", "show", "9/9").exit_code == 3


def test_log_verify_agrees_with_itself_and_names_what_differs(sample: Path) -> None:
    found = call_json("log", "verify")
    assert set(found["workflows"]) == {workflow(n) for n in (1, 2, 3)}
    (sample / "digests.json").write_text(json.dumps(found))
    assert call("log", "verify", "--against", "digests.json").exit_code == 0
    found["workflows"][workflow(1)] = "sha256:other"
    found["workflows"]["gone:1"] = "sha256:x"
    del found["workflows"][workflow(2)]
    (sample / "digests.json").write_text(json.dumps(found))
    differing = call_json("log", "verify", "--against", "digests.json", code=1)["differing"]
    assert set(differing) == {workflow(1), workflow(2), "gone:1"}
    (sample / "digests.json").write_text("[]")
    assert call("log", "verify", "--against", "digests.json").exit_code == 2


def test_topics_are_planned_and_applied(folder: Path) -> None:
    assert call("topics", "plan").exit_code == 1
    applied = call_json("topics", "apply", "--agent", "drafter")
    assert {one["kind"] for one in applied["differences"]} == {"missing"}
    assert "mesh.tasks.drafter" in {one["topic"] for one in applied["differences"]}
    assert call("topics", "plan", "--agent", "drafter").exit_code == 0
    assert call("topics", "plan", "--routes", "nowhere").exit_code == 2


# Services -----------------------------------------------------------------------------------------


def test_health_follows_the_heartbeat(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat = folder / "beat"
    monkeypatch.setenv("MESH_HEARTBEAT_FILE", str(heartbeat))
    assert call("health").exit_code == 1
    heartbeat.touch()
    assert call_json("health")["alive"] is True
    monkeypatch.setenv("MESH_HEARTBEAT_MAX_AGE_S", "0.001")
    import os  # noqa: PLC0415 - this one test's

    os.utime(heartbeat, (1, 1))
    assert call("health").exit_code == 1


def test_an_agent_module_that_is_not_there_is_a_usage_error(folder: Path) -> None:
    for command in (["agent", "no.such.module"], ["dev", "no.such.module"]):
        result = call(*command)
        assert result.exit_code == 2
        assert "no.such.module" in result.stderr


def test_the_sample_puts_workflows_on_both_partitions() -> None:
    assert {partition(workflow(n)) for n in (1, 2, 3)} == {0, 1}


def test_a_hostile_title_reaches_no_terminal_as_it_is(folder: Path) -> None:
    async def prepare(broker: Broker) -> None:
        writer = Writer(broker)
        await writer.create_topics()
        await writer.publish(event(1, event_id="evil\u202e"))
        await writer.send([OutRecord(TOPICS.events, None, b"\x1b[2J")])

    with_broker(folder, prepare)
    assert "\u202e" not in call("event", "evil").stdout
