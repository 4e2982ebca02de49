"""How the Kafka adapter handles faults that only a real broker shows.

Crashes, stops, refusals, and topics that go.
"""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from infra.kafka.kafka import KafkaProcess
from mesh.adapters.kafka import KafkaBroker
from mesh.errors import BrokerUnavailable, RecordTooLarge, TopicMissing
from mesh.ports import Broker, Committed, Delivery, OutRecord, Record, Subscription, TopicPartition, TopicSpec

GENEROUS_S = 90.0
Start = Callable[[], KafkaProcess]


@asynccontextmanager
async def connected(kafka: KafkaProcess, *, request_timeout_s: float = 60.0) -> AsyncIterator[KafkaBroker]:
    broker = await KafkaBroker.open(
        kafka.bootstrap, client_id="faults", request_timeout_s=request_timeout_s, open_timeout_s=60.0
    )
    try:
        yield broker
    finally:
        async with asyncio.timeout(GENEROUS_S):
            await broker.close()


async def topic_of(broker: Broker, name: str, partitions: int = 1, **config: str) -> str:
    await broker.create_topics(
        [TopicSpec(name, partitions, config={k.replace("_", "."): v for k, v in config.items()})]
    )
    return name


async def values_of(broker: Broker, at: TopicPartition) -> list[str]:
    return [(r.value or b"").decode() for r in await records_of(broker, at)]


async def records_of(broker: Broker, at: TopicPartition) -> list[Record]:
    end = (await broker.end_offsets([at]))[at]
    reader = await broker.reader()
    reader.assign({at: 0})
    got: list[Record] = []
    async with asyncio.timeout(GENEROUS_S):
        while len(got) < end:
            got += await reader.poll(max_records=1000, timeout_s=1.0)
    await reader.close()
    return got


class Listener:
    def __init__(self) -> None:
        self.assigned: list[dict[TopicPartition, Committed | None]] = []
        self.revoked: list[set[TopicPartition]] = []

    async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        self.assigned.append(dict(partitions))

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.revoked.append(set(partitions))


async def drive(subscription: Subscription, until: Callable[[], bool]) -> list[Record]:
    got: list[Record] = []
    async with asyncio.timeout(GENEROUS_S):
        while not until():
            got += await subscription.poll(max_records=100, timeout_s=0.1)
    return got


# The log


async def test_appends_on_the_wire_survive_a_kill_of_the_broker(new_kafka: Start) -> None:
    kafka = new_kafka()
    async with connected(kafka) as broker:
        log = TopicPartition(await topic_of(broker, "log"), 0)

        async def append(n: int) -> tuple[int, ...]:
            records = [OutRecord(log.topic, b"k", f"{n}.{m}".encode()) for m in range(5)]
            done = await broker.append(log, None, records, [])
            return tuple(first + i for first, count in done.spans for i in range(count))

        async with asyncio.timeout(GENEROUS_S):
            landed = [await append(0)]
            calls: list[asyncio.Task[tuple[int, ...]]] = []
            for n in range(1, 201):
                calls.append(asyncio.create_task(append(n)))
                if n % 20 == 0:
                    await asyncio.sleep(0)
                if n == 100:
                    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                    kafka.kill()
            await asyncio.to_thread(kafka.restart)
            landed += await asyncio.gather(*calls)
        assert [offset for offsets in landed for offset in offsets] == list(range(1005))
        assert await values_of(broker, log) == [f"{n}.{m}" for n in range(201) for m in range(5)]


async def test_a_broker_that_dies_under_load_leaves_no_fault_that_nobody_looked_at(new_kafka: Start) -> None:
    kafka = new_kafka()
    unseen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    async with connected(kafka, request_timeout_s=3.0) as broker:
        topics = [await topic_of(broker, name, 8) for name in ("log", "tasks")]
        records = [OutRecord(topic, b"k", bytes(1_000), partition=p) for topic in topics for p in range(8)]
        assert not await broker.send(records)
        async with asyncio.timeout(GENEROUS_S):
            logs = [TopicPartition("log", p) for p in range(8)]
            load = [asyncio.create_task(broker.send(records * 50)) for _ in range(10)]
            load += [asyncio.create_task(broker.append(at, None, records[:1] * 500, [])) for at in logs]  # type: ignore[arg-type] # two verbs in one list
            await asyncio.sleep(0)
            kafka.kill()
            load.append(asyncio.create_task(broker.send(records)))
            results = await asyncio.gather(*load, return_exceptions=True)
        assert any(isinstance(result, BrokerUnavailable) for result in results)
    del load, results
    gc.collect()
    await asyncio.sleep(0)
    assert [context["message"] for context in unseen] == []


async def test_an_append_to_a_stopped_broker_ends_as_unknown_and_the_next_one_works(new_kafka: Start) -> None:
    kafka = new_kafka()
    async with connected(kafka, request_timeout_s=3.0) as broker:
        log = TopicPartition(await topic_of(broker, "log"), 0)
        await broker.append(log, 0, [OutRecord("log", None, b"0")], [])
        assert kafka.pid is not None
        os.kill(kafka.pid, signal.SIGSTOP)
        # all of its threads have stopped
        await asyncio.to_thread(os.waitid, os.P_PID, kafka.pid, os.WSTOPPED)
        calls = [asyncio.create_task(broker.append(log, None, [OutRecord("log", None, b"?")], [])) for _ in range(5)]
        try:
            async with asyncio.timeout(GENEROUS_S):
                failures = await asyncio.gather(*calls, return_exceptions=True)
        finally:
            os.kill(kafka.pid, signal.SIGCONT)
        assert [type(failure) for failure in failures] == [BrokerUnavailable] * 5
        assert "log/0" in str(failures[0])
        async with asyncio.timeout(GENEROUS_S):
            while True:
                try:
                    done = await broker.append(log, None, [OutRecord("log", None, b"after")], [])
                    break
                except BrokerUnavailable:
                    await asyncio.sleep(0.1)
        assert (await records_of(broker, log))[done.spans[0][0]].value == b"after"


async def test_an_append_that_the_broker_refuses_fails_all_that_were_behind_it(
    kafka: KafkaProcess, kafka_prefix: str
) -> None:
    async with connected(kafka) as broker:
        log = TopicPartition(await topic_of(broker, kafka_prefix + "log", max_message_bytes="5000"), 0)
        calls = [
            asyncio.create_task(broker.append(log, None, [OutRecord(log.topic, None, bytes(size))], []))
            for size in (10, 10_000, 10)
        ]
        async with asyncio.timeout(GENEROUS_S):
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results[1], BrokerUnavailable)
        assert isinstance(results[2], BrokerUnavailable)
        kept = len(await records_of(broker, log))
        again = [OutRecord(log.topic, None, b"again")]
        with pytest.raises(BrokerUnavailable, match="afresh"):
            await broker.append(log, kept, again, [])
        done = await broker.append(log, None, again, [])
        assert done.spans == ((kept, 1),)


async def test_an_over_large_decision_is_refused_before_anything_is_written(
    kafka: KafkaProcess, kafka_prefix: str
) -> None:
    async with connected(kafka) as broker:
        log = TopicPartition(await topic_of(broker, kafka_prefix + "log"), 0)
        records = [OutRecord(log.topic, None, b"small"), OutRecord(log.topic, None, bytes(broker.max_record_bytes))]
        with pytest.raises(RecordTooLarge, match=log.topic):
            await broker.append(log, 0, records, [])
        assert await broker.end_offsets([log]) == {log: 0}


# Sending


async def test_one_record_that_the_topic_does_not_take_fails_alone_and_order_holds(
    kafka: KafkaProcess, kafka_prefix: str
) -> None:
    async with connected(kafka) as broker:
        topic = await topic_of(broker, kafka_prefix + "small", max_message_bytes="5000")
        records = [OutRecord(topic, b"k", (f"{n}".encode() if n not in (3, 7) else bytes(9000))) for n in range(12)]
        after = [OutRecord(topic, b"k", f"after-{n}".encode()) for n in range(3)]
        async with asyncio.timeout(GENEROUS_S):
            failures, none = await asyncio.gather(broker.send(records), broker.send(after))
            assert not await broker.send([OutRecord(topic, b"k", b"last")])
        assert [(f.index, f.code) for f in failures] == [(3, Delivery.TOO_LARGE), (7, Delivery.TOO_LARGE)]
        assert not none
        sound = [str(n) for n in range(12) if n not in (3, 7)]
        assert await values_of(broker, TopicPartition(topic, 0)) == [*sound, "after-0", "after-1", "after-2", "last"]


async def test_a_compacted_topic_refuses_the_record_without_a_key_alone(kafka: KafkaProcess, kafka_prefix: str) -> None:
    async with connected(kafka) as broker:
        topic = await topic_of(broker, kafka_prefix + "cards", cleanup_policy="compact")
        records = [OutRecord(topic, b"a", b"1"), OutRecord(topic, None, b"2"), OutRecord(topic, b"a", None)]
        async with asyncio.timeout(GENEROUS_S):
            failures = await broker.send(records)
        assert [(f.index, f.code) for f in failures] == [(1, Delivery.REFUSED)]
        got = await records_of(broker, TopicPartition(topic, 0))
        assert [(r.key, r.value) for r in got] == [(b"a", b"1"), (b"a", None)]


async def test_a_topic_deleted_in_use_is_reported_missing_before_the_time_out(
    kafka: KafkaProcess, kafka_prefix: str
) -> None:
    async with connected(kafka, request_timeout_s=600.0) as broker:
        gone, log = await topic_of(broker, kafka_prefix + "gone"), await topic_of(broker, kafka_prefix + "log")
        assert not await broker.send([OutRecord(gone, b"k", b"1")])
        await broker.append(TopicPartition(log, 0), 0, [OutRecord(log, None, b"1")], [])
        admin = broker._cluster._admin
        await admin.delete_topics([gone, log])
        async with asyncio.timeout(GENEROUS_S):
            # the answer may come before the broker takes no more records
            left = {gone, log}
            while left:
                left &= set(await admin.list_topics())
            failures = await broker.send([OutRecord(gone, b"k", b"2")])
            with pytest.raises(TopicMissing, match=log):
                await broker.append(TopicPartition(log, 0), 1, [OutRecord(log, None, b"2")], [])
        assert [f.code for f in failures] == [Delivery.TOPIC_MISSING]


async def test_a_partition_that_is_not_there_fails_its_record_alone(kafka: KafkaProcess, kafka_prefix: str) -> None:
    async with connected(kafka) as broker:
        topic = await topic_of(broker, kafka_prefix + "two", 2)
        failures = await broker.send([OutRecord(topic, b"k", b"", partition=p) for p in (1, 2, 0)])
        assert [(f.index, f.code) for f in failures] == [(1, Delivery.REFUSED)]
        with pytest.raises(TopicMissing):
            await broker.append(TopicPartition(topic, 2), None, [OutRecord(topic, None, b"")], [])


async def test_a_header_without_a_value_is_read_as_an_empty_one(kafka: KafkaProcess, kafka_prefix: str) -> None:
    async with connected(kafka) as broker:
        topic = await topic_of(broker, kafka_prefix + "headers")
        # the port has no such header, but other clients can send it
        foreign = (("ce_id", b"1"), ("nothing", None))
        record = OutRecord(topic, b"k", b"v", foreign)  # type: ignore[arg-type] # see above
        producer = await broker._sends._producer()
        await producer.deliver(TopicPartition(topic, 0), producer.pack([record], 1))
        (got,) = await records_of(broker, TopicPartition(topic, 0))
        assert got.headers == (("ce_id", b"1"), ("nothing", b""))


# Connections


async def test_no_broker_is_a_clear_error_in_bounded_time() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with asyncio.timeout(GENEROUS_S):
        with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{port} does not answer within 1 s"):
            await KafkaBroker.open(f"127.0.0.1:{port}", client_id="x", open_timeout_s=1.0)


async def test_something_that_takes_connections_and_says_nothing_is_no_broker() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        async with asyncio.timeout(GENEROUS_S):
            with pytest.raises(BrokerUnavailable, match="does not answer"):
                await KafkaBroker.open(f"127.0.0.1:{port}", client_id="x", open_timeout_s=1.0)


async def test_closing_is_bounded_while_the_broker_is_dead(new_kafka: Start) -> None:
    kafka = new_kafka()
    async with connected(kafka) as broker:
        topic = await topic_of(broker, "t", 2)
        listener = Listener()
        subscription = await broker.subscribe("g", [topic], listener, member="m")
        await drive(subscription, lambda: bool(listener.assigned))
        await broker.send([OutRecord(topic, b"k", b"v")])
        kafka.kill()
        calls = [asyncio.create_task(broker.send([OutRecord(topic, b"k", b"v")])) for _ in range(3)]
        await asyncio.sleep(0)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, BrokerUnavailable) for result in results)


# Groups


async def test_a_member_and_its_positions_outlive_a_restart_of_the_broker(new_kafka: Start) -> None:
    kafka = new_kafka()
    async with connected(kafka) as broker:
        topic = await topic_of(broker, "t", 2)
        tps = [TopicPartition(topic, p) for p in range(2)]
        await broker.send([OutRecord(topic, None, b"%d" % n, partition=p) for n in range(10) for p in range(2)])
        listener = Listener()
        subscription = await broker.subscribe("g", [topic], listener, member="m", session_timeout_s=6.0)
        got: list[Record] = []
        async with asyncio.timeout(GENEROUS_S):
            while len(got) < 20:
                got += await subscription.poll(max_records=100, timeout_s=0.1)
            await subscription.commit({at: Committed(10, "ten") for at in tps})
        kafka.kill()
        await asyncio.to_thread(kafka.restart)
        async with asyncio.timeout(GENEROUS_S):
            assert await broker.committed("g", tps) == dict.fromkeys(tps, Committed(10, "ten"))
            await broker.send([OutRecord(topic, None, b"new", partition=p) for p in range(2)])
        later: list[Record] = []
        async with asyncio.timeout(GENEROUS_S):
            while len(later) < 2:
                later += await subscription.poll(max_records=100, timeout_s=0.1)
        assert sorted((r.partition, r.offset) for r in later) == [(0, 10), (1, 10)]


async def test_what_stays_with_a_member_stays_when_others_come_and_go(kafka: KafkaProcess, kafka_prefix: str) -> None:
    async with connected(kafka) as broker:
        topic = await topic_of(broker, kafka_prefix + "t", 12)
        group = kafka_prefix + "g"
        listeners = [Listener(), Listener(), Listener()]

        async def poll(subscriptions: list[Subscription], until: Callable[[], bool]) -> None:
            async with asyncio.timeout(GENEROUS_S):
                while not until():
                    await asyncio.gather(*(s.poll(max_records=1, timeout_s=0.1) for s in subscriptions))

        subscriptions: list[Subscription] = []
        for n, listener in enumerate(listeners):
            subscriptions.append(
                await broker.subscribe(group, [topic], listener, member=f"m{n}", session_timeout_s=60.0)
            )
            share = 12 // (n + 1)
            await poll(subscriptions, lambda: all(len(s.assignment()) == share for s in subscriptions))  # noqa: B023 - awaited here
        before = [s.assignment() for s in subscriptions]
        await subscriptions[2].close()
        await poll(subscriptions[:2], lambda: all(len(s.assignment()) == 6 for s in subscriptions[:2]))
        for n in range(2):
            assert before[n] < subscriptions[n].assignment()


async def test_topics_show_what_was_set_on_them(kafka: KafkaProcess, kafka_prefix: str) -> None:
    async with connected(kafka) as broker:
        topic = await topic_of(broker, kafka_prefix + "t", 3, retention_ms="86400000", segment_bytes="1048576")
        info = (await broker.topics(configs_of=[topic]))[topic]
        assert info.partitions == 3
        assert info.config["retention.ms"] == "86400000"
        assert info.config["segment.bytes"] == "1048576"
        assert info.config["message.timestamp.type"] == "LogAppendTime"
        assert info.config["cleanup.policy"] == "delete"
        assert (await broker.topics())[topic].config == {}, "nobody asked for them"
