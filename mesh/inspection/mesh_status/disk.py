"""Whether the disk of a SQLite broker is full: then nobody can write, and everybody seems dead."""

import os
from typing import Final

from mesh.inspection.mesh_status.values import Stuck
from mesh.settings import SqliteAddress, parse_broker_url

NO_ROOM_BYTES: Final = 262_144  # less than one transaction of the broker's file and its log takes


def full_disk(broker_url: str) -> Stuck | None:
    """The finding about a full disk; None if there is room, or if that can't be known from here."""
    address = parse_broker_url(broker_url)
    if not isinstance(address, SqliteAddress):
        return None
    try:
        disk = os.statvfs(address.path.parent)
    except (OSError, AttributeError):  # not there, or not on this system
        return None
    free_bytes = disk.f_bavail * disk.f_frsize
    if free_bytes >= NO_ROOM_BYTES:
        return None
    return Stuck(
        severity="error",
        what=f"the disk of {address.path} is full ({free_bytes // 1024} KiB left): nothing is written, and everything waits",
        next_step=f"make room on the disk of {address.path.parent}; the mesh goes on by itself, nothing needs a restart",
    )
