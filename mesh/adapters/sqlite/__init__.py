"""The embedded broker: topics, groups and the log in one SQLite file.

Several processes of one machine share the file. Called by `mesh.wiring` alone; it must not know
what a record means.

    schema         the file
    chunks         records as bytes
    log            records in the file
    groups         who holds which partition
    processes      whether a member's process is alive
    nudge          wakes sleeping readers
    readers        the port's readers
    subscription   the port's group members
    broker         the port
"""

from mesh.adapters.sqlite.broker import SqliteBroker

__all__ = ["SqliteBroker"]
