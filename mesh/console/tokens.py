"""Tokens of programs: who may use the API without a browser.

Owns the file `tokens.sqlite`, which all consoles of a data folder share, and `mesh console token`
writes. It holds hashes alone, so a copy of it lets nobody in. A token is a person's: it may what
they may, and no more.
"""

import secrets
from hashlib import sha256
from pathlib import Path
from typing import Final

import apsw
import msgspec

from mesh.adapters.sqlite_files import make_private
from mesh.inspection.read_model.schema import select, select_one
from mesh.ports import Clock

MOST_DAYS: Final = 366
PREFIX: Final = "mesh_"
"""By which scanners of secrets, and people, know one."""

_BUSY_MS: Final = 5_000
_SHOWN: Final = 12  # digits of a token's id
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS tokens (
    hash BLOB PRIMARY KEY, id TEXT NOT NULL UNIQUE, person TEXT NOT NULL, note TEXT NOT NULL,
    made_at_ms INTEGER NOT NULL, ends_at_ms INTEGER NOT NULL
) WITHOUT ROWID;
"""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a token. Its id is no secret."""

    id: str
    person: str
    note: str
    made_at_ms: int
    ends_at_ms: int


class Tokens:
    """The tokens in a file. Several processes may have it open."""

    def __init__(self, path: Path, clock: Clock) -> None:
        make_private(path)
        self._db = apsw.Connection(str(path))
        self._db.set_busy_timeout(_BUSY_MS)
        self._db.pragma("journal_mode", "wal")
        self._db.execute(_TABLES)
        self._clock = clock

    def make(self, person: str, *, days: int, note: str = "") -> tuple[str, Token]:
        """A new token of this person: the secret, which is nowhere else, and what is kept."""
        secret, now_ms = PREFIX + secrets.token_urlsafe(32), self._clock.now_ms()
        hashed = _hash(secret)
        token = Token(
            id=hashed.hex()[:_SHOWN],
            person=person,
            note=note,
            made_at_ms=now_ms,
            ends_at_ms=now_ms + days * 86_400_000,
        )
        self._db.execute("DELETE FROM tokens WHERE ends_at_ms <= ?", (now_ms,))
        self._db.execute(
            "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?)",
            (hashed, token.id, person, note, token.made_at_ms, token.ends_at_ms),
        )
        return secret, token

    def person(self, secret: str) -> str | None:
        """Whose token it is; None: nobody's, or its time is over."""
        sql = "SELECT person FROM tokens WHERE hash = ? AND ends_at_ms > ?"
        row = select_one(self._db, sql, _hash(secret), self._clock.now_ms())
        return None if row is None else str(row[0])

    def valid(self) -> list[Token]:
        """Those that count now, the oldest first."""
        sql = "SELECT id, person, note, made_at_ms, ends_at_ms FROM tokens WHERE ends_at_ms > ? ORDER BY 4, 1"
        return [
            Token(id=row[0], person=row[1], note=row[2], made_at_ms=row[3], ends_at_ms=row[4])
            for row in select(self._db, sql, self._clock.now_ms())
        ]

    def revoke(self, token_id: str) -> bool:
        """Let it count no more. False: there is none with this id."""
        self._db.execute("DELETE FROM tokens WHERE id = ?", (token_id,))
        return self._db.changes() > 0

    def close(self) -> None:
        self._db.close()


def _hash(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()
