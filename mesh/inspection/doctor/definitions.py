"""Route versions: in use and not there, stored and not readable, on disk and not active."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mesh.codec.route_file import load_routes
from mesh.errors import RouteInvalid
from mesh.inspection.doctor.patient import Patient, in_thread
from mesh.inspection.doctor.values import Finding, Result, found
from mesh.inspection.route_versions import Stored, Use, read_stored, uses
from mesh.inspection.wording.phrases import counted

_DIGITS: Final = 12


async def check_definitions(patient: Patient) -> Result:
    stored, used = await read_stored(patient.broker, patient.topics), uses(patient.model.db)
    count = len(stored.digests())
    return found(
        of_versions(stored, used),
        f"active: {counted(count, 'route')}, stored: {counted(len(stored.versions), 'version')}",
    )


def of_versions(stored: Stored, used: Mapping[str, Use]) -> Iterator[Finding]:
    known = {version.digest: version for version in stored.versions}
    active = stored.digests()
    for digest, use in sorted(used.items()):
        if use.running and digest and digest not in known:
            yield Finding(
                severity="error",
                what=f"{_running(use.running)} on the version {_short(digest)}, which is not stored",
                why="a router that takes them over can't go on with them",
                next_step="mesh routes apply FILE, with the file of that version; then the present one again",
            )
    for name, digest in sorted(active.items()):
        version = known.get(digest)
        if version is None or version.route is None:
            why = "it is not stored" if version is None else version.problem
            yield Finding(
                severity="error",
                what=f"the active version {_short(digest)} of the route {name} can't be read here: {why}",
                why="routers of this version hold back the events that it may want",
                next_step="update agent-mesh here and for all routers, or mesh routes apply FILE with a version they can read",
            )


async def check_files(patient: Patient) -> Result:
    """The route files of this machine against what is active. Only where there are any."""
    paths = [path for path in patient.settings.routes if path.exists()]
    if not paths:
        return Result(said="no route files here")
    try:
        loaded = await in_thread(lambda: load_routes(paths))
    except RouteInvalid as error:
        return found(of_invalid(error, paths))
    on_disk = {one.route.name: one.route.digest for one in loaded}
    active = (await read_stored(patient.broker, patient.topics)).digests()
    return found(of_files(on_disk, active), f"{counted(len(on_disk), 'route')} in {', '.join(map(str, paths))}")


def of_invalid(error: RouteInvalid, paths: Sequence[Path]) -> Iterator[Finding]:
    yield Finding(
        severity="error",
        what=f"route files here are not valid: {str(error).splitlines()[0]}",
        why="a router that brings them does not start",
        next_step=f"mesh routes check {' '.join(map(str, paths))}",
    )


def of_files(on_disk: Mapping[str, str], active: Mapping[str, str]) -> Iterator[Finding]:
    for name, digest in sorted(on_disk.items()):
        if active.get(name) == digest:
            continue
        what = (
            f"the route {name} is on disk as {_short(digest)}, and {_short(active[name])} is active"
            if name in active
            else f"the route {name} is on disk, and not active"
        )
        yield Finding(
            severity="warning",
            what=what,
            why="events meet what is active, not what is on disk",
            next_step="mesh routes diff shows how they differ; mesh routes apply FILE makes the file active",
        )
    for name in sorted(active.keys() - on_disk.keys()):
        yield Finding(
            severity="note",
            what=f"the route {name} is active, and not on disk here",
            why="it still starts workflows",
            next_step=f"nothing, if its file is elsewhere; else mesh routes apply --withdraw {name}",
        )


def _running(count: int) -> str:
    return f"{counted(count, 'workflow')} {'runs' if count == 1 else 'run'}"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:_DIGITS]
