"""A small fleet to act on: services, their hosts and releases, in one SQLite file.

Owns the file and its tables, in place of a deployment system. It must not know the mesh. Every
action may be repeated. `agents` calls it.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

_TABLES = """
CREATE TABLE IF NOT EXISTS service (name TEXT PRIMARY KEY, release TEXT NOT NULL, previous TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS host (name TEXT PRIMARY KEY, service TEXT NOT NULL, draining INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS broken (service TEXT NOT NULL, release TEXT NOT NULL, PRIMARY KEY (service, release));
"""


class Fleet:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(
        self, service: str, *, release: str, previous: str, hosts: Sequence[str], broken: Sequence[str] = ()
    ) -> None:
        """Add a service on its hosts. The releases in `broken` do not work."""
        with self._connection:
            self._connection.execute("INSERT INTO service VALUES (?, ?, ?)", (service, release, previous))
            self._connection.executemany(
                "INSERT INTO host (name, service) VALUES (?, ?)", [(h, service) for h in hosts]
            )
            self._connection.executemany("INSERT INTO broken VALUES (?, ?)", [(service, one) for one in broken])

    def releases(self, service: str) -> tuple[str, str]:
        """The current release and the one before it.

        Raises `LookupError` for an unknown service.
        """
        row = self._row("SELECT release, previous FROM service WHERE name = ?", service)
        return str(row[0]), str(row[1])

    def hosts(self, service: str) -> list[tuple[str, bool]]:
        """The names of the hosts, and whether each takes no new requests."""
        rows = self._connection.execute("SELECT name, draining FROM host WHERE service = ? ORDER BY name", (service,))
        return [(str(name), bool(draining)) for name, draining in rows]

    def is_healthy(self, service: str) -> bool:
        release, _ = self.releases(service)
        found = self._connection.execute(
            "SELECT 1 FROM broken WHERE service = ? AND release = ?", (service, release)
        ).fetchone()
        return found is None

    def set_draining(self, host: str, *, draining: bool) -> None:
        """Let the host take no new requests, or take them again.

        Raises `LookupError` for an unknown host.
        """
        with self._connection:
            made = self._connection.execute("UPDATE host SET draining = ? WHERE name = ?", (draining, host))
        if made.rowcount == 0:
            raise LookupError(f"the fleet has no host {host}")

    def deploy(self, service: str, release: str) -> None:
        """Run this release. Repeated, it changes nothing."""
        current, _ = self.releases(service)
        if current != release:
            with self._connection:
                self._connection.execute(
                    "UPDATE service SET release = ?, previous = ? WHERE name = ?", (release, current, service)
                )

    def _row(self, query: str, service: str) -> Any:
        found = self._connection.execute(query, (service,)).fetchone()
        if found is None:
            raise LookupError(f"the fleet has no service {service}")
        return found


@contextmanager
def open_fleet() -> Iterator[Fleet]:
    """Open the file that `INCIDENT_FLEET` names, or `.mesh/fleet.db`."""
    path = Path(os.environ.get("INCIDENT_FLEET", ".mesh/fleet.db"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=20)) as connection:
        connection.executescript(_TABLES)
        yield Fleet(connection)
