"""Delivery: what is due goes out, one after the other at each address, and all addresses at once.

Owns attempts and their pauses. A lane is one address of one person. It sends one message at a time,
so a slow receiver holds nobody else. After a failure its lane pauses, longer each time, up to an
hour; the notice that failed waits as long by itself, so one that is always refused does not hold
those behind it. After a day a notice is `undelivered`.

What became of a notice is on the topic before its lane goes on. Otherwise the next notifier would
tell it again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, NamedTuple

import structlog
from msgspec.structs import replace

from mesh.codec.channels import ChannelKind
from mesh.codec.notices import Notice
from mesh.notifier.couriers import Courier, Undelivered
from mesh.notifier.file import Due, NoticeFile
from mesh.notifier.messages import Message, is_for_people
from mesh.ports import Clock

GIVE_UP_MS: Final = 86_400_000
MOST_LANES: Final = 64  # at once
MOST_IN_MESSAGE: Final = 5_000  # notices that one message to a person tells
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 3_600.0
_LONGEST_REASON: Final = 300

_log = structlog.get_logger()


class Content(NamedTuple):
    """What is to be sent: the address, and the message that tells `notices`."""

    address: str
    message: Message
    notices: Sequence[Notice]


class Sorted(NamedTuple):
    """Notices that are due: what still is to be sent, and what need not be, with the reason."""

    content: Content | None
    dropped: Sequence[Notice]


def pause_s(failures: int, wait_s: float = 0.0) -> float:
    """How long to wait after this many failures in a row. `wait_s`: what the receiver asks for."""
    doubled = _FIRST_PAUSE_S * float(2 ** min(failures - 1, 20))
    return min(max(doubled, wait_s), _LONGEST_PAUSE_S)


class Lanes:
    """`sort`: says what of due notices is to be sent. `record`: writes what became of them.

    `record` returns once the topic has it, or false if these partitions are not ours any more.
    """

    def __init__(
        self,
        file: NoticeFile,
        courier: Courier,
        clock: Clock,
        *,
        partitions: Callable[[], Collection[int]],
        sort: Callable[[Sequence[Notice]], Sorted],
        record: Callable[[Sequence[Notice]], Awaitable[None]],
    ) -> None:
        self._file = file
        self._courier = courier
        self._clock = clock
        self._partitions = partitions
        self._sort = sort
        self._record = record
        self._running: dict[tuple[str, ChannelKind], asyncio.Task[None]] = {}
        self._failures: dict[tuple[str, ChannelKind], int] = {}

    def start_due(self, group: asyncio.TaskGroup) -> None:
        """Start a lane for each address that has something due, and has none running."""
        for lane in self._file.lanes(self._partitions(), self._clock.now_ms()):
            if lane not in self._running and len(self._running) < MOST_LANES:
                self._running[lane] = group.create_task(self._run(*lane), name=f"lane {lane[1]}")

    def resume(self, person: str) -> None:
        """Try again at once, because the person's addresses are others now."""
        self._file.resume(person)
        self._failures = {lane: count for lane, count in self._failures.items() if lane[0] != person}

    async def settle(self, timeout_s: float) -> None:
        """Wait for the messages that are on their way, and cut off those that take longer."""
        running = list(self._running.values())
        if running:
            _, late = await asyncio.wait(running, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self, person: str, kind: ChannelKind) -> None:
        most = MOST_IN_MESSAGE if is_for_people(kind) else 1
        try:
            while due := self._file.due(person, kind, self._partitions(), self._clock.now_ms(), most):
                if not await self._send(person, kind, due):
                    return
        finally:
            del self._running[person, kind]

    async def _send(self, person: str, kind: ChannelKind, due: Sequence[Due]) -> bool:
        """Send what is due. False: the lane pauses."""
        attempts = {one.notice.id: one.attempts for one in due}
        content, dropped = self._sort([one.notice for one in due])
        if dropped:
            await self._record(dropped)
        if content is None:
            return True
        try:
            await self._courier.deliver(kind, content.address, content.message)
        except Undelivered as error:
            await self._failed(person, kind, content, attempts, error)
            return False
        self._failures.pop((person, kind), None)
        await self._record([_sent(one, content.message.id, attempts) for one in content.notices])
        return True

    async def _failed(
        self, person: str, kind: ChannelKind, content: Content, attempts: dict[str, int], error: Undelivered
    ) -> None:
        now_ms, lane = self._clock.now_ms(), (person, kind)
        failures = self._failures[lane] = self._failures.get(lane, 0) + 1
        reason = str(error)[:_LONGEST_REASON]
        _log.warning(
            "notice_not_delivered", notice_id=content.message.id, channel=kind, reason=reason, failures=failures
        )
        own = max(attempts[one.id] for one in content.notices) + 1
        self._file.postpone(content.notices, now_ms + int(pause_s(own, error.wait_s) * 1000))
        self._file.pause(person, kind, now_ms + int(pause_s(failures, error.wait_s) * 1000))
        attempts.update((one.id, attempts[one.id] + 1) for one in content.notices)
        over = list(content.notices) if error.is_final else []
        # of all that waits here, since a receiver that is down is tried with one notice at a time
        for one, tried in self._file.overdue(person, kind, self._partitions(), now_ms - GIVE_UP_MS):
            attempts[one.id] = tried
            over += [] if error.is_final and one in content.notices else [one]
        if over:
            await self._record(
                [replace(one, status="undelivered", attempts=attempts[one.id], reason=reason) for one in over]
            )


def _sent(notice: Notice, message_id: str, attempts: dict[str, int]) -> Notice:
    message = message_id if message_id != notice.id else ""
    return replace(notice, status="sent", attempts=attempts[notice.id] + 1, message=message)
