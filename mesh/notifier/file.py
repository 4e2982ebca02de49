"""The notifier's file: what was told, and what is still to be sent.

Owns the tables, but for those of `mesh.notifier.looks`. The file is a cache of
`mesh.approvals.notices` and may be deleted at any time: then the topic is read again. What is kept
on disk need not fit into memory, however many approvals are open.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, Self

import apsw
import msgspec

from mesh.adapters.sqlite_files import make_private
from mesh.codec.channels import ChannelKind
from mesh.codec.notices import Notice, notice_key, notice_partition
from mesh.inspection.read_model.schema import delete_file, select, select_one, transaction
from mesh.notifier.looks import LOOK_TABLES, Looks

KEPT_MS: Final = 90 * 86_400_000  # as long as the topic keeps a notice
_VERSION: Final = 2
_MOST_OVERDUE: Final = 10_000  # at one look; the rest is found at the next
_TABLES: Final = """
CREATE TABLE positions (partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL, last_digest BLOB NOT NULL);
CREATE TABLE notices (number INTEGER PRIMARY KEY, id TEXT NOT NULL, channel TEXT NOT NULL, key TEXT NOT NULL,
    partition INTEGER NOT NULL, person TEXT NOT NULL, status TEXT NOT NULL, at_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL, next_ms INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (id, channel));
CREATE INDEX notices_by_key ON notices (key, number);
CREATE INDEX notices_by_age ON notices (at_ms);
CREATE INDEX notices_due ON notices (person, channel, attempts, number) WHERE status = 'due';
CREATE INDEX notices_by_lane ON notices (partition, person, channel, next_ms) WHERE status = 'due';
"""
# a notice is never due again once something has become of it, however late it is read
_PUT: Final = (
    "INSERT INTO notices (id, channel, key, partition, person, status, at_ms, attempts, next_ms, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?) ON CONFLICT (id, channel) DO UPDATE "
    "SET status = excluded.status, body = excluded.body "
    "WHERE excluded.status <> 'due' AND excluded.body <> body"
)
# the lanes of a partition, each found by one step in the index
_LANES: Final = """
WITH RECURSIVE lanes (person, channel) AS (
    SELECT * FROM (SELECT person, channel FROM notices WHERE status = 'due' AND partition = ?1
        ORDER BY person, channel LIMIT 1)
    UNION ALL
    SELECT later.person, later.channel FROM lanes, notices AS later WHERE later.number = coalesce(
        (SELECT number FROM notices AS next WHERE next.status = 'due' AND next.partition = ?1
            AND next.person = lanes.person AND next.channel > lanes.channel ORDER BY next.channel LIMIT 1),
        (SELECT number FROM notices AS next WHERE next.status = 'due' AND next.partition = ?1
            AND next.person > lanes.person ORDER BY next.person, next.channel LIMIT 1)))
SELECT person, channel FROM lanes WHERE (SELECT min(next_ms) FROM notices AS one WHERE one.status = 'due'
    AND one.partition = ?1 AND one.person = lanes.person AND one.channel = lanes.channel) <= ?2
"""
_decode = msgspec.json.Decoder(Notice).decode
_encode = msgspec.json.Encoder().encode


class Position(NamedTuple):
    """How far a partition of the topic is read, and by what its last record is recognised."""

    next_offset: int
    last_digest: bytes


class Due(NamedTuple):
    """A notice that is due. `attempts`: how often it was tried in vain by this file."""

    notice: Notice
    attempts: int


class NoticeFile:
    """All tables. What a look or a lane needs is one query."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self.looks = Looks(db)

    @classmethod
    def open(cls, path: Path) -> Self:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return cls(_opened(path))
        except (apsw.NotADBError, apsw.CorruptError):
            # a cache: all of it can be read from the broker again
            delete_file(path)
            return cls(_opened(path))

    def close(self) -> None:
        self._db.close()

    def clear(self) -> None:
        """Forget what was read, because the topic is another one."""
        with transaction(self._db):
            self._db.execute("DELETE FROM positions; DELETE FROM notices")
            self.looks.forget()

    # What the topic says --------------------------------------------------------------------------

    def positions(self) -> dict[int, Position]:
        rows = select(self._db, "SELECT partition, next_offset, last_digest FROM positions")
        return {partition: Position(offset, digest) for partition, offset, digest in rows}

    def take(self, partition: int, position: Position, notices: Iterable[Notice], to_look_at: Iterable[str]) -> None:
        """Write what a partition's next records say, and what to look at because of it."""
        with transaction(self._db):
            self._db.executemany(_PUT, (_row(one, partition) for one in notices))
            self.looks.put_now((one, partition) for one in to_look_at)
            self._db.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", (partition, *position))

    def settle(self, notices: Iterable[Notice]) -> None:
        """Write what became of notices, once the topic has it."""
        with transaction(self._db):
            self._db.executemany(_PUT, (_row(one, notice_partition(notice_key(one))) for one in notices))

    def forget_before(self, at_ms: int) -> None:
        self._db.execute("DELETE FROM notices WHERE at_ms < ? AND status <> 'due'", (at_ms,))

    def told(self, keys: Sequence[str]) -> dict[str, list[Notice]]:
        """All notices of each of these approvals, the first at the top."""
        found: dict[str, list[Notice]] = {key: [] for key in keys}
        sql = "SELECT key, body FROM notices WHERE key IN (SELECT value FROM json_each(?)) ORDER BY number"
        for key, body in select(self._db, sql, json.dumps(keys)):
            found[key].append(_decode(body))
        return found

    def told_keys(self) -> Iterator[str]:
        """All approvals of which something was told."""
        for (key,) in self._db.execute("SELECT DISTINCT key FROM notices ORDER BY key"):
            if not key.startswith("digest/"):
                yield key

    def has(self, notice_id: str) -> bool:
        return select_one(self._db, "SELECT 1 FROM notices WHERE id = ? LIMIT 1", notice_id) is not None

    # Lanes ----------------------------------------------------------------------------------------

    def lanes(self, partitions: Collection[int], now_ms: int) -> list[tuple[str, ChannelKind]]:
        """The addresses for which something is due now, each as its person and kind."""
        # most turns find nothing due at all, and would ask each partition in vain
        if select_one(self._db, "SELECT 1 FROM notices WHERE status = 'due' LIMIT 1") is None:
            return []
        found = [lane for partition in partitions for lane in select(self._db, _LANES, partition, now_ms)]
        return [(person, kind) for person, kind in dict.fromkeys(found)]

    def due(self, person: str, kind: ChannelKind, partitions: Collection[int], now_ms: int, limit: int) -> list[Due]:
        """What is due at one address. What was tried least goes first, so it is held by nothing."""
        sql = (
            "SELECT body, attempts FROM notices WHERE status = 'due' AND person = ? AND channel = ? AND next_ms <= ? "
            "AND partition IN (SELECT value FROM json_each(?)) ORDER BY attempts, number LIMIT ?"
        )
        rows = select(self._db, sql, person, kind, now_ms, json.dumps(sorted(partitions)), limit)
        return [Due(_decode(body), attempts) for body, attempts in rows]

    def overdue(self, person: str, kind: ChannelKind, partitions: Collection[int], before_ms: int) -> list[Due]:
        """What is due at one address since before then, whenever it was to be tried again."""
        sql = (
            "SELECT body, attempts FROM notices WHERE status = 'due' AND person = ? AND channel = ? AND at_ms <= ? "
            "AND partition IN (SELECT value FROM json_each(?)) LIMIT ?"
        )
        rows = select(self._db, sql, person, kind, before_ms, json.dumps(sorted(partitions)), _MOST_OVERDUE)
        return [Due(_decode(body), attempts) for body, attempts in rows]

    def resume(self, person: str) -> None:
        """Wait no longer with what is due to a person, whose addresses are others now."""
        self._db.execute("UPDATE notices SET next_ms = 0 WHERE status = 'due' AND person = ?", (person,))

    def postpone(self, notices: Sequence[Notice], next_ms: int) -> None:
        """Try these notices again then."""
        with transaction(self._db):
            for one in notices:
                sql = "UPDATE notices SET attempts = attempts + 1, next_ms = ? WHERE id = ? AND channel = ?"
                self._db.execute(sql, (next_ms, one.id, one.channel))

    def pause(self, person: str, kind: ChannelKind, until_ms: int) -> None:
        """Send nothing to one address before `until_ms`."""
        sql = "UPDATE notices SET next_ms = max(next_ms, ?) WHERE status = 'due' AND person = ? AND channel = ?"
        self._db.execute(sql, (until_ms, person, kind))


def _row(notice: Notice, partition: int) -> tuple[str | int | bytes, ...]:
    own = (notice.id, notice.channel, notice_key(notice), partition, notice.person, notice.status, notice.at_ms)
    return (*own, _encode(notice))


def record_digest(key: bytes | None, value: bytes | None, timestamp_ms: int) -> bytes:
    """By which the file recognises a record."""
    return sha256(b"%d/%b/%b" % (timestamp_ms, key or b"", value or b"")).digest()


def _opened(path: Path) -> apsw.Connection:
    make_private(path)
    db = apsw.Connection(str(path))
    try:
        db.pragma("journal_mode", "wal")
        # what a power loss takes is read from the broker again
        db.pragma("synchronous", "off")
        if db.pragma("user_version") != _VERSION:
            with transaction(db):
                for (name,) in select(db, "SELECT name FROM sqlite_schema WHERE type = 'table'"):
                    db.execute(f'DROP TABLE "{name}"')
                db.execute(_TABLES + LOOK_TABLES)
                db.pragma("user_version", _VERSION)
    except BaseException:
        db.close()
        raise
    return db
