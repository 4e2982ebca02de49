"""`producer | mesh publish -`: each line is sent as it comes, and none is lost at the end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.adapters.sqlite import SqliteBroker
from mesh.ports import TopicPartition, TopicSpec

GENEROUS_S = 60.0
EVENTS = TopicPartition("mesh.events", 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    async def make() -> None:
        broker = await SqliteBroker.open(tmp_path / "mesh.db", client_id="test")
        await broker.create_topics([TopicSpec(name, 1) for name in ("mesh.events", "mesh.outcomes")])
        await broker.close()

    asyncio.run(make())
    return tmp_path / "mesh.db"


@pytest.fixture
def command(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", "mesh", "publish", "-"],
        cwd=file.parent,
        env={**os.environ, "MESH_BROKER": f"sqlite://{file}", "MESH_MAX_EVENT_BYTES": "2000"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        yield process
        process.kill()


def line(number: int, text: str = "") -> bytes:
    return json.dumps({"id": f"e{number}", "source": "/s", "type": "t", "data": text}).encode() + b"\n"


def write(command: subprocess.Popen[bytes], content: bytes) -> None:
    assert command.stdin is not None
    command.stdin.write(content)
    command.stdin.flush()


def wait_sent(file: Path, count: int) -> None:
    async def wait() -> None:
        broker = await SqliteBroker.open(file, client_id="test", read_only=True)
        async with asyncio.timeout(GENEROUS_S):
            while (await broker.end_offsets([EVENTS]))[EVENTS] < count:  # noqa: ASYNC110 - another process writes
                await asyncio.sleep(0.01)
        assert (await broker.end_offsets([EVENTS]))[EVENTS] == count
        await broker.close()

    asyncio.run(wait())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_line_is_sent_while_the_pipe_is_open_and_what_is_in_it_at_ctrl_c(
    file: Path, command: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    write(command, line(1))
    wait_sent(file, 1)
    write(command, b"".join(line(n) for n in range(2, 701)) + b'{"id": "half')
    command.send_signal(number)
    assert command.stdout is not None
    said = command.stdout.read()
    assert command.wait(GENEROUS_S) == 130
    assert said == b"interrupted; published 700 events\n"
    wait_sent(file, 700)


def test_the_last_line_needs_no_line_feed(file: Path, command: subprocess.Popen[bytes]) -> None:
    said, _ = command.communicate(line(1) + line(2).rstrip(), GENEROUS_S)
    assert (command.returncode, said) == (0, b"published 2 events\n")
    wait_sent(file, 2)


def test_an_event_too_large_is_refused_and_those_before_it_are_sent(
    file: Path, command: subprocess.Popen[bytes]
) -> None:
    _, said = command.communicate(line(1) + line(2, "x" * 1_500) + line(3, "x" * 2_000) + line(4), GENEROUS_S)
    assert command.returncode == 1
    assert b"event 'e3' has 2002 bytes, and the mesh takes 2000 (MESH_MAX_EVENT_BYTES)" in said
    assert b"(2 events before it: published)" in said
    wait_sent(file, 2)
