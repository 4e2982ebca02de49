"""The memory broker's faults.

What Kafka may do happens, what it may not do does not, and the dead do nothing.
"""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest

from mesh.adapters.memory import MemoryBroker, MemoryCluster, WeakBehaviour
from mesh.errors import BrokerUnavailable
from mesh.ports import Broker, Committed, OutRecord, Record, TopicPartition, TopicSpec
from mesh.testing.broker_contract import GENEROUS_S
from mesh.testing.virtual_time.incarnation import Incarnation
from mesh.testing.virtual_time.loop import VirtualClock, VirtualTimeLoop, run

LOG = TopicPartition("log", 0)
SEEDS = range(30)
EACH_SEED = [*range(6), *(pytest.param(seed, marks=pytest.mark.deep) for seed in range(6, 30))]
ALL_FAULTS = WeakBehaviour(
    latency_s=(0.0, 0.05),
    lost_request=0.05,
    lost_acknowledgement=0.05,
    late_landing=0.05,
    lands_twice=0.05,
    split_append=0.3,
    failed_call=0.05,
    rebalance=0.02,
    undead=0.02,
)


def _cluster(loop: VirtualTimeLoop, weak: WeakBehaviour | None, seed: int = 0) -> MemoryCluster:
    cluster = MemoryCluster(VirtualClock(loop), weak=weak, rng=random.Random(seed))
    cluster.create_topics([TopicSpec("log", 1), TopicSpec("work", 4)])
    return cluster


def _decisions(*names: str) -> list[OutRecord]:
    return [OutRecord("log", b"key", name.encode(), (), 0) for name in names]


def _names(records: Sequence[Record]) -> list[str]:
    return [(r.value or b"").decode() for r in records]


def _held(cluster: MemoryCluster) -> list[str]:
    return _names(cluster.records(LOG))


async def _until_sent(broker: Broker, records: Sequence[OutRecord]) -> None:
    while True:
        with contextlib.suppress(BrokerUnavailable):
            assert not await broker.send(records)
            return


class _Member:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.assigned: list[frozenset[TopicPartition]] = []
        self.revoked: list[frozenset[TopicPartition]] = []

    async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        self.assigned.append(frozenset(partitions))

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.revoked.append(frozenset(partitions))


# The dead


@pytest.mark.parametrize("weak", [None, WeakBehaviour()])
def test_no_call_of_the_dead_returns_or_has_an_effect(weak: WeakBehaviour | None) -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        cluster = _cluster(loop, weak)
        await cluster.connect("setup").send([OutRecord("work", None, b"x", (), 0)])
        broker = cluster.connect("dead")
        reader = await broker.reader()
        reader.assign({TopicPartition("work", 0): 0})
        member = await broker.subscribe("group", ["work"], _Member(), member="dead")
        await member.poll(max_records=1, timeout_s=1)
        broker.kill()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: broker.send(_decisions("sent")),
            lambda: broker.append(LOG, None, _decisions("appended"), []),
            lambda: broker.create_topics([TopicSpec("new", 1)]),
            broker.topics,
            broker.reader,
            lambda: broker.end_offsets([LOG]),
            lambda: broker.committed("group", [LOG]),
            lambda: reader.poll(max_records=1, timeout_s=1),
            lambda: member.poll(max_records=1, timeout_s=1),
            lambda: member.commit({TopicPartition("work", 0): Committed(1)}),
            member.close,
            reader.close,
            broker.close,
        ]
        for call in calls:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1_000):
                    await call()
        assert _held(cluster) == []
        assert "new" not in cluster.topics()
        assert cluster.group("group").committed == {}

    run(main)


@pytest.mark.parametrize("seed", EACH_SEED)
def test_a_call_under_way_never_returns_and_what_is_on_the_wire_may_land(seed: int) -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        cluster = _cluster(loop, WeakBehaviour(latency_s=(0.01, 0.02)), seed)
        broker = cluster.connect("doomed")
        calls = [asyncio.create_task(broker.append(LOG, n, _decisions(str(n)), [])) for n in range(5)]
        await asyncio.sleep(0.045)
        broker.kill()
        known = [call.done() for call in calls]
        await asyncio.sleep(1_000)
        assert [call.done() for call in calls] == known
        assert _held(cluster) == [str(n) for n in range(len(_held(cluster)))]
        assert len(_held(cluster)) >= sum(known)

    run(main, seed=seed)


@pytest.mark.parametrize("seed", EACH_SEED)
def test_a_strict_append_under_way_at_a_kill_is_done_whole_or_not_at_all(seed: int) -> None:
    async def main(loop: VirtualTimeLoop) -> int:
        cluster = MemoryCluster(VirtualClock(loop), latency_s=(0.01, 0.02), rng=random.Random(seed))
        cluster.create_topics([TopicSpec("log", 1), TopicSpec("work", 1)])
        broker = cluster.connect("doomed")

        async def append(n: int) -> None:
            await broker.append(LOG, 2 * n, _decisions(f"{n}", f"{n}"), [OutRecord("work", None, b"%d" % n)])

        calls = [asyncio.create_task(append(n)) for n in range(5)]
        await asyncio.sleep(0.045)
        broker.kill()
        known = [call.done() for call in calls]
        await asyncio.sleep(1_000)
        assert [call.done() for call in calls] == known
        effects = _names(cluster.records(TopicPartition("work", 0)))
        assert _held(cluster) == [name for name in effects for _ in range(2)]
        assert effects == [str(n) for n in range(len(effects))]
        return len(effects) - sum(known)

    assert 0 <= run(main, seed=seed) <= 2


def test_the_dead_can_be_cleared_away_by_cancelling() -> None:
    """A `finally` that closes the broker would wait without end otherwise."""

    async def main(loop: VirtualTimeLoop) -> None:
        broker = _cluster(loop, None).connect("dead")
        reader = await broker.reader()

        async def process() -> None:
            try:
                await reader.poll(max_records=1, timeout_s=1e9)
            finally:
                await broker.close()

        task = asyncio.create_task(process())
        await asyncio.sleep(1)
        broker.kill()
        task.cancel()
        async with asyncio.timeout(GENEROUS_S):
            await asyncio.wait([task])
        assert task.cancelled()

    run(main)


# The wire


def _one_fault(**fault: float) -> WeakBehaviour:
    return WeakBehaviour(give_up_s=1.0, late_by_s=10.0, **fault)  # type: ignore[arg-type]  # all are floats here


def test_a_lost_request_is_unknown_and_never_lands() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        cluster = _cluster(loop, _one_fault(lost_request=1.0))
        with pytest.raises(BrokerUnavailable):
            await cluster.connect("a").append(LOG, 0, _decisions("d"), [])
        await asyncio.sleep(100)
        assert _held(cluster) == []

    run(main)


def test_after_an_unknown_append_none_at_an_offset_lands_until_one_begins_afresh() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        cluster = _cluster(loop, _one_fault(lost_request=1.0))
        broker, other = cluster.connect("a"), cluster.connect("b")
        with pytest.raises(BrokerUnavailable):
            await broker.append(LOG, 0, _decisions("lost"), [])
        cluster.weak = WeakBehaviour()
        with pytest.raises(BrokerUnavailable, match="afresh"):
            await broker.append(LOG, 1, _decisions("rests on it"), [])
        await other.append(LOG, 0, _decisions("other's"), [])
        await broker.append(LOG, None, _decisions("claim"), [])
        await broker.append(LOG, 2, _decisions("rests on the claim"), [])
        assert _held(cluster) == ["other's", "claim", "rests on the claim"]

    run(main)


def test_a_lost_acknowledgement_is_unknown_though_the_record_landed_once() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        cluster = _cluster(loop, _one_fault(lost_acknowledgement=1.0))
        with pytest.raises(BrokerUnavailable):
            await cluster.connect("a").append(LOG, 0, _decisions("d"), [])
        assert _held(cluster) == ["d"]
        await asyncio.sleep(100)
        assert _held(cluster) == ["d"]

    run(main)


def test_a_late_record_lands_after_its_caller_was_told_and_after_its_connections_death() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        cluster = _cluster(loop, _one_fault(late_landing=1.0))
        broker = cluster.connect("a")
        with pytest.raises(BrokerUnavailable):
            await broker.append(LOG, 0, _decisions("d1", "d2"), [])
        assert _held(cluster) == []
        broker.kill()
        await asyncio.sleep(100)
        assert _held(cluster) == ["d1", "d2"]

    run(main)


def test_an_append_wherever_the_log_ends_may_land_twice_and_one_at_an_offset_does_not() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        cluster = _cluster(loop, _one_fault(lands_twice=1.0))
        broker = cluster.connect("a")
        appended = await broker.append(LOG, None, _decisions("owner"), [])
        await asyncio.sleep(100)
        assert _held(cluster) == ["owner", "owner"]
        assert appended.spans[0][0] in {0, 1}
        await broker.append(LOG, 2, _decisions("d"), [])
        await asyncio.sleep(100)
        assert _held(cluster) == ["owner", "owner", "d"]

    run(main)


def test_another_writers_record_may_land_between_the_parts_of_a_split_append() -> None:
    async def main(loop: VirtualTimeLoop, seed: int) -> bool:
        cluster = _cluster(loop, WeakBehaviour(latency_s=(0.0, 0.01), split_append=1.0), seed)
        one, two = cluster.connect("one"), cluster.connect("two")
        appended, _ = await asyncio.gather(
            one.append(LOG, 0, _decisions("a", "b"), []), two.append(LOG, None, _decisions("foreign"), [])
        )
        held = _held(cluster)
        offsets = [first + n for first, count in appended.spans for n in range(count)]
        assert [held[offset] for offset in offsets] == ["a", "b"]
        return held == ["a", "foreign", "b"]

    assert True in {run(lambda loop, seed=seed: main(loop, seed), seed=seed) for seed in SEEDS}  # type: ignore[misc]  # a default


@pytest.mark.parametrize("seed", EACH_SEED)
def test_acknowledgements_tell_the_truth_and_order_holds_under_every_fault(seed: int) -> None:
    """Two writers, with several appends under way.

    After an append that is unknown, each begins again and sends it again, in order.
    """

    async def write(cluster: MemoryCluster, name: str) -> None:
        broker = cluster.connect(name)
        todo = [f"{name}{n:03d}" for n in range(60)]
        afresh = False
        while todo:
            calls = [
                asyncio.create_task(
                    broker.append(LOG, None if afresh and not i else 0, _decisions(*todo[i : i + 3]), [])
                )
                for i in range(0, 15, 3)
            ]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            done = 0
            for answer in answers:
                afresh = isinstance(answer, BrokerUnavailable)
                if afresh:
                    break
                assert not isinstance(answer, BaseException)
                offsets = [first + n for first, count in answer.spans for n in range(count)]
                records = cluster.records(LOG)
                assert _names([records[offset] for offset in offsets]) == todo[done : done + len(offsets)]
                done += len(offsets)
            todo = todo[done:]

    async def main(loop: VirtualTimeLoop) -> None:
        cluster = _cluster(loop, ALL_FAULTS, seed)
        await asyncio.gather(write(cluster, "a"), write(cluster, "b"))
        held = _held(cluster)
        for name in "ab":
            first_seen = list(dict.fromkeys(value for value in held if value.startswith(name)))
            assert first_seen == [f"{name}{n:03d}" for n in range(60)]
        times = [r.timestamp_ms for r in cluster.records(LOG)]
        assert times == sorted(times)

    run(main, seed=seed)


# Groups


def test_an_undead_member_believes_in_its_share_until_its_next_poll_and_is_not_told() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        cluster = _cluster(loop, WeakBehaviour(undead=0.0))
        heard, other_heard = _Member(), _Member()
        undead = await cluster.connect("a").subscribe("group", ["work"], heard, member="undead", session_timeout_s=5)
        other = await cluster.connect("b").subscribe(
            "group", ["work"], other_heard, member="other", session_timeout_s=5
        )
        while not (undead.assignment() and other.assignment()):
            await asyncio.gather(*(m.poll(max_records=1, timeout_s=0.1) for m in (undead, other)))
        share, revoked = undead.assignment(), list(heard.revoked)
        # one polls, the other is silent for longer than its session
        while len(other.assignment()) < 4:
            await other.poll(max_records=1, timeout_s=1)
        assert undead.assignment() == share
        await undead.commit({at: Committed(7) for at in sorted(share)})
        assert cluster.group("group").committed == {}
        while not undead.assignment() or len(other.assignment()) == 4:
            await asyncio.gather(*(m.poll(max_records=1, timeout_s=0.1) for m in (undead, other)))
        assert heard.revoked == revoked
        assert undead.assignment() | other.assignment() == {TopicPartition("work", p) for p in range(4)}

    run(main)


@pytest.mark.parametrize("seed", EACH_SEED)
def test_every_record_reaches_the_group_at_least_once_under_every_fault(seed: int) -> None:
    """Three members read, commit and are rebalanced, expelled and killed; what was sent is seen."""

    async def work(broker: MemoryBroker, seen: set[str]) -> None:
        while True:
            with contextlib.suppress(BrokerUnavailable):
                member = await broker.subscribe(
                    "group", ["work"], _Member(), member=broker.client_id, session_timeout_s=5
                )
                break
        while True:
            records = await member.poll(max_records=10, timeout_s=1)
            seen.update(_names(records))
            with contextlib.suppress(BrokerUnavailable):
                await member.commit({TopicPartition(r.topic, r.partition): Committed(r.offset + 1) for r in records})

    async def main(loop: VirtualTimeLoop) -> None:
        cluster = _cluster(loop, ALL_FAULTS, seed)
        chance, seen, life = random.Random(seed), set[str](), 0
        living: dict[int, Incarnation] = {}
        sending = asyncio.create_task(_send_slowly(cluster.connect("sender"), 200))
        while not sending.done() or len(seen) < 200:
            for place in range(3):
                if place not in living or (not sending.done() and chance.random() < 0.2):
                    if place in living:
                        living[place].kill()
                    life += 1
                    living[place] = loop.incarnation(f"member-{life}")
                    connection = cluster.connect(f"member-{life}")
                    living[place].on_kill(connection.kill)
                    living[place].start(work(connection, seen))
            await asyncio.sleep(5)
        assert seen == {f"r{n}" for n in range(200)}

    run(main, seed=seed, limit_s=86_400)


async def _send_slowly(broker: MemoryBroker, count: int) -> None:
    for n in range(count):
        await _until_sent(broker, [OutRecord("work", b"%d" % n, b"r%d" % n)])
        await asyncio.sleep(0.1)


# The whole


def test_a_broker_that_is_down_answers_nothing_and_loses_nothing() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        cluster = _cluster(loop, None)
        broker = cluster.connect("a")
        await broker.append(LOG, 0, _decisions("before"), [])
        reader = await broker.reader()
        reader.assign({LOG: 0})
        cluster.stop()
        assert not await reader.poll(max_records=10, timeout_s=1)
        for call in (
            broker.send(_decisions("x")),
            broker.append(LOG, 1, _decisions("x"), []),
            broker.end_offsets([LOG]),
        ):
            with pytest.raises(BrokerUnavailable):
                await call
        polling = asyncio.create_task(reader.poll(max_records=10, timeout_s=1_000))
        await asyncio.sleep(1)
        cluster.start()
        assert _names(await polling) == ["before"]
        await broker.append(LOG, 1, _decisions("after"), [])
        assert _held(cluster) == ["before", "after"]

    run(main)


_ONE_RUN = """
import asyncio, hashlib, random, sys
sys.path.insert(0, sys.argv[1])
import test_memory_faults as faults
from mesh.testing.virtual_time.loop import run

async def main(loop):
    cluster = faults._cluster(loop, faults.ALL_FAULTS, 5)
    listeners = [faults._Member() for _ in range(3)]
    async def member(n):
        while True:
            try:
                sub = await cluster.connect(str(n)).subscribe("g", ["work"], listeners[n], member=str(n))
                break
            except faults.BrokerUnavailable:
                pass
        while True:
            await sub.poll(max_records=5, timeout_s=0.5)
    tasks = [asyncio.create_task(member(n)) for n in range(3)]
    await faults._send_slowly(cluster.connect("s"), 100)
    told = [[sorted(a) for a in m.assigned + m.revoked] for m in listeners]
    records = [cluster.records(faults.TopicPartition("work", p)) for p in range(4)]
    return repr((told, records, loop.time()))

print(hashlib.sha256(run(main, seed=5).encode()).hexdigest())
"""


def test_equal_seeds_are_equal_runs_in_another_process_too() -> None:
    root = Path(__file__).parents[2]

    def once(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", _ONE_RUN, str(Path(__file__).parent)]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=GENEROUS_S
        ).stdout

    assert once("1") == once("2")
