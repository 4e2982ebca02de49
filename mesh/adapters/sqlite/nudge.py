"""Wakes readers in other processes after a commit, by Unix datagram sockets beside the file.

Owns the sockets and their names. It must not know records. `store` opens it.

A nudge is a hint. It may be lost, because a reader looks of its own accord every 250 ms too. So
nothing here waits or fails. A full queue is nudge enough, and a dead socket is removed. On a system
without such sockets, only the polling is left.

A process listens to numbers (`key`): the id of a partition, or that of a group with the top bit
set. The datagram has the keys of a commit, so that only their readers wake. The name of a socket
has a 64-bit mask of the keys that its process listens to, so that a writer does not even wake a
process that wants none of them. The name is `<random>-<mask>`, and the socket is renamed when the
keys change.
"""

import socket
from array import array
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from os import fsencode, getuid, scandir, stat
from pathlib import Path
from secrets import token_hex
from tempfile import gettempdir
from time import time_ns
from typing import Final

_NAME_BYTES: Final = 8 + 1 + 16
_PATH_BYTES: Final = 100  # sun_path holds 108 on Linux and 104 on macOS, with a closing zero
_MOST_KEYS: Final = 250  # with more keys the datagram is empty, which means all keys
_FRESH_NS: Final = (
    # a folder's timestamp moves in the kernel's ticks, so a listing this young may miss a change
    50_000_000
)
_DRAIN: Final = 64

Wake = Callable[[], None]


def group_key(group_id: int) -> int:
    """The key under which members of a group are nudged."""
    return 0x8000_0000 | group_id


def _mask(keys: Iterable[int]) -> int:
    mask = 0
    for key in keys:
        mask |= 1 << (key & 63)
    return mask


def folder_of(file: Path) -> Path:
    """The folder of the sockets for `file`.

    It is beside the file, or in the temporary folder if that path would be too long.
    """
    real = file.resolve()
    beside = real.with_name(real.name + ".nudge")
    if len(fsencode(beside)) + 1 + _NAME_BYTES <= _PATH_BYTES:
        return beside
    short = f"mesh-{sha256(fsencode(real)).hexdigest()[:16]}"
    folder = Path(gettempdir()) / short
    return folder if len(fsencode(folder)) + 1 + _NAME_BYTES <= _PATH_BYTES else Path("/tmp") / short  # noqa: S108 - its owner is checked


class Nudges:
    """One process's socket, and the listeners behind it. Lives in one event loop."""

    def __init__(self, file: Path, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._folder = folder_of(file)
        self._folder_name = str(self._folder)
        self._listeners: dict[int, set[Wake]] = {}
        self._token = token_hex(4)
        self._name: str | None = None
        self._peers: tuple[tuple[int, str], ...] = ()
        self._peers_at = -1
        self._receiver: socket.socket | None = None
        self._sender: socket.socket | None = None
        # no Unix sockets, or no access to the folder: polling alone must do
        with suppress(OSError, AttributeError):
            self._open()

    @property
    def is_open(self) -> bool:
        return self._receiver is not None

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._folder.stat().st_uid != getuid() and not self._folder.name.endswith(".nudge"):
            return  # another user has made a folder of our name in the temporary folder
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.settimeout(0)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.settimeout(0)
        name = self._wanted_name()
        try:
            receiver.bind(str(self._folder / name))
        except OSError:
            receiver.close()
            return
        self._name, self._receiver = name, receiver
        self._loop.add_reader(receiver.fileno(), self._on_readable)

    # Listening

    def listen(self, key: int, wake: Wake) -> None:
        """Call `wake` after commits that touch `key`, until `unlisten`.

        `wake` must be quick, and must expect calls without a reason.
        """
        self._listeners.setdefault(key, set()).add(wake)
        self._rename()

    def unlisten(self, key: int, wake: Wake) -> None:
        wakes = self._listeners.get(key, set())
        wakes.discard(wake)
        if not wakes:
            self._listeners.pop(key, None)
        self._rename()

    def _wanted_name(self) -> str:
        return f"{self._token}-{_mask(self._listeners):016x}"

    def _rename(self) -> None:
        name = self._wanted_name()
        if self._name is None or name == self._name:
            return
        with suppress(OSError):  # the folder was removed: polling alone must do
            # renamed and not bound again, so that what is queued in the socket stays
            (self._folder / self._name).rename(self._folder / name)
            self._name = name

    def _on_readable(self) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        keys: set[int] = set()
        for _ in range(_DRAIN):
            try:
                data = receiver.recv(4 * _MOST_KEYS)
            except OSError:
                break
            # an empty datagram means all keys
            keys.update(array("I", data) if data and len(data) % 4 == 0 else self._listeners)
        self._wake(keys)

    def _wake(self, keys: Iterable[int]) -> None:
        listeners = self._listeners
        for key in keys:
            for wake in tuple(listeners.get(key, ())):
                wake()

    # Sending

    def send(self, keys: Iterable[int]) -> None:
        """Wake everybody who listens to one of these keys, here and in other processes."""
        keys = tuple(keys)
        self._wake(keys)
        if self._sender is not None:
            self._send(self._sender, keys, again=True)

    def _send(self, sender: socket.socket, keys: tuple[int, ...], *, again: bool) -> None:
        mask, data, renamed = _mask(keys), b"", False
        for interests, path in self._others():
            if not interests & mask:
                continue
            data = data or (array("I", keys).tobytes() if len(keys) <= _MOST_KEYS else b"")
            try:
                sender.sendto(data, path)
            except ConnectionRefusedError:  # its process has died
                with suppress(OSError):
                    Path(path).unlink()
            except FileNotFoundError:
                # its process listens to other keys now, and so has another name: list the folder
                # again
                renamed = True
            except OSError:
                continue  # its queue is full: it will wake anyway
        if renamed:
            self._peers_at = -1
            if again:
                self._send(sender, keys, again=False)

    def _others(self) -> tuple[tuple[int, str], ...]:
        try:
            changed_at = stat(self._folder_name).st_mtime_ns  # noqa: PTH116 - at every commit, and twice as fast
        except OSError:
            return ()
        if changed_at == self._peers_at:
            return self._peers
        # a listing this fresh may be incomplete, so it is read again at the next commit
        self._peers_at = changed_at if time_ns() - changed_at > _FRESH_NS else -1
        self._peers = tuple(self._list())
        return self._peers

    def _list(self) -> Iterable[tuple[int, str]]:
        with suppress(OSError), scandir(self._folder) as entries:
            for entry in entries:
                token, dash, mask = entry.name.partition("-")
                if dash and token != self._token:
                    with suppress(ValueError):
                        yield int(mask, 16), entry.path

    def close(self) -> None:
        if self._receiver is not None:
            self._loop.remove_reader(self._receiver.fileno())
            self._receiver.close()
        if self._sender is not None:
            self._sender.close()
        if self._name is not None:
            with suppress(OSError):
                (self._folder / self._name).unlink()
        self._receiver = self._sender = self._name = None
        self._listeners.clear()
