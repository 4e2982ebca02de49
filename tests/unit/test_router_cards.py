"""Routers' cards: their bytes, when they are renewed, and what the read model keeps of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from agent_mesh import wait_until
from msgspec.structs import replace
from structlog.testing import capture_logs

from mesh.adapters.memory import MemoryCluster
from mesh.codec.places import place
from mesh.codec.router_cards import RouterCard, decode_router_card, encode_router_card, withdraw_router_card
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, MalformedRecord
from mesh.inspection.read_model.routers import RouterRow, routers, take_cards
from mesh.inspection.read_model.schema import connect_in_memory
from mesh.ports import OutRecord, Record, SendFailure, TopicPartition, TopicSpec
from mesh.services.renewal import Renewal
from mesh.services.router.card import RouterCardKeeper
from mesh.services.router.positions import results_position, told

TOPICS = Topics()
AT = TopicPartition(TOPICS.routers, 0)
CARD = RouterCard(
    instance="one", started_at="2026-01-05T10:00:00.000Z", renewed_at="2026-01-05T10:01:00.000Z", expires_after_s=30.0
)


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms


def as_record(out: OutRecord, offset: int, at_ms: int = 0) -> Record:
    return Record(out.topic, 0, offset, at_ms, out.key, out.value, out.headers)


# Bytes --------------------------------------------------------------------------------------------


def test_a_card_is_read_as_it_was_written() -> None:
    card = replace(CARD, roles=("boss", "lead"), approvers="/x/approvers.yaml")
    assert decode_router_card(as_record(encode_router_card(card, topics=TOPICS), 0)) == card
    assert decode_router_card(as_record(withdraw_router_card("one", topics=TOPICS), 1)) is None


@pytest.mark.parametrize("value", [b"", b"{}", b"[1]", b'{"instance": 5}', b"\xff"])
def test_other_bytes_are_no_card(value: bytes) -> None:
    record = Record(TOPICS.routers, 0, 4, 0, b"one", value, ())
    with pytest.raises(MalformedRecord, match=place(record)):
        decode_router_card(record)


def test_a_commit_tells_the_position_in_results_and_any_other_text_tells_none() -> None:
    assert results_position(told(3, 17)) == 17
    for text in ("", "results:", "results:-1", "results:x", "t1:1+2", "results:1 "):
        assert results_position(told(3, 0)._replace(metadata=text)) == 0
    assert results_position(None) == 0


# The keeper ---------------------------------------------------------------------------------------


class Registry:
    def __init__(self, *, has_topic: bool = True) -> None:
        self.clock = Clock()
        self.cluster = MemoryCluster(self.clock)
        self.broker = self.cluster.connect("router")
        if has_topic:
            self.cluster.create_topics([TopicSpec(TOPICS.routers, 1)])

    @asynccontextmanager
    async def keeper(self, every_s: float = 3_600.0) -> AsyncIterator[RouterCardKeeper]:
        keeper = RouterCardKeeper(self.broker, topics=TOPICS, clock=self.clock, instance="one", every_s=every_s)
        running = asyncio.create_task(keeper.run())
        try:
            yield keeper
        finally:
            running.cancel()
            await asyncio.wait([running])
            await keeper.withdraw()

    async def cards(self) -> list[RouterCard | None]:
        reader = await self.broker.reader()
        reader.assign({AT: 0})
        found = await reader.poll(max_records=100, timeout_s=0)
        await reader.close()
        return [decode_router_card(record) for record in found]

    async def wait_cards(self, count: int) -> list[RouterCard | None]:
        async with asyncio.timeout(30):
            while len(found := await self.cards()) < count:  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(0.005)
        return found


async def test_a_card_comes_at_the_start_and_is_withdrawn_at_the_end() -> None:
    registry = Registry()
    async with registry.keeper():
        [card] = await registry.wait_cards(1)
        assert card is not None
        assert (card.instance, card.expires_after_s, card.roles) == ("one", 3 * 3_600.0, None)
    assert await registry.cards() == [card, None]


async def test_roles_are_told_at_once_and_a_card_is_renewed() -> None:
    registry = Registry()
    async with registry.keeper() as keeper:
        await registry.wait_cards(1)
        keeper.set_roles({"lead", "boss"}, "/x/approvers.yaml")
        told_card = (await registry.wait_cards(2))[1]
        assert told_card is not None
        assert (told_card.roles, told_card.approvers) == (("boss", "lead"), "/x/approvers.yaml")
    quick = Registry()
    async with quick.keeper(every_s=0.01):
        assert len(await quick.wait_cards(3)) >= 3


async def test_a_topic_that_is_missing_is_told_once_and_harms_nothing() -> None:
    registry = Registry(has_topic=False)
    with capture_logs() as logs:
        async with registry.keeper(every_s=0.005):
            await wait_until(lambda: bool(logs))
            registry.cluster.create_topics([TopicSpec(TOPICS.routers, 1)])
            await registry.wait_cards(1)
    assert [log["event"] for log in logs] == ["router_card_not_sent"]


async def test_a_broker_that_is_away_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, real, calls = Registry(), None, []
    real = registry.broker.send

    async def away(records: Sequence[OutRecord]) -> Sequence[SendFailure]:
        calls.append(1)
        if len(calls) < 3:
            raise BrokerUnavailable("away")
        return await real(records)

    monkeypatch.setattr(registry.broker, "send", away)
    async with registry.keeper(every_s=0.005):
        await registry.wait_cards(1)


async def test_a_jump_of_the_clock_makes_a_card_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.services.renewal.LOOK_S", 0.01)
    clock = Clock()
    waiting = asyncio.create_task(Renewal(clock, 3_600).wait(is_sent=True))
    await asyncio.sleep(0)
    clock.ms += 3_600_000
    async with asyncio.timeout(30):
        await waiting


# The read model -----------------------------------------------------------------------------------


def rows(*records: tuple[OutRecord, int]) -> list[RouterRow]:
    db = connect_in_memory()
    take_cards(db, [as_record(out, offset, at_ms) for offset, (out, at_ms) in enumerate(records)])
    return routers(db)


def test_the_last_card_of_each_router_is_kept_and_a_tombstone_says_when_it_stopped() -> None:
    two = replace(CARD, instance="two")
    found = rows(
        (encode_router_card(CARD, topics=TOPICS), 1_000),
        (encode_router_card(two, topics=TOPICS), 2_000),
        (encode_router_card(CARD, topics=TOPICS), 3_000),
        (withdraw_router_card("one", topics=TOPICS), 4_000),
        (withdraw_router_card("never seen", topics=TOPICS), 4_000),
        (OutRecord(TOPICS.routers, b"one", b"no card"), 5_000),
    )
    assert [(row.instance, row.renewed_at_ms, row.stopped) for row in found] == [
        ("one", 4_000, True),
        ("two", 2_000, False),
    ]
    assert [row.is_alive(4_500) for row in found] == [False, True]
    assert not found[1].is_alive(2_000 + 30_000)


def test_a_router_that_starts_again_under_its_name_is_alive() -> None:
    [row] = rows((withdraw_router_card("one", topics=TOPICS), 1), (encode_router_card(CARD, topics=TOPICS), 2))
    assert row.is_alive(3)
    assert row.started_at_ms == 1_767_607_200_000


def test_a_card_without_a_time_that_can_be_read_goes_by_the_brokers() -> None:
    odd = replace(CARD, started_at="once", renewed_at="now")
    [row] = rows((encode_router_card(odd, topics=TOPICS), 9_000))
    assert (row.started_at_ms, row.heard_at_ms(1_000), row.heard_at_ms(10_000)) == (0, 9_000, 9_000)
