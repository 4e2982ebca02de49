"""The shop's ledger of refunds, in one SQLite file.

It has one row for each idempotency key, so that a task that runs twice pays once.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_TABLE = """
CREATE TABLE IF NOT EXISTS refund (
    key TEXT PRIMARY KEY, customer TEXT NOT NULL, order_id TEXT NOT NULL, cents INTEGER NOT NULL, at TEXT NOT NULL DEFAULT (datetime('now'))
)
"""


class Ledger:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def of(self, customer: str) -> list[tuple[str, int]]:
        """The customer's refunds so far: order and cents, the oldest first."""
        rows = self._connection.execute(
            "SELECT order_id, cents FROM refund WHERE customer = ? ORDER BY rowid", (customer,)
        )
        return [(str(order), int(cents)) for order, cents in rows]

    def pay(self, key: str, customer: str, order_id: str, cents: int) -> bool:
        """Enter a refund. False if this key has been paid before; then nothing is entered."""
        with self._connection:
            made = self._connection.execute(
                "INSERT OR IGNORE INTO refund (key, customer, order_id, cents) VALUES (?, ?, ?, ?)",
                (key, customer, order_id, cents),
            )
        return made.rowcount == 1


@contextmanager
def open_ledger() -> Iterator[Ledger]:
    """Open the file that `REFUND_LEDGER` names, or `.mesh/refunds.db`."""
    path = Path(os.environ.get("REFUND_LEDGER", ".mesh/refunds.db"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=20)) as connection:
        connection.execute(_TABLE)
        yield Ledger(connection)
