"""Portions: how many items of lists one decision may begin.

The bound is there so that no list makes a record too large.
"""

from typing import Any, Final

import msgspec

from mesh.core import ids
from mesh.core.decide.draft import Draft
from mesh.core.events import CallMade, PortionScheduled, SlotRequested, TaskDispatched, TaskHeld

PORTION: Final = 100  # tasks or calls of one decision
PORTION_BYTES: Final = 256 * 1024  # of their inputs, once there is more than one

_BEGUN: Final = (TaskDispatched, CallMade, SlotRequested, TaskHeld)
_encode = msgspec.json.Encoder().encode


class Portion:
    """The room that a decision has for items.

    `alone`: an item too large for any portion may have a decision of its own.
    """

    __slots__ = ("_alone", "_bytes", "_count")

    def __init__(self, *, alone: bool = True) -> None:
        self._alone = alone
        self._count = self._bytes = 0

    @classmethod
    def of(cls, draft: Draft) -> "Portion":
        """The room that is left beside the items that the decision has already begun."""
        portion = cls()
        for event in draft.events:
            if isinstance(event, _BEGUN) and ids.is_item(event.step):
                portion._count += 1
                portion._bytes += size_of(event.input)
        return portion

    def takes(self, value: Any) -> bool:
        """Whether one more item with this input fits. If it does, it is counted."""
        size = self._bytes + size_of(value)
        if self._count == PORTION or (size > PORTION_BYTES and (self._count or not self._alone)):
            return False
        self._count, self._bytes = self._count + 1, size
        return True


def go_on_later(draft: Draft, name: str) -> None:
    """Continue the for-each `name` at once, in a decision of its own.

    If it waits for an operator, it continues with what the operator decides.
    """
    if draft.live.steps[name].status == "iterating":
        draft.add(PortionScheduled(step=name, due_at_ms=draft.now_ms))


def size_of(value: Any) -> int:
    """The size of its JSON, in bytes."""
    return len(_encode(value))
