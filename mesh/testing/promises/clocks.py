"""Judges time by what has really passed, however the clock of the broker's machine jumps.

Owns this part of what `mesh.testing.promises.judge` checks.

* no timer fires before its time in the partition: what has passed, and what operators released
* no answer is refused as late before its deadline has passed in that way

Only who has a clock that nobody puts forward or back can judge so, as a simulation has. Without it
the broker's stamps count.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from mesh.core.clock import LITTLE_AHEAD_MS, ClockHold, in_partition_time
from mesh.core.events import AnswerRefused, ClockHeld, ClockReleased, Decision
from mesh.core.inputs import AnswerGiven, AnswerGiven2, CommandGiven, EventOffered, Input
from mesh.ports import Record
from mesh.testing.promises.ledger import PartitionLedger, Step

_TIMED: Final = (AnswerGiven, AnswerGiven2, CommandGiven, EventOffered)
# an owner's corrected clock is a millisecond behind; the broker's and ours are cut to whole ones
_SLACK_MS: Final = 5
# a clock that was put back stamps ahead of itself, and by less than this it has not jumped
# (`RouterConfig.clock_jump_s`)
_BOUND_MS: Final = 10_000


class Clocks:
    """What has passed in each partition.

    `passed_ms`: a clock that never jumps; None: there is none. `find` notes a finding.
    """

    def __init__(self, passed_ms: Callable[[], int] | None, find: Callable[[str], None]) -> None:
        self._passed_ms = passed_ms
        self._find = find
        self._released_ms: dict[int, int] = defaultdict(int)  # by partition
        self._jumped: set[int] = set()
        self._rough: set[int] = set()  # partitions whose time is known to within the bound alone
        self._begun: set[int] = set()  # partitions with a decision
        self._came_ms: dict[tuple[str, int, int], int] = {}  # source records, by what had passed

    def has_jumped(self, partition: int) -> bool:
        """Whether this partition's stamps can't be held against its deadlines any more."""
        return partition in self._jumped

    def now_ms(self, stamp_ms: int) -> int:
        """The time of the partition that is furthest behind. `stamp_ms`: of the newest record."""
        if self._passed_ms is None:
            return stamp_ms
        return self._passed_ms() + min([0, *self._released_ms.values()])

    def source_landed(self, record: Record) -> None:
        if self._passed_ms is not None:
            self._came_ms[record.topic, record.partition, record.offset] = self._passed_ms()

    def begin(self, number: int, decision: Decision) -> None:
        """Hear of each decision: with its first one, a partition takes the broker's time.

        Whatever that is: nothing was due before it.
        """
        if self._passed_ms is None or number in self._begun:
            return
        self._begun.add(number)
        ahead_ms = decision.at_ms - self._passed_ms()
        if abs(ahead_ms) > LITTLE_AHEAD_MS:
            self._released_ms[number] += ahead_ms
            self._jumped.add(number)
            # it was decided some time before it landed
            self._rough.add(number)

    def fires(self, step: Step, stamp_ms: int) -> None:
        """Check that a timer's time has come."""
        number, due_ms = step.partition.fold.partition, step.decision.cause.at_ms
        now_ms = stamp_ms
        if self._passed_ms is not None:
            slack_ms = _BOUND_MS if number in self._rough else _SLACK_MS
            now_ms = self._passed_ms() + self._released_ms[number] + slack_ms
        if now_ms < due_ms:
            self._find(f"{step.where}: {step.decision.cause.id} fires {due_ms - now_ms} ms before its time")

    def refused(self, step: Step, event: AnswerRefused) -> None:
        """Check that an answer is late only if its deadline had passed when it came."""
        cause, before = step.decision.cause, step.before
        came_ms = self._came_ms.get((cause.source_topic, cause.source_partition, cause.source_offset))
        if event.code != "late" or came_ms is None or before is None:
            return
        open_until = [one.due_at_ms for one in before.steps.values() if one.task_id == event.approval_id]
        came_ms += self._released_ms[step.partition.fold.partition] + _SLACK_MS
        for due_ms in open_until:
            if due_ms is not None and came_ms < due_ms:
                self._find(f"{step.where}: {event.answer_id} is late, and came {due_ms - came_ms} ms in time")

    def take(self, step: Step, event: object) -> None:
        """Hear of what the log has of clocks."""
        number, hold = step.partition.fold.partition, step.partition.fold.state.hold
        if isinstance(event, ClockReleased) or (isinstance(event, ClockHeld) and event.ahead_ms < 0):
            self._rough.add(number)
        if isinstance(event, ClockHeld):
            self._jumped.add(number)
        # where the clock is right again by itself, the partition's time goes on as it was
        elif isinstance(event, ClockReleased) and event.by and hold is not None:
            self._released_ms[number] += hold.ahead_ms


def as_owner(given: Input, partition: PartitionLedger, now_ms: int) -> list[Input]:
    """The input with its time as an owner may take it, while a jump is held or stamps are stale."""
    if not isinstance(given, _TIMED):
        return [given]
    times = _readings(given.source_at_ms, partition.fold.state.hold, now_ms)
    return [replace(given, source_at_ms=at_ms) for at_ms in times]


def _readings(at_ms: int, hold: ClockHold | None, now_ms: int) -> list[int]:
    if hold is not None:
        return [min(at_ms, now_ms) if hold.ahead_ms < 0 else in_partition_time(at_ms, hold, now_ms)]
    # After a release a stamp is the time; it is stale if the clock was put back, which the log does
    # not say.
    return [at_ms, now_ms] if at_ms > now_ms + LITTLE_AHEAD_MS else [at_ms]
