"""Signs of life: what an agent reports about its tasks, if their routes ask for it (docs/adr/0009).

Owns when each sign is due, and the sending. A task that asks for none costs nothing here. Signs are
not kept and not sent again: if one is lost, the next one serves. `workers` says what begins and
ends.

    started      when the handler begins, and again every third of `start_timeout` (or of
                 `run_timeout`): a router that takes the partition over has not heard the first
    heartbeat    every third of `heartbeat`: for the handler until its first `ctx.heartbeat()`, and
                 from then on only if the handler has called it since the last

They leave from the handlers' own event loop. So a process that is stopped, or a handler that blocks
the loop, falls silent.
"""

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import Any, Final, Literal

import structlog

from mesh.codec.tasks import Task, encode_sign
from mesh.errors import BrokerUnavailable
from mesh.ports import Broker, OutRecord
from mesh.services.agent_runtime.work import Work

_Status = Literal["started", "heartbeat"]
_PART: Final = 3  # of a period: two signs may be lost, or late, before the third is missed


class Heartbeats:
    """`every_s`: how often it looks; what is due by then leaves as one batch."""

    def __init__(
        self,
        broker: Broker,
        *,
        version: str,
        instance: str,
        every_s: float,
        log: Any,
        ticks: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._broker = broker
        self._version = version
        self._instance = instance
        self._every_s = every_s
        self._log: structlog.stdlib.BoundLogger = log
        self._ticks = ticks
        self._lives: dict[Work, _Life] = {}
        self._asked = asyncio.Event()

    def begin(self, work: Work, task: Task) -> Callable[[], None] | None:
        """Begin to send signs of life for `work`, whose handler begins now.

        Returns what the handler may call to say that it makes progress; None where nobody listens.
        """
        if task.start_timeout_s is None and task.run_timeout_s is None and task.heartbeat_s is None:
            return None
        life = self._lives[work] = _Life(task, self._ticks)
        self._asked.set()
        return life.beat

    def end(self, work: Work) -> None:
        """Send no more signs for this work: it has ended, or no longer counts."""
        self._lives.pop(work, None)
        if not self._lives:
            self._asked.clear()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._asked.wait()
            await self._send_due()
            await asyncio.sleep(self._every_s)

    async def _send_due(self) -> None:
        now_s = self._ticks()
        due = [
            (life, status)
            for work, life in self._lives.items()
            if not work.is_over and (status := life.next_sign(now_s)) is not None
        ]
        if not due:
            return
        try:
            failures = await self._broker.send([self._record(life, status, now_s) for life, status in due])
        except BrokerUnavailable as error:
            # Not noted as sent, so the next look tries again, with what is true then.
            self._log.warning("signs_not_sent", signs=len(due), error=str(error))
            return
        for life, status in due:
            life.sent(status, now_s)
        for failure in failures:
            self._log.warning("sign_refused", task_id=due[failure.index][0].task.task_id, error=failure.message)

    def _record(self, life: "_Life", status: _Status, now_s: float) -> OutRecord:
        return encode_sign(
            life.task,
            status,
            agent_version=self._version,
            agent_instance=self._instance,
            duration_ms=round((now_s - life.begun_s) * 1000, 3),
        )


class _Life:
    """One handler's. `beaten_s`: when it last spoke for itself; None: it never has."""

    __slots__ = (
        "beat_at_s",
        "beat_every_s",
        "beaten_s",
        "begun_s",
        "said_s",
        "say_at_s",
        "say_every_s",
        "task",
        "ticks",
    )

    def __init__(self, task: Task, ticks: Callable[[], float]) -> None:
        self.task = task
        self.ticks = ticks
        self.begun_s = self.say_at_s = self.said_s = ticks()
        self.say_every_s = (task.start_timeout_s or task.run_timeout_s or inf) / _PART
        self.beat_every_s = (task.heartbeat_s or inf) / _PART
        self.beat_at_s = self.begun_s + self.beat_every_s
        self.beaten_s: float | None = None

    def beat(self) -> None:
        """The handler says that it makes progress. From any thread."""
        self.beaten_s = self.ticks()

    def next_sign(self, now_s: float) -> _Status | None:
        # Until the handler first speaks for itself, the runtime speaks for it. From then on only
        # the handler's own calls count, so that one which hangs is noticed (docs/adr/0009).
        if now_s >= self.beat_at_s and (self.beaten_s is None or self.beaten_s >= self.said_s):
            return "heartbeat"
        return "started" if now_s >= self.say_at_s else None

    def sent(self, status: _Status, now_s: float) -> None:
        """A sign left that speaks for all that was before `now_s`."""
        # any sign says that the attempt has begun
        self.say_at_s = now_s + self.say_every_s
        if status == "heartbeat":
            self.said_s, self.beat_at_s = now_s, now_s + self.beat_every_s
