"""Stored route versions: which there are, since when, what runs on them, and how two of them differ.

Owns reading `mesh.definitions` as people need it (the router's own reader keeps neither times nor what it can't read), which version of a route is in use, and the difference of two
documents. It changes nothing. The commands of `mesh routes` call it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import apsw
import msgspec

from mesh.codec.definitions import decode_definition
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, MalformedRecord, NotFound
from mesh.ports import Broker, Record, TopicPartition
from mesh.services.read_model.schema import select

__all__ = ["Change", "Use", "Version", "changes", "in_use", "read_versions", "uses"]

READ_TIMEOUT_S: Final = 30.0
_MISSING: Final = object()


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One stored version. `route` is None where this version of the mesh can't read it; `problem` says why."""

    name: str
    digest: str
    stored_at_ms: int
    route: Route | None
    problem: str = ""


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """The workflows that a version has or had: how many run, how many have ended, and when the last one started."""

    running: int = 0
    ended: int = 0
    last_started_at_ms: int | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A difference of two documents at `path`."""

    kind: Literal["added", "removed", "changed"]
    path: tuple[str | int, ...]
    before: Any = None
    after: Any = None


async def read_versions(broker: Broker, topics: Topics) -> list[Version]:
    """All that are stored, by route, the oldest first. Raises `NotFound` where the broker holds no mesh."""
    info = (await broker.topics()).get(topics.definitions)
    if info is None:
        raise NotFound(
            f"this broker has no topic {topics.definitions}: no mesh was set up here (check --broker and the prefix)"
        )
    partitions = [TopicPartition(topics.definitions, p) for p in range(info.partitions)]
    positions, ends = dict(await broker.begin_offsets(partitions)), await broker.end_offsets(partitions)
    found: dict[str, Version] = {}
    reader = await broker.reader()
    try:
        reader.assign(positions)
        while any(positions[tp] < end for tp, end in ends.items()):
            records = await reader.poll(max_records=1_000, timeout_s=READ_TIMEOUT_S)
            if not records:
                raise BrokerUnavailable(f"{topics.definitions} can't be read to its end; is the broker healthy?")
            for record in records:
                positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
                version = _version(record)
                if version is not None:
                    found.setdefault(version.digest, version)
    finally:
        await reader.close()
    return sorted(found.values(), key=lambda one: (one.name, one.stored_at_ms, one.digest))


def _version(record: Record) -> Version | None:
    """None for what is no route version. Stored again it keeps its first time."""
    digest = (record.key or b"").decode("utf-8", "replace")
    try:
        route = decode_definition(record)
    except MalformedRecord as error:
        name = dict(record.headers).get("ce_subject", b"?").decode("utf-8", "replace")
        return Version(name=name, digest=digest, stored_at_ms=record.timestamp_ms, route=None, problem=str(error))
    if route is None:
        return None
    return Version(name=route.name, digest=route.digest, stored_at_ms=record.timestamp_ms, route=route)


def uses(db: apsw.Connection) -> dict[str, Use]:
    """Of every digest that a workflow of the read model has. One workflow counts with its last run."""
    sql = (
        "SELECT json_extract(CAST(state AS TEXT), '$.digest') AS digest, sum(status = 'running'), sum(status != 'running'),"
        " max(started_at_ms) FROM workflows GROUP BY digest"
    )
    rows = select(db, sql)
    return {digest: Use(running=running, ended=ended, last_started_at_ms=at) for digest, running, ended, at in rows}


def in_use(versions: Sequence[Version], used: Mapping[str, Use]) -> dict[str, Version]:
    """The version of each route that new workflows start with, as far as it can be told: the one stored last, unless workflows
    have started with another one since (a file was put back to what it had been).
    """
    current: dict[str, Version] = {}
    for version in versions:
        current[version.name] = version
    for version in versions:
        started = used.get(version.digest, Use()).last_started_at_ms or 0
        newest = current[version.name]
        if started > max(newest.stored_at_ms, used.get(newest.digest, Use()).last_started_at_ms or 0):
            current[version.name] = version
    return current


def changes(before: Any, after: Any, path: tuple[str | int, ...] = ()) -> Iterator[Change]:
    """What differs, part by part: objects by name, all else as a whole."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        if before != after or type(before) is not type(after):
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
