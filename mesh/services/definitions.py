"""The content of `mesh.definitions`: every route version, and which are active since when.

Owns reading the topic, for routers and for the command line, and the order of writing: versions
first, and once the broker has them, the activation that names them. Its callers say whether a
version may be activated. `mesh.core.activation` has the rule of what is in effect when.
"""

from collections.abc import Mapping, Sequence

import msgspec
import structlog

from mesh.codec.definitions import decode_activation, decode_definition, encode_activation, encode_definition
from mesh.core.activation import Placed, Timeline
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, MalformedRecord, OperatorError, UnknownFormat
from mesh.ports import Broker, OutRecord, Record, UnreadableRecords
from mesh.services.whole_topic import WholeTopic

_log = structlog.get_logger()


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One stored version.

    `route` is None if this version of the mesh can't read it; `problem` says why.
    """

    name: str
    digest: str
    stored_at_ms: int
    route: Route | None
    problem: str = ""


class DefinitionsReader:
    """All that is known so far. `refresh` reads what has been written since."""

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self.versions: dict[str, Version] = {}  # by digest
        self.timeline = Timeline()
        self._topics = topics
        self._topic = WholeTopic(broker, topics.definitions, self._take)

    async def start(self) -> None:
        """Read all that is there. Called again after `BrokerUnavailable`, it continues.

        Raises `TopicMissing` too.
        """
        await self._topic.start()

    async def refresh(self) -> None:
        """Read up to the topic's current end: one call to the broker if nothing is new."""
        await self._topic.refresh()

    def _take(self, record: Record) -> None:
        if isinstance(record, UnreadableRecords):
            _log.error("definitions_unreadable", error=record.message)
            return
        try:
            activation = decode_activation(record)
        except MalformedRecord as error:
            _log.warning("activation_unreadable", error=str(error))
            return
        if activation is not None:
            self.timeline.add(activation)
            return
        version = _version(record)
        if version is not None:
            if version.problem and version.digest not in self.versions:
                _log.warning("definition_unreadable", error=version.problem)
            # a version may be stored twice; it is there since the first time
            self.versions.setdefault(version.digest, version)

    def get(self, digest: str) -> Route | None:
        """The route of this digest, if it is stored and can be read."""
        version = self.versions.get(digest)
        return version.route if version is not None else None

    def route_of(self, name: str, digest: str) -> Route:
        """The route that is active under this digest.

        Raises `UnknownFormat` if it can't be read here.
        """
        route = self.get(digest)
        if route is None:
            version = self.versions.get(digest)
            why = version.problem if version is not None else f"it is not on {self._topics.definitions}"
            raise UnknownFormat(
                f"route {name} is active in version {digest}, which can't be read here: {why}. If a newer agent-mesh wrote it, update this one"
            )
        return route

    async def close(self) -> None:
        await self._topic.close()


def _version(record: Record) -> Version | None:
    """None for what is not a route version."""
    digest = (record.key or b"").decode("utf-8", "replace")
    try:
        route = decode_definition(record)
    except MalformedRecord as error:
        name = dict(record.headers).get("ce_subject", b"?").decode("utf-8", "replace")
        return Version(name=name, digest=digest, stored_at_ms=record.timestamp_ms, route=None, problem=str(error))
    if route is None:
        return None
    return Version(name=route.name, digest=route.digest, stored_at_ms=record.timestamp_ms, route=route)


async def activate(
    known: DefinitionsReader,
    broker: Broker,
    topics: Topics,
    *,
    routes: Sequence[Route] = (),
    digests: Mapping[str, str | None] | None = None,
    activation_id: str,
    by: str,
    at_ms: int,
    reason: str = "",
) -> Placed:
    """Store `routes` that are not stored yet, and activate them.

    What `digests` names is activated with them, all at once. A digest of None withdraws the route.
    Raises `BrokerUnavailable` if the outcome is unknown: doing the same again, with a fresh id, is
    then right.
    """
    new = [route for route in routes if route.digest not in known.versions]
    # Versions first: a router that reads the activation must find what it names.
    await _send(broker, [encode_definition(route, topics) for route in new])
    names = {**{route.name: route.digest for route in routes}, **(digests or {})}
    record = encode_activation(
        names,
        topics=topics,
        activation_id=activation_id,
        by=by,
        at_ms=at_ms,
        beginning=known.timeline.is_empty,
        reason=reason,
    )
    await _send(broker, [record])
    await known.refresh()
    taken = known.timeline.find(activation_id)
    if taken is None:
        raise BrokerUnavailable(f"the activation {activation_id} is on its way, and can't be read back yet")
    return taken


async def _send(broker: Broker, records: Sequence[OutRecord]) -> None:
    failures = await broker.send(records) if records else ()
    if failures:
        name = (records[failures[0].index].key or b"").decode("utf-8", "replace")
        raise OperatorError(f"{name} could not be stored: {failures[0].message}")
