"""Who is signed in: the console's own file.

Owns sessions. The file holds hashes of the ids alone, so a copy of it signs nobody in. It is no
cache: the read model may be deleted at any time, and nobody is signed out by that.
"""

import secrets
from hashlib import sha256
from pathlib import Path
from typing import Final

import apsw

from mesh.adapters.sqlite_files import make_private
from mesh.console.config import SESSION_S
from mesh.inspection.read_model.schema import select_one
from mesh.ports import Clock

COOKIE: Final = "mesh_session"
SECURE_COOKIE: Final = "__Host-mesh_session"
"""Where the console is reached by TLS: no other host, and nobody on the way, can set it."""

LINK_COOKIE: Final = "mesh_link"
SECURE_LINK_COOKIE: Final = "__Host-mesh_link"

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS sessions (id BLOB PRIMARY KEY, person TEXT NOT NULL, ends_at_ms INTEGER NOT NULL) WITHOUT ROWID;
"""


class Sessions:
    """The sessions in `sessions.sqlite` of a folder."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        path = folder / "sessions.sqlite"
        make_private(path)
        self._db = apsw.Connection(str(path))
        self._db.pragma("journal_mode", "wal")
        self._db.execute(_TABLES)
        self._clock = clock

    def begin(self, person: str) -> str:
        """A new session of this person: its secret id."""
        self._db.execute("DELETE FROM sessions WHERE ends_at_ms <= ?", (self._clock.now_ms(),))
        name = secrets.token_urlsafe(32)
        ends_at_ms = self._clock.now_ms() + SESSION_S * 1_000
        self._db.execute("INSERT INTO sessions VALUES (?, ?, ?)", (_hash(name), person, ends_at_ms))
        return name

    def person(self, name: str) -> str | None:
        """Whose session it is; None: nobody's, or it has ended."""
        sql = "SELECT person FROM sessions WHERE id = ? AND ends_at_ms > ?"
        row = select_one(self._db, sql, _hash(name), self._clock.now_ms())
        return None if row is None else str(row[0])

    def end(self, name: str) -> None:
        self._db.execute("DELETE FROM sessions WHERE id = ?", (_hash(name),))

    def close(self) -> None:
        self._db.close()


def _hash(name: str) -> bytes:
    return sha256(name.encode()).digest()
