"""Readiness: what a service says in its heartbeat file, and what `mesh health` makes of it."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mesh import heartbeat_file
from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemClock, SystemEntropy
from mesh.cli.app import mesh
from mesh.core.topics import Topics
from mesh.heartbeat_file import Heartbeat, beat, process_of, read_heartbeat, remove_heartbeat
from mesh.services.router.config import RouterConfig
from mesh.services.router.router import Router
from mesh.services.topic_plan import topic_specs
from mesh.settings import load_settings
from mesh.wiring.process import beat_until_cancelled


@pytest.mark.parametrize("waits_for", ["", "it takes over the partitions [1]", "two\nlines"])
def test_what_a_service_writes_is_read_again(tmp_path: Path, waits_for: str) -> None:
    beat(tmp_path / "beat", waits_for)
    said, us = " ".join(waits_for.split()), process_of(os.getpid())
    assert read_heartbeat(tmp_path / "beat") == Heartbeat(is_ready=not waits_for, waits_for=said, process=us)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESH_HEARTBEAT_FILE", str(tmp_path / "beat"))
    return tmp_path / "beat"


def health(*arguments: str) -> Result:
    return CliRunner().invoke(mesh, ["health", *arguments])


def test_who_is_alive_need_not_be_ready(file: Path) -> None:
    beat(file, "it takes over the partitions [1]")
    assert health().exit_code == 0
    waiting = health("--ready")
    assert waiting.exit_code == 1
    assert "alive, and not ready: it takes over the partitions [1]" in waiting.stderr
    beat(file, "")
    assert health("--ready").exit_code == 0
    told = json.loads(health("--ready", "--json").stdout)
    assert (told["alive"], told["ready"]) == (True, True)


def test_nobody_is_ready_without_a_heartbeat_or_with_one_of_an_older_version(file: Path) -> None:
    assert health("--ready").exit_code == 1
    file.touch()
    assert health().exit_code == 0
    assert "older version" in health("--ready").stderr


@pytest.mark.parametrize("process", ["began earlier", "is gone"])
def test_nobody_is_alive_by_a_file_that_a_predecessor_left(file: Path, process: str) -> None:
    beat(file, "")
    pid, began = process_of(os.getpid()).split()
    other = f"{pid} {int(began) - 1}" if process == "began earlier" else f"{_gone()} {began}"
    file.write_text(f"ready\nprocess: {other}\n")
    for asked in ([], ["--ready"]):
        assert f"process {other.partition(' ')[0]} left the file" in health(*asked).stderr
    beat(file, "")  # its successor
    assert health("--ready").exit_code == 0


def _gone() -> int:
    """The id of a process that has ended, and was waited for."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_system_without_proc_goes_by_the_id_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat_file, "Path", lambda _: Path("/nowhere"))
    assert process_of(os.getpid()) == str(os.getpid())
    assert process_of(_gone()) == ""


def test_a_service_removes_the_file_of_its_predecessor_and_never_that_of_its_successor(file: Path) -> None:
    asyncio.run(_serve_once(file))
    assert not file.exists()
    _leave(file)
    remove_heartbeat(file, of_others=False)
    assert file.exists()


async def _serve_once(file: Path) -> None:
    _leave(file)
    ready = asyncio.Event()
    beating = asyncio.create_task(beat_until_cancelled(load_settings(heartbeat_interval_s=0.001), str, ready))
    await _until(lambda: not file.exists())
    ready.set()
    await _until(file.exists)
    assert health("--ready").exit_code == 0
    beating.cancel()
    await asyncio.wait([beating])


def _leave(file: Path) -> None:
    """As a predecessor that was killed."""
    file.write_text("ready\nprocess: 1 1\n")


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0)


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
