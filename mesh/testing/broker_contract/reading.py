"""Cases on the `Reader`: positions, parts of an assignment, and waiting.

They also check that nothing is lost or repeated. Owns these cases, and must not know any adapter.
`BrokerContract` collects them.
"""

import asyncio
import contextlib

from mesh.ports import Broker, Record, TopicPartition
from mesh.testing.broker_contract.harness import (
    GENEROUS_S,
    BrokerHarness,
    ContractCases,
    collect,
    new_topic,
    out,
)


def _by_partition(records: list[Record]) -> dict[TopicPartition, list[int]]:
    found: dict[TopicPartition, list[int]] = {}
    for record in records:
        found.setdefault(TopicPartition(record.topic, record.partition), []).append(record.offset)
    return found


async def _filled(broker: Broker, partitions: int, each: int) -> list[TopicPartition]:
    topic = await new_topic(broker, partitions)
    await broker.send([out(topic, f"{p}.{n}", partition=p) for n in range(each) for p in range(partitions)])
    return [TopicPartition(topic, p) for p in range(partitions)]


class ReadingCases(ContractCases):
    async def test_a_reader_of_several_topics_reads_each_partition_in_order(self, broker: Broker) -> None:
        where = [*await _filled(broker, 3, 20), *await _filled(broker, 2, 20)]
        reader = await broker.reader()
        reader.assign(dict.fromkeys(where, 0))
        assert _by_partition(await collect(reader, 100)) == {at: list(range(20)) for at in where}

    async def test_a_reader_begins_at_the_given_offsets(self, broker: Broker) -> None:
        a, b, c = await _filled(broker, 3, 10)
        reader = await broker.reader()
        reader.assign({a: 7, b: 10})
        await broker.send([out(tp.topic, "new", partition=tp.partition) for tp in (a, b, c)])
        assert _by_partition(await collect(reader, 5)) == {a: [7, 8, 9, 10], b: [10]}

    async def test_a_call_returns_no_more_than_asked_and_the_rest_comes_later(self, broker: Broker) -> None:
        where = await _filled(broker, 2, 50)
        reader = await broker.reader()
        reader.assign(dict.fromkeys(where, 0))
        got: list[Record] = []
        async with asyncio.timeout(GENEROUS_S):
            while len(got) < 100:
                some = await reader.poll(max_records=7, timeout_s=1.0)
                assert len(some) <= 7
                got += some
        assert _by_partition(got) == {at: list(range(50)) for at in where}

    async def test_a_position_is_behind_what_was_returned_and_before_what_was_not(self, broker: Broker) -> None:
        where = await _filled(broker, 2, 10)
        reader = await broker.reader()
        reader.assign(dict.fromkeys(where, 3))
        assert [reader.position(at) for at in where] == [3, 3]
        got: list[Record] = []
        while len(got) < 14:
            got += await reader.poll(max_records=4, timeout_s=1.0)
            read = _by_partition(got)
            assert {at: reader.position(at) for at in where} == {at: read.get(at, [2])[-1] + 1 for at in where}

    async def test_a_poll_of_a_part_returns_that_part_alone(self, broker: Broker) -> None:
        inbox, results = (await _filled(broker, 1, 20))[0], (await _filled(broker, 1, 20))[0]
        reader = await broker.reader()
        reader.assign({inbox: 0, results: 0})
        first = await collect(reader, 5)  # it may fetch any records of both partitions
        seen = _by_partition(first)
        rest_of_results = 20 - len(seen.get(results, []))
        part = await collect(reader, rest_of_results, partitions=[results])
        assert {(r.topic, r.partition) for r in part} <= {results}
        assert not await reader.poll(max_records=10, timeout_s=0.05, partitions=[results])
        rest = await collect(reader, 20 - len(seen.get(inbox, [])))
        assert _by_partition([*first, *part, *rest]) == {inbox: list(range(20)), results: list(range(20))}

    async def test_a_poll_of_a_part_waits_for_that_part_alone(self, broker: Broker) -> None:
        full, empty = (await _filled(broker, 1, 20))[0], (await _filled(broker, 1, 0))[0]
        reader = await broker.reader()
        reader.assign({full: 0, empty: 0})
        assert not await reader.poll(max_records=10, timeout_s=0.05, partitions=[empty])
        waiting = asyncio.create_task(collect(reader, 1, partitions=[empty]))
        await broker.send([out(empty.topic, "x")])
        assert _by_partition(await waiting) == {empty: [0]}
        assert _by_partition(await collect(reader, 20)) == {full: list(range(20))}

    async def test_assigning_again_reads_from_the_new_positions_alone(self, broker: Broker) -> None:
        a, b, c = await _filled(broker, 3, 20)
        reader = await broker.reader()
        reader.assign({a: 0, b: 0})
        await collect(reader, 5)
        reader.assign({b: 12, c: 3})
        assert _by_partition(await collect(reader, 25)) == {b: list(range(12, 20)), c: list(range(3, 20))}
        reader.assign({a: 0})
        assert _by_partition(await collect(reader, 20)) == {a: list(range(20))}
        assert not await reader.poll(max_records=10, timeout_s=0.05)

    async def test_assigning_while_a_poll_waits_is_seen_by_the_next_poll_at_the_latest(self, broker: Broker) -> None:
        (empty,), (full,) = await _filled(broker, 1, 0), await _filled(broker, 1, 3)
        reader = await broker.reader()
        reader.assign({empty: 0})
        waiting = asyncio.create_task(reader.poll(max_records=10, timeout_s=0.2))
        await asyncio.sleep(0)
        reader.assign({full: 0})
        first = list(await waiting)
        assert _by_partition([*first, *await collect(reader, 3 - len(first))]) == {full: [0, 1, 2]}

    async def test_an_offset_below_the_first_reads_from_the_first(self, broker: Broker, harness: BrokerHarness) -> None:
        (at,) = await _filled(broker, 1, 10)
        await harness.trim(at, 6)
        reader = await broker.reader()
        reader.assign({at: 2})
        assert _by_partition(await collect(reader, 4)) == {at: [6, 7, 8, 9]}

    async def test_a_poll_returns_when_a_record_comes(self, broker: Broker, harness: BrokerHarness) -> None:
        (at,) = await _filled(broker, 1, 0)
        reader = await broker.reader()
        reader.assign({at: 0})
        other = await harness.connect()
        waiting = asyncio.create_task(reader.poll(max_records=10, timeout_s=GENEROUS_S))
        await asyncio.sleep(0)
        await other.send([out(at.topic, "x")])
        async with asyncio.timeout(GENEROUS_S / 2):
            assert [r.value for r in await waiting] == [b"x"]

    async def test_a_poll_with_nothing_to_read_comes_back_empty(self, broker: Broker) -> None:
        (at,) = await _filled(broker, 1, 5)
        reader = await broker.reader()
        async with asyncio.timeout(GENEROUS_S):
            assert not await reader.poll(max_records=10, timeout_s=0.05)
            reader.assign({at: 5})
            assert not await reader.poll(max_records=10, timeout_s=0.05)
            assert not await reader.poll(max_records=10, timeout_s=0.0)
            reader.assign({})
            assert not await reader.poll(max_records=10, timeout_s=0.05)

    async def test_cancelling_a_poll_loses_no_record(self, broker: Broker) -> None:
        (at,) = await _filled(broker, 1, 0)
        reader = await broker.reader()
        reader.assign({at: 0})
        got: list[Record] = []
        for n in range(20):
            polling = asyncio.create_task(reader.poll(max_records=10, timeout_s=1.0))
            sending = asyncio.create_task(broker.send([out(at.topic, str(n))]))
            for _ in range(n):
                await asyncio.sleep(0)
            polling.cancel()
            await sending
            with contextlib.suppress(asyncio.CancelledError):
                got += await polling
        got += await collect(reader, 20 - len(got))
        assert _by_partition(got) == {at: list(range(20))}

    async def test_readers_do_not_disturb_each_other(self, broker: Broker, harness: BrokerHarness) -> None:
        where = await _filled(broker, 2, 10)
        readers = [await broker.reader(), await broker.reader(), await (await harness.connect()).reader()]
        for reader in readers:
            reader.assign(dict.fromkeys(where, 0))
        for reader in readers:
            assert _by_partition(await collect(reader, 20)) == {at: list(range(10)) for at in where}
        await readers[0].close()
        await broker.send([out(where[0].topic, "x", partition=0)])
        assert _by_partition(await collect(readers[1], 1)) == {where[0]: [10]}
