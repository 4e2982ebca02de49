"""Cases on topics, on sending, and on what a record is.

They cover order, partitions, contents, failures, timestamps and offsets. Owns these cases, and must
not know any adapter. `BrokerContract` collects them.
"""

import asyncio

from mesh.core.ids import partition_of_key
from mesh.ports import Broker, Delivery, OutRecord, Record, TopicPartition, TopicSpec
from mesh.testing.broker_contract.harness import (
    GENEROUS_S,
    BrokerHarness,
    ContractCases,
    collect,
    new_topic,
    out,
    read_all,
)


def _values(records: list[Record], key: str | None = None) -> list[str]:
    return [(r.value or b"").decode() for r in records if key is None or r.key == key.encode()]


class SendingCases(ContractCases):
    async def test_created_topics_are_listed_with_their_partitions(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic = await new_topic(broker, 3)
        other = await harness.connect()
        assert (await broker.topics())[topic].partitions == 3
        assert (await other.topics())[topic].partitions == 3

    async def test_a_broker_has_one_id_for_each_connection(self, broker: Broker, harness: BrokerHarness) -> None:
        found, other = await broker.cluster_id(), await harness.connect()
        assert found
        assert (await broker.cluster_id(), await other.cluster_id()) == (found, found)

    async def test_creating_a_topic_again_leaves_it_as_it_is(self, broker: Broker) -> None:
        topic, another = await new_topic(broker, 2), await new_topic(broker, 1)
        await broker.send([out(topic, "kept", partition=1)])
        await broker.create_topics([TopicSpec(topic, 5), TopicSpec(another + ".new", 4)])
        topics = await broker.topics()
        assert topics[topic].partitions == 2
        assert topics[another + ".new"].partitions == 4
        assert _values(await read_all(broker, topic)) == ["kept"]

    async def test_records_of_a_key_keep_their_order_within_and_across_calls(self, broker: Broker) -> None:
        topic = await new_topic(broker, 4)
        keys = [f"key-{k}" for k in range(8)]
        for call in range(5):
            await broker.send([out(topic, f"{call}.{n}", key=key) for n in range(10) for key in keys])
        records = await read_all(broker, topic)
        for key in keys:
            assert _values(records, key) == [f"{call}.{n}" for call in range(5) for n in range(10)]

    async def test_calls_under_way_at_once_land_in_the_order_they_were_begun(self, broker: Broker) -> None:
        topic = await new_topic(broker)
        calls = [asyncio.create_task(broker.send([out(topic, f"{c}.{n}") for n in range(3)])) for c in range(20)]
        async with asyncio.timeout(GENEROUS_S):
            await asyncio.gather(*calls)
        assert _values(await read_all(broker, topic)) == [f"{c}.{n}" for c in range(20) for n in range(3)]

    async def test_a_key_goes_to_the_partition_that_kafkas_java_client_gives_it(self, broker: Broker) -> None:
        topic = await new_topic(broker, 16)
        keys = [f"issue-triage:octo/repo#{n}" for n in range(100)] + ["", "ä", "21", "foobar"]
        await broker.send([out(topic, "x", key=key) for key in keys])
        for record in await read_all(broker, topic):
            assert record.key is not None
            assert record.partition == partition_of_key(record.key, 16)

    async def test_an_explicit_partition_beats_the_key(self, broker: Broker) -> None:
        topic = await new_topic(broker, 4)
        await broker.send([out(topic, str(p), key="same", partition=p) for p in range(4)])
        assert [(r.partition, r.value) for r in await read_all(broker, topic)] == [(p, b"%d" % p) for p in range(4)]

    async def test_what_was_sent_is_what_is_read(self, broker: Broker) -> None:
        topic = await new_topic(broker)
        headers = (("b", b"1"), ("a", b""), ("b", b"\x00\xff"), ("ce_id", "ä".encode()))
        sent = [
            OutRecord(topic, None, b"no key", partition=0),
            OutRecord(topic, b"tombstone", None),
            OutRecord(topic, b"", b""),
            OutRecord(topic, b"\x00\xff", bytes(range(256)), headers),
            OutRecord(topic, None, None, headers[:1], partition=0),
        ]
        assert not await broker.send(sent)
        got = await read_all(broker, topic)
        assert [(r.key, r.value, r.headers) for r in got] == [(s.key, s.value, s.headers) for s in sent]
        assert [r.offset for r in got] == list(range(len(sent)))
        assert {r.topic for r in got} == {topic}

    async def test_a_record_without_key_or_partition_lands_somewhere(self, broker: Broker) -> None:
        topic = await new_topic(broker, 3)
        await broker.send([out(topic, str(n)) for n in range(10)])
        assert sorted(_values(await read_all(broker, topic))) == [str(n) for n in range(10)]

    async def test_sending_nothing_is_fine(self, broker: Broker) -> None:
        assert not await broker.send([])

    async def test_a_missing_topic_fails_its_records_alone(self, broker: Broker) -> None:
        topic = await new_topic(broker)
        records = [out(topic, "0"), out(topic + ".none", "1"), out(topic, "2"), out(topic + ".none", "3", key="k")]
        async with asyncio.timeout(GENEROUS_S):
            failures = await broker.send(records)
        assert [(f.index, f.code) for f in failures] == [(1, Delivery.TOPIC_MISSING), (3, Delivery.TOPIC_MISSING)]
        assert topic + ".none" in failures[0].message
        assert _values(await read_all(broker, topic)) == ["0", "2"]
        assert topic + ".none" not in await broker.topics()

    async def test_a_topic_created_after_a_send_to_it_failed_takes_records(self, broker: Broker) -> None:
        missing = await new_topic(broker) + ".later"
        assert await broker.send([out(missing, "lost")])
        await broker.create_topics([TopicSpec(missing, 1)])
        assert not await broker.send([out(missing, "landed")])
        assert _values(await read_all(broker, missing)) == ["landed"]

    async def test_an_over_large_record_fails_alone_and_the_largest_lands(self, broker: Broker) -> None:
        topic = await new_topic(broker)
        largest = broker.max_record_bytes - OutRecord(topic, b"k", b"").size_bytes()
        records = [
            OutRecord(topic, b"k", b"before"),
            OutRecord(topic, b"k", bytes(broker.max_record_bytes + 1)),
            OutRecord(topic, b"k", bytes(largest)),
            OutRecord(topic, b"k", b"after"),
        ]
        failures = await broker.send(records)
        assert [(f.index, f.code) for f in failures] == [(1, Delivery.TOO_LARGE)]
        assert [len(r.value or b"") for r in await read_all(broker, topic)] == [6, largest, 5]

    async def test_timestamps_are_the_brokers_and_do_not_fall(self, broker: Broker) -> None:
        topic = await new_topic(broker)
        records = await _send_until_time_passed(broker, topic)
        times = [r.timestamp_ms for r in records]
        assert times == sorted(times)
        assert times[0] > 0

    async def test_offsets_at_finds_the_first_record_at_or_after_a_time(self, broker: Broker) -> None:
        topic = await new_topic(broker, 2)
        records = await _send_until_time_passed(broker, topic)
        full, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
        first, last = records[0].timestamp_ms, records[-1].timestamp_ms
        for time_ms in (0, first, first + 1, last, last + 1, last + 3_600_000):
            found = await broker.offsets_at([full, empty], time_ms)
            later = [r.offset for r in records if r.timestamp_ms >= time_ms]
            assert found == {full: later[0] if later else len(records), empty: 0}

    async def test_end_and_begin_offsets(self, broker: Broker, harness: BrokerHarness) -> None:
        topic = await new_topic(broker, 2)
        full, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
        await broker.send([out(topic, str(n), partition=0) for n in range(7)])
        other = await harness.connect()
        for connection in (broker, other):
            assert await connection.end_offsets([full, empty]) == {full: 7, empty: 0}
            assert await connection.begin_offsets([full, empty]) == {full: 0, empty: 0}

    async def test_begin_offsets_follow_retention(self, broker: Broker, harness: BrokerHarness) -> None:
        topic = await new_topic(broker)
        at = TopicPartition(topic, 0)
        await broker.send([out(topic, str(n)) for n in range(7)])
        await harness.trim(at, 3)
        assert await broker.begin_offsets([at]) == {at: 3}
        assert await broker.end_offsets([at]) == {at: 7}
        assert [r.offset for r in await read_all(broker, topic)] == [3, 4, 5, 6]


async def _send_until_time_passed(broker: Broker, topic: str) -> list[Record]:
    """Send to partition 0 until the first and the last record have different broker timestamps."""
    reader = await broker.reader()
    reader.assign({TopicPartition(topic, 0): 0})
    records: list[Record] = []
    async with asyncio.timeout(GENEROUS_S):
        while len(records) < 5 or records[-1].timestamp_ms == records[0].timestamp_ms:
            await broker.send([out(topic, str(len(records)), partition=0)])
            records += await collect(reader, 1)
            await asyncio.sleep(0.001)  # a virtual clock moves only during waits
    await reader.close()
    return records
