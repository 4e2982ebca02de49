"""Receipts: what the sender of an answer or of a command hears back, as values.

A receipt is a function of one event and its decision. `mesh.core.effects` is the caller; the bytes
are in `mesh.codec.approvals` and `mesh.codec.commands`. docs/adr/0015 says why each answer has
exactly one.
"""

from typing import Final, Literal, assert_never

import msgspec
from msgspec.structs import replace

from mesh.core.approvals import Vote
from mesh.core.delegations import Absence, Delegation, DelegationEnd, PersonalRecord, named_briefly
from mesh.core.events import (
    AnswerRefused,
    AnswerRefused2,
    ApprovalClaimed,
    ApprovalClosed,
    ApprovalClosed2,
    ApprovalReleased,
    ApprovalWithdrawn,
    CommandAccepted,
    CommandRefused,
    DeadlineMoved,
    Decision,
    Event,
    NoteAdded,
    PayloadEdited,
    QuestionAnswered,
    QuestionAsked,
    VoteCast,
    VoteTakenBack,
)
from mesh.core.schedules import rfc3339

_WORD_CODES: Final = {
    VoteCast: "counted",
    VoteTakenBack: "taken_back",
    PayloadEdited: "edited",
    NoteAdded: "noted",
    QuestionAsked: "asked",
    QuestionAnswered: "informed",
    ApprovalClaimed: "claimed",
    ApprovalReleased: "released",
    DeadlineMoved: "extended",
}
_Word = (
    VoteCast
    | VoteTakenBack
    | PayloadEdited
    | NoteAdded
    | QuestionAsked
    | QuestionAnswered
    | ApprovalClaimed
    | ApprovalReleased
    | DeadlineMoved
)


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
    # accepted, expired, withdrawn; of version 2 also reached, counted, edited, taken_back, noted;
    # or why it was refused
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
    on_behalf: str = ""  # the person for whom a delegate has answered


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


def receipt_of_verdict(decision: Decision, event: ApprovalClosed) -> SendReceipt:
    code = _code_of_verdict(event)
    receipt = SendReceipt(
        workflow_id=decision.workflow_id,
        approval_id=event.approval_id,
        answer_id=event.answer_id,
        status="accepted" if code == "accepted" else "closed",
        code=code,
        message=event.reason,
        verdict=event.verdict,
        closed=True,
        by=event.by,
        on_behalf=event.on_behalf,
        at_ms=decision.at_ms,
        # at a deadline no answer caused it, so no place can name the receipt
        source=_source(decision, event) if event.answer_id else None,
    )
    return _counted(receipt, event, choice=event.choice) if isinstance(event, ApprovalClosed2) else receipt


def _code_of_verdict(event: ApprovalClosed) -> str:
    """Why it closed. `reached`: others may answer now, and the votes that were there suffice."""
    if event.expired:
        return "expired"
    return "reached" if isinstance(event, ApprovalClosed2) and not event.answer_id else "accepted"


def receipt_of_word(decision: Decision, event: _Word) -> list[SendReceipt]:
    """The receipt of an answer to an approval of version 2 that leaves it open."""
    said = event.vote if isinstance(event, VoteCast) else event
    after = decision.events[decision.events.index(event) + 1 :]
    # an answer has one receipt (ADR 15): where an edit was a vote too, or a vote brought the
    # verdict, the event that follows has it; what an operator ordered has the command's
    if not said.answer_id or _is_void(event) or any(_is_of(one, said.by, said.answer_id) for one in after):
        return []
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
        on_behalf=said.on_behalf if isinstance(said, Vote) else "",
        at_ms=decision.at_ms,
        source=_source(decision, event),
    )
    if not isinstance(event, VoteCast | VoteTakenBack | PayloadEdited):
        return [receipt]
    return [_counted(receipt, event, choice=said.choice if isinstance(said, Vote) else "")]


def _is_void(event: Event) -> bool:
    return isinstance(event, VoteTakenBack) and event.why == "void"


def _is_of(event: Event, by: str, answer_id: str) -> bool:
    """Whether a later event of the decision is of the same answer."""
    # more than one answer may be judged in a decision: those that were held
    said = event.vote if isinstance(event, VoteCast) else event
    return isinstance(said, Vote | ApprovalClosed2) and (said.by, said.answer_id) == (by, answer_id)


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


def receipt_of_end(decision: Decision, event: ApprovalWithdrawn) -> SendReceipt:
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


def receipt_of_refusal(decision: Decision, event: AnswerRefused) -> SendReceipt:
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
        on_behalf=event.on_behalf,
        at_ms=decision.at_ms,
        source=_source(decision, event),
    )
    return _counted(receipt, event) if isinstance(event, AnswerRefused2) else receipt


def receipt_of_personal(decision: Decision, record: PersonalRecord, answer_id: str) -> SendReceipt:
    """The receipt of what a person has said of themself. It is about no approval."""
    code, message = _of_personal(record)
    return SendReceipt(
        workflow_id=decision.workflow_id,
        approval_id="",
        answer_id=answer_id,
        status="accepted",
        code=code,
        message=message,
        verdict="",
        closed=False,
        by=record.by,
        at_ms=decision.at_ms,
        source=_source(decision),
    )


def _of_personal(record: PersonalRecord) -> tuple[str, str]:
    match record:
        case Delegation():
            scope = named_briefly(record)
            period = f"from {rfc3339(record.start_ms)} until {rfc3339(record.until_ms)}"
            what = " ".join(filter(None, (f"{record.to} may answer for {record.giver}", scope, period)))
            return "delegated", f"{what}: {record.id}"
        case DelegationEnd():
            return "ended", f"the delegation {record.id} ends"
        case Absence():
            return "absent", f"{record.person} is away from {rfc3339(record.start_ms)} until {rfc3339(record.until_ms)}"
        case _:
            assert_never(record)


def receipt_of_command(decision: Decision, event: CommandAccepted | CommandRefused) -> list[SendCommandReceipt]:
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


def _source(decision: Decision, event: Event | None = None) -> Place | None:
    """The place of the answer or command by which its receipt is named."""
    # of an answer that was held the event has it, since something else causes the decision
    held = getattr(event, "source", None)
    if held is not None:
        return Place(topic=held[0], partition=held[1], offset=held[2])
    cause = decision.cause
    if not cause.receipt_by_place:
        return None
    return Place(topic=cause.source_topic, partition=cause.source_partition, offset=cause.source_offset)
