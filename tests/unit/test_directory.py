"""The router's directory: who is alive, and who is registered for what.

It comes from the cards on the broker.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from agent_mesh import wait_until
from msgspec.structs import replace

from mesh.adapters.memory import MemoryCluster
from mesh.codec.cards import encode_card, withdraw_card, withdraw_registration
from mesh.core.state import AgentCard
from mesh.core.topics import Topics
from mesh.errors import TopicMissing
from mesh.ports import OutRecord, TopicSpec
from mesh.services.router.directory import DirectoryFollower

TOPICS = Topics()


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms


class Registry:
    """The topic of cards, and routers that follow it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cluster = MemoryCluster(self.clock)
        self.cluster.create_topics([TopicSpec(TOPICS.agents, 1)])

    async def put(self, *records: OutRecord) -> None:
        assert not await self.cluster.connect("agents").send(records)

    @asynccontextmanager
    async def router(self) -> AsyncIterator[DirectoryFollower]:
        follower = DirectoryFollower(self.cluster.connect("router"), TOPICS, {"ana": frozenset({"lead"})}, self.clock)
        await follower.start()
        following = asyncio.create_task(follower.follow())
        try:
            yield follower
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            await follower.close()


def card(name: str = "deepl", *capabilities: str, instance: str = "one", version: str = "1") -> AgentCard:
    return AgentCard(name=name, version=version, topic="t", instance=instance, capabilities=capabilities)


def put(one: AgentCard) -> OutRecord:
    return encode_card(one, topics=TOPICS)


def registered(name: str, *capabilities: str, version: str = "1") -> OutRecord:
    return put(AgentCard(name=name, version=version, topic="t", capabilities=capabilities, registration=True))


@pytest.fixture
def registry() -> Registry:
    return Registry()


async def test_a_router_that_starts_after_an_agent_has_stopped_still_knows_its_capabilities(registry: Registry) -> None:
    await registry.put(put(card()), registered("deepl", "translate"), withdraw_card(card(), topics=TOPICS))
    async with registry.router() as router:
        assert router.current.registered == {"translate": ("deepl",)}
        assert router.current.alive == frozenset()
        assert router.current.agents["deepl"].name == "deepl"


async def test_the_newest_registration_counts(registry: Registry) -> None:
    await registry.put(registered("x", "translate", "summarize"), registered("y", "translate"))
    async with registry.router() as router:
        assert router.current.registered == {"translate": ("x", "y"), "summarize": ("x",)}
        await registry.put(registered("x", "summarize", version="2"))
        await wait_until(lambda: router.current.registered == {"translate": ("y",), "summarize": ("x",)})
        await registry.put(withdraw_registration("x", topics=TOPICS))
        await wait_until(lambda: router.current.registered == {"translate": ("y",)})


async def test_an_agent_is_alive_while_one_of_its_processes_renews_its_card(registry: Registry) -> None:
    await registry.put(put(card()), put(card(instance="two")), registered("deepl", "translate"))
    async with registry.router() as router:
        assert router.current.alive == {"deepl"}
        await registry.put(withdraw_card(card(), topics=TOPICS), put(card("other")))
        await wait_until(lambda: router.current.alive == {"deepl", "other"})
        await registry.put(withdraw_card(card(instance="two"), topics=TOPICS))
        await wait_until(lambda: router.current.alive == {"other"})


async def test_a_card_that_is_not_renewed_expires_and_one_that_is_renewed_does_not(registry: Registry) -> None:
    await registry.put(put(card()), put(card("other")))
    async with registry.router() as router:
        registry.clock.ms += 20_000
        await registry.put(put(card("other")))
        registry.clock.ms += 15_000
        await registry.put(put(card("third")))
        await wait_until(lambda: router.current.alive == {"other", "third"})


async def test_a_card_without_registration_is_no_candidate(registry: Registry) -> None:
    await registry.put(put(card("deepl", "translate")))
    async with registry.router() as router:
        assert router.current.registered == {}


async def test_how_many_tasks_an_agent_wants_outstanding_is_taken_up_at_once(registry: Registry) -> None:
    await registry.put(put(card()))
    async with registry.router() as router:
        await registry.put(put(replace(card(), max_outstanding=3)))
        await wait_until(lambda: router.current.agents["deepl"].max_outstanding == 3)


async def test_roles_and_agents_are_changed_apart(registry: Registry) -> None:
    async with registry.router() as router:
        router.set_roles({"bo": frozenset({"lead"})})
        await registry.put(OutRecord(TOPICS.agents, b"x/y", b"{"), put(card()))
        await wait_until(lambda: "deepl" in router.current.agents)
        assert router.current.roles == {"bo": frozenset({"lead"})}


async def test_without_its_topic_a_router_says_what_to_do() -> None:
    follower = DirectoryFollower(MemoryCluster(Clock()).connect("router"), TOPICS, {}, Clock())
    with pytest.raises(TopicMissing, match="mesh topics apply"):
        await follower.start()
    with pytest.raises(RuntimeError):
        await follower.follow()
