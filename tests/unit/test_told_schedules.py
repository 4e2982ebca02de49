"""What a router tells of its routes' schedules, from its start to the inbox of the schedule."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.codec.inbox import decode_inbox
from mesh.codec.schedules import Told, decode_schedule_set, encode_schedule_set, is_schedule_set
from mesh.core.activation import Activation, Timeline
from mesh.core.inputs import ScheduleSet
from mesh.core.route import Route
from mesh.core.schedules import Schedule
from mesh.core.state import Plan, Workflow
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, MalformedRecord
from mesh.ports import Delivery, OutRecord, Record, SendFailure, TopicPartition, TopicSpec
from mesh.routes.compiler import compile_route
from mesh.services.router.config import RouterConfig
from mesh.services.router.router import Router
from mesh.services.router.schedules import schedules_in_effect
from mesh.services.router.timers import Timers
from mesh.testing.virtual_time.loop import SeededEntropy, VirtualClock, VirtualTimeLoop, run

TOPICS = Topics()
TOLD = Told(route="daily", digest="sha256:1", since_ms=7, schedule=Schedule(cron="0 9 * * *"), by="router-1")


def route(name: str = "daily", **on: Any) -> Route:
    steps = {"a": {"agent": "x", "input": 1}}
    return compile_route({"route": name, "on": on or {"type": "t"}, "steps": steps})


def landed(out: OutRecord) -> Record:
    return Record(out.topic, 0, 3, 11, out.key, out.value, out.headers)


def test_what_is_told_comes_back() -> None:
    for one in (TOLD, Told(route="daily", digest="sha256:1", since_ms=7, schedule=None)):
        record = landed(encode_schedule_set(one, topics=TOPICS, set_id="s1", at_ms=5))
        assert is_schedule_set(record)
        assert decode_schedule_set(record) == ScheduleSet(
            workflow_id="mesh.schedule:daily",
            source_topic="mesh.commands",
            source_partition=0,
            source_offset=3,
            source_at_ms=11,
            set_id="s1",
            route="daily",
            digest="sha256:1",
            schedule=one.schedule,
            since_ms=7,
            by=one.by,
        )


@pytest.mark.parametrize(
    "data",
    [b"{}", b"7", b'{"route": "r", "digest": "d", "since_ms": 1, "schedule": {"cron": "x"}}', b"not JSON"],
)
def test_what_does_not_hold_is_malformed(data: bytes) -> None:
    good = encode_schedule_set(TOLD, topics=TOPICS, set_id="s1", at_ms=5)
    with pytest.raises(MalformedRecord, match=r"mesh\.commands"):
        decode_schedule_set(landed(OutRecord(good.topic, good.key, data, good.headers)))


def timeline(*changes: dict[str, Route | None]) -> tuple[Timeline, dict[str, Route]]:
    """Activations, the first from the beginning, taken at 100 s, 200 s, ...; with all versions."""
    found, versions = Timeline(), dict[str, Route]()
    for number, change in enumerate(changes):
        named = {name: one.digest if one else None for name, one in change.items()}
        versions |= {one.digest: one for one in change.values() if one}
        at_ms = 100_000 * (number + 1)
        found.add(Activation(id=str(number), routes=named, by="x", at_ms=at_ms, beginning=number == 0))
    return found, versions


NINE, TEN = Schedule(cron="0 9 * * *"), Schedule(cron="0 10 * * *")


def told(changes: list[dict[str, Route | None]], now_ms: int = 10**9) -> list[tuple[str, Schedule | None, int]]:
    found = schedules_in_effect(*timeline(*changes), now_ms, by="router-1")
    return [(one.route, one.schedule, one.since_ms) for one in found]


def test_a_router_tells_of_those_that_start_by_themselves_and_of_those_that_did() -> None:
    nine, ten = route(schedule="0 9 * * *"), route(schedule="0 10 * * *")
    called = compile_route({"route": "daily", "steps": {"a": {"agent": "x", "input": 1}}})
    assert told([{"daily": nine, "other": route("other")}]) == [("daily", NINE, 100_000)]
    assert told([{"daily": nine}, {"daily": ten}]) == [("daily", TEN, 202_000)]
    for without in (route(), called, None):
        assert told([{"daily": nine}, {"daily": without}]) == [("daily", None, 202_000)]


def test_a_router_tells_of_what_holds_and_not_of_what_is_about_to() -> None:
    changes: list[dict[str, Route | None]] = [
        {"daily": route(schedule="0 9 * * *")},
        {"daily": route(schedule="0 10 * * *")},
    ]
    assert told(changes, 201_999) == []
    assert told(changes, 202_000) == [("daily", TEN, 202_000)]


def test_a_version_that_can_not_be_read_here_is_another_routers_to_tell() -> None:
    known, versions = timeline({"daily": route(schedule="0 9 * * *")}, {"daily": route(schedule="0 10 * * *")})
    del versions[route(schedule="0 10 * * *").digest]
    assert schedules_in_effect(known, versions, 10**9, by="x") == []


def test_timers_know_a_schedules_time_and_drop_one_that_holds_no_more() -> None:
    timers, name = Timers(), "mesh.schedule:daily"
    schedule = Workflow(
        workflow_id=name,
        run_id="",
        route="daily",
        digest="d",
        key="",
        status="standing",
        started_at_ms=0,
        updated_at_ms=0,
        cloud_event={},
        trace_id="",
        steps={},
        plan=Plan(schedule=TOLD.schedule, since_ms=1, next_at_ms=60),
    )
    timers.rebuild([schedule])
    timers.arm_schedule(50, name)
    [due] = timers.pop_due("nothing", 100, {name: schedule}, limit=9)
    assert (due.kind, due.due_at_ms, due.workflow_id) == ("schedule", 60, name)
    timers.put_back("nothing", due)
    assert timers.nearest_at_ms() == 60
    ended = Workflow(**{f: getattr(schedule, f) for f in schedule.__struct_fields__ if f != "plan"})
    assert list(timers.pop_due("nothing", 100, {name: ended}, limit=9)) == []


def test_each_router_tells_what_holds_and_of_two_definitions_the_newer_stays() -> None:
    """With the old file again, the newer definition holds.

    So it does for a router that the broker at first did not let tell.
    """
    versions = [route(schedule="0 9 * * *"), route(schedule="0 10 * * *"), route(schedule="0 9 * * *")]
    plans: list[Plan | None] = []

    async def main(loop: VirtualTimeLoop) -> None:
        clock = VirtualClock(loop)
        cluster = MemoryCluster(clock)
        once = (
            TOPICS.log,
            TOPICS.inbox,
            TOPICS.results,
            TOPICS.definitions,
            TOPICS.agents,
            TOPICS.people,
            TOPICS.events,
        )
        cluster.create_topics([TopicSpec(name, 1) for name in (*once, TOPICS.responses, TOPICS.commands, TOPICS.dlq)])
        for number, version in enumerate(versions):
            connection = _Slow(cluster, f"router-{number}")
            router = Router(
                connection,
                topics=TOPICS,
                routes=[version],
                roles={},
                config=RouterConfig(instance=f"router-{number}", partitions=1),
                clock=clock,
                entropy=SeededEntropy(random.Random(number)),
            )
            running = asyncio.create_task(router.run())
            await asyncio.sleep(30)  # of virtual time: all is done long before
            assert connection.refused == 2
            plans.append(router.owners[0].state.workflows["mesh.schedule:daily"].plan)
            router.stop()
            await running
        inbox = [decode_inbox(record) for record in cluster.records(TopicPartition(TOPICS.inbox, 0))]
        assert [one.by for one in inbox if isinstance(one, ScheduleSet)] == ["router-0", "router-1", "router-2"]

    run(main, seed=1)
    first, second, third = plans
    assert first is not None
    assert second is not None
    assert (first.schedule, second.schedule) == (NINE, TEN)
    assert first.since_ms < second.since_ms
    assert third == second


class _Slow(MemoryBroker):
    """A broker that takes no schedule at first: once it is away, once it refuses."""

    def __init__(self, cluster: MemoryCluster, client_id: str) -> None:
        super().__init__(cluster, client_id)
        self.refused = 0

    async def send(self, records: Sequence[OutRecord]) -> Sequence[SendFailure]:
        if any(record.topic == TOPICS.commands for record in records) and self.refused < 2:
            self.refused += 1
            if self.refused == 1:
                raise BrokerUnavailable("away")
            return [SendFailure(index=0, code=Delivery.REFUSED, message="not allowed")]
        return await super().send(records)
