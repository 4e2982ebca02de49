"""The careful mode: after several owners in a row that came to nothing, one input at a time.

An input may be what they died of. So each is announced in the log before it is touched, and is
decided once the log has the announcement. An input that owners announced and did not survive,
`PATIENCE` times in a row, is set aside unread. Owns the choice of the next input and of what to do
with it; the owner does it. It looks at no record's value.

    begin --> announce --landed--> decide or set aside --landed--> end
              |                                                |
              +------------------- on trial -------------------+

While an input is on trial, its process touches no other input: else the death that another one
causes would be counted against it. `router` sees to that.
"""

from typing import Final, Literal

from mesh.core.replay import Attempt
from mesh.core.state import PartitionState
from mesh.ports import Record
from mesh.services.router.input_queues import InputQueues, pass_by
from mesh.services.router.input_records import source_of

CAREFUL_AFTER: Final = 3
"""This many owners in a row without progress, ourselves included, make us careful."""
PATIENCE: Final = 2
"""This many deaths on an announced input, and on nothing else, set it aside."""

Place = tuple[str, int]  # of an input: topic and offset
Step = Literal["announce", "decide", "set_aside"]


class CarefulMode:
    """`announced`: the input that we have announced, in the log or on its way there.

    `is_decided`: its decision is on its way to the log. `outlived`: what the owner before us in
    this same process had announced when it lost the partition. It did not die of it.
    """

    __slots__ = ("announced", "is_decided", "is_on", "outlived")

    def __init__(self) -> None:
        self.is_on = False
        self.announced: Place | None = None
        self.is_decided = False
        self.outlived: Place | None = None

    def begin(self, takeovers: int, attempted: Attempt | None) -> None:
        """Be careful if this many owners in a row, ourselves included, came to nothing."""
        self.is_on = takeovers >= CAREFUL_AFTER
        # not announced once more, because that would count as one more death
        if self.outlived is not None and attempted is not None and attempted[:2] == self.outlived:
            self.announced = self.outlived

    def end(self) -> None:
        """The input that may have killed the owners before is dealt with."""
        self.is_on, self.announced, self.is_decided = False, None, False

    def next_input(self, inputs: InputQueues, state: PartitionState, attempted: Attempt | None) -> Record | None:
        """The announced input, once it has been read; if none was announced, the next.

        `attempted`: the one that the log has as announced last. What is decided already leaves the
        queues.
        """
        pending: Place | None = self.announced or (attempted and attempted[:2])
        for queue in inputs.in_order:
            while queue and _is_behind(queue[0], state):
                queue.popleft()
        heads = inputs.heads()
        # nothing is announced, or what was is decided: any input may be the next
        if pending is None or pending[1] < state.positions.get(pending[0], 0):
            return next(iter(heads), None)
        return next((head for head in heads if head.topic == pending[0]), None)

    def step_for(self, record: Record, attempted: Attempt | None) -> Step:
        """What to do with the next input."""
        place = (record.topic, record.offset)
        if self.announced == place:
            return "decide"
        # announced by owners before us, which did not survive it
        is_deadly = attempted is not None and attempted[:2] == place and attempted.times >= PATIENCE
        return "set_aside" if is_deadly else "announce"


def _is_behind(record: Record, state: PartitionState) -> bool:
    """Whether this input has its decision, by its place or as a second copy.

    Judged without a look at its value.
    """
    if record.offset < state.positions.get(record.topic, 0):
        return True
    # by the headers alone: its value may be what kills
    source = source_of(record)
    seen = state.watermarks.get(f"{source['source_topic']}/{source['source_partition']}") if source else None
    if seen is None or (source["source_offset"], source["source_index"]) > seen:
        return False
    pass_by(record, state)
    return True
