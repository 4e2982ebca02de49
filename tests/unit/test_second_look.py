"""What looks stuck in routers: it is said only once it has looked so for a while."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from sample_mesh import write_sample

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.codec.router_cards import RouterCard, encode_router_card
from mesh.codec.times import rfc3339
from mesh.core.topics import Topics
from mesh.inspection import mesh_status
from mesh.inspection.mesh_status import Stuck, assess_twice
from mesh.inspection.read_model import ReadModel
from mesh.ports import TopicSpec
from mesh.testing.virtual_time.loop import VirtualClock, VirtualTimeLoop, run

TOPICS = Topics()
LASTS_S = 10.0


@pytest.fixture(autouse=True)
def looks_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_status, "SECOND_LOOK_S", 3.0)


def look(folder: Path, meanwhile: Callable[[MemoryBroker, VirtualClock], Coroutine[None, None, None]]) -> list[Stuck]:
    """What a look finds that may pass, where the card of the only router has just expired."""

    async def main(loop: VirtualTimeLoop) -> list[Stuck]:
        clock = VirtualClock(loop)
        broker = MemoryCluster(clock).connect("test")
        await write_sample(broker)
        await broker.create_topics([TopicSpec(TOPICS.routers, 1)])
        await renew(broker, clock)
        await asyncio.sleep(LASTS_S + 0.1)
        async with ReadModel(broker, TOPICS, folder / "model.sqlite") as model:
            await model.catch_up()
            other = asyncio.create_task(meanwhile(broker, clock))
            found = await assess_twice(broker, TOPICS, model, clock=clock, broker_url="memory://")
            await other
        return [one for one in found.stuck if one.may_pass]

    return run(main)


async def renew(broker: MemoryBroker, clock: VirtualClock, after_s: float = 0.0) -> None:
    await asyncio.sleep(after_s)
    now = rfc3339(clock.now_ms())
    card = RouterCard(instance="router-1", started_at=now, renewed_at=now, expires_after_s=LASTS_S)
    assert not await broker.send([encode_router_card(card, topics=TOPICS)])


def is_dead(found: list[Stuck]) -> bool:
    return any("no router is alive" in one.what for one in found)


def test_a_router_whose_card_is_renewed_a_moment_late_is_not_dead(tmp_path: Path) -> None:
    assert not is_dead(look(tmp_path, lambda broker, clock: renew(broker, clock, after_s=2.0)))


def test_a_router_whose_card_is_not_renewed_is_dead(tmp_path: Path) -> None:
    assert is_dead(look(tmp_path, lambda broker, clock: renew(broker, clock, after_s=4.0)))
