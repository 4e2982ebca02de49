"""Bulk operations: how they are written down, and how a router carries them out."""

from collections.abc import AsyncIterator, Sequence

import pytest

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemClock
from mesh.codec.commands import decode_command
from mesh.codec.operations import Ids, Ordered, Stopped, chunked, chunked_forks, decode_operation, encode_operation
from mesh.core.forks import Fork, KeptResult, PlannedFork
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, RecordTooLarge, TopicMissing
from mesh.ports import OutRecord, Record, TopicPartition, TopicSpec
from mesh.services.operations import OperationsReader, order, send
from mesh.services.router.operations import OperationRunner

TOPICS = Topics()
IDS = [f"r:{n}" for n in range(5)]


def ordered(**more: object) -> Ordered:
    fields: dict[str, object] = {
        "operation": "op-1",
        "command": "retry",
        "rate": 2,
        "by": "ana",
        "reason": "it is back",
    }
    return Ordered(**{"total": 0, "chunks": 0, "at_ms": 1_700_000_000_000, **fields, **more})  # type: ignore[arg-type]  # drawn from a table


@pytest.fixture
async def cluster() -> MemoryCluster:
    found = MemoryCluster(clock=SystemClock())
    await found.connect("test").create_topics([TopicSpec(TOPICS.operations, 1), TopicSpec(TOPICS.commands, 1)])
    return found


@pytest.fixture
async def broker(cluster: MemoryCluster) -> AsyncIterator[MemoryBroker]:
    connection = cluster.connect("test")
    yield connection
    await connection.close()


async def sent(broker: MemoryBroker) -> list[str]:
    """The workflows of the commands on the topic, in order."""
    reader = await broker.reader()
    reader.assign({TopicPartition(TOPICS.commands, 0): 0})
    records: Sequence[Record] = await reader.poll(max_records=1_000, timeout_s=0)
    await reader.close()
    return [decode_command(record).workflow_id for record in records]


def runner(broker: MemoryBroker) -> OperationRunner:
    return OperationRunner(broker, TOPICS, lambda: True)


async def test_a_router_sends_so_many_commands_a_second_and_each_once(broker: MemoryBroker) -> None:
    await order(broker, TOPICS, ordered(), IDS)
    one = runner(broker)
    await one.send_some()
    assert await sent(broker) == IDS[:2]
    for _ in range(3):
        await one.send_some()
    assert await sent(broker) == IDS


async def test_commands_say_who_why_and_of_which_operation(broker: MemoryBroker) -> None:
    await order(broker, TOPICS, ordered(step="a", input={"n": 1}), IDS[:1])
    await runner(broker).send_some()
    reader = await broker.reader()
    reader.assign({TopicPartition(TOPICS.commands, 0): 0})
    [record] = await reader.poll(max_records=9, timeout_s=0)
    given = decode_command(record)
    assert (given.operation, given.command_id, given.by, given.reason) == ("op-1", "op-1/r:0", "ana", "it is back")
    assert (given.step, given.task_input) == ("a", {"n": 1})


async def test_the_next_owner_goes_on_where_the_last_note_is(broker: MemoryBroker) -> None:
    await order(broker, TOPICS, ordered(), IDS)
    await runner(broker).send_some()
    await runner(broker).send_some()
    assert await sent(broker) == IDS[:4]


async def test_what_was_sent_without_a_note_is_sent_again_with_the_same_id(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await order(broker, TOPICS, ordered(), IDS)
    real = broker.send

    async def dying(records: Sequence[OutRecord]) -> object:
        if records[0].topic == TOPICS.operations:
            raise RuntimeError("died")
        return await real(records)

    with monkeypatch.context() as patched:
        patched.setattr(broker, "send", dying)
        with pytest.raises(RuntimeError, match="died"):
            await runner(broker).send_some()
    await runner(broker).send_some()
    assert await sent(broker) == [*IDS[:2], *IDS[:2]]


async def test_nothing_is_sent_after_a_stop(broker: MemoryBroker) -> None:
    await order(broker, TOPICS, ordered(), IDS)
    one = runner(broker)
    await one.send_some()
    stopped = Stopped(operation="op-1", by="ben", reason="wrong ones", at_ms=1)
    await send(broker, [encode_operation(stopped, topics=TOPICS)])
    await one.send_some()
    assert await sent(broker) == IDS[:2]


async def test_nothing_is_ordered_before_all_ids_are_there(broker: MemoryBroker) -> None:
    [ids] = chunked("op-1", IDS)
    await send(broker, [encode_operation(ids, topics=TOPICS)])
    await runner(broker).send_some()
    assert await sent(broker) == []
    # whose ids are lost, as nobody but a foreign hand can bring about
    await send(broker, [encode_operation(ordered(operation="op-2", total=3), topics=TOPICS)])
    await runner(broker).send_some()
    assert await sent(broker) == []


async def test_a_topic_that_is_not_there_yet_is_looked_for(broker: MemoryBroker) -> None:
    empty = MemoryCluster(clock=SystemClock()).connect("test")
    with pytest.raises(TopicMissing, match="mesh topics apply"):
        await OperationRunner(empty, TOPICS, lambda: True).send_some()


async def test_what_is_no_record_of_an_operation_is_passed_over(broker: MemoryBroker) -> None:
    await broker.send([OutRecord(topic=TOPICS.operations, key=b"x", value=b"{}", headers=(), partition=0)])
    await broker.send([OutRecord(topic=TOPICS.operations, key=b"x", value=None, headers=(), partition=0)])
    await order(broker, TOPICS, ordered(), IDS)
    reader = OperationsReader(broker, TOPICS, keeps_ids=True)
    await reader.start()
    assert [one.workflow_ids() for one in reader.operations.values()] == [IDS]


async def test_a_command_that_would_not_fit_is_not_ordered(broker: MemoryBroker) -> None:
    with pytest.raises(RecordTooLarge, match="nothing was ordered"):
        await order(broker, TOPICS, ordered(input="x" * broker.max_record_bytes), IDS)
    await runner(broker).send_some()
    assert await sent(broker) == []


async def test_a_fork_goes_to_the_new_workflow_with_what_it_keeps(broker: MemoryBroker) -> None:
    forks = {one: planned(one) for one in IDS}
    await order(broker, TOPICS, ordered(command="fork", step="a"), IDS, forks)
    shown = OperationsReader(broker, TOPICS, keeps_ids=True)
    await shown.start()
    assert shown.operations["op-1"].into == {one: f"{one}~1" for one in IDS}
    assert shown.operations["op-1"].forks == {}
    for _ in range(3):
        await runner(broker).send_some()
    reader = await broker.reader()
    reader.assign({TopicPartition(TOPICS.commands, 0): 0})
    given = [decode_command(record) for record in await reader.poll(max_records=9, timeout_s=0)]
    assert [(one.workflow_id, one.command_id, one.fork) for one in given] == [
        (f"{one}~1", f"op-1/{one}", forks[one].fork) for one in IDS
    ]


async def test_a_fork_that_would_not_fit_is_named(broker: MemoryBroker) -> None:
    forks = {one: planned(one) for one in IDS} | {IDS[3]: planned(IDS[3], "x" * broker.max_record_bytes)}
    with pytest.raises(RecordTooLarge, match="the command for r:3 would have"):
        await order(broker, TOPICS, ordered(command="fork", step="a"), IDS, forks)
    await runner(broker).send_some()
    assert await sent(broker) == []


def planned(workflow_id: str, output: str = "") -> PlannedFork:
    steps = {"b": KeptResult(status="succeeded", output=output)}
    fork = Fork(of=workflow_id, run_id="aa", event={"id": "e"}, steps=steps)
    return PlannedFork(into=f"{workflow_id}~1", to=f"sha256:{'0a' * 32}", fork=fork)


def test_forks_are_in_records_that_the_broker_takes() -> None:
    forks = {f"r:{n}": planned(f"r:{n}", "x" * 10_000) for n in range(100)}
    chunks = chunked_forks("op-1", forks)
    assert len(chunks) > 1
    assert {one: fork for chunk in chunks for one, fork in chunk.forks.items()} == forks
    assert all(encode_operation(chunk, topics=TOPICS).size_bytes() < 300_000 for chunk in chunks)


def test_ids_are_in_records_that_the_broker_takes() -> None:
    ids = [f"route:{'k' * 900}{n}" for n in range(1_000)]
    chunks = chunked("op-1", ids)
    assert len(chunks) > 1
    assert [one for chunk in chunks for one in chunk.ids] == ids
    assert all(encode_operation(chunk, topics=TOPICS).size_bytes() < 300_000 for chunk in chunks)


def test_a_record_is_read_as_it_was_written() -> None:
    ids = Ids(operation="op-1", number=0, ids=("r:1",))
    record = encode_operation(ids, topics=TOPICS)
    read = Record(
        topic=record.topic,
        partition=0,
        offset=0,
        timestamp_ms=0,
        key=record.key,
        value=record.value,
        headers=record.headers,
    )
    assert decode_operation(read) == ids
    with pytest.raises(MalformedRecord, match="not a record of an operation"):
        decode_operation(Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=None, value=None, headers=()))
