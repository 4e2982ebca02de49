"""`mesh archive run | verify`: keep the histories of workflows that are over as files.

Owns how it is shown. `mesh.inspection.history.archiving` says what is archived, and when.
"""

import click

from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted
from mesh.errors import OperatorError
from mesh.inspection.history.archive import Archive
from mesh.inspection.history.archiving import archive_forgotten
from mesh.wiring.files import open_archive


@click.group(short_help="Archive the workflows that are over.")
def archive() -> None:
    """The archive: histories of workflows that the mesh has forgotten, as compressed files."""


@archive.command(short_help="Archive what the mesh has forgotten.")
@mesh_command
def run(session: Session) -> None:
    """Write the histories of forgotten workflows to MESH_ARCHIVE_DIR, and drop them from lists.

    A workflow is forgotten when its route's `closed_retention` is over. `mesh workflow ID` still
    finds it there. Let cron run this, once a day, say; a run that was killed goes on with the next.
    """
    done = session.run(_run(session))
    if session.as_json:
        session.emit({"archived": done})
    else:
        session.note(f"{counted(done, 'workflow')} archived in {session.settings.archive_dir}")


async def _run(session: Session) -> int:
    with _opened(session, writes=True) as folder:
        async with session.model() as (_, model):
            return sum(archive_forgotten(model.db, folder))


@archive.command(short_help="Check that every file of the archive is whole.")
@mesh_command
def verify(session: Session) -> None:
    """Read every history in MESH_ARCHIVE_DIR, and compare its sum with what was written."""
    with _opened(session) as folder:
        found = sum(1 for _ in folder.check())
    if session.as_json:
        session.emit({"whole": found})
    else:
        session.note(f"{counted(found, 'part')} are whole")


def _opened(session: Session, *, writes: bool = False) -> Archive:
    place = session.settings.archive_dir
    if place is None:
        raise OperatorError("no archive is named: set MESH_ARCHIVE_DIR to its folder, or to a URL in an object store")
    return open_archive(place, session.settings.data_dir, writes=writes)
