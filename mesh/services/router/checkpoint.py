"""A partition's checkpoint: the fold of its log up to an offset, kept on this machine.

With it, a start need not read the log from its first record. It holds only confirmed state, and is
a cache: one that can't be read is deleted, and is made again from the log.
"""

import asyncio
from collections.abc import Callable, Mapping
from itertools import islice
from typing import NamedTuple

import msgspec
import structlog

from mesh.codec.sealing import Key, opened_state, sealed_state
from mesh.codec.state import decode_meta, decode_workflow, encode_meta, encode_workflow
from mesh.core.ownership import Epochs
from mesh.core.replay import Attempt, PartitionFold
from mesh.core.state import Workflow
from mesh.errors import OperatorError
from mesh.ports import CheckpointStore
from mesh.services.router.config import RouterConfig
from mesh.services.router.owner import Owner

_log = structlog.get_logger()


class _EpochsMeta(msgspec.Struct, frozen=True, kw_only=True):
    """The reader's rule, and how the last owners fared."""

    seen: list[str]
    current: str
    takeovers: int
    attempted: tuple[str, int] | None
    attempts: int = 1
    spans: list[tuple[int, int]]
    origin: str


class Loaded(NamedTuple):
    """A loaded checkpoint.

    `spans`: [start, stop) of the effective decisions at or after the mark that the fold already
    includes. `origin`: the token of the log's first record, empty if nothing was loaded. A
    checkpoint of another log must not be used.
    """

    fold: PartitionFold
    spans: list[tuple[int, int]]
    origin: str = ""


_encode = msgspec.json.Encoder().encode
_decode_epochs = msgspec.json.Decoder(_EpochsMeta).decode


def load_fold(partition: int, store: CheckpointStore | None, keys: Mapping[str, Key]) -> Loaded:
    """The fold as it was saved, or an empty one.

    `keys`: of private workflows. Those whose key is not there are left out.
    """
    saved = store.load() if store is not None else None
    if store is None or saved is None:
        return Loaded(PartitionFold(partition), [])
    try:
        meta, kept = decode_meta(saved.meta), _decode_epochs(saved.epoch_tokens)
        states = {name: opened_state(value, name, keys) for name, value in saved.workflows.items()}
        workflows = {name: decode_workflow(value) for name, value in states.items() if value is not None}
    # also of a seal that is broken
    except ValueError as error:
        _log.warning("checkpoint_unreadable", partition=partition, error=str(error))
        # a checkpoint is a cache: without it, more of the log is read
        store.delete()
        return Loaded(PartitionFold(partition), [])
    fold = PartitionFold(
        partition, state=meta.state(workflows), epochs=Epochs(kept.seen, kept.current), next_offset=saved.offset
    )
    fold.unreadable = {name for name, value in states.items() if value is None}
    fold.takeovers = kept.takeovers
    fold.attempted = Attempt(*kept.attempted, kept.attempts) if kept.attempted is not None else None
    return Loaded(fold, kept.spans, kept.origin)


class Saving:
    """One checkpoint on its way to its store, in portions.

    A router with thousands of workflows to write must not delay other work by 20 ms. It holds what
    the log had confirmed when the saving began; the owner goes on meanwhile.
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
                attempted=known.attempted and known.attempted[:2],
                attempts=known.attempted.times if known.attempted is not None else 0,
                spans=list(known.spans),
                origin=known.origin,
            )
        )
        # what changes from here on belongs to the next checkpoint
        self._taken, known.dirty = known.dirty, {}
        self._left = iter(self._taken.items())

    def advance(self, workflows: int | None = None) -> bool:
        """Write this many more workflows (None: all). True if it is done.

        Raises `OperatorError`. Then nothing is written, and all of it is still to be written.
        """
        known, portion = self.owner.confirmed, dict(islice(self._left, workflows))
        try:
            if portion:
                self._store.put(
                    {name: self._state(name, workflow) for name, workflow in portion.items() if workflow is not None},
                    [name for name, workflow in portion.items() if workflow is None],
                )
                # a full portion: there may be more
                if len(portion) == workflows:
                    return False
            self._store.save(offset=self._offset, epoch_tokens=self._epochs, meta=self._meta)
        except OperatorError:
            # newer changes win over those that could not be written
            known.dirty = {**self._taken, **known.dirty}
            raise
        known.saved_offset = self._offset
        return True

    def _state(self, name: str, workflow: Workflow) -> bytes:
        state = encode_workflow(workflow)
        # of one that is erased nothing is left to seal
        if not workflow.private or workflow.erased is not None:
            return state
        return sealed_state(state, self.owner.key_of(name))


class Checkpoints:
    """The checkpoints of a router's partitions.

    One is saved at a time, the oldest first, one portion a turn. `stores`: those that could be
    opened, by partition. `saved`, `failed`: how many were, since the start. `open_store` opens the
    store of a partition's checkpoint; None: none are kept.
    """

    def __init__(self, open_store: Callable[[int], CheckpointStore] | None, config: RouterConfig) -> None:
        self.stores: dict[int, CheckpointStore] = {}
        self.saved = 0
        self.failed = 0
        self._open_store = open_store
        self._config = config
        self._saving: Saving | None = None
        self._saved_at: dict[int, float] = {}
        self._next_at = 0.0

    @property
    def is_saving(self) -> bool:
        """Whether a saving is under way."""
        return self._saving is not None

    def open(self, partition: int) -> None:
        """Open the store of this partition, if it is not open yet.

        Without a store, the partition's log is read from its first record.
        """
        if self._open_store is None or partition in self.stores:
            return
        try:
            self.stores[partition] = self._open_store(partition)
        except OperatorError as error:
            _log.warning("checkpoint_not_opened", partition=partition, error=str(error))

    def save_some(self, owners: Mapping[int, Owner], records: int) -> None:
        """Save a portion, in a turn that had this many records."""
        now, interval_s = asyncio.get_running_loop().time(), self._config.checkpoint_interval_s
        if self._saving is None and now >= self._next_at:
            # spread over the interval, so that a router's partitions are not all due at once
            self._next_at = now + interval_s / (len(owners) + 1)
            due = [p for p in owners if now - self._saved_at.get(p, 0.0) >= interval_s]
            if due:
                partition = min(due, key=lambda p: self._saved_at.get(p, 0.0))
                self._saved_at[partition] = now
                self._begin(owners[partition])
        if self._saving is not None:
            # No more workflows than records can have changed, so a portion of that
            # size keeps up with any load.
            self._go_on(max(records, self._config.checkpoint_portion))

    def save(self, owner: Owner) -> None:
        """Save all of this owner's partition now."""
        # one saving at a time: the one under way is finished first
        self._go_on(None)
        self._begin(owner)
        self._go_on(None)

    def close(self) -> None:
        for store in self.stores.values():
            store.close()

    def _begin(self, owner: Owner) -> None:
        store = self.stores.get(owner.partition)
        # nothing new since the last one, or nothing that is still ours to say
        if store is not None and not owner.is_lost() and owner.confirmed.offset != owner.confirmed.saved_offset:
            self._saving = Saving(owner, store)

    def _go_on(self, workflows: int | None) -> None:
        saving, self._saving = self._saving, None
        if saving is None or saving.owner.is_lost():  # its successor's `load` drops what is put
            return
        try:
            if saving.advance(workflows):
                self.saved += 1
            else:
                self._saving = saving
        except OperatorError as error:  # a checkpoint is a cache: without it the next start reads more of the log
            self.failed += 1
            _log.warning("checkpoint_not_saved", partition=saving.owner.partition, error=str(error))
