"""The files of this machine: their disk, their rights, and the checkpoints of its routers."""

import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from mesh.inspection.doctor.patient import Patient, in_thread
from mesh.inspection.doctor.values import Finding, Result, found
from mesh.inspection.mesh_status.disk import full_disk
from mesh.inspection.mesh_status.spans import numbers, span
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import PartitionRow
from mesh.inspection.read_model.routers import RouterRow, routers
from mesh.settings import Settings, SqliteAddress, parse_broker_url

LITTLE_BYTES: Final = 1_073_741_824
LITTLE_SHARE: Final = 0.05
_OTHERS: Final = 0o077
_SHOWN: Final = 3
_PATIENCE: Final = 3  # intervals of checkpoints, and a minute, until one counts as old
_MINUTE_MS: Final = 60_000


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    folder: Path
    free_bytes: int
    total_bytes: int


def folders(settings: Settings) -> list[Path]:
    """The folders of this machine that a mesh writes to."""
    address = parse_broker_url(settings.broker)
    found = [settings.data_dir.absolute()]
    if isinstance(address, SqliteAddress):
        found.append(address.path.absolute().parent)
    return list(dict.fromkeys(found))


async def check_disk(patient: Patient) -> Result:
    full = await in_thread(lambda: full_disk(patient.settings.broker))
    disks = await in_thread(lambda: [_disk(folder) for folder in folders(patient.settings) if folder.exists()])
    said = ", ".join(f"{one.free_bytes / 2**30:,.1f} GiB free for {one.folder}" for one in disks)
    findings = list(of_disks(disks))
    if full is not None:
        why = "a full disk stops every process of the mesh"
        findings.append(Finding(severity="error", what=full.what, why=why, next_step=full.next_step))
    return found(findings, said or "no data folder here yet")


def _disk(folder: Path) -> Disk:
    usage = shutil.disk_usage(folder)
    return Disk(folder=folder, free_bytes=usage.free, total_bytes=usage.total)


def of_disks(disks: Sequence[Disk]) -> Iterator[Finding]:
    for one in disks:
        if one.free_bytes < LITTLE_BYTES or one.free_bytes < one.total_bytes * LITTLE_SHARE:
            yield Finding(
                severity="warning",
                what=f"the disk of {one.folder} has {one.free_bytes / 2**20:,.0f} MiB left of {one.total_bytes / 2**30:,.0f} GiB",
                why="on a full disk a SQLite mesh waits, and checkpoints and caches are not kept",
                next_step=f"make room on the disk of {one.folder}; files in MESH_DATA_DIR are caches and may be deleted",
            )


async def check_rights(patient: Patient) -> Result:
    """Whether others on this machine can read what lies in our folders: they hold payloads."""
    files = await in_thread(lambda: _modes(patient.settings))
    return found(of_modes(files), f"{len(files)} files looked at")


def _modes(settings: Settings) -> dict[Path, int]:
    """The mode of each file of ours: databases, and what SQLite keeps beside them."""
    address = parse_broker_url(settings.broker)
    paths = [path for path in settings.data_dir.rglob("*") if path.name.partition("-")[0].endswith((".db", ".sqlite"))]
    if isinstance(address, SqliteAddress):
        paths += [Path(f"{address.path}{ending}") for ending in ("", "-wal", "-shm")]
    return {path.absolute(): path.stat().st_mode for path in paths if path.is_file()}


def of_modes(files: Mapping[Path, int]) -> Iterator[Finding]:
    wide = sorted(path for path, mode in files.items() if mode & _OTHERS)
    if wide:
        more = f" and {len(wide) - _SHOWN} more" if len(wide) > _SHOWN else ""
        yield Finding(
            severity="warning",
            what=f"others on this machine have rights to {', '.join(map(str, wide[:_SHOWN]))}{more}",
            why="the files hold payloads; agent-mesh makes them for their owner alone, older versions did not",
            next_step=f"chmod go= {' '.join(map(str, wide[:_SHOWN]))}",
        )


async def check_checkpoints(patient: Patient) -> Result:
    """Those of routers that run on this machine, by the names that routers have by default."""
    now_ms, db = patient.clock.now_ms(), patient.model.db
    here = [row for row in routers(db) if row.is_alive(now_ms) and row.instance.startswith(f"{socket.gethostname()}-")]
    if not here:
        return Result(said="no router of this machine is known")
    saved = await in_thread(lambda: _saved_ms(patient.settings))
    owned = {row.partition: row for row in queries.partitions(db)}
    interval_ms = int(patient.settings.checkpoint_interval_s * 1_000)
    return found(of_checkpoints(here, owned, saved, interval_ms, now_ms), f"{len(saved)} files")


def _saved_ms(settings: Settings) -> dict[int, int]:
    """When the last checkpoint of each partition was written on this machine."""
    mesh = sha256(f"{settings.broker}\n{settings.topic_prefix}".encode()).hexdigest()[:12]
    saved: dict[int, int] = {}
    for path in (settings.data_dir / "checkpoints" / mesh).glob("*/*.db*"):
        number = path.name.partition(".")[0]
        if number.isdecimal():
            saved[int(number)] = max(saved.get(int(number), 0), int(path.stat().st_mtime * 1_000))
    return saved


def of_checkpoints(
    here: Sequence[RouterRow],
    owned: Mapping[int, PartitionRow],
    saved: Mapping[int, int],
    interval_ms: int,
    now_ms: int,
) -> Iterator[Finding]:
    """Partitions of these routers with decisions that no checkpoint has had the time to hold."""
    names, patience_ms = {row.instance for row in here}, _PATIENCE * interval_ms + _MINUTE_MS
    late = {
        number: saved.get(number, 0)
        for number, row in owned.items()
        if row.owner in names and saved.get(number, row.owner_since_ms) + patience_ms < min(row.decided_at_ms, now_ms)
    }
    if late:
        oldest_ms = min(late.values())
        age = f"the oldest is {span(now_ms - oldest_ms)} old" if oldest_ms else "some have none"
        yield Finding(
            severity="warning",
            what=f"partitions {numbers(tuple(sorted(late)))} have no new checkpoint here: {age}",
            why="a restart, or a take-over by a router here, reads the log from the last checkpoint on, which takes longer",
            next_step="look for checkpoint_not_saved in the router's log, and at the disk of MESH_DATA_DIR",
        )


async def check_metrics(patient: Patient) -> Result:
    return found(of_metrics(patient.settings.metrics), f"MESH_METRICS={patient.settings.metrics}")


def of_metrics(setting: str) -> Iterator[Finding]:
    if setting == "off":
        yield Finding(
            severity="note",
            what="metrics are off in the settings of this machine",
            why="no alert can tell you what is wrong before somebody looks",
            next_step="MESH_METRICS=prometheus for each service (docs/metrics.md), and infra/observability/alerts.yml",
        )
