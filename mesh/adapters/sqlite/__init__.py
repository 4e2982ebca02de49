"""The embedded broker: topics, groups and the log in one SQLite file that several processes of one
machine share.

Called by `mesh.wiring` alone. What stands where: `schema` (the file), `chunks` (records as bytes),
`log` (records in the file), `groups` (who holds which partition), `processes` (is a member's
process alive), `nudge` (waking sleeping readers), `reading` and `subscription` (the ports'
readers), `broker` (the port).
"""

from mesh.adapters.sqlite.broker import SqliteBroker

__all__ = ["SqliteBroker"]
