"""Nudges between processes on one SQLite file.

They wake those who listen and nobody else, and they never wait.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.adapters.sqlite.nudge import Nudges, folder_of, group_key

GENEROUS_S = 60.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mesh.db"


@pytest.fixture
async def pair(file: Path) -> AsyncIterator[tuple[Nudges, Nudges]]:
    """A sender and a listener, as two processes have them."""
    loop = asyncio.get_running_loop()
    pair = Nudges(file, loop), Nudges(file, loop)
    yield pair
    for nudges in pair:
        nudges.close()
    assert list(folder_of(file).iterdir()) == []


async def test_only_those_who_listen_to_a_key_of_the_commit_wake(pair: tuple[Nudges, Nudges]) -> None:
    sender, listener = pair
    woken: list[str] = []
    last = asyncio.Event()
    listener.listen(1, lambda: woken.append("1"))
    listener.listen(65, lambda: woken.append("65"))  # the same bit of the mask as 1
    listener.listen(group_key(1), lambda: woken.append("group 1"))
    listener.listen(2, last.set)
    sender.send([65, 7])
    sender.send([group_key(1)])
    sender.send([3])
    sender.send([2])
    async with asyncio.timeout(GENEROUS_S):
        await last.wait()
    assert woken == ["65", "group 1"]


async def test_a_listener_that_listens_to_nothing_is_sent_nothing(pair: tuple[Nudges, Nudges]) -> None:
    sender, listener = pair
    woken = asyncio.Event()
    listener.listen(5, woken.set)
    listener.unlisten(5, woken.set)
    for _ in range(100):  # more than a socket's queue holds
        sender.send([5])
    listener.listen(6, woken.set)
    sender.send([6])
    async with asyncio.timeout(GENEROUS_S):
        await woken.wait()


async def test_a_commit_to_very_many_partitions_wakes_all(pair: tuple[Nudges, Nudges]) -> None:
    sender, listener = pair
    woken = asyncio.Event()
    listener.listen(999, woken.set)
    sender.send(range(1000))
    async with asyncio.timeout(GENEROUS_S):
        await woken.wait()


async def test_a_reader_that_does_not_drain_its_queue_holds_up_nobody(pair: tuple[Nudges, Nudges]) -> None:
    sender, listener = pair
    woken = asyncio.Event()
    listener.listen(1, woken.set)
    for _ in range(10_000):  # all before the event loop turns once
        sender.send([1])
    async with asyncio.timeout(GENEROUS_S):
        await woken.wait()


async def test_the_socket_of_a_dead_process_is_removed(pair: tuple[Nudges, Nudges], file: Path) -> None:
    left_over = folder_of(file) / f"00000000-{2**64 - 1:016x}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(left_over))
    await asyncio.to_thread(_send_until_gone, pair[0], left_over)


def _send_until_gone(sender: Nudges, path: Path) -> None:
    for _ in range(1000):  # a listing may be as old as a tick of the kernel's clock
        sender.send([1])
        if not path.exists():
            return
    raise AssertionError("the dead socket is still there")
