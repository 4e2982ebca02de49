"""Approvals of version 2: their terms, the votes and edits, and the verdict that these bring.

Each event of a vote, an edit or a withdrawal says how the votes are after it (`have` of `need`
seats), since a receipt is made of the event alone. `at_ms` is the broker's time of the answer: it
says which of a person's words is the newest. `tally` is what an approver's tool shows after it.
`source` is the place of an answer that was held; of all others the decision's cause has it.
"""

from typing import Any, Literal

import msgspec

from mesh.core.approvals import Change, Held, Source, Tally, Terms, Vote
from mesh.core.events.approval import AnswerRefused, ApprovalClosed, ApprovalRequested
from mesh.core.events.event import LogEvent
from mesh.core.questions import Addressee, Reply
from mesh.core.signing import Proof


class ApprovalRequested2(ApprovalRequested, tag="ApprovalRequested.2", frozen=True, kw_only=True):
    """`role` has the rule in words; the terms say who may answer.

    `people`: the version of the people that the terms were rendered with; empty: there was none.
    `calendars`: the versions that its instants were computed with, by name.
    """

    terms: Terms
    people: str = ""
    calendars: dict[str, str] = msgspec.field(default_factory=dict)


class VoteCast(LogEvent, tag="VoteCast.1", frozen=True, kw_only=True):
    """A person's vote. It takes the place of an earlier one of the same person.

    One that a delegate has sent takes the place of what the delegate has voted before, too.
    """

    step: str
    approval_id: str
    vote: Vote
    edition: int
    have: int
    need: int
    tally: Tally | None = None
    source: Source | None = None


class VoteTakenBack(LogEvent, tag="VoteTakenBack.1", frozen=True, kw_only=True):
    """A person takes their vote back. It may be unread yet, and then never counts.

    `why` void: an operator does, and `answer_id` is the command's id.
    """

    step: str
    approval_id: str
    by: str
    at_ms: int
    answer_id: str
    why: Literal["person", "void"]
    edition: int
    have: int
    need: int
    tally: Tally | None = None
    source: Source | None = None


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
    source: Source | None = None


class NoteAdded(LogEvent, tag="NoteAdded.1", frozen=True, kw_only=True):
    """A comment. `tally`: of one that was held."""

    step: str
    approval_id: str
    by: str
    at_ms: int
    answer_id: str
    number: int
    text: str
    source: Source | None = None
    tally: Tally | None = None


class QuestionAsked(LogEvent, tag="QuestionAsked.1", frozen=True, kw_only=True):
    """Somebody who may answer asks back. It changes no vote.

    The deadline moves from `before_ms` to `deadline_at_ms`; both None: there is none. `note`: the
    number of its note. If an agent is asked, its task follows in the same decision.
    """

    step: str
    approval_id: str
    by: str
    at_ms: int
    answer_id: str
    question: int  # from 1
    note: int
    text: str
    to: Addressee
    before_ms: int | None = None
    deadline_at_ms: int | None = None
    source: Source | None = None
    tally: Tally | None = None


class QuestionAnswered(LogEvent, tag="QuestionAnswered.1", frozen=True, kw_only=True):
    """A question is answered, by a person or an agent. `note`: the number of the answer's note.

    `agent`: the one that was asked; then nobody sent an answer, and `by` and `answer_id` are empty.
    `failed`: it has no answer, and the text says why.
    """

    step: str
    approval_id: str
    by: str
    at_ms: int
    answer_id: str
    question: int
    note: int
    reply: Reply
    agent: str = ""
    failed: bool = False
    source: Source | None = None
    tally: Tally | None = None


class ApprovalClaimed(LogEvent, tag="ApprovalClaimed.1", frozen=True, kw_only=True):
    """Somebody looks at it, until `until_ms`. It is no word: it replaces no vote."""

    step: str
    approval_id: str
    by: str
    at_ms: int
    answer_id: str
    until_ms: int
    source: Source | None = None
    tally: Tally | None = None


class ApprovalReleased(LogEvent, tag="ApprovalReleased.1", frozen=True, kw_only=True):
    """Who had claimed it no longer looks at it.

    `names`: that under which they had claimed it, if it is another than `by`.
    """

    step: str
    approval_id: str
    by: str
    at_ms: int
    answer_id: str
    names: tuple[str, ...] = ()
    source: Source | None = None
    tally: Tally | None = None


class DeadlineMoved(LogEvent, tag="DeadlineMoved.1", frozen=True, kw_only=True):
    """The deadline is later now. `answer_id` empty: an operator moved it."""

    step: str
    approval_id: str
    before_ms: int  # the deadline until then
    deadline_at_ms: int
    by: str
    at_ms: int
    answer_id: str = ""
    source: Source | None = None
    tally: Tally | None = None


class AnswerHeld(LogEvent, tag="AnswerHeld.1", frozen=True, kw_only=True):
    """An answer came after the deadline, and the approval is open.

    It has no receipt yet: it is judged if the deadline is moved, and else refused.
    """

    step: str
    approval_id: str
    answer: Held
    tally: Tally | None = None


class ApprovalReassigned(LogEvent, tag="ApprovalReassigned.1", frozen=True, kw_only=True):
    """An operator lets others answer too, or instead."""

    step: str
    approval_id: str
    by: str
    change: Change
    tally: Tally | None = None


class ApprovalEscalated(LogEvent, tag="ApprovalEscalated.1", frozen=True, kw_only=True):
    """A stage has come about: by its timer, or by an answer that reached the broker after it."""

    step: str
    approval_id: str
    stage: int  # from 1
    change: Change
    tally: Tally | None = None


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
    notes: int = 0  # how many comments, questions and answers to these there were
    source: Source | None = None


class AnswerRefused2(AnswerRefused, tag="AnswerRefused.2", frozen=True, kw_only=True):
    """An answer that does not count, to an approval of version 2.

    `is_remembered`: the answer's id is known from now on, so the same answer, sent again, can't
    count later. `tally`: of an answer that was held, while the approval is open.

    `code`: repeated, closed, late, superseded, delegation, excluded, role, choice, reason, form,
    digest, claimed, represented, schema, edits, limit, question, too_large, malformed.
    """

    step: str
    edition: int
    have: int
    need: int
    is_remembered: bool = False
    source: Source | None = None
    tally: Tally | None = None


class AnswerSigned(LogEvent, tag="AnswerSigned.1", frozen=True, kw_only=True):
    """An answer came with a signature, which the owner has checked. It changes nothing.

    The events that follow in the decision say what became of the answer. `jws`: as it came, so that
    an audit can check it again. `proof` None: it does not hold.
    """

    approval_id: str
    answer_id: str
    by: str
    jws: str
    proof: Proof | None = None
