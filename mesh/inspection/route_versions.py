"""Stored route versions: which exist, which are active, what runs on them, and how two differ.

Owns what people learn about `mesh.definitions`, and the difference of two documents. It changes
nothing. The commands of `mesh routes`, `mesh event` and `mesh run` call it.
"""

from collections.abc import Iterator
from io import StringIO
from typing import Any, Final, Literal, NamedTuple

import apsw
import msgspec

from mesh.core.activation import Timeline
from mesh.core.json_values import is_same
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import NotFound, TopicMissing
from mesh.inspection.read_model.schema import select
from mesh.ports import Broker
from mesh.services.definitions import DefinitionsReader, Version

_MISSING: Final = object()


class Stored(NamedTuple):
    """Every stored version, by route, the oldest first; and when each one was active."""

    versions: list[Version]
    timeline: Timeline

    def digests_at(self, at_ms: int) -> dict[str, str]:
        """The version of each route that is in effect at a time.

        If the mesh's routers are older than activations, it is the version stored last.
        """
        return self._stored_last() if self.timeline.is_empty else self.timeline.at(at_ms)

    def digests(self) -> dict[str, str]:
        """The version of each route that was made active last, even if it is not in effect yet."""
        if self.timeline.is_empty:
            return self._stored_last()
        return {name: now.digest for name, now in self.timeline.latest().items() if now.digest is not None}

    def _stored_last(self) -> dict[str, str]:
        return {version.name: version.digest for version in self.versions}


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """How many workflows of a version run or have ended, and when the last one started."""

    running: int = 0
    ended: int = 0
    last_started_at_ms: int | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between two documents, at `path`."""

    kind: Literal["added", "removed", "changed"]
    path: tuple[str | int, ...]
    before: Any = None
    after: Any = None


async def read_stored(broker: Broker, topics: Topics) -> Stored:
    """Read all stored versions. Raises `NotFound` if the broker holds no mesh."""
    known = DefinitionsReader(broker, topics)
    try:
        await known.start()
    except TopicMissing as error:
        raise NotFound(
            f"this broker has no topic {topics.definitions}: no mesh was set up here (check --broker and the prefix)"
        ) from error
    finally:
        await known.close()
    return stored_in(known)


def stored_in(known: DefinitionsReader) -> Stored:
    """What this reader has read so far."""
    versions = sorted(known.versions.values(), key=lambda one: (one.name, one.stored_at_ms, one.digest))
    return Stored(versions, known.timeline)


async def active_routes(broker: Broker, topics: Topics, at_ms: int) -> list[Route]:
    """The routes in effect for an event that the broker takes at `at_ms`.

    Without those that can't be read here. Empty if the broker holds no mesh.
    """
    try:
        stored = await read_stored(broker, topics)
    except NotFound:
        return []
    routes = {version.digest: version.route for version in stored.versions}
    return [route for digest in stored.digests_at(at_ms).values() if (route := routes.get(digest)) is not None]


def uses(db: apsw.Connection) -> dict[str, Use]:
    """How each version is used, by the digests that workflows of the read model have.

    A workflow counts once, with its last run.
    """
    sql = (
        "SELECT digest, sum(status = 'running'), sum(status != 'running'), max(started_at_ms)"
        " FROM workflows GROUP BY digest"
    )
    rows = select(db, sql)
    return {digest: Use(running=running, ended=ended, last_started_at_ms=at) for digest, running, ended, at in rows}


def as_yaml(document: Any) -> str:
    """A route's document as a route file has it."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - slow to load, and few commands write YAML

    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def changes(before: Any, after: Any, path: tuple[str | int, ...] = ()) -> Iterator[Change]:
    """What differs, part by part: objects name by name, everything else as a whole."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        # Python holds 1, 1.0 and true to be equal; a document does not.
        if not is_same(before, after) or type(before) is not type(after):
            yield Change(kind="changed", path=path, before=before, after=after)
        return
    for name in [*before, *(name for name in after if name not in before)]:
        old, new = before.get(name, _MISSING), after.get(name, _MISSING)
        if old is _MISSING:
            yield Change(kind="added", path=(*path, name), after=new)
        elif new is _MISSING:
            yield Change(kind="removed", path=(*path, name), before=old)
        else:
            yield from changes(old, new, (*path, name))
