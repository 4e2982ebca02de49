"""Events from outside: which ones come to the run under the new rules, and when.

Owns how such an event finds the run: by its key, or by an alias. `Sandbox` calls it.
"""

from typing import Any, NamedTuple

from mesh.core import ids
from mesh.core.inputs import NOWHERE, EventForwarded, EventOffered
from mesh.core.matching import RouteIndex
from mesh.core.route import Route
from mesh.core.state import KeptEvent
from mesh.inspection.what_if.recording import Offered, Run


class Arrival(NamedTuple):
    at_ms: int
    order: int
    given: EventOffered | EventForwarded


class Arrivals:
    """The events from outside that came to the run in the recording.

    An event that comes by an alias arrives when it did, but not before the run has the alias. Until
    then the alias keeps it.
    """

    def __init__(self, run: Run, route: Route) -> None:
        # events for which the new rules find another workflow
        self.elsewhere: set[tuple[str, str]] = set()
        self._run = run
        self._route = route
        self._index = RouteIndex([route])
        self._kept: dict[str, list[Arrival]] = {}  # by alias

    def of(self, offered: Offered) -> list[Arrival]:
        """The event as it comes to the run now.

        Nothing comes if an alias keeps the event for now, or if it finds another workflow.
        """
        event = offered.cloud_event
        found = [offer.workflow_id for offer in self._index.offers(event)]
        aliases = [name for name in found if ids.is_alias(name)]
        for name in aliases:
            kept = KeptEvent(
                cloud_event=event, topic="", partition=0, offset=0, at_ms=0, alias=ids.parse_alias_id(name).name
            )
            given = EventForwarded(workflow_id=self._run.workflow_id, kept=kept, **NOWHERE, source_at_ms=0)
            self._kept.setdefault(name, []).append(Arrival(offered.at_ms, offered.order, given))
        if self._run.workflow_id in found or not found:
            return [Arrival(offered.at_ms, offered.order, self._by_key(event))]
        if not aliases:
            self.elsewhere.add(event_name(event))
        return []

    def _by_key(self, event: dict[str, Any]) -> EventOffered:
        return EventOffered(
            workflow_id=self._run.workflow_id,
            route=self._route.name,
            digest=self._route.digest,
            key=self._run.started.key,
            cloud_event=event,
            **NOWHERE,
            source_at_ms=0,
        )

    def by(self, alias: str) -> list[Arrival]:
        """What comes by an alias that the run has just been granted."""
        return self._kept.pop(alias, [])

    def never_came(self) -> frozenset[tuple[str, str]]:
        """The events that came by aliases which the run has not had so far."""
        given = (one.given for kept in self._kept.values() for one in kept)
        return frozenset(event_name(event_of(one)) for one in given)


def event_of(given: EventOffered | EventForwarded) -> dict[str, Any]:
    return given.cloud_event if isinstance(given, EventOffered) else given.kept.cloud_event


def event_name(cloud_event: dict[str, Any]) -> tuple[str, str]:
    return str(cloud_event["source"]), str(cloud_event["id"])
