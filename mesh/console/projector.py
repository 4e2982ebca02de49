"""The projector: follows the broker into the local caches, and looks at the mesh as a whole.

Owns when the caches are written, and what is known of how fresh they are. It is their one writer in
this process; pages read them in threads. What is open for people is read first, so that it can be
answered while a long log is still being read.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import structlog

from mesh.console.config import ConsoleConfig
from mesh.console.files import CacheFile
from mesh.console.hub import Hub, topic_of
from mesh.console.staff import Staff
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import MeshError, TopicMissing
from mesh.inspection.inbox import Inbox
from mesh.inspection.mesh_status import MeshStatus, assess_twice
from mesh.inspection.read_model import ReadModel
from mesh.inspection.read_model.schema import select, select_one
from mesh.inspection.read_model_lag import follow_lag
from mesh.inspection.route_versions import Stored, stored_in
from mesh.metrics.meters import Meters
from mesh.ports import Broker, Clock
from mesh.services.definitions import DefinitionsReader
from mesh.services.operations import Operation, OperationsReader

_log = structlog.get_logger()

LATE_MS: Final = 5_000  # a cache that is older than this is called late
LOOK_S: Final = 2.0
_GATHER_S: Final = 0.2  # changes that come within this time are taken in together
_WAIT_S: Final = 1.0
_INBOX_S: Final = 0.5
_HURRY_S: Final = 2.0  # how long an answer waits for the inbox
_OPERATIONS_S: Final = 0.5
_DEFINITIONS_S: Final = 1.0
_AGAIN_S: Final = 2.0


class Projector:
    """The caches and what follows them. `run` does, until it is cancelled."""

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        config: ConsoleConfig,
        *,
        clock: Clock,
        hub: Hub,
        staff: Staff,
        meters: Meters | None = None,
    ) -> None:
        self._broker, self._topics, self._config, self._clock = broker, topics, config, clock
        self._hub, self._staff, self._meters = hub, staff, meters
        self.left = 0
        """Records of the log that are still to be read, while it is read for the first time."""
        self._problems: dict[str, str] = {}  # by what is followed
        self.fresh_at_ms = 0
        """When the caches last had all that the broker had."""
        self.status: MeshStatus | None = None
        self.news = asyncio.Event()
        """Set when the caches have changed; then another one takes its place."""
        self._inbox = Inbox(broker, topics, config.inbox, now_ms=clock.now_ms, on_unkept=self._tell_full)
        self._model = ReadModel(broker, topics, config.model, on_progress=self._note_left, on_full=self._tell_full)
        self.inbox = CacheFile(lambda: self._inbox.db)
        self.model = CacheFile(lambda: self._model.db)
        self._seen = (0, "")
        self._inbox_seen = ""
        self._operations = OperationsReader(broker, topics, keeps_ids=True)
        self._operations_lock = asyncio.Lock()
        self._has_operations = False
        self._operations_seen = ""
        self._definitions = DefinitionsReader(broker, topics)
        self._definitions_lock = asyncio.Lock()
        self._definitions_seen: tuple[int, int] | None = None  # None: not read yet
        self._hurry = asyncio.Event()
        self._inbox_reads = 0
        self._inbox_read = asyncio.Event()

    @property
    def problem(self) -> str:
        """Why the broker can't be followed; empty: it can."""
        return next(iter(self._problems.values()), "")

    @property
    def is_late(self) -> bool:
        return self._clock.now_ms() - self.fresh_at_ms > LATE_MS

    async def run(self) -> None:
        """Follow the broker. Where it is away, what is known stays readable."""
        try:
            # first what people can answer, for which nobody has to read the log
            await self._kept(self._staff.refresh)
            await self._kept(self._inbox.catch_up)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forever(self._read_inbox))
                group.create_task(self._forever(self._read_log))
                group.create_task(self._forever(self._read_operations))
                group.create_task(self._forever(self._read_definitions))
                group.create_task(self._forever(self._look))
                if self._meters is not None:
                    group.create_task(follow_lag(self._broker, self._meters, [self._model, self._inbox]))
        finally:
            await self.close()

    async def close(self) -> None:
        self.inbox.close()
        self.model.close()
        await self._operations.close()
        await self._definitions.close()
        await self._model.close()
        self._inbox.db.close()

    async def _forever(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            if not await self._kept(work):
                await asyncio.sleep(_AGAIN_S)

    async def _kept(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Do it once. False: the mesh could not be asked, and the pages say why."""
        name = work.__name__
        try:
            await work()
        except MeshError as error:
            if self._problems.get(name) != str(error):
                _log.warning("console_cannot_follow", error=str(error))
            self._problems[name] = str(error)
            self._hub.tell(["status"])
            return False
        if self._problems.pop(name, ""):
            self._hub.tell(["status"])
        return True

    async def read_inbox(self) -> None:
        """Wait until the inbox has what the broker has now, but not for long."""
        self._hurry.set()
        before = self._inbox_reads
        with suppress(TimeoutError):
            async with asyncio.timeout(_HURRY_S):
                # the reading that is under way may be past it
                while self._inbox_reads < before + 2:
                    self._hurry.set()
                    await self._inbox_read.wait()

    async def _read_inbox(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_INBOX_S):
                await self._hurry.wait()
        self._hurry.clear()
        await self._staff.refresh()
        await self._inbox.catch_up()
        # by the file and not by what was just read: another process may have read it first
        if (read := self._inbox_mark()) != self._inbox_seen:
            self._inbox_seen = read
            self._announce(["approvals", "status"])
        self._inbox_reads += 1
        self._inbox_read.set()
        self._inbox_read = asyncio.Event()

    def _inbox_mark(self) -> str:
        return repr(select(self._inbox.db, "SELECT partition, next_offset FROM positions ORDER BY 1"))

    @property
    def operations(self) -> dict[str, Operation]:
        """What was ordered of many workflows at once."""
        return self._operations.operations

    async def read_operations(self) -> None:
        """Read what there is now. A mesh may have no such topic."""
        async with self._operations_lock:
            with suppress(TopicMissing):
                if not self._has_operations:
                    await self._operations.start()
                    self._has_operations = True
                else:
                    await self._operations.refresh()
        if (read := self._operations_mark()) != self._operations_seen:
            self._operations_seen = read
            self._announce(["operations"])

    def _operations_mark(self) -> str:
        return repr([(one.id, one.sent, one.is_to_send) for one in self.operations.values()])

    async def _read_operations(self) -> None:
        await self.read_operations()
        await asyncio.sleep(_OPERATIONS_S)

    @property
    def routes(self) -> Stored:
        """All versions of routes, as of the last reading."""
        return stored_in(self._definitions)

    async def route(self, digest: str) -> Route | None:
        """The rules of this version; None: they are not stored, or can't be read here."""
        if digest not in self._definitions.versions:
            with suppress(MeshError):
                await self.read_definitions()
        return self._definitions.get(digest)

    async def read_definitions(self) -> None:
        """Read what versions there are now. A mesh may have no such topic."""
        async with self._definitions_lock:
            with suppress(TopicMissing):
                if self._definitions_seen is None:
                    await self._definitions.start()
                else:
                    await self._definitions.refresh()
                known = self._definitions
                read = (len(known.versions), known.timeline.count)
                is_new, self._definitions_seen = read != self._definitions_seen, read
                if is_new:
                    self._announce(["routes"])

    async def _read_definitions(self) -> None:
        await self.read_definitions()
        await asyncio.sleep(_DEFINITIONS_S)

    async def _read_log(self) -> None:
        is_new = await self._model.wait_until(self._news, timeout_s=_WAIT_S)
        self.left, self.fresh_at_ms = 0, self._clock.now_ms()
        if is_new:
            self._tell_changed()
            await asyncio.sleep(_GATHER_S)

    def _news(self) -> bool | None:
        return True if self._mark() != self._seen else None

    def _mark(self) -> tuple[int, str]:
        """How far the log and the other topics are read."""
        db = self._model.db
        row: int = select_one(db, "SELECT ifnull(max(rowid), 0) FROM decisions")[0]
        # a sum: events alone change nothing that is shown at once
        others = select(
            db, "SELECT topic, sum(next_offset) FROM positions WHERE topic <> ? GROUP BY 1", self._topics.log
        )
        return row, repr(others)

    def _tell_changed(self) -> None:
        before, others = self._seen
        self._seen = self._mark()
        changed = ["status"]
        if self._seen[0] != before:
            sql = "SELECT 1 FROM decisions WHERE workflow_id = ? AND rowid > ? LIMIT 1"
            watched = [one for one in self._hub.watched() if select_one(self._model.db, sql, one, before)]
            changed += ["approvals", "workflows", "incidents", *map(topic_of, watched)]
        if self._seen[1] != others:
            changed += ["dead-letters", "agents", "events"]
        last = select_one(self._model.db, "SELECT partition, log_offset FROM decisions ORDER BY rowid DESC LIMIT 1")
        self._announce(changed, f"{last[0]}:{last[1]}" if last else "")

    def _announce(self, changed: list[str], position: str = "") -> None:
        self._hub.tell(changed, position)
        self.news.set()
        self.news = asyncio.Event()

    async def _look(self) -> None:
        """Judge the mesh, with a read model of its own on the same file: a look takes seconds."""
        if self.fresh_at_ms == 0:
            await asyncio.sleep(_GATHER_S)
            return
        async with ReadModel(self._broker, self._topics, self._config.model) as model:
            await model.catch_up()
            found = await assess_twice(
                self._broker, self._topics, model, clock=self._clock, broker_url=self._config.broker_url
            )
        is_other = self.status is None or self.status.stuck != found.stuck
        self.status = found
        if is_other:
            self._announce(["status", "agents"])
        await asyncio.sleep(LOOK_S)

    def _note_left(self, left: int) -> None:
        self.left = left if self.fresh_at_ms == 0 else 0

    def _tell_full(self, why: str) -> None:
        _log.warning("console_keeps_in_memory", folder=str(self._config.model.parent), error=why)
