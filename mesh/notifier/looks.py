"""When to look at which approval: an index of times, in the notifier's file.

Owns what is due to be looked at, and why nothing of it is lost. A change of an approval, a new
address of a person, or the time of a reminder makes one look due; nothing is looked at besides. So
the work is that of the changes and of the notices, however many approvals are open.

A look is there before anything rests on it: with the note how far the inbox has read (`mark`), or
how a person was (`people`), in one transaction. A process that starts with another inbox than the
mark says looks at everything once. Looks of partitions that another notifier has wait until they
are ours: what was told meanwhile is on the topic.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Final

import apsw

from mesh.codec.notices import notice_partition
from mesh.inspection.read_model.schema import select, select_one, transaction

LOOK_TABLES: Final = """
CREATE TABLE looks (approval_id TEXT PRIMARY KEY, partition INTEGER NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX looks_by_time ON looks (partition, at_ms);
CREATE TABLE inbox_mark (mark TEXT NOT NULL);
CREATE TABLE people (person TEXT PRIMARY KEY, mark TEXT NOT NULL) WITHOUT ROWID;
"""
_ADD_NOW: Final = "INSERT INTO looks VALUES (?, ?, 0) ON CONFLICT DO UPDATE SET at_ms = 0 WHERE at_ms > 0"
_DUE_AMONG: Final = "SELECT approval_id FROM looks WHERE approval_id IN (SELECT value FROM json_each(?)) AND at_ms = 0"
_MANY: Final = 5_000  # approvals for which it is asked at once whether they are due


class Looks:
    """The looks in a file that its owner opens and closes."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def add_now(self, approval_ids: Iterable[str]) -> None:
        """Have these approvals looked at now."""
        with transaction(self._db):
            self._put(approval_ids)

    def put_now(self, placed: Iterable[tuple[str, int]]) -> None:
        """The same in a transaction of the caller's, which knows the partition of each."""
        self._db.executemany(_ADD_NOW, placed)

    def _put(self, approval_ids: Iterable[str]) -> None:
        ids = iter(approval_ids)
        while some := list(islice(ids, _MANY)):
            # at a first start all are due already, and that is found sooner than a partition
            due = {row[0] for row in select(self._db, _DUE_AMONG, json.dumps(some))}
            self.put_now((one, notice_partition(one)) for one in some if one not in due)

    def due(self, partitions: Collection[int], now_ms: int, limit: int) -> list[str]:
        """The approvals to look at now, those of the earliest time first in each partition."""
        found: list[str] = []
        sql = "SELECT approval_id FROM looks WHERE partition = ? AND at_ms <= ? ORDER BY at_ms LIMIT ?"
        for partition in sorted(partitions):
            found += [row[0] for row in select(self._db, sql, partition, now_ms, limit - len(found))]
        return found

    def looked(self, looks: Iterable[tuple[str, int | None]]) -> None:
        """Write when to look at these approvals again; None: only if something changes."""
        again = dict(looks)
        with transaction(self._db):
            gone = ((one,) for one, next_ms in again.items() if next_ms is None)
            self._db.executemany("DELETE FROM looks WHERE approval_id = ?", gone)
            later = ((next_ms, one) for one, next_ms in again.items() if next_ms is not None)
            self._db.executemany("UPDATE looks SET at_ms = ? WHERE approval_id = ?", later)

    # What the looks rest on -----------------------------------------------------------------------

    def inbox_mark(self) -> str:
        """How far the inbox had read when the last looks were added for what it read."""
        row = select_one(self._db, "SELECT mark FROM inbox_mark")
        return "" if row is None else str(row[0])

    def add_read(self, placed: Iterable[tuple[str, int]], mark: str) -> None:
        """Have what the inbox has read looked at now: approvals, each with its partition."""
        with transaction(self._db):
            self.put_now(placed)
            self._db.execute("DELETE FROM inbox_mark")
            self._db.execute("INSERT INTO inbox_mark VALUES (?)", (mark,))

    def people(self) -> dict[str, str]:
        """How each person was when what waits for them was last looked at because of that."""
        return dict(select(self._db, "SELECT person, mark FROM people"))

    def add_of_people(self, approval_ids: Iterable[str], people: Mapping[str, str]) -> None:
        """Have these looked at now, since people are others. `people`: all, as they are now."""
        with transaction(self._db):
            self._put(approval_ids)
            self._db.execute("DELETE FROM people")
            self._db.executemany("INSERT INTO people VALUES (?, ?)", people.items())

    def forget(self) -> None:
        """Rest on nothing, in a transaction of the caller's: the next start looks at everything."""
        self._db.execute("DELETE FROM inbox_mark; DELETE FROM people")
