"""Effects: what leaves the router because of a decision, as values.

`effects` is a pure function of one confirmed decision. It needs no state, route or clock, so a new
owner derives the same effects, with the same ids, from the log alone. Sending an effect again does
no harm, because receivers know its id. `mesh.codec.effects` has their bytes.
"""

from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import Any, Final, assert_never

import msgspec

from mesh.core import ids
from mesh.core.approvals import Terms
from mesh.core.crossings import MAY_CROSS, Crossing, inputs_between
from mesh.core.delegations import PersonalRecord
from mesh.core.events import (
    AbsenceSaid,
    AnswerRefused,
    AnswerRefused2,
    ApprovalClaimed,
    ApprovalClosed,
    ApprovalClosed2,
    ApprovalReleased,
    ApprovalRequested,
    ApprovalRequested2,
    ApprovalWithdrawn,
    CommandAccepted,
    CommandRefused,
    DeadlineMoved,
    Decision,
    DelegationGiven,
    DelegationTakenBack,
    EndStatus,
    Event,
    EventEmitted,
    EventUnclaimed,
    InputParked,
    NoteAdded,
    PayloadEdited,
    PayloadsErased,
    QuestionAnswered,
    QuestionAsked,
    StepCancelled,
    TaskDispatched,
    TasksWithdrawn,
    VoteCast,
    VoteTakenBack,
    WorkflowEnded,
    WorkflowForked,
)
from mesh.core.open_approvals import MAY_SHOW, ShowApproval, shown
from mesh.core.receipts import (
    SendCommandReceipt,
    SendReceipt,
    receipt_of_command,
    receipt_of_end,
    receipt_of_personal,
    receipt_of_refusal,
    receipt_of_verdict,
    receipt_of_word,
)
from mesh.core.route import OnExpiry, Periods
from mesh.core.tool_approvals import ToolVerdict

_STRUCTURED: Final = b"application/cloudevents+json; charset=UTF-8"
_encode = msgspec.json.Encoder().encode
_ENDS_TASKS: Final = frozenset({StepCancelled, WorkflowEnded})


class SendTask(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.tasks.<agent>`. Id: the attempt's."""

    workflow_id: str
    run_id: str
    route: str
    step: str
    task_id: str
    attempt: int
    agent: str
    input: Any
    at_ms: int
    due_at_ms: int
    traceparent: str
    budget: dict[str, float] | None = None  # what the attempt may take
    periods: Periods | None = None
    deaths: int = 0  # processes of the agent that have died with it in their hands
    approvals: tuple[ToolVerdict, ...] = ()


class AskApproval(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.approvals.requests`. Id: the approval's."""

    workflow_id: str
    route: str
    step: str
    approval_id: str
    question: str
    payload: Any
    payload_schema: dict[str, Any] | None
    digest: str
    role: str
    on_expiry: OnExpiry
    deadline_at_ms: int | None
    at_ms: int
    traceparent: str
    terms: Terms | None = None  # of version 2


class PublishOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.outcomes`, as a CloudEvent of type `mesh.workflow.<status>`.

    Id: `<workflow id>/<run id>/outcome`.
    """

    workflow_id: str
    run_id: str
    route: str
    status: EndStatus
    reason: str
    output: Any
    at_ms: int
    traceparent: str
    tracestate: str = ""
    # of the start event; empty in older decisions
    event_id: str = ""
    event_source: str = ""


class PublishEvent(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.events`. Id: the event's own."""

    workflow_id: str
    cloud_event: dict[str, Any]
    at_ms: int
    traceparent: str


class SendDeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.dlq`, with the original bytes."""

    workflow_id: str
    parked: InputParked
    at_ms: int


class SendInput(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.inbox`, in the partition of `input`'s workflow.

    `workflow_id`: the sender's. Id: `mesh.core.crossings.crossing_id`.
    """

    workflow_id: str
    input: Crossing


class WithdrawTask(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.withdrawals`. Id: `<attempt's id>/withdrawn`.

    Nobody waits for it: one that can't be sent is not told again.
    """

    workflow_id: str
    task_id: str
    attempt: int
    agent: str
    at_ms: int


class SendPersonal(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.approvals.delegations`: what a person has said of themself.

    Sent again it changes nothing.
    """

    workflow_id: str
    record: PersonalRecord
    at_ms: int


class TellForked(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.commands`: a fork has begun, and the workflow `of` is to note it.

    Id: `fork/` and the workflow that has begun. That is its operation, too, so that it is noted
    once if it is sent again.
    """

    workflow_id: str
    of: str
    step: str
    by: str
    reason: str
    at_ms: int


class DeleteKey(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.keys`, as a tombstone: the key of a private workflow is gone. Id: the key's."""

    workflow_id: str
    key: str


Effect = (
    SendTask
    | WithdrawTask
    | AskApproval
    | ShowApproval
    | SendReceipt
    | SendCommandReceipt
    | PublishOutcome
    | PublishEvent
    | SendDeadLetter
    | SendInput
    | SendPersonal
    | TellForked
    | DeleteKey
)


def effects(decision: Decision) -> list[Effect]:
    """What leaves the router because of `decision`.

    In the order of its events, then what goes to other workflows. A task is not sent if a later
    event of the same decision makes it needless: the workflow ends, or the step is cancelled.
    """
    out: list[Effect] = []
    kinds = set(map(type, decision.events))
    # in most decisions there is one task at the most, and nothing that could make it needless
    is_simple = len(kinds) == len(decision.events) and _ENDS_TASKS.isdisjoint(kinds)
    needed = None if is_simple or TaskDispatched not in kinds else _needed(decision)
    for event in decision.events:
        derive = _DERIVED.get(type(event))
        if derive is not None and (needed is None or _is_needed(event, needed)):
            out += derive(decision, event)
    if not MAY_SHOW.isdisjoint(kinds):
        out += shown(decision)
    if not MAY_CROSS.isdisjoint(kinds):
        out += [SendInput(workflow_id=decision.workflow_id, input=given) for given in inputs_between(decision)]
    return out


def _is_needed(event: Event, needed: dict[str, TaskDispatched]) -> bool:
    # by identity: of several at one place in a decision, the last alone goes out
    return not isinstance(event, TaskDispatched) or needed.get(event.step) is event


def _needed(decision: Decision) -> dict[str, TaskDispatched]:
    """The tasks to send, by place.

    Tasks that a later event of the decision makes needless are left out: the step (with its items)
    is cancelled, another round begins, or the workflow ends.
    """
    found: dict[str, TaskDispatched] = {}
    for event in decision.events:
        match event:
            case TaskDispatched():
                found[event.step] = event
            case StepCancelled():
                # items have no event of their own: they go with their for-each
                found.pop(event.step, None)
                found = {p: task for p, task in found.items() if not (ids.is_item(p) and ids.step_of(p) == event.step)}
            case WorkflowEnded():
                found.clear()
            case _:
                pass
    return found


def _task(decision: Decision, event: TaskDispatched) -> list[Effect]:
    workflow_id = decision.workflow_id
    # `<workflow id>/<run id>/<instance>`: the run is between the two
    run_id = event.task_id[len(workflow_id) + 1 :].partition("/")[0]
    task = SendTask(
        workflow_id=workflow_id,
        run_id=run_id,
        route=ids.route_of(workflow_id),
        step=event.step,
        task_id=event.task_id,
        attempt=event.attempt,
        agent=event.agent,
        input=event.input,
        at_ms=decision.at_ms,
        due_at_ms=event.due_at_ms,
        traceparent=event.traceparent,
        budget=event.reserved,
        periods=event.periods,
        deaths=event.deaths,
        approvals=event.approvals,
    )
    return [task]


def _withdrawals(decision: Decision, event: TasksWithdrawn) -> list[Effect]:
    return [
        WithdrawTask(
            workflow_id=decision.workflow_id,
            task_id=one.task_id,
            attempt=one.attempt,
            agent=one.agent,
            at_ms=decision.at_ms,
        )
        for one in event.tasks
    ]


def _outcome(decision: Decision, event: WorkflowEnded) -> list[Effect]:
    outcome = PublishOutcome(
        workflow_id=decision.workflow_id,
        run_id=event.run_id,
        route=ids.route_of(decision.workflow_id),
        status=event.status,
        reason=event.reason,
        output=event.output,
        at_ms=decision.at_ms,
        traceparent=event.traceparent,
        tracestate=event.tracestate,
        event_id=event.event_id,
        event_source=event.event_source,
    )
    return [outcome]


def _event(decision: Decision, event: EventEmitted) -> PublishEvent:
    return PublishEvent(
        workflow_id=decision.workflow_id,
        cloud_event=event.cloud_event,
        at_ms=decision.at_ms,
        traceparent=event.traceparent,
    )


def _keys(decision: Decision, event: PayloadsErased) -> list[Effect]:
    return [DeleteKey(workflow_id=decision.workflow_id, key=key) for key in event.keys]


def _dead_letter(decision: Decision, event: InputParked) -> SendDeadLetter:
    return SendDeadLetter(workflow_id=decision.workflow_id, parked=event, at_ms=decision.at_ms)


def _unclaimed(decision: Decision, event: EventUnclaimed) -> SendDeadLetter:
    """The event in CloudEvents' structured mode, with the place of the original record."""
    kept = event.kept
    parked = InputParked(
        code="unclaimed",
        message=f"{event.reason}; it waits for {decision.workflow_id}",
        topic=kept.topic,
        partition=kept.partition,
        offset=kept.offset,
        timestamp_ms=kept.at_ms,
        key=_base64(decision.workflow_id.encode()),
        value=_base64(_encode(kept.cloud_event)),
        headers=[("content-type", _base64(_STRUCTURED))],
    )
    return SendDeadLetter(workflow_id=decision.workflow_id, parked=parked, at_ms=decision.at_ms)


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _request(decision: Decision, event: ApprovalRequested) -> AskApproval:
    return AskApproval(
        workflow_id=decision.workflow_id,
        route=ids.route_of(decision.workflow_id),
        step=event.step,
        approval_id=event.approval_id,
        question=event.question,
        payload=event.payload,
        payload_schema=event.payload_schema,
        digest=event.digest,
        role=event.role,
        on_expiry=event.on_expiry,
        deadline_at_ms=event.deadline_at_ms,
        at_ms=decision.at_ms,
        traceparent=event.traceparent,
        terms=event.terms if isinstance(event, ApprovalRequested2) else None,
    )


def _personal(decision: Decision, event: DelegationGiven | DelegationTakenBack | AbsenceSaid) -> list[Effect]:
    """The record, and the receipt that says that it is on its way."""
    match event:
        case DelegationGiven():
            record: PersonalRecord = event.delegation
        case DelegationTakenBack():
            record = event.end
        case AbsenceSaid():
            record = event.absence
        case _:
            assert_never(event)
    sent = SendPersonal(workflow_id=decision.workflow_id, record=record, at_ms=decision.at_ms)
    return [sent, receipt_of_personal(decision, record, event.answer_id)]


def _forked(decision: Decision, event: WorkflowForked) -> list[Effect]:
    """The new run tells the other one; that one tells nobody."""
    if event.into:
        return []
    told = TellForked(
        workflow_id=decision.workflow_id,
        of=event.of,
        step=event.step,
        by=event.by,
        reason=event.reason,
        at_ms=decision.at_ms,
    )
    return [told]


_DERIVED: Final[dict[type[Event], Callable[[Decision, Any], Iterable[Effect]]]] = {
    TaskDispatched: _task,
    TasksWithdrawn: _withdrawals,
    WorkflowEnded: _outcome,
    ApprovalRequested: lambda decision, event: [_request(decision, event)],
    ApprovalRequested2: lambda decision, event: [_request(decision, event)],
    ApprovalClosed: lambda decision, event: [receipt_of_verdict(decision, event)],
    ApprovalClosed2: lambda decision, event: [receipt_of_verdict(decision, event)],
    VoteCast: receipt_of_word,
    VoteTakenBack: receipt_of_word,
    PayloadEdited: receipt_of_word,
    NoteAdded: receipt_of_word,
    QuestionAsked: receipt_of_word,
    QuestionAnswered: receipt_of_word,
    ApprovalClaimed: receipt_of_word,
    ApprovalReleased: receipt_of_word,
    DeadlineMoved: receipt_of_word,
    ApprovalWithdrawn: lambda decision, event: [receipt_of_end(decision, event)],
    AnswerRefused: lambda decision, event: [receipt_of_refusal(decision, event)],
    AnswerRefused2: lambda decision, event: [receipt_of_refusal(decision, event)],
    DelegationGiven: _personal,
    DelegationTakenBack: _personal,
    AbsenceSaid: _personal,
    CommandAccepted: receipt_of_command,
    CommandRefused: receipt_of_command,
    EventEmitted: lambda decision, event: [_event(decision, event)],
    InputParked: lambda decision, event: [_dead_letter(decision, event)],
    PayloadsErased: _keys,
    EventUnclaimed: lambda decision, event: [_unclaimed(decision, event)],
    WorkflowForked: _forked,
}
"""What each class of event sends; the others send nothing.

By exact class, since every decision is asked: a `match` would try a dozen classes on most events.
"""
