"""Bad input on real parts: each gets a clear error, and an operator can see it.

Nothing is lost, and nothing else stops: after each kind, a workflow that has nothing to do with it
runs to its end.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from log_checker import gather, read_topic
from mesh_processes import MeshProcesses, Ran

from infra.kafka.kafka import free_port
from mesh.codec.approvals import Receipt, decode_receipt
from mesh.codec.commands import CommandReceipt, decode_command_receipt
from mesh.codec.dead_letters import DeadLetter, decode_dead_letter
from mesh.ports import Broker, Header, OutRecord
from mesh.services.client import Client

pytestmark = pytest.mark.slow

ROUTES = {
    "plain": '{work: {agent: drafter, input: "${{ event.data }}"}}',
    "pathless": '{work: {agent: drafter, input: "${{ event.data.missing.deep }}"}}',
    "misshapen": '{work: {agent: stranger, input: "${{ event.data }}", retry: {attempts: 3, backoff: 100ms}}}',
    "homeless": '{work: {agent: moody, input: "${{ event.data }}"}}',
    "asking": '{work: {approval: {ask: "Good?", payload: "${{ event.data }}", role: maintainer}}}',
}
CYCLE = """\
route: cycle
on: {type: test.cycle}
steps:
  one: {needs: two, agent: drafter, input: 1}
  two: {needs: one, agent: drafter, input: 2}
"""
CE: tuple[Header, ...] = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"/bad"),
    ("ce_type", b"test.plain"),
)
JSON: Header = ("content-type", b"application/json")
STRUCTURED: Header = ("content-type", b"application/cloudevents+json")

MALFORMED: list[tuple[bytes | None, bytes | None, tuple[Header, ...]]] = [
    (
        b"key\x00\xff",
        b'{"n": 1}',
        (*CE[:1], *CE[2:], JSON, ("odd", b"\xff\x00"), ("odd", b"")),
    ),  # binary, without its id
    (None, b'{"n": ', (*CE, JSON)),  # binary, and its data is not JSON
    # structured, without its source
    (b"s", b'{"specversion": "1.0", "id": "x", "type": "test.plain"}', (STRUCTURED,)),
    (b"", b"\x80\x81 not JSON", (STRUCTURED,)),
    (None, None, ()),
    (b"bare", b"hello", ()),
]


class Desk:
    """What the test holds in its hands."""

    def __init__(self, mesh: MeshProcesses, broker: Broker, client: Client) -> None:
        self.mesh, self.broker, self.client = mesh, broker, client
        self.ended = 0

    async def start(self, route: str, subject: str = "1") -> None:
        event = {"type": f"test.{route}", "source": "/bad", "subject": subject, "data": {"n": 1}}
        await self.client.publish(event)

    async def others_go_on(self) -> None:
        """A workflow that came after all this ends."""
        self.ended += 1
        name = f"witness-{self.ended}"
        await self.start("plain", name)
        outcome = await self.client.wait_outcome(f"plain:{name}", timeout_s=120)
        assert outcome.status == "completed"

    async def send(self, topic: str, key: bytes | None, value: bytes | None, headers: tuple[Header, ...] = ()) -> None:
        assert not await self.broker.send([OutRecord(topic=topic, key=key, value=value, headers=headers)])

    async def wait_letters(self, count: int) -> list[DeadLetter]:
        async def enough() -> list[DeadLetter] | None:
            found = [decode_dead_letter(record) for record in await read_topic(self.broker, self.mesh.topics.dlq)]
            return found if len(found) >= count else None

        return await self.mesh.wait_until(f"{count} dead letters", enough)

    async def wait_receipts(self, count: int) -> list[Receipt]:
        async def enough() -> list[Receipt] | None:
            found = [decode_receipt(record) for record in await read_topic(self.broker, self.mesh.topics.receipts)]
            return found if len(found) >= count else None

        return await self.mesh.wait_until(f"{count} receipts", enough)

    async def wait_incident(self, workflow_id: str) -> dict[str, Any]:
        async def raised() -> dict[str, Any] | None:
            found = (await self.mesh.json("status"))["incidents"]
            return next((one for one in found if one["workflow_id"] == workflow_id), None)

        return await self.mesh.wait_until(f"an incident of {workflow_id}", raised)


@pytest.fixture
async def desk(mesh: MeshProcesses) -> AsyncIterator[Desk]:
    for name, steps in ROUTES.items():
        (mesh.routes / f"{name}.yaml").write_text(
            f"route: {name}\non: {{type: test.{name}}}\nkey: ${{{{ event.subject }}}}\nsteps: {steps}\n"
        )
    mesh.approvers.write_text("maintainer: [ana@example.org]\nreader: [kim@example.org]\n")
    await mesh.make_topics("drafter", "stranger")
    mesh.router(MESH_REQUEST_TIMEOUT_S="5")
    mesh.agent("moody_drafter")
    async with mesh.broker() as broker, await mesh.client() as client:
        yield Desk(mesh, broker, client)


async def test_bad_input_is_told_and_shown_and_stops_nothing_else(desk: Desk) -> None:
    await malformed_events(desk)
    await too_large(desk)
    await bad_answers(desk)
    await bad_commands(desk)
    await missing_path(desk)
    await wrong_shape(desk)
    await no_topic(desk)
    await desk.mesh.wait_settled()
    for process in desk.mesh.processes:
        assert process.stop() == 0, process.text()[-3000:]
    evidence = await gather(desk.broker, desk.mesh.topics)
    assert evidence.findings == []
    await another_partition_count(desk.mesh)


async def malformed_events(desk: Desk) -> None:
    """Each goes to the dead letters byte for byte, with its reason.

    `mesh dlq` and `mesh event` show it.
    """
    for key, value, headers in MALFORMED:
        await desk.send(desk.mesh.topics.events, key, value, headers)
    letters = await desk.wait_letters(len(MALFORMED))
    assert sorted(
        (one.original.key or b"", one.original.value or b"", one.original.headers) for one in letters
    ) == sorted((key or b"", value or b"", headers) for key, value, headers in MALFORMED)
    assert {(one.code, one.component) for one in letters} == {("malformed", "ingress")}
    listed = await desk.mesh.json("dlq", "list")
    assert listed["total"] == len(MALFORMED)
    assert all(one["message"] and one["topic"] == desk.mesh.topics.events for one in listed["dead_letters"])
    shown = await desk.mesh.json("event", letters[0].id)
    assert [one["fate"] for one in shown["events"]] == ["dead_lettered"]
    by_id = await desk.mesh.json("event", "x")  # of the one without its source
    assert [(one["id"], one["fate"]) for one in by_id["events"]] == [("x", "dead_lettered")]
    place = next(
        one for one in listed["dead_letters"] if f"{one['topic']}/{one['partition']}/{one['offset']}" == letters[0].id
    )
    assert (await desk.mesh.cli("dlq", "show", place["id"], "--raw")).out == (letters[0].original.value or b"")
    await desk.others_go_on()


async def too_large(desk: Desk) -> None:
    """Too large for the mesh: a dead letter. Too large for the broker: refused where it is sent."""
    value = json.dumps({"n": 1, "text": "x" * 600_000}).encode()
    await desk.send(desk.mesh.topics.events, b"large", value, (*CE, JSON))
    letters = await desk.wait_letters(len(MALFORMED) + 1)
    [letter] = [one for one in letters if one.code == "too_large"]
    assert (letter.original.key, letter.original.value, letter.original.headers) == (b"large", value, (*CE, JSON))
    huge = json.dumps({"type": "test.plain", "source": "/bad", "data": "x" * 5_000_000}).encode()
    refused = await desk.mesh.cli("publish", "-", "--json", stdin=huge, code=1)
    assert (refused.error["kind"], "put the bulk elsewhere" in refused.error["message"]) == ("RecordTooLarge", True)
    await desk.others_go_on()


async def bad_answers(desk: Desk) -> None:
    """Refused with a receipt that says why, and a dead letter too if it can't be read as an answer.

    The approval stays open.
    """
    responses = desk.mesh.topics.responses

    async def open_approval() -> str | None:
        found: list[dict[str, str]] = (await desk.mesh.json("approvals"))["approvals"]
        return found[0]["approval_id"] if found else None

    await desk.start("asking")
    approval = await desk.mesh.wait_until("an approval", open_approval)
    unknown = "asking:2/00000000/work"

    def answer(approval_id: str, by: str, **more: Any) -> bytes:
        return json.dumps({"approval_id": approval_id, "decision": "approve", "by": by, **more}).encode()

    await desk.send(responses, None, b"yes!")
    await desk.send(
        responses, b"k", json.dumps({"approval_id": "nonsense", "decision": "approve", "by": "ana"}).encode()
    )
    letters = await desk.wait_letters(len(MALFORMED) + 3)
    assert [one.original.value for one in letters if one.original.topic == responses and one.original.key is None] == [
        b"yes!"
    ]
    unread = await desk.wait_receipts(2)
    assert [(one.approval_id, one.status, one.code) for one in unread] == [("", "refused", "malformed")] * 2
    told: dict[str, Receipt] = {}
    for count, (name, value) in enumerate(
        {
            "unknown": answer(unknown, "ana@example.org"),
            "role": answer(approval, "kim@example.org"),
            "digest": answer(approval, "ana@example.org", digest="sha256:0"),
            "accepted": answer(approval, "ana@example.org"),
            "closed": answer(approval, "ana@example.org"),
            "malformed": answer(approval, "ana@example.org", extra=1),
        }.items(),
        len(unread) + 1,
    ):
        await desk.send(responses, None, value)
        told[name] = await newest(desk, count, [*unread, *told.values()])
    assert {name: (one.status, one.code) for name, one in told.items()} == {
        name: ("accepted" if name == "accepted" else "refused", name) for name in told
    }
    assert all(one.message for name, one in told.items() if name != "accepted")
    assert (told["malformed"].approval_id, told["malformed"].verdict) == (approval, "approved")
    await desk.wait_letters(len(MALFORMED) + 4)
    refused = await desk.mesh.cli("approve", approval, "--by", "kim@example.org", "--json", code=1)
    assert "closed" in refused.error["message"]
    await desk.others_go_on()


async def newest(desk: Desk, count: int, known: Sequence[Receipt]) -> Receipt:
    """The receipt that was not there before."""
    [new] = [one for one in await desk.wait_receipts(count) if one not in known]
    return new


async def bad_commands(desk: Desk) -> None:
    """Each has one receipt, whether anybody can read it or not."""
    topics = desk.mesh.topics
    for value in (
        b"stop!",
        b'{"command": "explode", "workflow_id": "plain:1", "by": "op"}',
        b'{"command": "cancel", "workflow_id": "plain:none", "by": "op"}',
    ):
        await desk.send(topics.commands, None, value)

    async def enough() -> list[CommandReceipt] | None:
        records = await read_topic(desk.broker, topics.command_receipts)
        found = [decode_command_receipt(record) for record in records]
        return found if len(found) >= 3 else None

    told = await desk.mesh.wait_until("3 receipts of commands", enough)
    assert sorted((one.workflow_id, one.status, one.code) for one in told) == [
        ("mesh.commands:0", "refused", "malformed"),
        ("plain:1", "refused", "malformed"),
        ("plain:none", "refused", "unknown"),
    ]
    await desk.wait_letters(len(MALFORMED) + 6)
    await desk.others_go_on()


async def missing_path(desk: Desk) -> None:
    """The workflow says which path its expression missed.

    A retry that changes nothing says it again, and an operator may cancel.
    """
    await desk.start("pathless")
    incident = await desk.wait_incident("pathless:1")
    assert (incident["step"], incident["kind"]) == ("work", "expression")
    assert "event.data.missing" in incident["message"]
    retried = await desk.mesh.json("workflow", "retry", "pathless:1")
    assert (retried["accepted"], retried["workflow_status"]) == (True, "running")
    await desk.wait_incident("pathless:1")
    cancelled = await desk.mesh.json("workflow", "cancel", "pathless:1", "--reason", "cannot work")
    assert (cancelled["accepted"], cancelled["workflow_status"]) == (True, "cancelled")
    await desk.others_go_on()


async def wrong_shape(desk: Desk) -> None:
    """An agent returns another shape than its type.

    It is not tried again, and the incident names the field.
    """
    await desk.start("misshapen")
    incident = await desk.wait_incident("misshapen:1")
    assert (incident["step"], incident["kind"]) == ("work", "non_retryable")
    assert "output_invalid" in incident["message"]
    assert "n: Field required" in incident["message"]
    shown = await desk.mesh.json("workflow", "misshapen:1")
    assert shown["workflow"]["steps"]["work"]["attempt"] == 1
    await desk.others_go_on()


async def no_topic(desk: Desk) -> None:
    """A task for an agent whose topic isn't there is an incident.

    When the agent has come, a retry completes it.
    """
    await desk.start("homeless")
    await desk.others_go_on()
    incident = await desk.wait_incident("homeless:1")
    assert (incident["step"], incident["kind"]) == ("work", "undeliverable")
    assert desk.mesh.topics.tasks("moody") in incident["message"]
    agent = desk.mesh.agent("moody_agents", MOOD="good", SLOW_FOLDER=str(desk.mesh.folder))
    agent.wait_started()
    retried = await desk.mesh.json("workflow", "retry", "homeless:1")
    assert retried["accepted"]
    outcome = await desk.client.wait_outcome("homeless:1", timeout_s=120)
    assert outcome.status == "completed"
    await desk.others_go_on()


async def another_partition_count(mesh: MeshProcesses) -> None:
    """A router that is set to another count than the log's does not start, and says what to set."""
    refused = await mesh.cli("router", code=2, MESH_PARTITIONS="8")
    assert_says(refused, "16 partitions", "MESH_PARTITIONS=16")


async def test_a_route_with_a_cycle_is_refused_with_its_line(sqlite_mesh: MeshProcesses) -> None:
    (sqlite_mesh.routes / "cycle.yaml").write_text(CYCLE)
    refused = await sqlite_mesh.cli("router", code=2)
    assert_says(refused, "cycle.yaml:", "one", "two")


async def test_every_command_tells_of_a_broker_that_is_not_there(sqlite_mesh: MeshProcesses) -> None:
    mesh, nowhere = sqlite_mesh, f"kafka://127.0.0.1:{free_port()}"
    (mesh.routes / "cycle.yaml").write_text(CYCLE.replace("needs: two, ", ""))
    commands = (
        ["router"],
        ["agent", "moody_drafter"],
        ["publish", "--type", "a.b", "--source", "/x"],
        ["status"],
        ["status", "--json"],
    )
    *refused, as_json = await asyncio.gather(*(mesh.cli(*command, "--broker", nowhere, code=4) for command in commands))
    for ran in refused:
        assert_says(ran, nowhere.removeprefix("kafka://"))
    assert (as_json.error["kind"], as_json.error["exit_code"]) == ("BrokerUnavailable", 4)
    absent = await mesh.cli("status", code=3)
    assert_says(absent, "mesh.db")


def assert_says(ran: Ran, *parts: str) -> None:
    """It ends with one line that says what is wrong, and no traceback."""
    assert "Traceback" not in ran.err
    assert all(part in ran.err for part in parts), ran.err
