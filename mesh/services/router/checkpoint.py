"""A partition's checkpoint: the fold of its log as of an offset, kept on this machine so that a start need not read the log from its first record.

It holds confirmed state alone, and is a cache: one that can't be read is deleted, and the log makes it anew.
"""

from itertools import islice
from typing import NamedTuple

import msgspec
import structlog

from mesh.codec.state import decode_meta, decode_workflow, encode_meta, encode_workflow
from mesh.core.ownership import Epochs
from mesh.core.replay import PartitionFold
from mesh.core.state import PartitionState
from mesh.errors import OperatorError
from mesh.ports import CheckpointStore
from mesh.services.router.owner import Owner

__all__ = ["Saving", "load_fold"]

_log = structlog.get_logger()


class _EpochsMeta(msgspec.Struct, frozen=True, kw_only=True):
    """The reader's rule, and how the last owners fared."""

    seen: list[str]
    current: str
    takeovers: int
    attempted: tuple[str, int] | None
    spans: list[tuple[int, int]]
    origin: str


class Loaded(NamedTuple):
    """`spans`: [start, stop) of the effective decisions at or after the mark that the fold has taken in already.

    `origin`: the token of the log's first record, empty where nothing was loaded: a checkpoint of another log is worth nothing.
    """

    fold: PartitionFold
    spans: list[tuple[int, int]]
    origin: str = ""


_encode = msgspec.json.Encoder().encode
_decode_epochs = msgspec.json.Decoder(_EpochsMeta).decode


def load_fold(partition: int, store: CheckpointStore | None) -> Loaded:
    """The fold as it was saved, or an empty one."""
    saved = store.load() if store is not None else None
    if store is None or saved is None:
        return Loaded(PartitionFold(partition), [])
    try:
        meta, kept = decode_meta(saved.meta), _decode_epochs(saved.epoch_tokens)
        workflows = {name: decode_workflow(value) for name, value in saved.workflows.items()}
    except msgspec.DecodeError as error:
        _log.warning("checkpoint_unreadable", partition=partition, error=str(error))
        store.delete()
        return Loaded(PartitionFold(partition), [])
    state = PartitionState(
        workflows=workflows,
        positions=meta.positions,
        watermarks=meta.watermarks,
        mark=meta.mark,
        sequence=meta.sequence,
    )
    fold = PartitionFold(partition, state=state, epochs=Epochs(kept.seen, kept.current), next_offset=saved.offset)
    fold.takeovers, fold.attempted = kept.takeovers, kept.attempted
    return Loaded(fold, kept.spans, kept.origin)


class Saving:
    """One checkpoint on its way to its store, in portions: a router that has thousands of workflows to write must not let those that wait stand for 20 ms.

    It holds what the log had confirmed when it was made; the owner goes on meanwhile.
    """

    def __init__(self, owner: Owner, store: CheckpointStore) -> None:
        self.owner = owner
        self._store = store
        known = owner.confirmed
        self._offset = known.offset
        self._meta = encode_meta(known.partition)
        self._epochs = _encode(
            _EpochsMeta(
                seen=known.epochs.seen(),
                current=known.epochs.current,
                takeovers=known.takeovers,
                attempted=known.attempted,
                spans=list(known.spans),
                origin=known.origin,
            )
        )
        self._taken, known.dirty = known.dirty, {}
        self._left = iter(self._taken.items())

    def advance(self, workflows: int | None = None) -> bool:
        """Write so many more (None: all). Whether it is done. Raises `OperatorError`; then nothing is written, and the owner has it all to write yet."""
        known, portion = self.owner.confirmed, dict(islice(self._left, workflows))
        try:
            if portion:
                self._store.put(
                    {name: encode_workflow(workflow) for name, workflow in portion.items() if workflow is not None},
                    [name for name, workflow in portion.items() if workflow is None],
                )
                if len(portion) == workflows:
                    return False
            self._store.save(offset=self._offset, epoch_tokens=self._epochs, meta=self._meta)
        except OperatorError:
            known.dirty = {**self._taken, **known.dirty}
            raise
        known.saved_offset = self._offset
        return True
