"""Replay: fold a log partition into the states of its workflows, by `evolve` alone.

The owner at take-over, the read model and `mesh log verify` all fold with this code, so they agree
to the byte.
"""

from collections.abc import Iterable
from typing import NamedTuple

from mesh.core.clock import ClockHold, Sighting
from mesh.core.crossings import crossings
from mesh.core.events import (
    ClockHeld,
    ClockReleased,
    Decision,
    InputAttempted,
    LogImported,
    LogRecord,
    PayloadsErased,
    PayloadsSealed,
    WorkflowForgotten,
)
from mesh.core.evolve import evolve
from mesh.core.ids import is_clock
from mesh.core.inputs import InboxInput
from mesh.core.ownership import Epochs
from mesh.core.state import PartitionState, Workflow


class Attempt(NamedTuple):
    """An input that was announced before it was touched. `times`: by how many owners in a row."""

    topic: str
    offset: int
    times: int = 1


def attempt_after(before: Attempt | None, event: InputAttempted) -> Attempt:
    """What is known of an announced input after one more announcement."""
    if before is None or before[:2] != (event.topic, event.offset):
        return Attempt(event.topic, event.offset)
    return Attempt(event.topic, event.offset, before.times + 1)


class PartitionFold:
    """The fold of one log partition, from its first record or from a checkpoint.

    `state`: what the effective decisions give. `next_offset`: the offset after the last record
    folded. `takeovers`: how many owners in a row made no progress. `attempted`: the input that
    the last of them announced before it touched it, if no decision on it followed. `unreadable`:
    private workflows of which something was sealed, and not erased later: their states are not
    known.
    """

    __slots__ = ("attempted", "epochs", "next_offset", "partition", "state", "takeovers", "unreadable")

    def __init__(
        self, partition: int, *, state: PartitionState | None = None, epochs: Epochs | None = None, next_offset: int = 0
    ) -> None:
        self.partition = partition
        self.state = state or PartitionState()
        self.epochs = epochs or Epochs()
        self.next_offset = next_offset
        self.takeovers = 0
        self.attempted: Attempt | None = None
        self.unreadable: set[str] = set()

    def apply(self, offset: int, record: LogRecord) -> bool:
        """Fold the record at `offset`.

        True if it is an effective decision, which has changed the state.
        """
        self.next_offset = offset + 1
        counts = self.epochs.observe(record)
        if not isinstance(record, Decision):
            # a claim that counts is one more owner; a decision that makes progress sets the count
            # back
            self.takeovers += counts
            if counts and record.boot:
                self.state.claimed = Sighting(boot=record.boot, uptime_ms=record.uptime_ms, at_ms=record.at_ms)
            return False
        if counts:
            self._note_progress(record)
            # by exact type: every fold asks it of every decision
            kind = type(record.events[-1]) if record.events else None
            if kind is PayloadsSealed:
                self.unreadable.add(record.workflow_id)
            elif kind is PayloadsErased or kind is WorkflowForgotten:
                self.unreadable.discard(record.workflow_id)
            apply_decision(self.state, record)
        return counts

    def _note_progress(self, decision: Decision) -> None:
        last = decision.events[-1] if decision.events else None
        if isinstance(last, InputAttempted):
            self.attempted = attempt_after(self.attempted, last)
        elif not decision.events or decision.positions != self.state.positions:
            # inputs were decided, or an owner stopped in good order; a timer that fires says
            # nothing of the input that may be the poison
            self.attempted = None
            self.takeovers = 0


def apply_decision(state: PartitionState, decision: Decision) -> None:
    """Evolve the decision's workflow by its events, and take its positions."""
    workflow = state.workflows.get(decision.workflow_id)
    for event in decision.events:
        workflow = evolve(workflow, event, workflow_id=decision.workflow_id, at_ms=decision.at_ms)
    settle(state, decision, workflow)


def settle(state: PartitionState, decision: Decision, workflow: Workflow | None) -> None:
    """Store the workflow as it is after `decision`.

    Also the positions, watermark, mark and sequence that the decision carries.
    """
    if workflow is None:
        state.workflows.pop(decision.workflow_id, None)
    else:
        state.workflows[decision.workflow_id] = workflow
    state.positions = decision.positions
    # a decision may carry an older mark, where an undeliverable effect holds it back; what was
    # acknowledged before stays so
    state.mark = max(state.mark, decision.mark)
    state.at_ms = decision.at_ms
    # An owner logs first of all what has become of the clock. One that died before it has accounted
    # for nothing, and the next owner must see the jump as well.
    if state.claimed is not None:
        state.seen, state.claimed = state.claimed, None
    # only the clock's decisions have such events: all others need not be looked through
    if is_clock(decision.workflow_id):
        _set_clock(state, decision)
    # a decision that sends nothing carries no sequence, so the count stays as it is
    if sent := crossings(decision.events):
        state.sequence = decision.sequence + sent
    cause = decision.cause
    # results and timers are copies of nothing, and move no watermark
    if cause.source_topic:
        state.watermarks[f"{cause.source_topic}/{cause.source_partition}"] = (cause.source_offset, cause.source_index)


def _set_clock(state: PartitionState, decision: Decision) -> None:
    """A jump of the clock is held from its first on; the difference may change.

    An import is noted here too: what bears on a whole partition is said of its clock.
    """
    for event in decision.events:
        if isinstance(event, ClockHeld):
            since_ms = decision.at_ms if state.hold is None else state.hold.since_ms
            state.hold = ClockHold(ahead_ms=event.ahead_ms, since_ms=since_ms)
        elif isinstance(event, ClockReleased):
            state.hold = None
        elif isinstance(event, LogImported):
            state.watermarks = dict(event.watermarks)
        if isinstance(event, ClockHeld | ClockReleased) and event.seen is not None:
            state.seen = event.seen


def is_repeated(state: PartitionState, given: InboxInput) -> bool:
    """Whether this input was copied or sent before, and is decided."""
    seen = state.watermarks.get(f"{given.source_topic}/{given.source_partition}")
    # one watermark is enough: ingress copies a partition in order, and after a crash starts at a
    # place that it had not yet passed; so every record at or below it is a repeat. Other owners
    # send in the order of their sequence, which gives the same
    return seen is not None and (given.source_offset, given.source_index) <= seen


def replay(records: Iterable[tuple[int, LogRecord]], partition: int = 0) -> PartitionState:
    """The state that a whole log partition gives."""
    fold = PartitionFold(partition)
    for offset, record in records:
        fold.apply(offset, record)
    return fold.state
