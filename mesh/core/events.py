"""What a decision says has happened: events, past tense, each with a version in its tag.

Owns the log's vocabulary. An event's meaning never changes: a new meaning is a new class with a new tag, and `evolve` keeps the old one.
Times are milliseconds since the epoch, UTC, of the owner's clock (corrected to the broker's). JSON values are `Any` here.

A log record is either an `OwnerChanged` or a `Decision`; `mesh.codec.log` has their bytes.
"""

from typing import Any, Literal

import msgspec

from mesh.core.calls import Caller, Slice
from mesh.core.route import OnExpiry, Periods
from mesh.core.schedules import Schedule
from mesh.core.state import KeptEvent

Verdict = Literal["approved", "rejected"]
EndStatus = Literal["completed", "failed", "rejected", "cancelled"]


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event"):
    pass


class WorkflowStarted(_Event, tag="WorkflowStarted.1", frozen=True, kw_only=True):
    route: str
    digest: str
    run_id: str
    key: str
    cloud_event: dict[str, Any]  # the start event in CloudEvents' JSON format, data included
    trace_id: str  # 32 hexadecimal digits
    parent_span_id: str | None = None  # the upstream's span, if it sent a traceparent
    closed_retention_s: float = 30 * 86_400.0
    budget: dict[str, float] | None = None  # limits, by name
    expires_at_ms: int | None = None  # when the budget's time is over
    caller: Caller | None = None  # the step that called it, where one did
    slice: Slice | None = None  # of the caller's budget; `budget` has it already


class StartRepeated(_Event, tag="StartRepeated.1", frozen=True, kw_only=True):
    """A start for a workflow that lives or lately ended: nothing changes."""

    event_source: str
    event_id: str
    reason: str


class TaskDispatched(_Event, tag="TaskDispatched.1", frozen=True, kw_only=True):
    """Self-contained: the task record is a function of this event and its decision, with no route at hand."""

    step: str
    task_id: str
    attempt: int
    agent: str
    input: Any
    due_at_ms: int  # with no result at the broker by then, the attempt has failed
    traceparent: str  # the span of this attempt, in the workflow's trace
    reason: str  # why now, for people: "needs classify, duplicates: both succeeded"
    retry_budget_from: int = (
        1  # the attempt from which the route's `attempts` are counted (an operator's retry begins anew)
    )
    round: int = 1  # of the loop that the step is in
    hop: int = 1  # 1: the route's own agent; each hand-over adds one
    reserved: dict[str, float] | None = None  # of the budget, for this attempt
    periods: Periods | None = None  # of signs of life; None: the agent is asked for none
    capability: str = ""  # for which the agent was chosen; `reason` says how


class TaskSucceeded(_Event, tag="TaskSucceeded.1", frozen=True, kw_only=True):
    step: str
    task_id: str
    attempt: int
    output: Any
    agent_version: str = ""
    agent_instance: str = ""
    duration_ms: float = 0.0
    usage: dict[str, float] | None = None


class TaskFailed(_Event, tag="TaskFailed.1", frozen=True, kw_only=True):
    """An attempt failed. `kind` is `timeout` where no result came in time, `start_timeout`, `run_timeout`, `heartbeat_timeout` where no sign of life did,
    `undeliverable` where the task could not be sent.
    """

    step: str
    task_id: str
    attempt: int
    kind: str
    message: str
    retryable: bool
    agent_version: str = ""
    agent_instance: str = ""
    duration_ms: float = 0.0
    usage: dict[str, float] | None = None


class TaskHandedOver(_Event, tag="TaskHandedOver.1", frozen=True, kw_only=True):
    """The agent passed its task on; the dispatch to the other agent follows in the same decision."""

    step: str
    task_id: str
    attempt: int
    to: str
    agent_version: str = ""
    agent_instance: str = ""
    duration_ms: float = 0.0
    usage: dict[str, float] | None = None


class TaskHeld(_Event, tag="TaskHeld.1", frozen=True, kw_only=True):
    """The budget does not have what this attempt needs: it waits until there is more. A call's too."""

    step: str
    attempt: int  # the one to come
    agent: str  # empty: it is to be chosen, or the attempt is a call
    input: Any
    reason: str
    retry_budget_from: int = 1
    hop: int = 1


class SlotRequested(_Event, tag="SlotRequested.1", frozen=True, kw_only=True):
    """A limiter is asked for a slot for this attempt, which is queued until then. The numbers are the limit's as of now."""

    step: str
    limit: str  # the limiter's workflow id
    task_id: str
    attempt: int  # the one to come
    agent: str
    input: Any
    reason: str
    concurrency: int | None = None
    rate: int | None = None
    per_ms: int = 0
    priority: float = 0.0
    retry_budget_from: int = 1
    round: int = 1
    hop: int = 1
    reserved: dict[str, float] | None = None  # of the budget, until it goes out


class SlotReleased(_Event, tag="SlotReleased.1", frozen=True, kw_only=True):
    """The attempt needs its slot no more, or does not want it any more: the limiter gets it back."""

    step: str
    limit: str
    task_id: str
    attempt: int
    asked_at_ms: int


class SlotQueued(_Event, tag="SlotQueued.1", frozen=True, kw_only=True):
    """A limiter has heard of an attempt that wants a slot, and of the numbers that count from now on."""

    task_id: str
    attempt: int
    asked_at_ms: int
    concurrency: int | None = None
    rate: int | None = None
    per_ms: int = 0
    priority: float = 0.0


class SlotGranted(_Event, tag="SlotGranted.1", frozen=True, kw_only=True):
    """The attempt has the slot, from `granted_at_ms` on: never before a grant that came before it."""

    task_id: str
    attempt: int
    asked_at_ms: int
    granted_at_ms: int


class SlotFreed(_Event, tag="SlotFreed.1", frozen=True, kw_only=True):
    """A slot was given back, or a place in the queue was given up."""

    task_id: str
    attempt: int


class SlotRefused(_Event, tag="SlotRefused.1", frozen=True, kw_only=True):
    """A request that could not be read: who asked is told, and waits no longer."""

    task_id: str
    attempt: int
    message: str


class BudgetRaised(_Event, tag="BudgetRaised.1", frozen=True, kw_only=True):
    """Somebody granted more. `granted`: what is added to the limits, by name."""

    granted: dict[str, float]
    by: str
    expires_at_ms: int | None = None  # when the time is over now


class BudgetTimeOver(_Event, tag="BudgetTimeOver.1", frozen=True, kw_only=True):
    """The budget's time is over: no task goes out until there is more."""


class RetryScheduled(_Event, tag="RetryScheduled.1", frozen=True, kw_only=True):
    step: str
    attempt: int  # the one to come
    due_at_ms: int


class StepSkipped(_Event, tag="StepSkipped.1", frozen=True, kw_only=True):
    """Its `if` was false: those who need it go on. `output` is what later expressions see (an approval's payload passes through)."""

    step: str
    reason: str
    output: Any = None


class StepBlocked(_Event, tag="StepBlocked.1", frozen=True, kw_only=True):
    """A step it needs was rejected or blocked: it can never run in this run."""

    step: str
    reason: str


class StepCancelled(_Event, tag="StepCancelled.1", frozen=True, kw_only=True):
    """It is not wanted any more: what its agents still send counts for nothing. `unsent`: at these places of it this very decision has made a task, which does not go out."""

    step: str
    reason: str
    unsent: tuple[str, ...] = ()  # told where there is a budget


class StepGivenUp(_Event, tag="StepGivenUp.1", frozen=True, kw_only=True):
    """It has failed for good, and the workflow goes on without it; of an item too."""

    step: str
    reason: str


class StepComputed(_Event, tag="StepComputed.1", frozen=True, kw_only=True):
    """Settled at once: a value, or an end that was reached."""

    step: str
    output: Any
    reason: str


class EventEmitted(_Event, tag="EventEmitted.1", frozen=True, kw_only=True):
    """A CloudEvent goes out to the events topic; the step is settled by that."""

    step: str
    cloud_event: dict[str, Any]
    traceparent: str
    reason: str


class ForEachStarted(_Event, tag="ForEachStarted.1", frozen=True, kw_only=True):
    step: str
    items: list[Any]
    reason: str


class PortionScheduled(_Event, tag="PortionScheduled.1", frozen=True, kw_only=True):
    """More items may begin than one decision should hold: the next ones begin at `due_at_ms`."""

    step: str
    due_at_ms: int


class ForEachEnded(_Event, tag="ForEachEnded.1", frozen=True, kw_only=True):
    """Every item is settled. The step's output is the list of theirs, null for those that failed."""

    step: str
    failed: int = 0


class RoundStarted(_Event, tag="RoundStarted.1", frozen=True, kw_only=True):
    """A loop goes round again: these steps begin anew."""

    step: str  # that decided so
    round: int
    steps: tuple[str, ...]
    reason: str


class WaitStarted(_Event, tag="WaitStarted.1", frozen=True, kw_only=True):
    """`awaits`: an event's type; empty where only the time is awaited. `due_at_ms`: when the wait ends, or is given up."""

    step: str
    reason: str
    awaits: str = ""
    due_at_ms: int | None = None


class WaitEnded(_Event, tag="WaitEnded.1", frozen=True, kw_only=True):
    """The time has come."""

    step: str


class EventReceived(_Event, tag="EventReceived.1", frozen=True, kw_only=True):
    """What a step waited for, now or kept from before."""

    step: str
    cloud_event: dict[str, Any]
    kept: bool = False


class EventKept(_Event, tag="EventKept.1", frozen=True, kw_only=True):
    """An event that some step will wait for. Without a run yet it makes one expected: `route`, `digest` and `key` are what it was matched with, and it is kept until `expires_at_ms`."""

    kept: KeptEvent
    route: str
    digest: str
    key: str
    expires_at_ms: int


class EventUnclaimed(_Event, tag="EventUnclaimed.1", frozen=True, kw_only=True):
    """A kept event that no step waited for; it goes to the dead letters."""

    kept: KeptEvent
    reason: str


class CompensationStarted(_Event, tag="CompensationStarted.1", frozen=True, kw_only=True):
    """The workflow ends as `status` once `steps` are undone, in this order. Again where an operator leaves one as it is: then `steps` are those that are left, perhaps none."""

    status: Literal["failed", "rejected", "cancelled"]
    reason: str
    steps: tuple[str, ...]


class ApprovalRequested(_Event, tag="ApprovalRequested.1", frozen=True, kw_only=True):
    step: str
    approval_id: str
    question: str
    payload: Any
    digest: str  # of the payload's canonical JSON, "sha256:..."
    role: str
    on_expiry: OnExpiry
    traceparent: str
    reason: str
    deadline_at_ms: int | None = None
    payload_schema: dict[str, Any] | None = None
    round: int = 1


class ApprovalClosed(_Event, tag="ApprovalClosed.1", frozen=True, kw_only=True):
    """The one verdict of an approval, by a person, or by its deadline (`expired`)."""

    step: str
    approval_id: str
    verdict: Verdict
    payload: Any
    by: str = ""  # empty where it expired
    role: str = ""  # the role that entitled them
    answer_id: str = ""
    reason: str = ""
    edited: bool = False
    expired: bool = False


class ApprovalWithdrawn(_Event, tag="ApprovalWithdrawn.1", frozen=True, kw_only=True):
    """Its workflow ended, or an operator's retry asks anew: nobody's answer is wanted any more."""

    step: str
    approval_id: str
    reason: str


class CallMade(_Event, tag="CallMade.1", frozen=True, kw_only=True):
    """A step calls a workflow of another route. `digest`: the newest version that was known, chosen here. With no end of it by `due_at_ms`, the call has failed."""

    step: str
    task_id: str
    attempt: int
    route: str
    digest: str
    called: str  # the workflow's id
    input: Any
    traceparent: str
    reason: str
    due_at_ms: int | None = None
    round: int = 1  # of the loop that the step is in
    slice: Slice | None = None  # of the budget: its limits are reserved for the call


class CallSucceeded(_Event, tag="CallSucceeded.1", frozen=True, kw_only=True):
    """The called workflow completed; its outcome's data is the step's output."""

    step: str
    task_id: str
    attempt: int
    called: str
    output: Any
    usage: dict[str, float] | None = None


class CallFailed(_Event, tag="CallFailed.1", frozen=True, kw_only=True):
    """The called workflow ended otherwise, or not in time, or could not begin. `kind`: how it ended; refused, timeout, undeliverable."""

    step: str
    task_id: str
    attempt: int
    kind: str
    message: str
    called: str = ""  # the workflow, where it may go on: it is cancelled
    usage: dict[str, float] | None = None


class CallWithdrawn(_Event, tag="CallWithdrawn.1", frozen=True, kw_only=True):
    """The caller does not want it any more: the called workflow is cancelled. What is reserved for it stays so until it is heard of."""

    step: str
    task_id: str
    attempt: int
    called: str
    reason: str


class UsageReported(_Event, tag="UsageReported.1", frozen=True, kw_only=True):
    """What a call has taken of the budget that nobody waited for any more. `usage` None: it does not say, and counts with all that was reserved for it."""

    step: str
    task_id: str
    attempt: int
    usage: dict[str, float] | None = None


class CallRefused(_Event, tag="CallRefused.1", frozen=True, kw_only=True):
    """A call that begins no workflow: the caller is told. `code`: repeated, or why the call was parked."""

    caller: Caller
    code: str
    message: str


class AliasSought(_Event, tag="AliasSought.1", frozen=True, kw_only=True):
    """A step has succeeded, and asks for its alias; it is settled when the alias says yes."""

    step: str
    task_id: str  # names the step and its round
    claim: int  # how often it has asked
    alias: str  # its id


class AliasGranted(_Event, tag="AliasGranted.1", frozen=True, kw_only=True):
    """The workflow is found by the step's alias now."""

    step: str
    alias: str


class AliasWaived(_Event, tag="AliasWaived.1", frozen=True, kw_only=True):
    """The step is settled without its alias."""

    step: str
    reason: str


class AliasReturned(_Event, tag="AliasReturned.1", frozen=True, kw_only=True):
    """The workflow ends: the alias is told."""

    alias: str
    run_id: str


class AliasBound(_Event, tag="AliasBound.1", frozen=True, kw_only=True):
    """Of an alias: events go to the claimant's workflow from here on; it is told."""

    claimant: Caller


class AliasRefused(_Event, tag="AliasRefused.1", frozen=True, kw_only=True):
    """Of an alias: another workflow has it, or the claim was parked; the claimant is told."""

    claimant: Caller
    message: str


class EventRedirected(_Event, tag="EventRedirected.1", frozen=True, kw_only=True):
    """Of an alias: an event goes on to its workflow."""

    kept: KeptEvent
    to: str


class ScheduleChanged(_Event, tag="ScheduleChanged.1", frozen=True, kw_only=True):
    """Of a schedule: another definition holds. `schedule` None: its route does not start by itself any more."""

    route: str
    digest: str
    since_ms: int
    schedule: Schedule | None = None
    next_at_ms: int | None = None
    by: str = ""


class ScheduleFired(_Event, tag="ScheduleFired.1", frozen=True, kw_only=True):
    """Of a schedule: a time has come, and a workflow starts."""

    route: str
    digest: str
    key: str
    cloud_event: dict[str, Any]  # that it starts with
    scheduled_at_ms: int
    next_at_ms: int


class AnswerRefused(_Event, tag="AnswerRefused.1", frozen=True, kw_only=True):
    """An answer that does not count. `code`: unknown, closed, late, role, digest, schema, malformed."""

    approval_id: str
    answer_id: str
    code: str
    message: str
    by: str = ""
    verdict: str = ""  # of the approval, if it is closed
    closed: bool = False


class IncidentRaised(_Event, tag="IncidentRaised.1", frozen=True, kw_only=True):
    """A step needs an operator. `kind`: exhausted, non_retryable, undeliverable, no_agent, expression, expired, too_large, parked, limit, timeout."""

    step: str
    kind: str
    message: str


class IncidentResolved(_Event, tag="IncidentResolved.1", frozen=True, kw_only=True):
    step: str
    action: str  # migrate; retry; result: an attempt that had been given up succeeded late
    by: str


class CommandAccepted(_Event, tag="CommandAccepted.1", frozen=True, kw_only=True):
    command_id: str
    command: str
    by: str
    reason: str = ""


class CommandRefused(_Event, tag="CommandRefused.1", frozen=True, kw_only=True):
    command_id: str
    command: str
    code: str  # unknown, ended, no_incident, unknown_step
    message: str
    by: str = ""


class EffectUndeliverable(_Event, tag="EffectUndeliverable.1", frozen=True, kw_only=True):
    """A record that is not a task could not be sent for good (a task's failure is a `TaskFailed` of kind `undeliverable`)."""

    effect_id: str
    topic: str
    code: str
    message: str


class WorkflowEnded(_Event, tag="WorkflowEnded.1", frozen=True, kw_only=True):
    status: EndStatus
    reason: str
    run_id: str
    traceparent: str
    output: Any = None
    forget_at_ms: int = 0  # when the id's memory ends
    caller: Caller | None = None  # who is told
    usage: dict[str, float] | None = None  # what the run has taken, by name: tokens, usd; where it has a budget


class WorkflowMigrated(_Event, tag="WorkflowMigrated.1", frozen=True, kw_only=True):
    """An operator has moved the workflow to another version of its route: from here on it is decided by that. `begins_anew`: steps that were stuck before they began."""

    before: str  # digests
    digest: str
    by: str
    begins_anew: tuple[str, ...] = ()
    closed_retention_s: float = 30 * 86_400.0


class WorkflowForgotten(_Event, tag="WorkflowForgotten.1", frozen=True, kw_only=True):
    """The memory of a closed id ended: the same key starts afresh."""


class InputDismissed(_Event, tag="InputDismissed.1", frozen=True, kw_only=True):
    """An input that changes nothing: a repeated or late result, a record for an unknown workflow."""

    code: str  # repeated, late, unknown, closed
    message: str


class InputParked(_Event, tag="InputParked.1", frozen=True, kw_only=True):
    """An input that could not be processed, whole, as it came; it also goes to the dead letters."""

    code: str
    message: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str | None  # base64
    value: str | None  # base64
    headers: list[tuple[str, str]]  # values in base64


class InputAttempted(_Event, tag="InputAttempted.1", frozen=True, kw_only=True):
    """Written before an input is touched that may have killed the owners before: should this one die too, the next parks it."""

    topic: str
    offset: int


Event = (
    WorkflowStarted
    | StartRepeated
    | TaskDispatched
    | TaskSucceeded
    | TaskFailed
    | TaskHandedOver
    | TaskHeld
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
    | EventEmitted
    | ForEachStarted
    | PortionScheduled
    | ForEachEnded
    | RoundStarted
    | WaitStarted
    | WaitEnded
    | EventReceived
    | EventKept
    | EventUnclaimed
    | CompensationStarted
    | ApprovalRequested
    | ApprovalClosed
    | ApprovalWithdrawn
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
    | IncidentRaised
    | IncidentResolved
    | CommandAccepted
    | CommandRefused
    | EffectUndeliverable
    | WorkflowEnded
    | WorkflowMigrated
    | WorkflowForgotten
    | InputDismissed
    | InputParked
    | InputAttempted
)


class Cause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The input that a decision answers. `kind`: event, result, answer, command, call, call_ended, call_cancelled, schedule, scheduled_start, claim, claim_answered, alias_released, forwarded_event, slot_wanted, slot_given,
    slot_returned, slot_denied, timer, undeliverable, mark, attempt.

    `id` is what `causationid` carries: the CloudEvent's id, the attempt's, the answer's, the command's. `topic`, `partition`, `offset`: the
    record that the owner read. `source_*`: the record that ingress copied it from, for the inbox's own watermark and for `mesh event`; of a record that another
    workflow's decision sent, the log that has it, and its place in the sequence.
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


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="Decision.1", tag_field="record"):
    """One record of the log: all that one input brought about, atomically.

    `positions`: for each input topic the offset of the next input to read in this partition, after this decision. `mark`: effects of decisions below this log offset are
    acknowledged by the broker. `sequence`: where it sends records to other workflows, how many the partition's decisions had sent before it (else 0).
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
    """A new owner of a log partition. `token` is the epoch from here on, if this is its first occurrence."""

    token: str
    owner: str  # the router's instance, for people
    partitions: int  # the mesh's partition count, recorded for good
    format_level: int
    at_ms: int


LogRecord = Decision | OwnerChanged
