"""Inputs of a partition's owner to itself: what could never be sent.

Owns them until they are decided, and holds the log's mark back until then. No record holds such an
input, so a new owner must find out by itself what can't be sent. Flights and the take-over fill it,
the owner takes from it, and `decider` asks for the mark.
"""

from collections import deque

from mesh.core.events import Cause
from mesh.core.ids import attempt_id
from mesh.core.inputs import TaskUndeliverable, Undeliverable


class OwnInputs:
    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        # with the place in the log from which on their effects may be
        self._waiting: deque[tuple[int, TaskUndeliverable | Undeliverable]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, given: TaskUndeliverable | Undeliverable, decided_at: int) -> None:
        """Take as an input that an effect can't ever be sent.

        The effect is of a decision at `decided_at` or later.
        """
        self._waiting.append((decided_at, given))

    def take(self) -> tuple[int, TaskUndeliverable | Undeliverable]:
        """The next, with its `decided_at`. It holds the mark back no longer."""
        return self._waiting.popleft()

    def put_back(self, own: tuple[int, TaskUndeliverable | Undeliverable]) -> None:
        """Take the last one back: it is not decided after all."""
        self._waiting.appendleft(own)

    def hold_back(self, mark: int) -> int:
        """The mark that the log may have, if all below `mark` is sent or is an input here."""
        return min(mark, self._waiting[0][0]) if self._waiting else mark


def cause_of_own(given: TaskUndeliverable | Undeliverable) -> Cause:
    """The cause of the decision on one of them."""
    match given:
        case TaskUndeliverable():
            return Cause(kind="undeliverable", id=attempt_id(given.task_id, given.attempt))
        case Undeliverable():
            return Cause(kind="undeliverable", id=given.effect_id)
