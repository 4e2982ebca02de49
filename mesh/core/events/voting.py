"""Approvals of version 2: their terms, the votes and edits, and the verdict that these bring.

Each event of a vote, an edit or a withdrawal says how the votes are after it (`have` of `need`
seats), since a receipt is made of the event alone. `at_ms` is the broker's time of the answer: it
says which of a person's words is the newest. `tally` is what an approver's tool shows after it.
"""

from typing import Any, Literal

from mesh.core.approvals import Tally, Terms, Vote
from mesh.core.events.approval import AnswerRefused, ApprovalClosed, ApprovalRequested
from mesh.core.events.event import LogEvent


class ApprovalRequested2(ApprovalRequested, tag="ApprovalRequested.2", frozen=True, kw_only=True):
    """`role` has the rule in words; the terms say who may answer.

    `people`: the version of the people that the terms were rendered with; empty: there was none.
    """

    terms: Terms
    people: str = ""


class VoteCast(LogEvent, tag="VoteCast.1", frozen=True, kw_only=True):
    """A person's vote. It takes the place of an earlier one of the same person."""

    step: str
    approval_id: str
    vote: Vote
    edition: int
    have: int
    need: int
    tally: Tally | None = None


class VoteTakenBack(LogEvent, tag="VoteTakenBack.1", frozen=True, kw_only=True):
    """A person takes their vote back. It may be unread yet, and then never counts."""

    step: str
    approval_id: str
    by: str
    at_ms: int
    answer_id: str
    why: Literal["person"]
    edition: int
    have: int
    need: int
    tally: Tally | None = None


class PayloadEdited(LogEvent, tag="PayloadEdited.1", frozen=True, kw_only=True):
    """A new edition. All votes are reset, since they were for another payload."""

    step: str
    approval_id: str
    by: str
    at_ms: int
    answer_id: str
    payload: Any
    digest: str
    edition: int
    need: int
    reason: str = ""
    tally: Tally | None = None


class NoteAdded(LogEvent, tag="NoteAdded.1", frozen=True, kw_only=True):
    step: str
    approval_id: str
    by: str
    at_ms: int
    answer_id: str
    number: int
    text: str


class ApprovalClosed2(ApprovalClosed, tag="ApprovalClosed.2", frozen=True, kw_only=True):
    """The one verdict. `votes` are those in force; `rule` says in words what they had to reach."""

    choice: str
    edition: int
    rule: str
    have: int
    need: int
    votes: tuple[Vote, ...] = ()
    editors: tuple[str, ...] = ()
    form: Any = None  # of the closing answer
    notes: int = 0  # how many comments there were


class AnswerRefused2(AnswerRefused, tag="AnswerRefused.2", frozen=True, kw_only=True):
    """An answer that does not count, to an approval of version 2.

    `is_remembered`: the answer's id is known from now on, so the same answer, sent again, can't
    count later.

    `code`: repeated, closed, late, superseded, excluded, role, choice, reason, form, digest,
    schema, edits, limit, too_large, malformed.
    """

    step: str
    edition: int
    have: int
    need: int
    is_remembered: bool = False
