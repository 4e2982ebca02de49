"""What an owner decides on.

Names are imperative if somebody wants something, and in the past tense if it happened.

`EventMatched`, `EventOffered`, `AnswerGiven`, `CommandGiven`, those of the last two that can't be
read, and `ScheduleSet` are inbox records that ingress writes. `mesh.core.crossings.Crossing` names
the inbox records that other workflows' owners write. `ResultReceived` is a record of the results
topic, written by agents. The owner itself makes `TimerDue` and `TaskUndeliverable`.
"""

from typing import Any, Final, Literal, get_args

import msgspec

from mesh.core.calls import Caller, Slice
from mesh.core.forks import Fork
from mesh.core.schedules import Schedule
from mesh.core.signing import Proof
from mesh.core.state import KeptEvent
from mesh.core.tool_approvals import Wanted


class _Inbox(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="input"):
    """An inbox record, with the source record that it came from.

    One source record may become several (`source_index`). The receiver keeps one watermark (offset,
    index) for each source partition. If another owner sent the record, the source is its log, and
    the offset is a place in its sequence (`mesh.core.crossings`).
    """

    workflow_id: str
    source_topic: str
    source_partition: int
    source_offset: int
    source_index: int = 0
    source_at_ms: int  # when the broker took the source record


NOWHERE: Final[dict[str, Any]] = {"source_topic": "", "source_partition": 0, "source_offset": 0}
"""The source of an input that no record holds.

It is of a rehearsal or an explanation, which no owner decides on.
"""


class EventMatched(_Inbox, tag="EventMatched.1", frozen=True, kw_only=True):
    route: str
    digest: str
    key: str
    cloud_event: dict[str, Any]


class EventOffered(_Inbox, tag="EventOffered.1", frozen=True, kw_only=True):
    """An event that a step of this workflow waits for, or may wait for later.

    `only_live`: only an earlier version of the route waits for it, and no workflow starts under
    that version any more.
    """

    route: str
    digest: str
    key: str
    cloud_event: dict[str, Any]
    only_live: bool = False


class AnswerGiven(_Inbox, tag="AnswerGiven.1", frozen=True, kw_only=True):
    """A person's answer to an approval.

    `answer_id`: the CloudEvent's id if the answer came as one, else `<topic>/<partition>/<offset>`
    of the answer's record.
    """

    approval_id: str
    answer_id: str
    decision: Literal["approve", "reject"]
    by: str
    digest: str | None = None  # of the payload that the person saw; None: not said
    reason: str = ""
    payload: Any = msgspec.UNSET  # an edit
    traceparent: str | None = None


PersonalKind = Literal["delegate", "end", "absent"]
"""Answers that name no approval: what a person says of themself."""

AnswerKind = Literal[
    "approve",
    "reject",
    "choose",
    "edit",
    "withdraw",
    "comment",
    "ask",
    "inform",
    "claim",
    "release",
    "extend",
    PersonalKind,
]


class AnswerGiven2(_Inbox, tag="AnswerGiven.2", frozen=True, kw_only=True):
    """A person's answer that says more than `AnswerGiven` can.

    `answer_id`: as there. `payload`: with approve, choose and edit. `to`: who is asked.
    `question`: the number of the one that is answered; 0: the only one that is open. `jws`: the
    signed answer, which says all the rest, and nothing of it is proven until the owner has
    checked it (`CheckedAnswer`). `on_behalf`: whose vote it is, if not the sender's own.

    With delegate and absent: `start_ms` (0: from now on), `until_ms`, and of a delegation `to`, and
    the `roles` and `routes` that it covers. With end: the id of the `delegation`.
    """

    approval_id: str
    answer_id: str
    decision: AnswerKind
    by: str
    digest: str | None = None
    reason: str = ""
    payload: Any = msgspec.UNSET
    choice: str = ""
    form: Any = None
    text: str = ""  # of a comment, a question or an answer to one
    to: str = ""
    question: int = 0
    traceparent: str | None = None
    jws: str = ""  # empty: nobody has signed it
    on_behalf: str = ""
    start_ms: int = 0
    until_ms: int = 0
    roles: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    delegation: str = ""

    @property
    def is_personal(self) -> bool:
        """Whether it is about its sender, and about no approval."""
        return self.decision in PERSONAL


PERSONAL: Final = frozenset(get_args(PersonalKind))


class CheckedAnswer(AnswerGiven2, tag="CheckedAnswer", frozen=True, kw_only=True):
    """A signed answer that its owner has checked. It is in no record: no replay checks it again.

    `proof`: whose key it is; None: it does not hold, and `code` and `why` say why.
    """

    proof: Proof | None = None
    code: str = ""
    why: str = ""


def first_version(given: AnswerGiven2) -> AnswerGiven | None:
    """The same answer as routers of earlier versions know it; None if it says more than that."""
    return None if given.jws else without_more(given)


def without_more(given: AnswerGiven2) -> AnswerGiven | None:
    """What the answer says without its signature, if version 1 has words for all of it."""
    if given.decision not in ("approve", "reject") or given.choice or given.form is not None:
        return None
    if given.text or given.to or given.question or given.on_behalf:
        return None
    fields = {name: getattr(given, name) for name in AnswerGiven.__struct_fields__}
    return AnswerGiven(**fields)


class AnswerUnreadable(_Inbox, tag="AnswerUnreadable.1", frozen=True, kw_only=True):
    """An answer that can't be read as one, or that ingress must not pass on.

    It is refused, so that its sender gets a receipt. `approval_id` and `by` are empty if they can't
    be told; then the workflow is `ids.answers_id`.
    """

    approval_id: str
    answer_id: str
    code: str  # malformed, too_large, number, payload, poison, unreadable
    message: str
    by: str = ""


Command = Literal[
    "cancel",
    "retry",
    "skip",
    "fail",
    "migrate",
    "release",
    "extend",
    "reassign",
    "void",
    "complete",
    "pause",
    "resume",
    "fork",
    "erase",
]


class ApprovalOrder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What extend, reassign and void say of one approval.

    extend: `by_ms`, or `until_ms`. reassign: `roles` and `people` may answer too, or nobody else
    (`replace`). void: the vote of `voter`.
    """

    approval_id: str
    by_ms: int = 0
    until_ms: int = 0
    roles: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    replace: bool = False
    voter: str = ""


class CommandGiven(_Inbox, tag="CommandGiven.1", frozen=True, kw_only=True):
    command_id: str
    command: Command
    by: str
    reason: str = ""
    step: str | None = None  # retry, skip, fail: this step's incident; None: all of them; complete: the step
    to: str = ""  # migrate: the digest of the version
    task_input: Any = msgspec.UNSET  # retry: of the one step's task or call
    output: Any = msgspec.UNSET  # complete: of the step
    order: ApprovalOrder | None = None  # extend, reassign, void
    fork: Fork | None = None  # fork
    keys: tuple[str, ...] = ()  # erase: the ids of the keys to delete
    operation: str = ""  # the bulk operation that it is a part of
    target: str = ""  # pause, resume: the agent or the route, if it is no workflow (`mesh.core.pauses`)


class CommandUnreadable(_Inbox, tag="CommandUnreadable.1", frozen=True, kw_only=True):
    """A command that can't be read as one, or that ingress must not pass on.

    It is refused, so that its sender gets a receipt. `command` and `by` are empty if they can't be
    told. If the workflow can't, it is `ids.commands_id`.
    """

    command_id: str
    command: str
    code: str  # as of an answer
    message: str
    by: str = ""


class WorkflowCalled(_Inbox, tag="WorkflowCalled.1", frozen=True, kw_only=True):
    """A step calls this workflow, which starts with the event that the call made.

    `slice`: its part of the caller's budget, if the caller has one.
    """

    route: str
    digest: str
    key: str
    cloud_event: dict[str, Any]
    caller: Caller
    slice: Slice | None = None


CallStatus = Literal["completed", "failed", "rejected", "cancelled", "refused"]


class CallEnded(_Inbox, tag="CallEnded.1", frozen=True, kw_only=True):
    """The workflow that a step called has ended, or (`refused`) has not begun.

    `usage`: what it took of the budget. None: it does not say.
    """

    task_id: str
    attempt: int
    called: str
    status: CallStatus
    reason: str = ""
    output: Any = None
    usage: dict[str, float] | None = None


class CallCancelled(_Inbox, tag="CallCancelled.1", frozen=True, kw_only=True):
    """The step that called this workflow no longer wants it."""

    caller: Caller
    reason: str


class ScheduleSet(_Inbox, tag="ScheduleSet.1", frozen=True, kw_only=True):
    """A route's definition says when the route starts. It goes to the schedule's workflow.

    `schedule` None: the route no longer starts by itself. `since_ms`: the broker's time from which
    the definition is active.
    """

    set_id: str
    route: str
    digest: str
    schedule: Schedule | None = None
    since_ms: int
    by: str = ""


class ScheduledStart(_Inbox, tag="ScheduledStart.1", frozen=True, kw_only=True):
    """A time of the route's schedule has come: this workflow starts."""

    route: str
    digest: str
    key: str
    cloud_event: dict[str, Any]


class AliasClaimed(_Inbox, tag="AliasClaimed.1", frozen=True, kw_only=True):
    """A step wants this alias for its workflow.

    `claimant.attempt` counts how often it has asked.
    """

    claimant: Caller


class AliasAnswered(_Inbox, tag="AliasAnswered.1", frozen=True, kw_only=True):
    """The answer to a claim. `refusal` empty: the workflow has the alias."""

    claimant: Caller
    alias: str  # its id
    refusal: str = ""


class AliasReleased(_Inbox, tag="AliasReleased.1", frozen=True, kw_only=True):
    """The run has ended and no longer needs the alias."""

    claimant: str  # the workflow's id
    run_id: str


class EventForwarded(_Inbox, tag="EventForwarded.1", frozen=True, kw_only=True):
    """An event that found the workflow by an alias. `kept` has it with its place on the topic."""

    kept: KeptEvent


class SlotWanted(_Inbox, tag="SlotWanted.1", frozen=True, kw_only=True):
    """An attempt asks the limiter for a slot. It asked at `source_at_ms`."""

    task_id: str
    attempt: int
    concurrency: int | None = None
    rate: int | None = None
    per_ms: int = 0
    priority: float = 0.0


class SlotGiven(_Inbox, tag="SlotGiven.1", frozen=True, kw_only=True):
    """A limiter granted the slot that an attempt of this workflow asked for at `asked_at_ms`."""

    limit: str
    task_id: str
    attempt: int
    asked_at_ms: int


class SlotReturned(_Inbox, tag="SlotReturned.1", frozen=True, kw_only=True):
    """The limiter gets back a slot, or a request for one is taken back."""

    task_id: str
    attempt: int
    asked_at_ms: int


class SlotDenied(_Inbox, tag="SlotDenied.1", frozen=True, kw_only=True):
    """A limiter could not read the request of an attempt of this workflow."""

    limit: str
    task_id: str
    attempt: int
    message: str


InboxInput = (
    EventMatched
    | EventOffered
    | AnswerGiven
    | AnswerUnreadable
    | AnswerGiven2
    | CommandGiven
    | CommandUnreadable
    | WorkflowCalled
    | CallEnded
    | CallCancelled
    | ScheduleSet
    | ScheduledStart
    | AliasClaimed
    | AliasAnswered
    | AliasReleased
    | EventForwarded
    | SlotWanted
    | SlotGiven
    | SlotReturned
    | SlotDenied
)


class TaskError(msgspec.Struct, frozen=True, kw_only=True):
    kind: str  # a short word: the exception's class, `timeout`, `output_invalid`, `input_invalid`
    message: str
    retryable: bool = True
    retry_after_s: float | None = None  # not before; within what the route allows


class HandOver(msgspec.Struct, frozen=True, kw_only=True):
    """The agent passes its task on, with another input."""

    to: str
    input: Any = None


class ResultReceived(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record of `mesh.results`: what became of one attempt.

    `interrupted`: the process `agent_instance` died with it in its hands; another one says so.
    `approval_wanted`: it goes on once people have decided on `approval`. The contract is
    `topics/schemas/result.json`.
    """

    task_id: str
    attempt: int
    workflow_id: str
    status: Literal["succeeded", "failed", "handed_over", "interrupted", "approval_wanted"]
    output: Any = None
    error: TaskError | None = None
    handover: HandOver | None = None
    approval: Wanted | None = None
    agent: str = ""
    agent_version: str = ""
    agent_instance: str = ""
    duration_ms: float = 0.0
    usage: dict[str, float] | None = None


class SignReceived(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A sign of life: an attempt has begun, or its handler is alive.

    It is also a record of `mesh.results`, but not an input: nobody decides on it. It only puts off
    a time-out (docs/adr/0009).
    """

    task_id: str
    attempt: int
    workflow_id: str
    status: Literal["started", "heartbeat"]
    duration_ms: float = 0.0  # since the handler began
    agent: str = ""
    agent_version: str = ""
    agent_instance: str = ""


TimerKind = Literal[
    "task_timeout",
    "start_timeout",
    "run_timeout",
    "heartbeat_timeout",
    "retry",
    "approval_deadline",
    "approval_stage",
    "call_timeout",
    "wait",
    "event_timeout",
    "portion",
    "resumed",
    "budget_time",
    "schedule",
    "rate",
    "forget",
]


class TimerDue(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A time has come.

    Ordered by (due_at_ms, ...) for the owner's heap. A timer that no longer fits the state changes
    nothing.
    """

    due_at_ms: int
    workflow_id: str
    kind: TimerKind
    step: str = ""
    run_id: str = ""
    attempt: int = 0


class TaskUndeliverable(msgspec.Struct, frozen=True, kw_only=True):
    """A task's record could not be sent, and never will be."""

    workflow_id: str
    task_id: str
    attempt: int
    code: str
    message: str


class Undeliverable(msgspec.Struct, frozen=True, kw_only=True):
    """The record of an effect other than a task could not be sent, and never will be."""

    workflow_id: str
    effect_id: str
    topic: str
    code: str
    message: str


Input = InboxInput | ResultReceived | TimerDue | TaskUndeliverable | Undeliverable
