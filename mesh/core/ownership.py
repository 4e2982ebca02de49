"""Ownership of a log partition: the log is the lock.

A log partition has one legitimate writer. A router that takes it appends `OwnerChanged` with a
fresh random token, the epoch, and reads the partition up to that record. From then on it knows the
offset that its next append must get. Readers apply a decision only if its epoch is the one in
force, so a deposed owner's late append is inert. Correctness rests on nothing else: not on group
membership, sessions or clocks.

    Epochs      the reader's rule: which records are effective. Every fold uses it.
    Ownership   the writer's rule: what an acknowledgement means. Only the owner uses it.

    claiming --claimed(offset)--> catching_up --caught_up()--> owning
    owning --acknowledged, as expected--> owning
    owning --acknowledged, a gap of inert records--> owning
    owning --a new token, a refusal, anything else--> lost

Both are state machines without I/O. The service around them (`mesh.services.router.owner`) reads,
appends and sends. Everything that affects who owns a partition must be in this file, so that its
real code can be explored exhaustively (`tests/unit/test_ownership_model.py`).

Why a token is not a counter: two routers that take over at once would choose the same number. Why
it is not the record's offset: the log could never be copied.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from mesh.core.events import Decision, LogRecord, OwnerChanged


class Epochs:
    """Which epoch is in force, as one reader of a log partition has seen it so far."""

    __slots__ = ("_seen", "current")

    def __init__(self, seen: Iterable[str] = (), current: str = "") -> None:
        self._seen = set(seen)
        self.current = current

    def observe(self, record: LogRecord) -> bool:
        """Read the next record.

        True if it is an effective decision, or an `OwnerChanged` that counts.
        """
        if isinstance(record, Decision):
            return record.epoch == self.current
        # a token counts at its first occurrence alone: an append whose acknowledgement was lost may
        # land twice, and its second landing must depose nobody
        if record.token in self._seen:
            return False
        self._seen.add(record.token)
        self.current = record.token
        return True

    def has_seen(self, token: str) -> bool:
        return token in self._seen

    def seen(self) -> list[str]:
        """All tokens so far, sorted: what a checkpoint keeps."""
        return sorted(self._seen)


class Phase(StrEnum):
    CLAIMING = "claiming"
    CATCHING_UP = "catching_up"
    OWNING = "owning"
    LOST = "lost"


class Gap(NamedTuple):
    """Offsets [start, stop) that another writer's records took.

    They must be read before the acknowledgement counts.
    """

    start: int
    stop: int


class Lost(NamedTuple):
    """The ownership is over.

    Drop the partition's state, and send nothing that is not confirmed. Take over again only if the
    partition is still assigned.
    """

    reason: str


class Ownership:
    """One owner's hold on one log partition.

    Appends may be pipelined. Acknowledgements are given in the order of the appends. `expected` is
    the offset that the next acknowledgement must have. `next_offset` is the one that the next
    append should get if all appends under way land as expected.
    """

    __slots__ = ("_epochs", "expected", "in_flight", "phase", "token")

    def __init__(self, token: str) -> None:
        self.token = token
        self.phase = Phase.CLAIMING
        self.expected = -1
        self.in_flight = 0
        self._epochs = Epochs()

    @property
    def next_offset(self) -> int:
        return self.expected + self.in_flight

    def claimed(self, offset: int) -> None:
        """`OwnerChanged` was acknowledged at `offset`.

        The log must now be read up to and including it.
        """
        self._must_be(Phase.CLAIMING)
        self.expected = offset + 1
        self.phase = Phase.CATCHING_UP

    def caught_up(self, epochs: Epochs) -> Lost | None:
        """The log has been read up to our own record. `epochs` is what the fold has seen there."""
        self._must_be(Phase.CATCHING_UP)
        if epochs.current != self.token:
            # our own record must be the newest token at its own offset, unless it is a late second
            # landing of an older one
            return self.lose("the log does not have our token in force at our own record")
        # a copy, because the fold's own goes on changing
        self._epochs = Epochs(epochs.seen(), epochs.current)
        self.phase = Phase.OWNING
        return None

    def appending(self, count: int) -> int:
        """`count` decisions go out. Returns the offset at which the first is expected."""
        self._must_be(Phase.OWNING)
        first = self.next_offset
        self.in_flight += count
        return first

    def acknowledged(self, spans: Sequence[tuple[int, int]]) -> list[Gap] | Lost:
        """Take an append's spans of (first offset, count).

        Returns the gaps to read and give to `gap_read`. No gaps: the append is confirmed.
        """
        # appends that were under way when it was lost are acknowledged too, and confirm nothing
        if self.phase is not Phase.OWNING:
            return Lost(f"not owning: {self.phase}")
        gaps: list[Gap] = []
        for first, count in spans:
            # lower offsets are acknowledged already, so this can't be the append that is expected
            if first < self.expected or count < 1 or count > self.in_flight:
                return self.lose(f"acknowledged at offset {first}, expected {self.expected}")
            if first > self.expected:
                gaps.append(Gap(self.expected, first))
            self.expected = first + count
            self.in_flight -= count
        return gaps

    def gap_read(self, gap: Gap, records: Sequence[LogRecord]) -> Lost | None:
        """Take all records of a gap, in order.

        If all are inert, the acknowledgement counts.
        """
        if self.phase is not Phase.OWNING:
            return Lost(f"not owning: {self.phase}")
        # what can't be read may be a new token
        if len(records) != gap.stop - gap.start:
            return self.lose(f"the gap [{gap.start}, {gap.stop}) could not be read whole")
        for record in records:
            if isinstance(record, OwnerChanged):
                # a token that was in force before has landed late once more, and deposes nobody
                if not self._epochs.has_seen(record.token):
                    return self.lose(f"{record.owner} took over")
            # an append that was taken for lost has landed: the log has what the state here has not
            elif record.epoch == self.token:
                return self.lose("the log has a decision of our own that was never acknowledged")
        return None

    def lose(self, reason: str) -> Lost:
        """End the ownership after a refusal, a failed send, an unknown outcome or a revocation.

        Starting afresh is always right.
        """
        self.phase = Phase.LOST
        return Lost(reason)

    def _must_be(self, phase: Phase) -> None:
        if self.phase is not phase:
            raise RuntimeError(f"ownership {self.token[:8]} is {self.phase}, not {phase}")
