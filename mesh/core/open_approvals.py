"""Open approvals: what `mesh.approvals.open` says of each, as effects of decisions.

The topic is compacted, and each approval has some keys on it. A record of a key replaces the one
before. So a tool that reads the topic knows all that is open, and needs no log.

    request/<id>    what was asked
    payload/<id>    the payload of the newest edition; only after an edit
    standing/<id>   votes, edition, deadline, stage, claim; only once something of it has changed
    note/<n>/<id>   a comment, a question, or the answer to one

An effect is a function of one decision, so each event carries the part that it changes, whole. The
event that ends an approval knows which keys it has, and sends a tombstone for each. A refusal of an
answer to an approval that is not open sends one too: if a record of a deposed owner came late, and
shows what is closed, the first answer to it takes it away again.

`mesh.core.effects` is the caller; `mesh.codec.open_approvals` has the bytes.
"""

from typing import Any, Final, Literal, assert_never

import msgspec

from mesh.core.approvals import Tally
from mesh.core.events import (
    AnswerHeld,
    AnswerRefused,
    AnswerRefused2,
    ApprovalClaimed,
    ApprovalClosed,
    ApprovalClosed2,
    ApprovalEscalated,
    ApprovalReassigned,
    ApprovalReleased,
    ApprovalRequested,
    ApprovalRequested2,
    ApprovalWithdrawn,
    DeadlineMoved,
    Decision,
    IncidentRaised,
    NoteAdded,
    PayloadEdited,
    QuestionAnswered,
    QuestionAsked,
    VoteCast,
    VoteTakenBack,
)

REQUEST: Final = "request"
PAYLOAD: Final = "payload"
STANDING: Final = "standing"

MAY_SHOW: Final = frozenset(
    {
        AnswerHeld,
        AnswerRefused,
        AnswerRefused2,
        ApprovalClaimed,
        ApprovalClosed,
        ApprovalClosed2,
        ApprovalEscalated,
        ApprovalReassigned,
        ApprovalReleased,
        ApprovalRequested,
        ApprovalRequested2,
        ApprovalWithdrawn,
        DeadlineMoved,
        IncidentRaised,
        NoteAdded,
        PayloadEdited,
        QuestionAnswered,
        QuestionAsked,
        VoteCast,
        VoteTakenBack,
    }
)
"""The events that may change the topic. Most decisions have none of them."""


_Told = (
    VoteCast
    | VoteTakenBack
    | PayloadEdited
    | NoteAdded
    | QuestionAsked
    | QuestionAnswered
    | ApprovalEscalated
    | DeadlineMoved
    | ApprovalClaimed
    | ApprovalReleased
    | ApprovalReassigned
    | AnswerHeld
    | AnswerRefused2
)


class NewPayload(msgspec.Struct, frozen=True, kw_only=True):
    payload: Any
    digest: str
    edition: int
    by: str


NoteKind = Literal["comment", "question", "answer"]


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said. `question`: the number of the question that it is, or answers.

    `agent`: it answers, and not a person. `failed`: it could not, and the text says why.
    """

    number: int
    by: str
    at_ms: int
    text: str
    kind: NoteKind = "comment"
    question: int = 0
    to: str = ""
    agent: str = ""
    failed: bool = False
    proposal: Any = msgspec.UNSET


Shown = ApprovalRequested | NewPayload | Tally | Note


class ShowApproval(msgspec.Struct, frozen=True, kw_only=True):
    """To `mesh.approvals.open`, in the partition of `approval_id`. Key: `<part>/<approval id>`.

    `value` None: a tombstone.
    """

    workflow_id: str
    approval_id: str
    part: str  # request, payload, standing or note/<n>
    value: Shown | None
    at_ms: int

    @property
    def key(self) -> str:
        return f"{self.part}/{self.approval_id}"


def shown(decision: Decision) -> list[ShowApproval]:
    """What a decision changes on the topic: each key once, as it is after the decision."""
    found: dict[str, ShowApproval] = {}
    for event in decision.events:
        for approval_id, part, value in _parts(event):
            show = ShowApproval(
                workflow_id=decision.workflow_id, approval_id=approval_id, part=part, value=value, at_ms=decision.at_ms
            )
            # behind all that came before, so that an approval never ends before it begins
            found.pop(show.key, None)
            found[show.key] = show
    return list(found.values())


def _parts(event: Any) -> list[tuple[str, str, Shown | None]]:
    """What an event changes: approval, part and value."""
    match event:
        case ApprovalRequested():
            return [(event.approval_id, REQUEST, event)]
        case PayloadEdited():
            payload = NewPayload(payload=event.payload, digest=event.digest, edition=event.edition, by=event.by)
            return [(event.approval_id, PAYLOAD, payload), *_standing(event)]
        case (
            VoteCast()
            | VoteTakenBack()
            | ApprovalEscalated()
            | DeadlineMoved()
            | ApprovalClaimed()
            | ApprovalReleased()
            | ApprovalReassigned()
            | AnswerHeld()
        ):
            return _standing(event)
        case NoteAdded() | QuestionAsked() | QuestionAnswered():
            note = note_of(event)
            return [(event.approval_id, note_part(note.number), note), *_standing(event)]
        case AnswerRefused2(tally=Tally()):
            return _standing(event)
        case ApprovalClosed2():
            return _ended(event.approval_id, event.edition, event.notes)
        case ApprovalClosed():
            return _ended(event.approval_id, 0, 0)
        case ApprovalWithdrawn() | IncidentRaised() if event.approval_id:
            return _ended(event.approval_id, event.edition, event.notes)
        case AnswerRefused() if event.approval_id and (event.closed or event.code == "unknown"):
            return _ended(event.approval_id, 0, 0)
        case _:
            return []


def note_of(event: NoteAdded | QuestionAsked | QuestionAnswered) -> Note:
    """The note that an event adds."""
    by, at_ms = event.by, event.at_ms
    match event:
        case NoteAdded():
            return Note(number=event.number, by=by, at_ms=at_ms, text=event.text)
        case QuestionAsked():
            return Note(
                number=event.note,
                by=by,
                at_ms=at_ms,
                text=event.text,
                kind="question",
                question=event.question,
                to=event.to.name,
            )
        case QuestionAnswered():
            return Note(
                number=event.note,
                by=by,
                at_ms=at_ms,
                text=event.reply.text,
                kind="answer",
                question=event.question,
                agent=event.agent,
                failed=event.failed,
                proposal=event.reply.proposal,
            )
        case _:
            assert_never(event)


def _standing(event: _Told) -> list[tuple[str, str, Shown | None]]:
    return [] if event.tally is None else [(event.approval_id, STANDING, event.tally)]


def _ended(approval_id: str, edition: int, notes: int) -> list[tuple[str, str, Shown | None]]:
    """Tombstones. `edition` 0: of version 1, which has a request alone."""
    return [(approval_id, part, None) for part in parts_of(edition, notes)]


def parts_of(edition: int, notes: int) -> list[str]:
    """The parts that an approval may have on the topic."""
    parts = [REQUEST, *([STANDING] if edition else []), *([PAYLOAD] if edition > 1 else [])]
    return parts + [note_part(number) for number in range(1, notes + 1)]


def note_part(number: int) -> str:
    return f"note/{number}"
