"""Readiness: what a service says in its heartbeat file, and what `mesh health` makes of it."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemClock, SystemEntropy
from mesh.cli.app import mesh
from mesh.core.topics import Topics
from mesh.heartbeat_file import Readiness, read_readiness, write_heartbeat
from mesh.services.router.config import RouterConfig
from mesh.services.router.router import Router
from mesh.services.topic_plan import topic_specs


@pytest.mark.parametrize("waits_for", ["", "it takes over the partitions [1]", "two\nlines"])
def test_what_a_service_writes_is_read_again(tmp_path: Path, waits_for: str) -> None:
    write_heartbeat(tmp_path / "beat", waits_for)
    said = " ".join(waits_for.split())
    assert read_readiness(tmp_path / "beat") == Readiness(is_ready=not waits_for, waits_for=said)


@pytest.fixture
def beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESH_HEARTBEAT_FILE", str(tmp_path / "beat"))
    return tmp_path / "beat"


def health(*arguments: str) -> Result:
    return CliRunner().invoke(mesh, ["health", *arguments])


def test_who_is_alive_need_not_be_ready(beat: Path) -> None:
    write_heartbeat(beat, "it takes over the partitions [1]")
    assert health().exit_code == 0
    waiting = health("--ready")
    assert waiting.exit_code == 1
    assert "alive, and not ready: it takes over the partitions [1]" in waiting.stderr
    write_heartbeat(beat, "")
    assert health("--ready").exit_code == 0
    told = json.loads(health("--ready", "--json").stdout)
    assert (told["alive"], told["ready"]) == (True, True)


def test_nobody_is_ready_without_a_heartbeat_or_with_one_of_an_older_version(beat: Path) -> None:
    assert health("--ready").exit_code == 1
    beat.touch()
    assert health().exit_code == 0
    assert "older version" in health("--ready").stderr


async def test_a_router_is_ready_once_it_owns_what_the_group_gives_it() -> None:
    cluster = MemoryCluster(SystemClock())
    topics = Topics()
    broker: MemoryBroker = cluster.connect("router")
    await broker.create_topics(topic_specs(topics, 2, []))
    router = Router(
        broker,
        topics=topics,
        routes=[],
        roles={},
        config=RouterConfig(instance="router", partitions=2),
        clock=SystemClock(),
        entropy=SystemEntropy(),
    )
    assert "definitions and people" in router.waits_for()
    running = asyncio.create_task(router.run())
    async with asyncio.timeout(60):
        while True:
            if not router.waits_for():
                break
            await asyncio.sleep(0.01)
        assert set(router.owners) == {0, 1}
        router.stop()
        await running
