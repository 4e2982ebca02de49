"""The events that a decision holds, in the past tense, each with a version in its tag.

Owns the log's vocabulary. An event's meaning never changes: a new meaning is a new class with a new
tag, and `evolve` keeps the old one. Times are milliseconds since the epoch, UTC, by the owner's
clock (corrected to the broker's). JSON values are `Any` here.

A log record is either an `OwnerChanged` or a `Decision`. `mesh.codec.log` has their bytes.
"""

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
    Verdict,
)
from mesh.core.events.budget import BudgetRaised, BudgetTimeOver, TaskHeld, UsageReported
from mesh.core.events.call import CallFailed, CallMade, CallRefused, CallSucceeded, CallWithdrawn
from mesh.core.events.clock import ClockHeld, ClockReleased
from mesh.core.events.command import CommandAccepted, CommandRefused
from mesh.core.events.imported import LogImported
from mesh.core.events.limit import SlotFreed, SlotGranted, SlotQueued, SlotRefused, SlotReleased, SlotRequested
from mesh.core.events.parked import EffectUndeliverable, InputAttempted, InputDismissed, InputParked
from mesh.core.events.personal import AbsenceSaid, DelegationGiven, DelegationTakenBack
from mesh.core.events.record import Cause, Decision, Event, LogRecord, OwnerChanged
from mesh.core.events.repetition import ForEachEnded, ForEachStarted, LoopLeft, PortionScheduled, RoundStarted
from mesh.core.events.schedule import ScheduleChanged, ScheduleFired
from mesh.core.events.step import (
    EventEmitted,
    IncidentRaised,
    IncidentResolved,
    StepBlocked,
    StepCancelled,
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
    Withdrawn,
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
    EndStatus,
    StartRepeated,
    WorkflowEnded,
    WorkflowForgotten,
    WorkflowMigrated,
    WorkflowStarted,
)

__all__ = [
    "AbsenceSaid",
    "AliasBound",
    "AliasGranted",
    "AliasRefused",
    "AliasReturned",
    "AliasSought",
    "AliasWaived",
    "AnswerHeld",
    "AnswerRefused",
    "AnswerRefused2",
    "AnswerSigned",
    "ApprovalClaimed",
    "ApprovalClosed",
    "ApprovalClosed2",
    "ApprovalEscalated",
    "ApprovalReassigned",
    "ApprovalReleased",
    "ApprovalReopened",
    "ApprovalRequested",
    "ApprovalRequested2",
    "ApprovalWanted",
    "ApprovalWithdrawn",
    "BudgetRaised",
    "BudgetTimeOver",
    "CallFailed",
    "CallMade",
    "CallRefused",
    "CallSucceeded",
    "CallWithdrawn",
    "Cause",
    "ClockHeld",
    "ClockReleased",
    "CommandAccepted",
    "CommandRefused",
    "CompensationStarted",
    "DeadlineMoved",
    "Decision",
    "DelegationGiven",
    "DelegationTakenBack",
    "EffectUndeliverable",
    "EndStatus",
    "Event",
    "EventEmitted",
    "EventKept",
    "EventReceived",
    "EventRedirected",
    "EventUnclaimed",
    "ForEachEnded",
    "ForEachStarted",
    "IncidentRaised",
    "IncidentResolved",
    "InputAttempted",
    "InputDismissed",
    "InputParked",
    "LogImported",
    "LogRecord",
    "LoopLeft",
    "NoteAdded",
    "OwnerChanged",
    "PayloadEdited",
    "PortionScheduled",
    "QuestionAnswered",
    "QuestionAsked",
    "RetryScheduled",
    "RoundStarted",
    "ScheduleChanged",
    "ScheduleFired",
    "SlotFreed",
    "SlotGranted",
    "SlotQueued",
    "SlotRefused",
    "SlotReleased",
    "SlotRequested",
    "StartRepeated",
    "StepBlocked",
    "StepCancelled",
    "StepComputed",
    "StepGivenUp",
    "StepSkipped",
    "TaskDispatched",
    "TaskFailed",
    "TaskHandedOver",
    "TaskHeld",
    "TaskSucceeded",
    "TasksWithdrawn",
    "UsageReported",
    "Verdict",
    "VoteCast",
    "VoteTakenBack",
    "WaitEnded",
    "WaitStarted",
    "Withdrawn",
    "WorkflowEnded",
    "WorkflowForgotten",
    "WorkflowMigrated",
    "WorkflowStarted",
]
