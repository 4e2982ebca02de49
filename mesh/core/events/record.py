"""The records of the log: a decision with its events, and a change of owner."""

import msgspec

from mesh.core.events.alias import (
    AliasBound,
    AliasGranted,
    AliasRefused,
    AliasReturned,
    AliasSought,
    AliasWaived,
    EventRedirected,
)
from mesh.core.events.approval import (
    AnswerRefused,
    ApprovalClosed,
    ApprovalReopened,
    ApprovalRequested,
    ApprovalWithdrawn,
)
from mesh.core.events.budget import BudgetRaised, BudgetTimeOver, TaskHeld, UsageReported
from mesh.core.events.call import CallFailed, CallMade, CallRefused, CallSucceeded, CallWithdrawn
from mesh.core.events.clock import ClockHeld, ClockReleased
from mesh.core.events.command import CommandAccepted, CommandRefused
from mesh.core.events.imported import LogImported
from mesh.core.events.limit import SlotFreed, SlotGranted, SlotQueued, SlotRefused, SlotReleased, SlotRequested
from mesh.core.events.parked import EffectUndeliverable, InputAttempted, InputDismissed, InputParked
from mesh.core.events.pausing import HeldReleased, PauseLifted, PauseSet
from mesh.core.events.personal import AbsenceSaid, DelegationGiven, DelegationTakenBack
from mesh.core.events.repetition import ForEachEnded, ForEachStarted, LoopLeft, PortionScheduled, RoundStarted
from mesh.core.events.schedule import ScheduleChanged, ScheduleFired
from mesh.core.events.step import (
    EventEmitted,
    IncidentRaised,
    IncidentResolved,
    StepBlocked,
    StepCancelled,
    StepCompleted,
    StepComputed,
    StepGivenUp,
    StepSkipped,
)
from mesh.core.events.task import (
    ApprovalWanted,
    RetryScheduled,
    TaskDispatched,
    TaskFailed,
    TaskHandedOver,
    TaskSucceeded,
    TasksWithdrawn,
)
from mesh.core.events.undo import CompensationStarted
from mesh.core.events.voting import (
    AnswerHeld,
    AnswerRefused2,
    AnswerSigned,
    ApprovalClaimed,
    ApprovalClosed2,
    ApprovalEscalated,
    ApprovalReassigned,
    ApprovalReleased,
    ApprovalRequested2,
    DeadlineMoved,
    NoteAdded,
    PayloadEdited,
    QuestionAnswered,
    QuestionAsked,
    VoteCast,
    VoteTakenBack,
)
from mesh.core.events.wait import EventKept, EventReceived, EventUnclaimed, WaitEnded, WaitStarted
from mesh.core.events.workflow import (
    PayloadsErased,
    PayloadsSealed,
    StartRepeated,
    WorkflowEnded,
    WorkflowForgotten,
    WorkflowForked,
    WorkflowMigrated,
    WorkflowPaused,
    WorkflowResumed,
    WorkflowStarted,
)

Event = (
    WorkflowStarted
    | StartRepeated
    | TaskDispatched
    | TaskSucceeded
    | TaskFailed
    | TaskHandedOver
    | ApprovalWanted
    | TaskHeld
    | TasksWithdrawn
    | SlotRequested
    | SlotReleased
    | SlotQueued
    | SlotGranted
    | SlotFreed
    | SlotRefused
    | BudgetRaised
    | BudgetTimeOver
    | RetryScheduled
    | StepSkipped
    | StepBlocked
    | StepCancelled
    | StepGivenUp
    | StepComputed
    | StepCompleted
    | EventEmitted
    | ForEachStarted
    | PortionScheduled
    | ForEachEnded
    | RoundStarted
    | LoopLeft
    | WaitStarted
    | WaitEnded
    | EventReceived
    | EventKept
    | EventUnclaimed
    | CompensationStarted
    | ApprovalRequested
    | ApprovalClosed
    | ApprovalReopened
    | ApprovalWithdrawn
    | ApprovalRequested2
    | ApprovalClosed2
    | ApprovalEscalated
    | AnswerHeld
    | ApprovalClaimed
    | ApprovalReassigned
    | ApprovalReleased
    | DeadlineMoved
    | VoteCast
    | VoteTakenBack
    | PayloadEdited
    | NoteAdded
    | QuestionAsked
    | QuestionAnswered
    | CallMade
    | CallSucceeded
    | CallFailed
    | CallWithdrawn
    | CallRefused
    | UsageReported
    | AliasSought
    | AliasGranted
    | AliasWaived
    | AliasReturned
    | AliasBound
    | AliasRefused
    | EventRedirected
    | ScheduleChanged
    | ScheduleFired
    | AnswerRefused
    | AnswerRefused2
    | AnswerSigned
    | DelegationGiven
    | DelegationTakenBack
    | AbsenceSaid
    | IncidentRaised
    | IncidentResolved
    | ClockHeld
    | ClockReleased
    | PauseSet
    | PauseLifted
    | HeldReleased
    | LogImported
    | CommandAccepted
    | CommandRefused
    | EffectUndeliverable
    | WorkflowEnded
    | WorkflowMigrated
    | WorkflowForked
    | WorkflowPaused
    | WorkflowResumed
    | WorkflowForgotten
    | PayloadsSealed
    | PayloadsErased
    | InputDismissed
    | InputParked
    | InputAttempted
)


class Cause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The input that a decision answers.

    `kind`: event, result, answer, command, call, call_ended, call_cancelled, schedule,
    scheduled_start, claim, claim_answered, alias_released, forwarded_event, slot_wanted,
    slot_given, slot_returned, slot_denied, timer, undeliverable, mark, attempt.

    `id` is what `causationid` carries: the id of the CloudEvent, attempt, answer or command.
    `topic`, `partition` and `offset` are the record that the owner read. `source_*` is the record
    that ingress copied it from, for the inbox's watermark and for `mesh event`. For a record that
    another workflow's decision sent, it is that log and the record's place in the sequence.

    `receipt_by_place`: an answer or a command, and the receipt that its sender gets has an id by
    the place in `source_*`. Before that was so, a receipt had an id by the answer's id, which two
    answers may share, and a command had no receipt.
    """

    kind: str
    id: str
    topic: str = ""
    partition: int = -1
    offset: int = -1
    at_ms: int = 0  # when the broker took it from its first sender
    source_topic: str = ""
    source_partition: int = -1
    source_offset: int = -1
    source_index: int = 0  # which of the records that ingress made of one source record
    event_source: str = ""  # CloudEvents source, for causes of kind event
    receipt_by_place: bool = False


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="Decision.1", tag_field="record"):
    """One record of the log: all that one input brought about, atomically.

    `positions`: for each input topic, the offset of the next input to read in this partition after
    this decision. `mark`: the broker has acknowledged the effects of all decisions below this log
    offset. `sequence`: if the decision sends records to other workflows, how many the partition's
    decisions had sent before it (else 0).
    """

    epoch: str
    workflow_id: str
    at_ms: int
    cause: Cause
    positions: dict[str, int]
    mark: int
    events: tuple[Event, ...]
    sequence: int = 0


class OwnerChanged(msgspec.Struct, frozen=True, kw_only=True, tag="OwnerChanged.1", tag_field="record"):
    """A new owner of a log partition.

    `token` is the epoch from here on, if this is its first occurrence.
    """

    token: str
    owner: str  # the router's instance, for people
    partitions: int  # the mesh's partition count, recorded for good
    format_level: int
    at_ms: int
    # of the owner's machine: which start of it, and how long ago; empty: it does not say
    boot: str = ""
    uptime_ms: int = 0


LogRecord = Decision | OwnerChanged
