"""The notifier's file: what was told, what is still to be sent, and when to look at which approval.

Owns the tables. The file is a cache of `mesh.approvals.notices` and may be deleted at any time:
then the topic is read again. What is kept on disk need not fit into memory, however many approvals
are open.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, Self

import apsw
import msgspec

from mesh.adapters.sqlite_files import make_private
from mesh.codec.channels import ChannelKind
from mesh.codec.notices import Notice, notice_key, notice_partition
from mesh.inspection.read_model.schema import delete_file, select, select_one, transaction

KEPT_MS: Final = 90 * 86_400_000  # as long as the topic keeps a notice
_VERSION: Final = 1
_MOST_OVERDUE: Final = 10_000  # at one look; the rest is found at the next
_TABLES: Final = """
CREATE TABLE positions (partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL, last_digest BLOB NOT NULL);
CREATE TABLE notices (number INTEGER PRIMARY KEY, id TEXT NOT NULL, channel TEXT NOT NULL, key TEXT NOT NULL,
    partition INTEGER NOT NULL, person TEXT NOT NULL, status TEXT NOT NULL, at_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL, next_ms INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (id, channel));
CREATE INDEX notices_by_key ON notices (key, number);
CREATE INDEX notices_by_age ON notices (at_ms);
CREATE INDEX notices_due ON notices (person, channel, attempts, number) WHERE status = 'due';
CREATE TABLE looks (approval_id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX looks_by_time ON looks (at_ms);
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

    # What the topic says --------------------------------------------------------------------------

    def positions(self) -> dict[int, Position]:
        rows = select(self._db, "SELECT partition, next_offset, last_digest FROM positions")
        return {partition: Position(offset, digest) for partition, offset, digest in rows}

    def take(self, partition: int, position: Position, notices: Iterable[Notice], now_ms: int) -> None:
        """Write what a partition's next records say."""
        with transaction(self._db):
            for notice in notices:
                self._put(notice)
                if notice.status == "sent" and notice.approval_id:
                    self._look(notice.approval_id, now_ms)
            self._db.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", (partition, *position))

    def settle(self, notices: Iterable[Notice]) -> None:
        """Write what became of notices, once the topic has it."""
        with transaction(self._db):
            for notice in notices:
                self._put(notice)

    def _put(self, notice: Notice) -> None:
        key = notice_key(notice)
        # a notice is never due again once something has become of it, however late it is read
        self._db.execute(
            "INSERT INTO notices (id, channel, key, partition, person, status, at_ms, attempts, next_ms, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?) ON CONFLICT (id, channel) DO UPDATE "
            "SET status = excluded.status, body = excluded.body WHERE excluded.status <> 'due'",
            (
                notice.id,
                notice.channel,
                key,
                notice_partition(key),
                notice.person,
                notice.status,
                notice.at_ms,
                _encode(notice),
            ),
        )

    def forget_before(self, at_ms: int) -> None:
        self._db.execute("DELETE FROM notices WHERE at_ms < ? AND status <> 'due'", (at_ms,))

    def told(self, key: str) -> list[Notice]:
        """All notices of an approval, the first at the top."""
        return [
            _decode(body) for (body,) in select(self._db, "SELECT body FROM notices WHERE key = ? ORDER BY number", key)
        ]

    def has(self, notice_id: str) -> bool:
        return select_one(self._db, "SELECT 1 FROM notices WHERE id = ? LIMIT 1", notice_id) is not None

    # When to look at what -------------------------------------------------------------------------

    def look_at(self, approval_ids: Iterable[str], at_ms: int) -> None:
        """Have these approvals looked at, then or sooner."""
        with transaction(self._db):
            for approval_id in approval_ids:
                self._look(approval_id, at_ms)

    def _look(self, approval_id: str, at_ms: int) -> None:
        sql = "INSERT INTO looks VALUES (?1, ?2) ON CONFLICT DO UPDATE SET at_ms = min(at_ms, ?2)"
        self._db.execute(sql, (approval_id, at_ms))

    def look_at_told(self, at_ms: int) -> None:
        """Have all approvals looked at of which something was told."""
        sql = "INSERT INTO looks SELECT DISTINCT key, ?1 FROM notices WHERE key NOT LIKE 'digest/%' ON CONFLICT DO UPDATE SET at_ms = ?1"
        self._db.execute(sql, (at_ms,))

    def looked(self, looks: Iterable[tuple[str, int | None]]) -> None:
        """Write when to look at these approvals again; None: only if something changes."""
        with transaction(self._db):
            for approval_id, next_ms in looks:
                if next_ms is None:
                    self._db.execute("DELETE FROM looks WHERE approval_id = ?", (approval_id,))
                else:
                    self._db.execute("UPDATE looks SET at_ms = ? WHERE approval_id = ?", (next_ms, approval_id))

    def to_look_at(self, now_ms: int, limit: int) -> list[str]:
        sql = "SELECT approval_id FROM looks WHERE at_ms <= ? ORDER BY at_ms LIMIT ?"
        return [approval_id for (approval_id,) in select(self._db, sql, now_ms, limit)]

    # Lanes ----------------------------------------------------------------------------------------

    def lanes(self, partitions: Collection[int], now_ms: int) -> list[tuple[str, ChannelKind]]:
        """The addresses for which something is due now, each as its person and kind."""
        sql = (
            "SELECT DISTINCT person, channel FROM notices WHERE status = 'due' AND next_ms <= ? "
            "AND partition IN (SELECT value FROM json_each(?))"
        )
        return [(person, kind) for person, kind in select(self._db, sql, now_ms, json.dumps(sorted(partitions)))]

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
                db.execute(_TABLES)
                db.pragma("user_version", _VERSION)
    except BaseException:
        db.close()
        raise
    return db
