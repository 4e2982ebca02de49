"""The client publishes, waits and answers over the public topics alone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sample_mesh import DRAFT, TOPICS, TRACE, Writer, event, run, workflow

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemClock, SystemEntropy
from mesh.codec.approvals import decode_response, encode_receipt
from mesh.codec.cloudevents import from_record
from mesh.codec.commands import decode_command, encode_command_receipt
from mesh.codec.outcomes import encode_outcome
from mesh.core.effects import PublishOutcome
from mesh.core.ids import approval_id
from mesh.core.receipts import Place, SendCommandReceipt, SendReceipt
from mesh.errors import MalformedRecord, RecordTooLarge, TopicMissing
from mesh.ports import OutRecord, Record, TopicPartition
from mesh.services.client import Client

APPROVAL = approval_id(workflow(1), run(1), "review")


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(clock=SystemClock(), max_record_bytes=100_000)


@pytest.fixture
async def router(cluster: MemoryCluster) -> MemoryBroker:
    """The other side of the broker."""
    connection = cluster.connect("router")
    await Writer(connection).create_topics()
    return connection


@pytest.fixture
async def client(cluster: MemoryCluster, router: MemoryBroker) -> AsyncIterator[Client]:
    async with (
        asyncio.timeout(60),
        Client(cluster.connect("client"), TOPICS, clock=SystemClock(), entropy=SystemEntropy()) as one,
    ):
        yield one


def records_of(cluster: MemoryCluster, topic: str) -> list[Record]:
    return list(cluster.records(TopicPartition(topic, 0)))


def outcome(number: int, **changes: Any) -> OutRecord:
    values: dict[str, Any] = {
        "workflow_id": workflow(number),
        "run_id": run(number),
        "route": "issue-triage",
        "status": "completed",
        "reason": "every step is done",
        "output": {"posted": True},
        "at_ms": 5,
        "traceparent": f"00-{TRACE}-{'1' * 16}-01",
    }
    return encode_outcome(PublishOutcome(**(values | changes)), topics=TOPICS)


async def test_an_event_may_leave_out_what_the_client_knows(client: Client, cluster: MemoryCluster) -> None:
    event_id = await client.publish({"type": "t", "source": "/s", "data": {"n": 1}})
    [record] = records_of(cluster, TOPICS.events)
    assert from_record(record)["id"] == event_id
    assert from_record(record)["data"] == {"n": 1}


async def test_a_malformed_event_is_refused_before_any_is_sent(client: Client, cluster: MemoryCluster) -> None:
    with pytest.raises(MalformedRecord, match="source"):
        await client.publish_all([event(1), {"type": "t"}])
    assert records_of(cluster, TOPICS.events) == []


async def test_an_event_that_the_broker_would_not_take_is_refused_with_its_size(client: Client) -> None:
    with pytest.raises(RecordTooLarge, match="100000"):
        await client.publish({"type": "t", "source": "/s", "data": "x" * 200_000})


async def test_the_outcome_of_a_published_event_is_that_of_the_run_it_began(
    client: Client, router: MemoryBroker
) -> None:
    await router.send([outcome(1, run_id="00000000", reason="an earlier run")])
    event_id = await client.publish(event(1))
    waiting = asyncio.create_task(client.wait_outcome(event_id))
    await router.send([outcome(2), outcome(1)])
    found = await waiting
    assert (found.workflow_id, found.status, found.output) == (workflow(1), "completed", {"posted": True})


async def test_a_workflow_that_has_ended_already_gives_its_last_outcome(client: Client, router: MemoryBroker) -> None:
    foreign = OutRecord(TOPICS.outcomes, workflow(1).encode(), b"foreign")
    await router.send([outcome(1, status="failed"), foreign, outcome(1), outcome(2)])
    assert (await client.wait_outcome(workflow(1))).status == "completed"


async def test_an_event_of_somebody_else_is_waited_for_with_its_source(client: Client, router: MemoryBroker) -> None:
    await router.send([outcome(3)])
    found = await client.wait_outcome("delivery-3", source=event(3)["source"])
    assert found.workflow_id == workflow(3)


async def test_waiting_in_vain_says_where_to_look(client: Client) -> None:
    with pytest.raises(TimeoutError, match="mesh workflow"):
        await client.wait_outcome(workflow(1), timeout_s=0.05, since_ms=0)


def receipt(answer_id: str, status: Any, code: str) -> OutRecord:
    effect = SendReceipt(
        workflow_id=workflow(1),
        approval_id=APPROVAL,
        answer_id=answer_id,
        status=status,
        code=code,
        message="",
        verdict="approved",
        closed=True,
        by="ana",
        at_ms=1,
    )
    return encode_receipt(effect, topics=TOPICS)


async def test_an_answer_returns_with_its_own_receipt(
    client: Client, cluster: MemoryCluster, router: MemoryBroker
) -> None:
    async def route() -> None:
        reader = await router.reader()
        reader.assign({TopicPartition(TOPICS.responses, 0): 0})
        [record] = await reader.poll(max_records=1, timeout_s=60)
        given = decode_response(record)
        await router.send(
            [receipt("somebody-else", "refused", "late"), receipt(given.answer_id, "accepted", "accepted")]
        )
        await reader.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(route())
        found = await client.answer(APPROVAL, "approve", by="ana", payload=DRAFT, reason="fine", digest="sha256:1")
    assert found.status == "accepted"
    [record] = records_of(cluster, TOPICS.responses)
    given = decode_response(record)
    assert (given.by, given.payload, given.reason, given.digest) == ("ana", DRAFT, "fine", "sha256:1")


async def test_an_answer_without_receipt_says_that_it_still_counts(client: Client) -> None:
    with pytest.raises(TimeoutError, match="counts when a router reads it"):
        await client.answer(APPROVAL, "reject", by="ana", timeout_s=0.05)


async def test_what_is_no_approval_id_is_not_sent(client: Client, cluster: MemoryCluster) -> None:
    with pytest.raises(MalformedRecord, match="mesh approvals"):
        await client.answer("review", "approve", by="ana")
    assert records_of(cluster, TOPICS.responses) == []


async def test_an_order_returns_with_its_own_receipt(
    client: Client, cluster: MemoryCluster, router: MemoryBroker
) -> None:
    def told(command_id: str, status: Any, offset: int) -> OutRecord:
        effect = SendCommandReceipt(
            workflow_id=workflow(1),
            command_id=command_id,
            command="retry",
            status=status,
            code=status,
            message="",
            by="ops",
            at_ms=1,
            source=Place(topic=TOPICS.commands, partition=0, offset=offset),
        )
        return encode_command_receipt(effect, topics=TOPICS)

    async def route() -> None:
        reader = await router.reader()
        reader.assign({TopicPartition(TOPICS.commands, 0): 0})
        [record] = await reader.poll(max_records=1, timeout_s=60)
        given = decode_command(record)
        foreign = OutRecord(TOPICS.command_receipts, None, b"no receipt")
        await router.send([foreign, told("another", "refused", 9), told(given.command_id, "accepted", 0)])
        await reader.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(route())
        found = await client.order("retry", workflow(1), by="ops")
    assert (found.status, found.source.offset) == ("accepted", 0)
    starts = await client.command_position()
    assert await client.command_receipts([], starts, timeout_s=0.05) == {}
    with pytest.raises(TimeoutError, match=r"no receipt on mesh\.commands\.receipts for `retry` of .*#1 \(command-"):
        await client.order("retry", workflow(1), by="ops", timeout_s=0.05)


async def test_a_command_is_sent_under_a_fresh_id(client: Client, cluster: MemoryCluster) -> None:
    command_id = await client.command("retry", workflow(1), by="ops", reason="disk is back", step="classify")
    [record] = records_of(cluster, TOPICS.commands)
    given = decode_command(record)
    assert (given.command_id, given.command, given.step, given.by) == (command_id, "retry", "classify", "ops")


async def test_a_broker_without_a_mesh_is_named_as_such(cluster: MemoryCluster) -> None:
    bare = MemoryCluster(clock=SystemClock()).connect("x")
    async with Client(bare, TOPICS, clock=SystemClock(), entropy=SystemEntropy()) as one:
        with pytest.raises(TopicMissing, match="mesh topics apply"):
            await one.publish(event(1))
        with pytest.raises(TopicMissing, match="mesh topics apply"):
            await one.command("cancel", workflow(1), by="ops")
