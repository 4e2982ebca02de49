"""How a router announces schedules: at its start, and whenever other versions take effect.

It announces each route that starts by itself, or that did in an earlier version. It does so through
`mesh.commands`, as an operator would. Ingress copies each record once, and the schedule's owner
decides which of two definitions is newer (`mesh.core.decide.built_in.schedule`). So any number of
routers may announce the same, as often as they like, and one that stops is not missed.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from mesh.codec.schedules import Told, encode_schedule_set
from mesh.core.activation import FROM_THE_BEGINNING, RouteChange, Timeline
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable
from mesh.ports import Broker, Clock, Entropy
from mesh.services.definitions import DefinitionsReader

_log = structlog.get_logger()
_LOOK_EVERY_S: Final = 1.0


class ScheduleAnnouncer:
    """`known`: what the router knows of versions; somebody else refreshes it."""

    def __init__(
        self, broker: Broker, topics: Topics, known: DefinitionsReader, *, instance: str, clock: Clock, entropy: Entropy
    ) -> None:
        self._broker = broker
        self._topics = topics
        self._known = known
        self._instance = instance
        self._clock = clock
        self._entropy = entropy
        self._told: dict[str, Told] = {}  # by route

    async def follow(self) -> None:
        """Tell what is new, until it is cancelled."""
        while True:
            try:
                await self.tell()
            except BrokerUnavailable as error:
                _log.warning("schedules_wait", error=str(error))
            await asyncio.sleep(_LOOK_EVERY_S)

    async def tell(self) -> None:
        """What was not sent yet. Where it is unknown whether it landed, it is sent again."""
        now_ms = self._clock.now_ms()
        versions = {digest: one.route for digest, one in self._known.versions.items() if one.route is not None}
        found = schedules_in_effect(self._known.timeline, versions, now_ms, by=self._instance)
        new = [told for told in found if self._told.get(told.route) != told]
        records = [
            encode_schedule_set(told, topics=self._topics, set_id=self._entropy.token(), at_ms=now_ms) for told in new
        ]
        failures = {failure.index: failure for failure in await self._broker.send(records)} if records else {}
        for index, told in enumerate(new):
            # it is not noted as told, so the next look tries again
            if index in failures:
                _log.error("schedule_not_told", route=told.route, reason=failures[index].message)
            else:
                self._told[told.route] = told
        if new:
            _log.info("schedules_told", routes=[told.route for told in new])


def schedules_in_effect(timeline: Timeline, versions: Mapping[str, Route], now_ms: int, *, by: str) -> list[Told]:
    """The schedule in effect for each route that has or had one."""
    found = []
    for name, change in timeline.latest().items():
        once = any(_is_scheduled(versions.get(one.digest or "")) for one in timeline.history(name))
        route = versions.get(change.digest or "")
        # One that had a schedule and has none now is announced, too, or its old times would go on.
        # If the version can't be read here, another router announces it.
        if not once or change.since_ms > now_ms or (change.digest is not None and route is None):
            continue
        schedule = route.on.schedule if route is not None and route.on is not None else None
        digest = change.digest or ""
        found.append(Told(route=name, digest=digest, since_ms=_since_ms(change), schedule=schedule, by=by))
    return found


def _is_scheduled(route: Route | None) -> bool:
    return route is not None and route.on is not None and route.on.schedule is not None


def _since_ms(change: RouteChange) -> int:
    """When the change took effect.

    "From the beginning" is for events that were there before. A scheduled time is never before its
    activation.
    """
    return change.activation.at_ms if change.since_ms == FROM_THE_BEGINNING else change.since_ms
