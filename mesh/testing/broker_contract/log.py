"""Cases on the log: appends at an expected offset, foreign records and gaps, appends in flight.

Also the effects that go with an append. Owns these cases, and must not know any adapter.
`BrokerContract` collects them.

The cases hold for brokers that compare (they refuse, and nothing is written) and for those that
don't (the acknowledged offsets show the gap). What a caller may conclude is the same: it wrote at
the expected offset, or it knows that it did not.
"""

import asyncio

import pytest

from mesh.errors import TopicMissing
from mesh.ports import Appended, Broker, Delivery, OutRecord, TopicPartition
from mesh.testing.broker_contract.harness import (
    GENEROUS_S,
    BrokerHarness,
    ContractCases,
    new_topic,
    out,
    read_all,
    send_effects,
)


def _decisions(log: TopicPartition, *names: str) -> list[OutRecord]:
    return [out(log.topic, name, key=name, partition=log.partition) for name in names]


def _offsets(appended: Appended) -> list[int]:
    return [first + n for first, count in appended.spans for n in range(count)]


async def _log_values(broker: Broker, log: TopicPartition) -> list[str]:
    return [(r.value or b"").decode() for r in await read_all(broker, log.topic) if r.partition == log.partition]


class LogCases(ContractCases):
    async def test_an_append_lands_at_the_expected_offset(self, broker: Broker) -> None:
        log = TopicPartition(await new_topic(broker, 2), 1)
        first = await broker.append(log, None, _decisions(log, "owner"), [])
        second = await broker.append(log, 1, _decisions(log, "a", "b"), [])
        third = await broker.append(log, 3, _decisions(log, "c"), [])
        assert [_offsets(a) for a in (first, second, third)] == [[0], [1, 2], [3]]
        assert not any(a.refused for a in (first, second, third))
        assert 0 < first.timestamp_ms <= second.timestamp_ms <= third.timestamp_ms
        assert await _log_values(broker, log) == ["owner", "a", "b", "c"]

    async def test_the_partition_is_the_logs_whatever_the_keys_say(self, broker: Broker) -> None:
        log = TopicPartition(await new_topic(broker, 4), 2)
        decisions = [out(log.topic, key, key=key) for key in "abcdefgh"]
        assert _offsets(await broker.append(log, 0, decisions, [])) == list(range(8))
        assert await _log_values(broker, log) == list("abcdefgh")

    async def test_a_large_append_is_acknowledged_whole_and_in_order(self, broker: Broker) -> None:
        log = TopicPartition(await new_topic(broker), 0)
        names = [f"{n:04d}{'x' * 1000}" for n in range(1000)]
        appended = await broker.append(log, 0, _decisions(log, *names), [])
        assert _offsets(appended) == list(range(1000))
        assert await _log_values(broker, log) == names

    async def test_a_foreign_record_is_never_taken_for_ones_own(self, broker: Broker, harness: BrokerHarness) -> None:
        """A late append is refused and writes nothing, or is acknowledged beyond its offset."""
        log = TopicPartition(await new_topic(broker), 0)
        await broker.append(log, 0, _decisions(log, "mine"), [])
        other = await harness.connect()
        assert _offsets(await other.append(log, None, _decisions(log, "foreign"), [])) == [1]
        late = await broker.append(log, 1, _decisions(log, "late-1", "late-2"), [])
        if late.refused:
            assert late.spans == ()
            assert await _log_values(broker, log) == ["mine", "foreign"]
        else:
            assert _offsets(late) == [2, 3]
            assert await _log_values(broker, log) == ["mine", "foreign", "late-1", "late-2"]

    async def test_an_append_beyond_the_end_is_never_taken_for_one_that_fits(self, broker: Broker) -> None:
        log = TopicPartition(await new_topic(broker), 0)
        await broker.append(log, 0, _decisions(log, "d0"), [])
        early = await broker.append(log, 5, _decisions(log, "d5"), [])
        assert early.refused or _offsets(early) == [1]
        assert await _log_values(broker, log) == (["d0"] if early.refused else ["d0", "d5"])

    async def test_effects_of_an_append_that_missed_its_offset_are_not_sent(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        log, tasks = TopicPartition(await new_topic(broker), 0), await new_topic(broker)
        other = await harness.connect()
        await other.append(log, None, _decisions(log, "foreign"), [])
        late = await broker.append(log, 0, _decisions(log, "late"), [out(tasks, "task")])
        assert late.refused or _offsets(late) != [0]
        assert not late.effects_sent
        assert await read_all(broker, tasks) == []

    async def test_of_two_that_append_at_one_offset_one_gets_it(self, broker: Broker, harness: BrokerHarness) -> None:
        log = TopicPartition(await new_topic(broker), 0)
        other = await harness.connect()
        async with asyncio.timeout(GENEROUS_S):
            both = await asyncio.gather(
                broker.append(log, 0, _decisions(log, "a1", "a2"), []),
                other.append(log, 0, _decisions(log, "b1", "b2"), []),
            )
        assert [not a.refused and _offsets(a)[0] == 0 for a in both].count(True) == 1

    async def test_two_appends_under_way_at_once_land_in_order(self, broker: Broker) -> None:
        log = TopicPartition(await new_topic(broker), 0)
        calls = [
            asyncio.create_task(broker.append(log, 3 * n, _decisions(log, f"{n}.0", f"{n}.1", f"{n}.2"), []))
            for n in range(20)
        ]
        async with asyncio.timeout(GENEROUS_S):
            acknowledged = await asyncio.gather(*calls)
        assert [_offsets(a) for a in acknowledged] == [[3 * n, 3 * n + 1, 3 * n + 2] for n in range(20)]
        assert await _log_values(broker, log) == [f"{n}.{m}" for n in range(20) for m in range(3)]

    async def test_appends_under_way_at_once_all_show_a_foreign_record(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        log = TopicPartition(await new_topic(broker), 0)
        other = await harness.connect()
        await other.append(log, None, _decisions(log, "foreign"), [])
        calls = [asyncio.create_task(broker.append(log, n, _decisions(log, f"late-{n}"), [])) for n in range(5)]
        async with asyncio.timeout(GENEROUS_S):
            acknowledged = await asyncio.gather(*calls)
        # the first missed its offset; what fits the end by chance rests on it
        if acknowledged[0].refused:
            assert all(appended.refused for appended in acknowledged)
            assert await _log_values(broker, log) == ["foreign"]
            return
        for expected, appended in enumerate(acknowledged):
            assert _offsets(appended)[0] > expected

    async def test_after_a_refusal_nothing_is_appended_at_an_offset_until_a_claim(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        log, tasks = TopicPartition(await new_topic(broker), 0), await new_topic(broker)
        other = await harness.connect()
        await other.append(log, None, _decisions(log, "foreign"), [])
        late = await broker.append(log, 0, _decisions(log, "late"), [])
        if not late.refused:  # it can't compare
            return
        resting = await broker.append(log, 1, _decisions(log, "resting"), [out(tasks, "task")])
        assert (resting.refused, resting.effects_sent, await read_all(broker, tasks)) == (True, False, [])
        assert _offsets(await broker.append(log, None, _decisions(log, "claim"), [])) == [1]
        assert _offsets(await broker.append(log, 2, _decisions(log, "next"), [])) == [2]
        assert await _log_values(broker, log) == ["foreign", "claim", "next"]

    async def test_effects_reach_their_topics_after_the_append(self, broker: Broker) -> None:
        log, tasks, asks = (
            TopicPartition(await new_topic(broker), 0),
            await new_topic(broker, 4),
            await new_topic(broker),
        )
        effects = [out(tasks, "t1", key="t1"), out(asks, "a1", key="w"), out(tasks, "t2", key="t2"), out(asks, "a2")]
        appended = await broker.append(log, 0, _decisions(log, "d1", "d2"), effects)
        assert _offsets(appended) == [0, 1]
        assert not await send_effects(broker, appended, effects)
        assert sorted((r.value or b"").decode() for r in await read_all(broker, tasks)) == ["t1", "t2"]
        assert [(r.value or b"").decode() for r in await read_all(broker, asks)] == ["a1", "a2"]

    async def test_an_effect_that_fails_for_good_holds_up_nothing_else(self, broker: Broker) -> None:
        log, tasks = TopicPartition(await new_topic(broker), 0), await new_topic(broker)
        effects = [
            out(tasks, "t0"),
            out(tasks + ".none", "t1"),
            OutRecord(tasks, None, bytes(broker.max_record_bytes + 1)),
            out(tasks, "t3"),
        ]
        appended = await broker.append(log, 0, _decisions(log, "d"), effects)
        assert _offsets(appended) == [0]
        failures = await send_effects(broker, appended, effects)
        assert [(f.index, f.code) for f in failures] == [(1, Delivery.TOPIC_MISSING), (2, Delivery.TOO_LARGE)]
        assert [(r.value or b"").decode() for r in await read_all(broker, tasks)] == ["t0", "t3"]
        assert await _log_values(broker, log) == ["d"]

    async def test_appending_to_a_log_that_is_not_there_raises(self, broker: Broker) -> None:
        log = TopicPartition(await new_topic(broker) + ".none", 0)
        async with asyncio.timeout(GENEROUS_S):
            for expected in (None, 0):
                with pytest.raises(TopicMissing, match=log.topic):
                    await broker.append(log, expected, _decisions(log, "d"), [])
