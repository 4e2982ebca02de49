"""Effects: what leaves the router because of a decision, as values.

`effects` is a pure function of one confirmed decision. It needs no state, route or clock, so a new
owner derives the same effects, with the same ids, from the log alone. Sending an effect again does
no harm, because receivers know its id. `mesh.codec.effects` has their bytes.
"""

from base64 import b64encode
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from mesh.core import ids
from mesh.core.approvals import Terms, Vote
from mesh.core.crossings import Crossing, inputs_between
from mesh.core.events import (
    AnswerRefused,
    AnswerRefused2,
    ApprovalClosed,
    ApprovalClosed2,
    ApprovalRequested,
    ApprovalRequested2,
    ApprovalWithdrawn,
    CommandAccepted,
    CommandRefused,
    Decision,
    EndStatus,
    EventEmitted,
    EventUnclaimed,
    InputParked,
    NoteAdded,
    PayloadEdited,
    StepCancelled,
    TaskDispatched,
    TasksWithdrawn,
    VoteCast,
    VoteTakenBack,
    WorkflowEnded,
)
from mesh.core.open_approvals import ShowApproval, shown
from mesh.core.route import OnExpiry, Periods

_WORD_CODES: Final = {VoteCast: "counted", VoteTakenBack: "taken_back", PayloadEdited: "edited", NoteAdded: "noted"}
_STRUCTURED: Final = b"application/cloudevents+json; charset=UTF-8"
_encode = msgspec.json.Encoder().encode


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


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record is."""

    topic: str
    partition: int
    offset: int


class SendReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.approvals.receipts`.

    Id: `<topic>/<partition>/<offset>/receipt` by the answer's place (`source`), because two answers
    may have one id. Without a place: `<approval id>/<answer id or "closed">/receipt`.
    """

    workflow_id: str
    approval_id: str  # empty where an answer names none that can be read
    answer_id: str  # empty where no answer caused it (expiry, cancel)
    status: Literal["accepted", "refused", "closed"]  # closed: ended without an answer
    # accepted, expired, withdrawn; of version 2 also counted, edited, taken_back, noted; or why it
    # was refused
    code: str
    message: str
    verdict: str  # approved, rejected; empty while it is open
    closed: bool
    by: str
    at_ms: int
    source: Place | None = None  # of the answer; None: no answer, or an older decision
    # of version 2: the choice, how many of the seats the leading choice fills, and the edition
    choice: str = ""
    have: int | None = None
    need: int | None = None
    edition: int | None = None


class SendCommandReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.commands.receipts`. Id: `<topic>/<partition>/<offset>/receipt`, as of an answer."""

    workflow_id: str
    command_id: str
    command: str  # empty where it can't be read
    status: Literal["accepted", "refused"]
    code: str  # accepted, or why it was refused
    message: str
    by: str
    at_ms: int
    source: Place


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
)


def effects(decision: Decision) -> list[Effect]:
    """What leaves the router because of `decision`.

    In the order of its events, then what goes to other workflows. A task is not sent if a later
    event of the same decision makes it needless: the workflow ends, or the step is cancelled.
    """
    out: list[Effect] = []
    needed = _needed(decision)
    for event in decision.events:
        match event:
            case TaskDispatched():
                # by identity: of several at one place in a decision, the last alone goes out
                if needed.get(event.step) is event:
                    out.append(_task(decision, event))
            case TasksWithdrawn():
                out += _withdrawals(decision, event)
            case WorkflowEnded():
                out.append(_outcome(decision, event))
            case ApprovalRequested():
                out.append(_request(decision, event))
            case ApprovalClosed():
                out.append(_receipt_of_verdict(decision, event))
            case VoteCast() | VoteTakenBack() | PayloadEdited() | NoteAdded():
                out += _receipt_of_word(decision, event)
            case ApprovalWithdrawn():
                out.append(_receipt_of_end(decision, event))
            case AnswerRefused():
                out.append(_receipt_of_refusal(decision, event))
            case CommandAccepted() | CommandRefused():
                out += _receipt_of_command(decision, event)
            case EventEmitted():
                out.append(_event(decision, event))
            case InputParked():
                out.append(SendDeadLetter(workflow_id=decision.workflow_id, parked=event, at_ms=decision.at_ms))
            case EventUnclaimed():
                out.append(_unclaimed(decision, event))
            case _:
                pass
    out += shown(decision)
    out += [SendInput(workflow_id=decision.workflow_id, input=given) for given in inputs_between(decision)]
    return out


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


def _task(decision: Decision, event: TaskDispatched) -> SendTask:
    workflow_id = decision.workflow_id
    # `<workflow id>/<run id>/<instance>`: the run is between the two
    run_id = event.task_id[len(workflow_id) + 1 :].partition("/")[0]
    return SendTask(
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
    )


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


def _outcome(decision: Decision, event: WorkflowEnded) -> PublishOutcome:
    return PublishOutcome(
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


def _event(decision: Decision, event: EventEmitted) -> PublishEvent:
    return PublishEvent(
        workflow_id=decision.workflow_id,
        cloud_event=event.cloud_event,
        at_ms=decision.at_ms,
        traceparent=event.traceparent,
    )


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


def _receipt_of_verdict(decision: Decision, event: ApprovalClosed) -> SendReceipt:
    receipt = SendReceipt(
        workflow_id=decision.workflow_id,
        approval_id=event.approval_id,
        answer_id=event.answer_id,
        status="closed" if event.expired else "accepted",
        code="expired" if event.expired else "accepted",
        message=event.reason,
        verdict=event.verdict,
        closed=True,
        by=event.by,
        at_ms=decision.at_ms,
        # at a deadline no answer caused it, so no place can name the receipt
        source=_source(decision) if event.answer_id else None,
    )
    return _counted(receipt, event, choice=event.choice) if isinstance(event, ApprovalClosed2) else receipt


def _receipt_of_word(
    decision: Decision, event: VoteCast | VoteTakenBack | PayloadEdited | NoteAdded
) -> list[SendReceipt]:
    """The receipt of an answer to an approval of version 2 that leaves it open."""
    after = decision.events[decision.events.index(event) + 1 :]
    # an answer has one receipt (ADR 15): where an edit was a vote too, or a vote brought the
    # verdict, the event that follows has it
    if any(isinstance(one, VoteCast | ApprovalClosed2) and one.approval_id == event.approval_id for one in after):
        return []
    said = event.vote if isinstance(event, VoteCast) else event
    receipt = SendReceipt(
        workflow_id=decision.workflow_id,
        approval_id=event.approval_id,
        answer_id=said.answer_id,
        status="accepted",
        code=_WORD_CODES[type(event)],
        message="",
        verdict="",
        closed=False,
        by=said.by,
        at_ms=decision.at_ms,
        source=_source(decision),
    )
    if isinstance(event, NoteAdded):
        return [receipt]
    return [_counted(receipt, event, choice=said.choice if isinstance(said, Vote) else "")]


def _counted(
    receipt: SendReceipt,
    event: VoteCast | VoteTakenBack | PayloadEdited | ApprovalClosed2 | AnswerRefused2,
    *,
    choice: str = "",
) -> SendReceipt:
    """The receipt with how the votes are after the event."""
    # an edit resets all votes
    have = 0 if isinstance(event, PayloadEdited) else event.have
    return replace(receipt, choice=choice, have=have, need=event.need, edition=event.edition)


def _receipt_of_end(decision: Decision, event: ApprovalWithdrawn) -> SendReceipt:
    return SendReceipt(
        workflow_id=decision.workflow_id,
        approval_id=event.approval_id,
        answer_id="",
        status="closed",
        code="withdrawn",
        message=event.reason,
        verdict="",
        closed=True,
        by="",
        at_ms=decision.at_ms,
    )


def _receipt_of_refusal(decision: Decision, event: AnswerRefused) -> SendReceipt:
    receipt = SendReceipt(
        workflow_id=decision.workflow_id,
        approval_id=event.approval_id,
        answer_id=event.answer_id,
        status="refused",
        code=event.code,
        message=event.message,
        verdict=event.verdict,
        closed=event.closed,
        by=event.by,
        at_ms=decision.at_ms,
        source=_source(decision),
    )
    return _counted(receipt, event) if isinstance(event, AnswerRefused2) else receipt


def _receipt_of_command(decision: Decision, event: CommandAccepted | CommandRefused) -> list[Effect]:
    """None for a decision from before commands had receipts."""
    source = _source(decision)
    if source is None:
        return []
    status: Literal["accepted", "refused"]
    if isinstance(event, CommandAccepted):
        status, code, message = "accepted", "accepted", event.reason
    else:
        status, code, message = "refused", event.code, event.message
    return [
        SendCommandReceipt(
            workflow_id=decision.workflow_id,
            command_id=event.command_id,
            command=event.command,
            status=status,
            code=code,
            message=message,
            by=event.by,
            at_ms=decision.at_ms,
            source=source,
        )
    ]


def _source(decision: Decision) -> Place | None:
    """The place of the answer or command by which its receipt is named."""
    cause = decision.cause
    if not cause.receipt_by_place:
        return None
    return Place(topic=cause.source_topic, partition=cause.source_partition, offset=cause.source_offset)
