"""A partition's fold in bounded memory, and digests of what it gives.

Owns where the states are while a log is folded that has more workflows than memory should hold: a
few in memory, the rest in a temporary file of SQLite, which is gone with its connection.
"""

from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from hashlib import sha256
from typing import Any, Final

import apsw

from mesh.codec.log import decode_log_record
from mesh.codec.state import canonical_workflow, decode_workflow, encode_workflow
from mesh.core.replay import PartitionFold
from mesh.core.state import PartitionState, Workflow
from mesh.errors import LogError
from mesh.ports import Broker, Record, TopicPartition
from mesh.services.reading import read_up_to
from mesh.services.vault import Vault

IN_MEMORY: Final = 500  # states: 5 KB each is usual, and an import has a fold for each partition
_CACHE_KB: Final = 256
_TEMPORARY: Final = ""  # SQLite's name for a file that only this connection knows


class SpilledWorkflows(MutableMapping[str, Workflow]):
    """The workflows of a fold: those touched lately in memory, all others in a temporary file."""

    def __init__(self, *, in_memory: int = IN_MEMORY) -> None:
        self._most = in_memory
        self._near: dict[str, Workflow | None] = {}  # None: it is gone, and the file may have it
        self._db = apsw.Connection(_TEMPORARY)
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        self._db.execute("CREATE TABLE workflow (id TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID")

    def __getitem__(self, name: str) -> Workflow:
        if name not in self._near:
            row = self._db.execute("SELECT state FROM workflow WHERE id = ?", (name,)).fetchone()
            self._put(name, None if row is None else decode_workflow(row[0]))
        found = self._near[name]
        if found is None:
            raise KeyError(name)
        return found

    def __setitem__(self, name: str, workflow: Workflow) -> None:
        self._put(name, workflow)

    def __delitem__(self, name: str) -> None:
        self[name]  # raises where there is none
        self._put(name, None)

    def __iter__(self) -> Iterator[str]:
        """The ids in order."""
        self._spill()
        for (name,) in self._db.execute("SELECT id FROM workflow ORDER BY id"):
            yield name

    def __len__(self) -> int:
        self._spill()
        count: Any = self._db.execute("SELECT count(*) FROM workflow").get
        return int(count)

    def states(self) -> Iterator[tuple[str, Workflow]]:
        """All of them in the order of their ids. Nothing may be written meanwhile."""
        self._spill()
        for name, state in self._db.execute("SELECT id, state FROM workflow ORDER BY id"):
            yield name, decode_workflow(state)

    def close(self) -> None:
        self._db.close()

    def _put(self, name: str, workflow: Workflow | None) -> None:
        self._near[name] = workflow
        if len(self._near) > self._most:
            last = self._near.pop(name)
            self._spill()
            self._near[name] = last

    def _spill(self) -> None:
        gone = [(name,) for name, workflow in self._near.items() if workflow is None]
        kept = [(name, encode_workflow(workflow)) for name, workflow in self._near.items() if workflow is not None]
        with self._db:
            self._db.executemany("DELETE FROM workflow WHERE id = ?", gone)
            self._db.executemany("INSERT OR REPLACE INTO workflow VALUES (?, ?)", kept)
        self._near.clear()


def spilled_fold(partition: int) -> tuple[PartitionFold, SpilledWorkflows]:
    """A fold from the first record on, and its workflows, which the caller closes."""
    workflows = SpilledWorkflows()
    return PartitionFold(partition, state=PartitionState(workflows=workflows)), workflows


def state_digest(workflow: Workflow) -> str:
    """What two folds of one log must agree on, as a digest."""
    return "sha256:" + sha256(canonical_workflow(workflow)).hexdigest()


def digests(workflows: SpilledWorkflows) -> Iterator[tuple[str, str]]:
    """Each workflow's id, and the digest of its state, in the order of the ids."""
    for name, workflow in workflows.states():
        yield name, state_digest(workflow)


def open_digests(fold: PartitionFold, workflows: SpilledWorkflows) -> Iterator[tuple[str, str]]:
    """The same without private workflows: what a fold with their keys and one without agree on."""
    for name, workflow in workflows.states():
        # without its key, an id that was not private before has the state of then
        if not workflow.private and name not in fold.unreadable:
            yield name, state_digest(workflow)


def joint_digest(found: Iterator[tuple[str, str]]) -> tuple[int, str]:
    """How many workflows these are, and one digest over all of them."""
    count, joint = 0, sha256()
    for name, digest in found:
        joint.update(f"{name} {digest}\n".encode())
        count += 1
    return count, "sha256:" + joint.hexdigest()


async def log_ends(broker: Broker, topic: str, partitions: int) -> dict[TopicPartition, int]:
    """The end of each partition of the log. Raises `LogError` where its begin is not there."""
    places = [TopicPartition(topic, number) for number in range(partitions)]
    for place, begin in (await broker.begin_offsets(places)).items():
        if begin:
            raise LogError(
                f"{topic}/{place.partition} begins at {begin}: what was before it is gone, and without it no state can "
                "be folded. Restore the log, and set its retention.ms to -1"
            )
    return dict(await broker.end_offsets(places))


async def records_of(
    broker: Broker, place: TopicPartition, end: int, *, begin: int | None = None
) -> AsyncIterator[Sequence[Record]]:
    """The records of a partition up to `end`, in batches; from its begin on unless one is given."""
    begins = await broker.begin_offsets([place]) if begin is None else {place: begin}
    reader = await broker.reader()
    try:
        reader.assign(begins)
        async for batch in read_up_to(reader, {place: end}):
            yield [record for record in batch if record.offset < end]
    finally:
        await reader.close()


async def fold_partition(
    broker: Broker, place: TopicPartition, end: int, vault: Vault | None = None
) -> tuple[PartitionFold, SpilledWorkflows, int]:
    """Fold one partition of the log up to `end`. Returns also the number of its records.

    `vault`: without it, private workflows have no state.
    """
    fold, workflows = spilled_fold(place.partition)
    records = 0
    async for batch in records_of(broker, place, end):
        for record in batch if vault is None else await vault.open(batch):
            fold.apply(record.offset, decode_log_record(record))
        records += len(batch)
    return fold, workflows, records
