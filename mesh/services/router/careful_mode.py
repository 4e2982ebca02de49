"""The careful mode: after several owners in a row that came to nothing, one input at a time.

An input may be what they died of. So each is announced in the log before it is touched, and is
decided once the log has the announcement. An input that an earlier owner announced and did not
survive is set aside unread. Owns the choice of the next input and of what to do with it; the owner
does it. It looks at no record's value.
"""

from typing import Final, Literal

from mesh.core.state import PartitionState
from mesh.ports import Record
from mesh.services.router.input_queues import InputQueues, pass_by
from mesh.services.router.input_records import source_of

CAREFUL_AFTER: Final = 3
"""This many owners in a row without progress, ourselves included, make us careful."""

Place = tuple[str, int]  # of an input: topic and offset
Step = Literal["announce", "decide", "set_aside"]


class CarefulMode:
    """`announced`: the input that we have announced, in the log or on its way there."""

    __slots__ = ("announced", "is_on")

    def __init__(self) -> None:
        self.is_on = False
        self.announced: Place | None = None

    def begin(self, takeovers: int) -> None:
        """Be careful if this many owners in a row, ourselves included, came to nothing."""
        self.is_on = takeovers >= CAREFUL_AFTER

    def end(self) -> None:
        """The input that may have killed the owners before is dealt with."""
        self.is_on, self.announced = False, None

    def next_input(self, inputs: InputQueues, state: PartitionState, attempted: Place | None) -> Record | None:
        """The announced input, once it has been read; if none was announced, the next.

        `attempted`: the one that the log has as announced last. What is decided already leaves the
        queues.
        """
        pending = self.announced or attempted
        for queue in inputs.in_order:
            while queue and _is_behind(queue[0], state):
                queue.popleft()
        heads = inputs.heads()
        # nothing is announced, or what was is decided: any input may be the next
        if pending is None or pending[1] < state.positions.get(pending[0], 0):
            return next(iter(heads), None)
        return next((head for head in heads if head.topic == pending[0]), None)

    def step_for(self, record: Record, attempted: Place | None) -> Step:
        """What to do with the next input."""
        place = (record.topic, record.offset)
        if self.announced == place:
            return "decide"
        # announced by an owner before us, which did not survive it
        return "set_aside" if attempted == place else "announce"


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
