"""What the events of an approval of version 2 change in its step's state.

`evolve`'s part for votes, edits and the verdict, by the same rules. Replay counts nothing: who
replaced whom is decided, and is in the events.
"""

from collections.abc import Iterable
from typing import Any, assert_never

from msgspec.structs import replace

from mesh.core import events as ev
from mesh.core.approvals import MOST_ANSWERS, Asking, Claim, Terms, Vote, mark_of
from mesh.core.people import person_of
from mesh.core.questions import Question
from mesh.core.schedules import rfc3339
from mesh.core.state import StepState
from mesh.core.voting import with_vote, without

_Judged = (
    ev.VoteCast
    | ev.VoteTakenBack
    | ev.PayloadEdited
    | ev.NoteAdded
    | ev.QuestionAsked
    | ev.QuestionAnswered
    | ev.ApprovalClaimed
    | ev.ApprovalReleased
    | ev.DeadlineMoved
    | ev.AnswerRefused2
)
"""What becomes of an answer, which may have been held until then."""

VotingEvent = _Judged | ev.AnswerHeld | ev.ApprovalEscalated | ev.ApprovalReassigned


def asked_voters(step: StepState, before: StepState | None, event: ev.ApprovalRequested2) -> StepState:
    """The step, as an approval of version 1 has it, with the terms.

    What is asked again under the same id starts without votes, and knows the answers judged before.
    """
    # an answer that was judged under this id must not count a second time
    known = None if before is None or before.task_id != event.approval_id else before.asking
    asking = Asking(terms=event.terms)
    if known is not None:
        asking = replace(asking, words=known.words, seen=known.seen, asked=known.asked)
    return replace(step, asking=asking)


def evolve_voting(step: StepState, event: VotingEvent) -> StepState:
    """Raises `ValueError` for an event that its step can't have had."""
    asking = step.asking
    if asking is None:
        raise ValueError(f"{type(event).__name__} for step {event.step}, which asks for no votes")
    match event:
        case ev.AnswerHeld():
            return replace(step, asking=replace(asking, held=(*asking.held, event.answer)))
        case ev.ApprovalEscalated():
            return replace(step, asking=replace(asking, stage=event.stage, changes=(*asking.changes, event.change)))
        case ev.ApprovalReassigned():
            return replace(step, asking=replace(asking, changes=(*asking.changes, event.change), claim=None))
        case _:
            return _judged(step, _without_held(asking, event), event)


def _without_held(asking: Asking, event: _Judged) -> Asking:
    """An answer that is judged is held no longer."""
    if event.source is None:
        return asking
    return replace(asking, held=tuple(held for held in asking.held if held.source != event.source))


def _judged(step: StepState, asking: Asking, event: _Judged) -> StepState:
    match event:
        case ev.VoteCast(vote=vote):
            asking = _spoken(asking, vote.by, vote.at_ms, vote.answer_id)
            claim = _claim_but_of(asking, vote.by, () if vote.on_behalf else vote.names)
            reset = _reset_but_of(asking, vote.by, (person_of(vote.person), *vote.names))
            votes = with_vote(asking.votes, vote)
            return replace(step, asking=replace(asking, votes=votes, claim=claim, reset=reset))
        case ev.VoteTakenBack():
            asking = _spoken(asking, event.by, event.at_ms, event.answer_id)
            votes, reset = without(asking.votes, event.by), _reset_but_of(asking, event.by)
            return replace(step, asking=replace(asking, votes=votes, reset=reset))
        case ev.PayloadEdited():
            asking = _spoken(asking, event.by, event.at_ms, event.answer_id)
            editors = tuple(dict.fromkeys((*asking.editors, event.by)))
            # a vote that was kept would count consent to what the person never saw (ADR 16)
            voters = dict.fromkeys((*asking.reset, *(vote.by for vote in asking.votes)))
            asking = replace(asking, edition=event.edition, votes=(), editors=editors, reset=tuple(voters))
            asking = replace(asking, reset=_reset_but_of(asking, event.by))
            return replace(step, input=event.payload, digest=event.digest, asking=asking)
        # a comment takes the place of no other word, so it does not count as the newest
        case ev.NoteAdded():
            return replace(step, asking=_seen(replace(asking, notes=event.number), event.by, event.answer_id))
        case ev.QuestionAsked():
            one = Question(number=event.question, to=event.to)
            asking = replace(asking, questions=(*asking.questions, one), asked=one.number, notes=event.note)
            return replace(step, due_at_ms=event.deadline_at_ms, asking=_seen(asking, event.by, event.answer_id))
        case ev.QuestionAnswered():
            return replace(step, asking=_answered(asking, event))
        # nor does a claim: one that is read first would make an older vote count for nothing
        case ev.ApprovalClaimed():
            asking = replace(asking, claim=Claim(by=event.by, until_ms=event.until_ms))
            return replace(step, asking=_seen(asking, event.by, event.answer_id))
        case ev.ApprovalReleased():
            asking = replace(asking, claim=_claim_but_of(asking, event.by, event.names))
            return replace(step, asking=_seen(asking, event.by, event.answer_id))
        case ev.DeadlineMoved():
            return _moved(step, asking, event)
        case ev.AnswerRefused2():
            return replace(step, asking=_seen(asking, event.by, event.answer_id) if event.is_remembered else asking)
        case _:
            assert_never(event)


def _answered(asking: Asking, event: ev.QuestionAnswered) -> Asking:
    questions = tuple(one for one in asking.questions if one.number != event.question)
    asking = replace(asking, questions=questions, notes=event.note)
    # an agent sends no answer with an id
    return _seen(asking, event.by, event.answer_id) if event.answer_id else asking


def _claim_but_of(asking: Asking, by: str, names: Iterable[str]) -> Claim | None:
    """The claim, unless it is this person's. `names`: further names, as `person_of` has them."""
    claim = asking.claim
    return None if claim is None or person_of(claim.by) in {person_of(by), *names} else claim


def _reset_but_of(asking: Asking, by: str, names: Iterable[str] = ()) -> tuple[str, ...]:
    """Whose votes were reset, but for this person. `names`: as in `_claim_but_of`."""
    own = {person_of(by), *names}
    return tuple(name for name in asking.reset if person_of(name) not in own)


def _moved(step: StepState, asking: Asking, event: ev.DeadlineMoved) -> StepState:
    if event.answer_id:
        asking = _seen(replace(asking, extended=asking.extended + 1), event.by, event.answer_id)
    return replace(step, due_at_ms=event.deadline_at_ms, asking=asking)


def closed_by_votes(step: StepState, event: ev.ApprovalClosed2) -> StepState:
    """The step, as an approval of version 1 closes, with what later steps read more."""
    asking = step.asking
    if asking is None:
        raise ValueError(f"ApprovalClosed2 for step {event.step}, which asks for no votes")
    more: dict[str, Any] = {
        "choice": event.choice,
        "form": event.form,
        "edition": event.edition,
        "expired": event.expired,
        "editors": list(event.editors),
        "votes": [_vote_read(vote) for vote in event.votes],
    }
    return replace(
        step,
        output={**step.output, **more},
        asking=replace(asking, votes=(), held=(), claim=None, reset=(), questions=()),
    )


def without_payloads(asking: Asking) -> Asking:
    """What is kept of an approval once its workflow has ended: which answers were judged."""
    return Asking(terms=Terms(groups=()), seen=asking.seen)


def skipped_output(payload: Any, *, is_voted: bool, asking: Asking | None = None) -> dict[str, Any]:
    """What expressions see of an approval that is skipped.

    `asking`: of one that was asked. Its edits stay in the payload, so their editors count as having
    taken part.
    """
    output: dict[str, Any] = {"verdict": "skipped", "payload": payload, "by": "", "reason": "", "edited": False}
    more: dict[str, Any] = {"choice": "", "form": None, "edition": 1, "expired": False, "editors": [], "votes": []}
    if asking is not None:
        output["edited"] = asking.edition > 1
        more["edition"], more["editors"] = asking.edition, list(asking.editors)
        more["votes"] = [_vote_read(vote) for vote in asking.votes]
    return {**output, **more} if is_voted else output


def _vote_read(vote: Vote) -> dict[str, Any]:
    """A vote as later steps read it."""
    return {
        "by": vote.by,
        "for": vote.on_behalf,
        "choice": vote.choice,
        "reason": vote.reason,
        "form": vote.form,
        "at": rfc3339(vote.at_ms),
    }


def _spoken(asking: Asking, by: str, at_ms: int, answer_id: str) -> Asking:
    """Note a person's newest word."""
    return _seen(replace(asking, words={**asking.words, person_of(by): at_ms}), by, answer_id)


def _seen(asking: Asking, by: str, answer_id: str) -> Asking:
    """Remember an answer's id. Beyond the limit every answer of the person is refused anyway."""
    person = person_of(by)
    known = asking.seen.get(person, ())
    if len(known) >= MOST_ANSWERS:
        return asking
    return replace(asking, seen={**asking.seen, person: (*known, mark_of(answer_id))})
