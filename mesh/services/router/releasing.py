"""Releasing: the workflows that a pause has held go on, at a bounded rate.

Derived from the state alone: a new owner that finds a release under way begins it again, and what
has gone on already does nothing twice.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from mesh.core.inputs import TimerDue
from mesh.core.layered import keys_where
from mesh.core.pauses import kind_of, name_of
from mesh.core.state import StepState, Workflow

_PORTION: Final = 20  # workflows that go on at once
_EVERY_MS: Final = 100  # so a partition lets 200 go on in a second


class Releasing:
    """The workflows that are still to go on, the next first. Empty unless a pause was lifted.

    The last is the workflow that holds the pauses: its decision says that all have gone on.
    """

    __slots__ = ("_due", "_next_at_ms")

    def __init__(self) -> None:
        self._due: deque[TimerDue] = deque()
        self._next_at_ms = 0  # of the next portion

    def begin(self, holder: Workflow, workflows: Iterable[Workflow], at_ms: int) -> None:
        """Let go on what those targets had held that `holder` is releasing. `at_ms`: now.

        The first portion is due at once, whatever the time is: a clock that was put back since
        must not hold it up.
        """
        # what is left of an earlier release is found again
        self._due.clear()
        self._next_at_ms = 0
        targets = () if holder.pauses is None else holder.pauses.releasing
        if not targets:
            return
        routes = {name_of(target) for target in targets if kind_of(target) == "route"}
        is_agent = len(routes) < len(targets)
        held = [one for one in workflows if _is_held(one, routes, is_agent=is_agent)]
        # the oldest first; a state has its workflows in no order that means anything
        held.sort(key=lambda one: (one.started_at_ms, one.workflow_id))
        for one in (*held, holder):
            self._due.append(TimerDue(due_at_ms=at_ms, workflow_id=one.workflow_id, kind="resumed", run_id=one.run_id))

    def next_due_at_ms(self) -> int | None:
        return self._next_at_ms if self._due else None

    def pop_due(self, up_to_ms: int, *, limit: int) -> Iterator[TimerDue]:
        """The next portion, if it is due: up to `limit`, in their order."""
        if up_to_ms < self._next_at_ms or limit <= 0:
            return
        self._next_at_ms = up_to_ms + _EVERY_MS
        for _ in range(min(limit, _PORTION, len(self._due))):
            yield self._due.popleft()

    def put_back(self, timer: TimerDue) -> None:
        """Take the last one back: it comes first again, and at once."""
        self._due.appendleft(timer)
        self._next_at_ms = 0


def _is_held(workflow: Workflow, routes: Collection[str], *, is_agent: bool) -> bool:
    if workflow.status != "running" or workflow.pause is not None:
        return False
    return workflow.route in routes or (is_agent and bool(keys_where(workflow.steps, _waits)))


def _waits(place: str, step: StepState) -> bool:  # noqa: ARG001 - as `keys_where` asks
    return step.status == "held"
