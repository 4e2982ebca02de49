"""What an import leaves in a log partition behind the records that it brought."""

from mesh.core.events.event import LogEvent


class LogImported(LogEvent, tag="LogImported.1", frozen=True, kw_only=True):
    """The partition's records before this one came from another mesh (`mesh log import`).

    `mesh`: its name. `digest`: of the file that they came in. Input topics begin again here: the
    decision has no positions, and `watermarks` takes the place of all that were before. It has
    those for other partitions of the log, which count by sequences, and no others.
    """

    mesh: str
    digest: str
    watermarks: dict[str, tuple[int, int]]
