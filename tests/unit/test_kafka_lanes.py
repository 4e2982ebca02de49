"""Lanes keep order and tell each call its own fate, whatever becomes of the batches.

There is no broker, and the producer is scripted.
"""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterable

import pytest

from mesh.adapters.kafka.lanes import Acknowledgement, Call, Lane, Packed, Refused
from mesh.errors import BrokerUnavailable, TopicMissing
from mesh.ports import Delivery, OutRecord, TopicPartition

AT = TopicPartition("t", 0)
Fate = Callable[[list[str]], Exception | None]


class Scripted:
    """A producer whose batches hold `size` records. It is its own broker.

    `fate` says what becomes of each batch.
    """

    def __init__(self, fate: Fate = lambda _: None, size: int = 100) -> None:
        self.landed: list[str] = []
        self.batches: list[list[str]] = []
        self.at_once = 0
        self.on_the_wire = asyncio.Event()
        self.acknowledged = asyncio.Event()
        self._fate = fate
        self._size = size
        self._tasks: list[asyncio.Task[None]] = []

    async def producer(self) -> "Scripted":
        await asyncio.sleep(0)
        return self

    def spawn(self, work: Coroutine[object, object, None], *, name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    def pack(self, records: Iterable[OutRecord], limit: int) -> Packed:
        batch = [(r.value or b"").decode() for r in itertools.islice(records, min(limit, self._size))]
        return Packed(batch, len(batch))

    async def deliver(self, at: TopicPartition, packed: Packed) -> Acknowledgement:
        assert isinstance(packed.batch, list)
        self.batches.append(packed.batch)
        self.at_once += 1
        self.on_the_wire.set()
        await asyncio.sleep(0)
        assert self.at_once == 1, "one batch at a time"
        self.at_once -= 1
        error = self._fate(packed.batch)
        if error is not None:
            raise error
        self.landed += packed.batch
        self.acknowledged.set()
        return Acknowledgement(len(self.landed) - len(packed.batch), 1000 + len(self.batches))

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()


def put(lane: Lane, *values: str, fresh: bool = False) -> Call:
    call = Call(len(values))
    lane.put(call, [OutRecord("t", None, value.encode()) for value in values], fresh=fresh)
    return call


def refuse(*bad: str, whole: bool = False, code: Delivery = Delivery.REFUSED) -> Fate:
    return lambda batch: Refused(code, "no", whole=whole) if set(bad) & set(batch) else None


async def test_calls_share_a_batch_and_each_learns_where_its_records_are() -> None:
    wire = Scripted()
    lane = Lane(AT, wire.producer, wire.spawn, strict=True)
    one, two, three = put(lane, "a", "b"), put(lane, "c"), put(lane, "d", "e")
    await asyncio.gather(one.done, two.done, three.done)
    assert wire.batches == [["a", "b", "c", "d", "e"]]
    assert [call.spans for call in (one, two, three)] == [[(0, 2)], [(2, 1)], [(3, 2)]]
    assert three.timestamp_ms == 1001


async def test_a_call_larger_than_a_batch_is_one_span() -> None:
    wire = Scripted(size=3)
    lane = Lane(AT, wire.producer, wire.spawn, strict=True)
    call, behind = put(lane, *"abcdefgh"), put(lane, "i")
    await asyncio.gather(call.done, behind.done)
    assert wire.batches == [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]]
    assert (call.spans, behind.spans) == ([(0, 8)], [(8, 1)])


async def test_what_comes_while_a_batch_is_on_the_wire_waits_for_it_and_goes_together() -> None:
    wire = Scripted()
    lane = Lane(AT, wire.producer, wire.spawn, strict=False)
    first = put(lane, "a")
    await wire.on_the_wire.wait()
    rest = [put(lane, value) for value in "bcd"]
    await asyncio.gather(first.done, *(call.done for call in rest))
    assert wire.batches == [["a"], ["b", "c", "d"]]


async def test_a_foreign_record_between_two_batches_shows_as_two_spans() -> None:
    wire = Scripted(size=2)
    lane = Lane(AT, wire.producer, wire.spawn, strict=True)
    call = put(lane, *"abcd")
    await wire.acknowledged.wait()
    wire.landed.append("foreign")
    await call.done
    assert call.spans == [(0, 2), (3, 2)]


async def test_a_refused_batch_goes_one_by_one_and_only_the_bad_record_fails() -> None:
    wire = Scripted(refuse("c", code=Delivery.TOO_LARGE))
    lane = Lane(AT, wire.producer, wire.spawn, strict=False)
    one, two = put(lane, *"abcd"), put(lane, *"ef")
    await asyncio.gather(one.done, two.done)
    assert [(f.index, f.code) for f in one.failures] == [(2, Delivery.TOO_LARGE)]
    assert two.failures == []
    assert wire.landed == list("abdef")
    after = put(lane, *"gh")
    await after.done
    assert wire.batches[-1] == ["g", "h"], "back to whole batches"


async def test_what_the_topic_refuses_as_a_whole_is_not_tried_one_by_one() -> None:
    wire = Scripted(refuse("a", whole=True))
    lane = Lane(AT, wire.producer, wire.spawn, strict=False)
    call = put(lane, *"abc")
    await call.done
    assert [f.index for f in call.failures] == [0, 1, 2]
    assert len(wire.batches) == 1


async def test_failures_carry_the_places_in_the_call() -> None:
    wire = Scripted(refuse("b"))
    lane = Lane(AT, wire.producer, wire.spawn, strict=False)
    call = Call(2)
    lane.put(call, [OutRecord("t", None, b"a"), OutRecord("t", None, b"b")], [4, 9])
    await call.done
    assert [f.index for f in call.failures] == [9]


@pytest.mark.parametrize(
    ("code", "error"), [(Delivery.TOO_LARGE, BrokerUnavailable), (Delivery.TOPIC_MISSING, TopicMissing)]
)
async def test_in_a_strict_lane_nothing_lands_after_a_refusal(code: Delivery, error: type[Exception]) -> None:
    wire = Scripted(refuse("b", code=code), size=1)
    lane = Lane(AT, wire.producer, wire.spawn, strict=True)
    calls = [put(lane, value) for value in "abcd"]
    results = await asyncio.gather(*(call.done for call in calls), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), error, error, error]
    assert wire.landed == ["a"]


@pytest.mark.parametrize("strict", [True, False])
async def test_an_unknown_fate_fails_all_that_waits_and_the_lane_works_on(strict: bool) -> None:
    wire = Scripted(lambda batch: BrokerUnavailable("gone") if "b" in batch else None, size=1)
    lane = Lane(AT, wire.producer, wire.spawn, strict=strict)
    calls = [put(lane, value) for value in "abc"]
    results = await asyncio.gather(*(call.done for call in calls), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), BrokerUnavailable, BrokerUnavailable]
    assert results[1] is not results[2], "each caller gets its own"
    again = put(lane, "d", fresh=strict)
    await again.done
    assert again.spans == [(1, 1)]


async def test_a_strict_lane_takes_nothing_after_a_failure_until_it_is_opened_anew() -> None:
    wire = Scripted(lambda batch: BrokerUnavailable("gone") if "a" in batch else None)
    lane = Lane(AT, wire.producer, wire.spawn, strict=True)
    first = put(lane, "a")
    await asyncio.wait([first.done])
    behind = put(lane, "rests on a")
    claim, after = put(lane, "claim", fresh=True), put(lane, "rests on the claim")
    results = await asyncio.gather(*(c.done for c in (first, behind, claim, after)), return_exceptions=True)
    assert [type(result) for result in results] == [BrokerUnavailable, BrokerUnavailable, type(None), type(None)]
    assert wire.landed == ["claim", "rests on the claim"]


async def test_a_caller_that_gives_up_disturbs_no_other() -> None:
    wire = Scripted()
    lane = Lane(AT, wire.producer, wire.spawn, strict=True)
    quitter, other = put(lane, "a"), put(lane, "b")
    quitter.done.cancel()
    await other.done
    assert other.spans == [(1, 1)]
    assert wire.landed == ["a", "b"]


async def test_a_cancelled_lane_leaves_no_caller_waiting() -> None:
    wire = Scripted()
    lane = Lane(AT, wire.producer, wire.spawn, strict=False)
    call = put(lane, "a")
    await wire.on_the_wire.wait()
    wire.cancel()
    with pytest.raises(BrokerUnavailable, match="t/0"):
        await call.done


async def test_no_producer_is_an_unknown_fate() -> None:
    async def none() -> Scripted:
        raise BrokerUnavailable("no producer")

    lane = Lane(AT, none, Scripted().spawn, strict=False)
    with pytest.raises(BrokerUnavailable, match="no producer"):
        await put(lane, "a").done
