"""A router's routes: the version in effect at an event's time.

Also the versions that workflows run on.

Owns what a router does with its own files at its start, and how far it may match: a batch is
matched only once every activation that applies to it is known (`mesh.core.activation`).
`mesh.services.definitions` reads and writes the topic.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import structlog

from mesh.core.activation import DELAY_MS, FROM_THE_BEGINNING, RouteChange
from mesh.core.matching import RouteIndex
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import BrokerError
from mesh.ports import Broker, Clock, Entropy
from mesh.services.definitions import DefinitionsReader, activate
from mesh.services.router.lookout import Lookout

_log = structlog.get_logger()
_FOLLOW_EVERY_S: Final = 1.0  # how late a call of a workflow may learn of a new version
_KEPT: Final = 8  # indexes of times past, for a backlog


class Definitions:
    """`get` and `at` only look up in memory. `known`: all that was read of the topic."""

    def __init__(self, broker: Broker, topics: Topics, *, instance: str, clock: Clock, entropy: Entropy) -> None:
        self._broker = broker
        self._topics = topics
        self._instance = instance
        self._clock = clock
        self._entropy = entropy
        self.known = DefinitionsReader(broker, topics)
        self._indexes: dict[int, RouteIndex] = {}  # by the timeline's place
        self._lookout = Lookout(self.known.refresh)
        self._own: dict[str, str] = {}  # the versions of the router's files that are active, by route

    async def start(self, routes: Sequence[Route]) -> float:
        """Read all that is stored, and activate those of `routes` that are new.

        Returns the seconds until they are in effect.
        """
        await self.known.start()
        new = self._new(routes)
        active = self.known.timeline.latest()
        fresh = {route.name for route in new}
        self._own = {
            route.name: route.digest
            for route in routes
            if route.name in fresh or (route.name in active and active[route.name].digest == route.digest)
        }
        if not new:
            return self._due_in_s(routes)
        taken = await activate(
            self.known,
            self._broker,
            self._topics,
            routes=new,
            activation_id=self._entropy.token(),
            by=f"router {self._instance}",
            at_ms=self._clock.now_ms(),
        )
        from_the_beginning = taken.since_ms == FROM_THE_BEGINNING
        _log.info("routes_applied", routes=[route.name for route in new], from_the_beginning=from_the_beginning)
        return 0.0 if from_the_beginning else DELAY_MS / 1000

    def _due_in_s(self, routes: Sequence[Route]) -> float:
        """Seconds until those of `routes` are in effect that are about to be.

        Another router, or this one before a time-out, has just activated them.
        """
        active = self.known.timeline.latest()
        since_ms = [active[route.name].since_ms for route in routes if active[route.name].digest == route.digest]
        left_ms = max(since_ms, default=0) - self._clock.now_ms()
        # By our clock and the broker's: where they differ, it is
        # never longer than the delay itself.
        return min(DELAY_MS, max(0, left_ms)) / 1000

    def _new(self, routes: Sequence[Route]) -> list[Route]:
        """The routes whose version was never active."""
        active, known, new = self.known.timeline.latest(), self.known.timeline.digests(), []
        for route in routes:
            now = active.get(route.name)
            if now is None or route.digest not in known:
                new.append(route)
                _tell_replaced(route, now)
            # an old file does not undo what an operator has chosen since
            elif now.digest != route.digest:
                _log.warning(
                    "route_file_not_active",
                    route=route.name,
                    file_version=route.digest,
                    active_version=now.digest or "none: the route is withdrawn",
                    next="nothing changes: the file's version was active before. `mesh routes apply FILE` makes it active, `mesh routes list` tells what is",
                )
        names = {route.name for route in routes}
        others = sorted(name for name, now in active.items() if now.digest is not None and name not in names)
        if routes and others:
            _log.warning(
                "routes_active_beside_the_files", routes=others, next="`mesh routes apply --withdraw NAME` ends one"
            )
        return new

    async def follow(self, tell: Callable[[Mapping[str, str]], None]) -> None:
        """Look for activations at intervals, and report the routes that are in effect.

        Runs until it is cancelled.
        """
        while True:
            await asyncio.sleep(_FOLLOW_EVERY_S)
            try:
                await self.known.refresh()
                self._notice_replaced()
                tell(self.active())
            except BrokerError as error:
                _log.warning("definitions_unread", error=str(error))

    def _notice_replaced(self) -> None:
        """Warn of each route of our own files that somebody has replaced or withdrawn."""
        latest = self.known.timeline.latest()
        for name, digest in list(self._own.items()):
            now = latest.get(name)
            if now is None or now.digest == digest:
                continue
            del self._own[name]
            _log.warning(
                "route_of_our_files_replaced",
                route=name,
                file_version=digest,
                active_version=now.digest or "none: the route is withdrawn",
                by=now.activation.by,
                next="nothing, if that was meant; else give all routers the same files, or `mesh routes rollback "
                f"{name}`",
            )

    def get(self, digest: str) -> Route | None:
        """Any version, active or not."""
        return self.known.get(digest)

    async def refresh(self) -> None:
        """Read what has been written since."""
        await self.known.refresh()

    async def close(self) -> None:
        await self.known.close()

    def active(self) -> dict[str, str]:
        """The digest of each route in effect now, by this machine's clock.

        For calls, which record their choice.
        """
        return self.known.timeline.at(self._clock.now_ms())

    def active_routes(self) -> list[Route]:
        """The routes of `names`, without those that can't be read here."""
        latest = self.known.timeline.latest()
        found = [self.get(latest[name].digest or "") for name in self.names()]
        return [route for route in found if route is not None]

    def names(self) -> list[str]:
        """The routes that are active, or about to be."""
        return sorted(name for name, now in self.known.timeline.latest().items() if now.digest is not None)

    @property
    def has_begun(self) -> bool:
        """Whether anything was ever activated.

        Before that nothing can be matched: the first activation applies from the beginning.
        """
        return not self.known.timeline.is_empty

    async def prepare(self, times_ms: Iterable[int]) -> None:
        """Learn all that applies to events of these times.

        Raises `BrokerUnavailable`, and `UnknownFormat` for an active version that can't be read.
        """
        times = sorted(set(times_ms))
        if not times:
            return
        await self._lookout.look(times[-1])
        timeline = self.known.timeline
        first, last = timeline.place(times[0]), timeline.place(times[-1])
        places = {last} if first == last else {timeline.place(at_ms) for at_ms in times}
        missing = [place for place in places if place not in self._indexes]
        for place in missing:
            active = [self.known.route_of(name, digest) for name, digest in timeline.in_effect(place).items()]
            earlier = [route for digest in timeline.earlier(place) if (route := self.known.get(digest)) is not None]
            self._indexes[place] = RouteIndex(active, earlier)
        if missing:
            # A backlog may need times long past; live events need the newest ones alone.
            kept = {*sorted(self._indexes)[-_KEPT:], *places}
            self._indexes = {place: index for place, index in self._indexes.items() if place in kept}

    def at(self, at_ms: int) -> RouteIndex:
        """The routes in effect at a time that was prepared."""
        return self._indexes[self.known.timeline.place(at_ms)]


def _tell_replaced(route: Route, before: RouteChange | None) -> None:
    """Warn that a file's new version takes the place of an active one."""
    if before is None or before.digest is None:
        return
    _log.warning(
        "file_replaces_active_route",
        route=route.name,
        file_version=route.digest,
        replaced_version=before.digest,
        activated_by=before.activation.by,
        next=f"nothing, if that was meant; else `mesh routes rollback {route.name}`, and give all routers the same files",
    )
