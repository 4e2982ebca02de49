"""Tasks that run through the loss of their partition: nobody begins them while their process lives.

Replicas that are added, that stop and that die while tasks are kept, and what the commits and the
cards say of it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from agent_mesh import GENEROUS_S, TOPICS, AgentMesh, wait_until
from msgspec.structs import replace

from mesh import Agent, agent
from mesh.adapters.memory import MemoryBroker, WeakBehaviour
from mesh.codec.cards import decode_card, encode_card
from mesh.errors import BrokerUnavailable
from mesh.ports import Committed, Delivery, OutRecord, SendFailure, TopicPartition
from mesh.services.agent_runtime.begins import MAX_KEEPERS, MAX_KEPT, Life, kept_of, kept_text, may_keep, tenure_of
from mesh.services.agent_runtime.offsets import MAX_METADATA_CHARS, TaskOffsets
from mesh.services.agent_runtime.runtime import AgentRuntime
from mesh.services.agent_runtime.settings import AgentSettings

SHORT = AgentSettings(
    poll_s=0.05,
    commit_every_s=0.01,
    watch_every_s=0.01,
    revoke_drain_s=0.05,
    session_timeout_s=2.0,
    card_every_s=0.1,
    drain_s=GENEROUS_S,
)


class Handlers:
    """An agent whose tasks run until they are let go, and who began what."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str]] = []
        self.cancelled: list[str] = []
        self.go_on = asyncio.Event()

    def agent(self, instance: str) -> Agent[Any, Any]:
        @agent("long", concurrency=8)
        async def long(value: str) -> str:
            self.begun.append((instance, value))
            try:
                if value != "quick":
                    await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancelled.append(value)
                raise
            return value

        return long

    def values(self) -> list[str]:
        return sorted(value for _, value in self.begun)


@asynccontextmanager
async def replica(
    mesh: AgentMesh, handlers: Handlers, instance: str, broker: Any = None, settings: AgentSettings = SHORT
) -> AsyncIterator[AgentRuntime]:
    async with mesh.running(handlers.agent(instance), instance=instance, broker=broker, settings=settings) as runtime:
        yield runtime


def commits(mesh: AgentMesh) -> list[Committed]:
    return [mesh.committed("long", partition) or Committed(0) for partition in range(mesh.partitions)]


def kept(mesh: AgentMesh) -> int:
    """How many tasks the last commits say are kept."""
    return sum(len(kept_of(*committed)) for committed in commits(mesh))


async def spread(mesh: AgentMesh, *values: str) -> None:
    """One task for each partition."""
    for number, value in enumerate(values):
        await mesh.send("long", value, partition=number % mesh.partitions, first=number)


@pytest.mark.parametrize("is_eager", [False, True])
async def test_growth_from_one_replica_to_three_begins_no_running_task_again(is_eager: bool) -> None:
    mesh, handlers = AgentMesh(partitions=6), Handlers()
    if is_eager:
        mesh.cluster.weak = WeakBehaviour()
    tasks = [f"task-{number}" for number in range(6)]
    async with replica(mesh, handlers, "one"):
        await spread(mesh, *tasks)
        await wait_until(lambda: len(handlers.begun) == 6)
        async with replica(mesh, handlers, "two") as two, replica(mesh, handlers, "three") as three:
            await wait_until(lambda: two._assignment.held > 0 and three._assignment.held > 0)
            # what is new is shared meanwhile
            await spread(mesh, *["quick"] * 6)
            await mesh.wait_results(6)
            assert handlers.values() == sorted([*tasks, *["quick"] * 6])
            assert {instance for instance, value in handlers.begun if value == "quick"} == {"one", "two", "three"}
            handlers.go_on.set()
            await mesh.wait_results(12)
            await wait_until(lambda: [committed.offset for committed in commits(mesh)] == [2] * 6)
            assert kept(mesh) == 0
    assert len(handlers.begun) == 12
    assert {result.status for result in mesh.results()} == {"succeeded"}
    assert handlers.cancelled == []


async def test_a_kept_task_outlasts_the_session_of_the_process_that_keeps_it() -> None:
    mesh, handlers = AgentMesh(partitions=2), Handlers()
    async with replica(mesh, handlers, "one") as one:
        await spread(mesh, "a", "b")
        await wait_until(lambda: len(handlers.begun) == 2)
        async with replica(mesh, handlers, "two") as two:
            await wait_until(lambda: two._assignment.held == 1)
            orphans = one._assignment._orphans
            await wait_until(lambda: len(orphans) == 1)
            for share in orphans.values():
                share.released_at_s = float("-inf")  # its session is long over
            polls = len(mesh.records(TOPICS.agents))
            await wait_until(lambda: len(mesh.records(TOPICS.agents)) > polls + 3)
            assert handlers.cancelled == []
            handlers.go_on.set()
            await mesh.wait_results(2)
    assert handlers.values() == ["a", "b"]


async def test_a_kept_task_passes_through_a_second_owner_to_a_third() -> None:
    mesh, handlers = AgentMesh(partitions=2), Handlers()
    async with replica(mesh, handlers, "one"):
        await spread(mesh, "a", "b")
        await wait_until(lambda: len(handlers.begun) == 2)
        async with replica(mesh, handlers, "three"):
            async with replica(mesh, handlers, "two"):
                await wait_until(lambda: kept(mesh) == 1)
            await wait_until(lambda: kept(mesh) == 1)
            handlers.go_on.set()
            await mesh.wait_results(2)
            await wait_until(lambda: [committed.offset for committed in commits(mesh)] == [1, 1])
    assert handlers.values() == ["a", "b"]


def fail_commits(runtime: AgentRuntime, *, lands: bool, all_of_them: bool) -> list[Mapping[TopicPartition, Committed]]:
    """Let commits of this process end without an answer: those that name what it keeps, or all.

    Returns those that have failed so far.
    """
    subscription, failed = runtime._assignment.subscription, list[Mapping[TopicPartition, Committed]]()
    assert subscription is not None
    honest = subscription.commit

    async def commit(offsets: Mapping[TopicPartition, Committed]) -> Any:
        if not all_of_them and not any(kept_of(*one) for one in offsets.values()):
            return await honest(offsets)
        if lands:
            await honest(offsets)
        failed.append(offsets)
        raise BrokerUnavailable("a commit was not acknowledged in time; the outcome is unknown")

    subscription.commit = commit  # type: ignore[method-assign]
    return failed


async def some_cards_later(mesh: AgentMesh) -> None:
    """Wait until everybody has had the time to read what the others say."""
    cards = len(mesh.records(TOPICS.agents))
    await wait_until(lambda: len(mesh.records(TOPICS.agents)) > cards + 8)


async def test_what_a_commit_of_unknown_outcome_names_is_kept() -> None:
    mesh, handlers = AgentMesh(partitions=2), Handlers()
    async with replica(mesh, handlers, "one") as one:
        await spread(mesh, "a", "b")
        await wait_until(lambda: len(handlers.begun) == 2)
        failed = fail_commits(one, lands=True, all_of_them=False)
        async with replica(mesh, handlers, "two") as two:
            await wait_until(lambda: bool(failed) and two._assignment.held == 1)
            await some_cards_later(mesh)
            assert [committed.offset for committed in commits(mesh)] == [0, 0], "nothing is done yet"
            handlers.go_on.set()
            await mesh.wait_results(2)
            await wait_until(lambda: [committed.offset for committed in commits(mesh)] == [1, 1])
    assert handlers.values() == ["a", "b"]
    assert handlers.cancelled == []


async def test_a_card_that_lands_late_says_nothing_new() -> None:
    mesh, handlers = AgentMesh(partitions=2), Handlers()
    async with replica(mesh, handlers, "one"):
        await spread(mesh, "a", "b")
        await wait_until(lambda: len(handlers.begun) == 2)
        async with replica(mesh, handlers, "two") as two:
            await wait_until(lambda: kept(mesh) == 1 and two._assignment.held == 1)
            told = [decode_card(record) for record in mesh.records(TOPICS.agents)]
            last = next(card for card in reversed(told) if card.keeps)
            late = encode_card(replace(last, number=last.number - 1, keeps=()), topics=TOPICS)
            mesh.cluster.land(TopicPartition(TOPICS.agents, 0), [late])
            await some_cards_later(mesh)
            assert [committed.offset for committed in commits(mesh)] == [0, 0], "nothing is done yet"
            handlers.go_on.set()
            await mesh.wait_results(2)
    assert handlers.values() == ["a", "b"]


async def test_what_was_kept_stays_so_until_its_result_is_there_whatever_becomes_of_later_commits() -> None:
    mesh, handlers = AgentMesh(partitions=2), Handlers()
    async with replica(mesh, handlers, "one") as one:
        await spread(mesh, "a", "b")
        await wait_until(lambda: len(handlers.begun) == 2)
        async with replica(mesh, handlers, "two"):
            await wait_until(lambda: kept(mesh) == 1)
            failed = fail_commits(one, lands=False, all_of_them=True)
        # the partition comes back, and is lost again, without a commit of ours in between
        await wait_until(lambda: len(one._assignment._shares) == 2)
        async with replica(mesh, handlers, "three") as three:
            await wait_until(lambda: bool(failed) and three._assignment.held == 1)
            await some_cards_later(mesh)
            answered = {result.task_id for result in mesh.results() if result.status == "succeeded"}
            assert answered == set(), "the handlers still run"
            assert [committed.offset for committed in commits(mesh)] == [0, 0], "nothing is done yet"
            handlers.go_on.set()
            await wait_until(lambda: len([r for r in mesh.results() if r.status == "succeeded"]) == 2)
    assert handlers.values() == ["a", "b"]


async def test_what_a_keeper_gives_up_at_its_stop_is_done_by_the_new_owner() -> None:
    mesh, handlers = AgentMesh(partitions=2), Handlers()
    async with replica(mesh, handlers, "one", settings=replace(SHORT, drain_s=0.05, session_timeout_s=10.0)):
        await spread(mesh, "a", "b")
        await wait_until(lambda: len(handlers.begun) == 2)
        heir = mesh.runtime(handlers.agent("two"), instance="two", settings=SHORT)
        inheriting = asyncio.create_task(heir.run())
        await wait_until(lambda: heir._assignment.held == 1)
    await wait_until(lambda: len(handlers.begun) == 4)
    handlers.go_on.set()
    await mesh.wait_results(2)
    heir.stop()
    await inheriting
    assert handlers.values() == ["a", "a", "b", "b"]
    assert sorted(handlers.cancelled) == ["a", "b"]
    assert [result.status for result in mesh.results()] == ["succeeded"] * 2, "nobody died"


async def test_the_death_of_a_keeper_is_told_to_the_router() -> None:
    mesh, handlers = AgentMesh(partitions=2), Handlers()
    connection = mesh.cluster.connect("one")
    mesh.create_tasks_topic("long")
    doomed = mesh.runtime(handlers.agent("one"), broker=connection, instance="one", settings=SHORT)
    running = asyncio.create_task(doomed.run())
    await spread(mesh, "a", "b")
    await wait_until(lambda: len(handlers.begun) == 2)
    async with replica(mesh, handlers, "two") as two:
        await wait_until(lambda: two._assignment.held == 1)
        connection.kill()
        running.cancel()
        await asyncio.wait([running])
        # one that it kept, and one of the partition that it still had
        await mesh.wait_results(2)
        await wait_until(lambda: [committed.offset for committed in commits(mesh)] == [1, 1])
    assert [(result.status, result.agent_instance) for result in mesh.results()] == [("interrupted", "one")] * 2
    assert len(handlers.begun) == 2


class Unregistered:
    """A broker that takes no cards."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def send(self, records: list[OutRecord]) -> list[SendFailure]:
        if any(record.topic == TOPICS.agents for record in records):
            return [SendFailure(0, Delivery.REFUSED, "no cards")]
        assert not await self._broker.send(records)
        return []


async def test_a_process_that_can_tell_nobody_keeps_nothing_beyond_its_session() -> None:
    mesh, handlers = AgentMesh(partitions=2), Handlers()
    async with replica(mesh, handlers, "one", broker=Unregistered(mesh.cluster.connect("one"))) as one:
        await spread(mesh, "a", "b")
        await wait_until(lambda: len(handlers.begun) == 2)
        async with replica(mesh, handlers, "two"):
            await wait_until(lambda: one.counts.abandoned == 1)
            await wait_until(lambda: len(handlers.begun) == 3)
            handlers.go_on.set()
            await mesh.wait_results(2)
    assert len(handlers.cancelled) == 1


async def test_where_the_cards_cannot_be_read_a_kept_task_is_done_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mesh.services.agent_runtime.keepers._PATIENCE_S", 0.0)
    monkeypatch.setattr("mesh.services.agent_runtime.keepers._AGAIN_S", 0.01)
    mesh, handlers = AgentMesh(partitions=1), Handlers()
    mesh.create_tasks_topic("long")
    handlers.go_on.set()
    await spread(mesh, "a")
    life = Life("gone", "1").text
    async with replica(mesh, handlers, "two", broker=Unlisted(mesh.cluster.connect("two"), life)):
        await mesh.wait_results(1)
    assert handlers.values() == ["a"]


class Unlisted:
    """A broker without the topic of cards, and whose group says that the first task is kept."""

    def __init__(self, broker: MemoryBroker, life: str) -> None:
        self._broker = broker
        self._life = life

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def topics(self) -> Any:
        found = await self._broker.topics()
        return {name: info for name, info in found.items() if name != TOPICS.agents}

    async def subscribe(self, group: str, topics: Any, listener: Any, **options: Any) -> Any:
        told = listener.on_assigned

        async def on_assigned(partitions: Any) -> None:
            said = Committed(0, "t1:,;" + kept_text(0, {0: self._life}))
            await told(dict.fromkeys(partitions, said))

        listener.on_assigned = on_assigned
        return await self._broker.subscribe(group, topics, listener, **options)


async def test_a_card_says_what_is_kept_only_once_something_was() -> None:
    mesh, handlers = AgentMesh(partitions=2), Handlers()
    async with replica(mesh, handlers, "one"):
        await spread(mesh, "a", "b")
        await wait_until(lambda: len(handlers.begun) == 2)
        assert {decode_card(record).life for record in mesh.records(TOPICS.agents)} == {""}
        async with replica(mesh, handlers, "two"):
            await wait_until(lambda: kept(mesh) == 1)
            handlers.go_on.set()
            await mesh.wait_results(2)
    said = [decode_card(record) for record in mesh.records(TOPICS.agents) if record.key == b"long/one"]
    keeps = [card.keeps for card in said if card.life and not card.stopped]
    assert len(keeps[0]) == 1
    assert keeps[-1] == ()


# What a commit says -------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 7, 10**12])
def test_a_commit_names_what_is_kept_and_by_whom(offset: int) -> None:
    one, two = Life("host-1", "17").text, Life("host 2/x", "18").text
    given = {offset + 3: one, offset + 40: two, offset + 41: one}
    said = "t1:1+2,;" + kept_text(offset, given)
    assert kept_of(offset, said) == given
    assert tenure_of(offset, said) is None, "it is no open tenure"
    assert kept_of(offset, "t1:1+2,;ohost~1;l5;x3;" + kept_text(offset, given)) == given


@pytest.mark.parametrize("text", ["", "t1:1+2,", "t1:,;k", "t1:,;klife", "t1:,;klife/", "t1:,;klife/-1.Ä", "other"])
def test_what_names_nothing_keeps_nothing(text: str) -> None:
    assert kept_of(5, text) == {}


def test_what_is_below_the_committed_offset_is_not_named() -> None:
    assert kept_of(5, "t1:,;" + kept_text(5, {4: "a~1", 6: "a~1"})) == {6: "a~1"}


def test_what_is_kept_has_room_beside_the_done_spans_however_many_keep_something() -> None:
    lives = [Life(f"{number}" * 200, "1" * 20).text for number in range(MAX_KEEPERS + 3)]
    given: dict[int, str] = {}
    for number, life in enumerate(lives):
        for offset in may_keep(given, range(number * 1_000, number * 1_000 + 100), life):
            given[offset] = life
    assert len(given) == MAX_KEPT
    offsets = TaskOffsets()
    for offset in range(20_000):
        offsets.begin(offset)
        if offset % 2:
            offsets.finish(offset)
    committed = offsets.committed(lambda offset: ",;" + kept_text(offset, given))
    assert len(committed.metadata) <= MAX_METADATA_CHARS
    assert kept_of(*committed) == given
    assert may_keep(dict(enumerate(lives[:MAX_KEEPERS])), [500], lives[-1]) == []
