"""What the log is known to have of a partition.

No more than this may be written to disk, while the owner's state runs ahead of it.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence

from mesh.core.events import InputAttempted
from mesh.core.ownership import Epochs
from mesh.core.replay import Attempt, PartitionFold, attempt_after
from mesh.core.state import PartitionState, Workflow
from mesh.services.router.batch import Batch


class Confirmed:
    """The confirmed state, without the workflows that the last checkpoint has as they are.

    `offset`: the log is known up to here. `partition`: positions, watermarks, mark and sequence; no
    workflows. `dirty`: workflows that the last checkpoint does not have as they are now (None:
    forgotten). `spans`: [start, stop) of effective decisions from the confirmed mark on. `origin`:
    the token of the log's first record. `epochs`: as of the take-over. `takeovers`: how many in a
    row made no progress. `attempted`: the input announced last. `saved_offset`:
    of the last checkpoint, -1 if there is none.
    """

    __slots__ = (
        "attempted",
        "dirty",
        "epochs",
        "offset",
        "origin",
        "partition",
        "saved_offset",
        "spans",
        "takeovers",
    )

    def __init__(self) -> None:
        self.offset = 0
        self.partition = PartitionState()
        self.dirty: dict[str, Workflow | None] = {}
        self.spans: deque[tuple[int, int]] = deque()
        self.origin = ""
        self.epochs = Epochs()
        self.takeovers = 0
        self.attempted: Attempt | None = None
        self.saved_offset = -1

    @classmethod
    def of_fold(
        cls, fold: PartitionFold, *, changed: Collection[str], effective: Iterable[int], origin: str
    ) -> "Confirmed":
        """The confirmed state that a take-over finds.

        `changed`: the workflows that the checkpoint does not have as they are. `effective`: log
        offsets of the effective decisions from the mark on.
        """
        made, state = cls(), fold.state
        made.offset = fold.next_offset
        made.partition = PartitionState(
            positions=dict(state.positions),
            watermarks=dict(state.watermarks),
            mark=state.mark,
            sequence=state.sequence,
            at_ms=state.at_ms,
            hold=state.hold,
            seen=state.seen,
            claimed=state.claimed,
        )
        # a decision of the partition itself, such as a mark, has no workflow
        made.dirty = {name: state.workflows.get(name) for name in changed if name}
        made.spans = deque((offset, offset + 1) for offset in effective)
        made.origin = origin
        made.epochs = fold.epochs
        made.takeovers, made.attempted = fold.takeovers, fold.attempted
        return made

    def take(self, batch: Batch, spans: Sequence[tuple[int, int]], offset: int) -> None:
        """Take a batch that the log has.

        It is in these spans of (first offset, count), and the log is known up to `offset`.
        """
        self.offset = offset
        self.dirty.update(batch.changed)
        state = self.partition
        self._note_progress(batch)
        state.watermarks.update(batch.watermarks)
        state.positions = batch.positions
        state.sequence = batch.sequence
        state.mark = batch.decisions[-1].mark
        state.at_ms = batch.decisions[-1].at_ms
        state.hold, state.seen, state.claimed = batch.hold, batch.seen, None
        self.spans.extend((first, first + count) for first, count in spans)
        # below the mark all effects are sent, so no take-over asks which decisions counted there
        while self.spans and self.spans[0][1] <= state.mark:
            self.spans.popleft()

    def _note_progress(self, batch: Batch) -> None:
        """As `PartitionFold` does: an announcement is not progress, and neither is a timer."""
        events = batch.decisions[-1].events
        last = events[-1] if events else None
        if isinstance(last, InputAttempted):
            self.attempted = attempt_after(self.attempted, last)
        elif batch.positions != self.partition.positions or not all(one.events for one in batch.decisions):
            self.attempted, self.takeovers = None, 0
