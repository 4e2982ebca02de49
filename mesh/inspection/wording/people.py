"""Words for people: questions and answers, commands of operators, and incidents.

Owns the two texts of each such event. `mesh.inspection.wording.words_of` calls it.
"""

from typing import Any, Final

import msgspec

from mesh.core import events as ev
from mesh.inspection.wording.phrases import as_json, lasting, said_for, timeless
from mesh.inspection.wording.said import Said, Tone

_INPUTS: Final = {"": "", "given": ", with an input of theirs", "made": ", with its input made again by the route"}


def words_of(event: ev.Event, decision: ev.Decision) -> Said | None:
    match event:
        case ev.ApprovalRequested():
            again = f", round {event.round}" if event.round > 1 else ""
            terms = event.terms if isinstance(event, ev.ApprovalRequested2) else None
            who = event.role if terms is None else terms.rule
            what = f"asks {'role ' if terms is None else ''}{who}{again}: {event.question}"
            asked = f"{event.question} {as_json(event.payload)} ({_terms(event, decision)})"
            told = f"-> question {event.step} to {who}: {asked}"
            return Said(event.step, what, "people", event.reason, told, (("payload", event.payload),))
        case ev.ApprovalClosed():
            return _closed(event, decision)
        case ev.ApprovalWithdrawn():
            told = f"-> question {event.step} is withdrawn: {event.reason}"
            return Said(event.step, "question withdrawn", "quiet", event.reason, told)
        case (
            ev.VoteCast()
            | ev.VoteTakenBack()
            | ev.PayloadEdited()
            | ev.NoteAdded()
            | ev.QuestionAsked()
            | ev.QuestionAnswered()
        ):
            return _of_a_word(event, decision)
        case (
            ev.ApprovalClaimed()
            | ev.ApprovalReleased()
            | ev.DeadlineMoved()
            | ev.AnswerHeld()
            | ev.ApprovalReassigned()
        ):
            return _of_time(event, decision)
        case ev.ApprovalEscalated(change=change):
            only = ", and nobody else" if change.alone else ""
            enough = f"; {change.quorum} of them suffice" if change.quorum else ""
            what = f"escalated, stage {event.stage}: {change.who} may answer{only}{enough}"
            return Said(event.step, what, "people", "", f"{event.step} is {what}")
        case ev.AnswerSigned(proof=proof):
            if proof is None:
                return Said("", "signature refused", "quiet", f"of {event.by}")
            via = "" if proof.how == "own" else f", for {event.by}"
            return Said("", f"signed by {proof.signer}{via}", "quiet", f"key {proof.kid}")
        case ev.AnswerRefused():
            by = said_for(event.by, event.on_behalf)
            told = _refused(by, event.code, event.message)
            return Said(
                "", f"answer refused ({event.code})", "people", f"{event.message} (by {by or 'somebody'})", told
            )
        case ev.CommandAccepted():
            return Said("", f"{event.command} by {event.by}", "work", event.reason)
        case ev.CommandRefused():
            told = _refused(event.by, event.code, event.message)
            what = f"{event.command or 'command'} refused ({event.code})"
            return Said("", what, "people", event.message, told)
        case ev.IncidentRaised():
            told = f"! {event.step} needs an operator: {timeless(event.message)}"
            return Said(event.step, f"incident: {event.kind}", "bad", event.message, told)
        case ev.IncidentResolved():
            by = f"by {event.by}{_INPUTS[event.input]}"
            told = f"{event.step} goes on: {event.action} {by}"
            return Said(event.step, f"incident resolved: {event.action}", "good", by, told)
        case ev.ApprovalReopened():
            begins = f"; {', '.join(event.begins_again)} begins again" if event.begins_again else ""
            told = f"{event.step} is to be asked again, by {event.by}{begins}"
            return Said(event.step, "to be asked again", "people", f"by {event.by}{begins}", told)
        case _:
            return None


def _of_time(
    event: ev.ApprovalClaimed | ev.ApprovalReleased | ev.DeadlineMoved | ev.AnswerHeld | ev.ApprovalReassigned,
    decision: ev.Decision,
) -> Said:
    """Who looks at an approval, until when it is open, and who may answer now."""
    match event:
        case ev.ApprovalClaimed():
            what = f"claimed by {_who(event.by, decision)}, for {lasting(event.until_ms - event.at_ms)}"
            return Said(event.step, what, "people", "", f"{event.by} claims {event.step}")
        case ev.ApprovalReleased():
            told = f"{event.by} gives {event.step} back"
            return Said(event.step, f"released by {_who(event.by, decision)}", "people", "", told)
        case ev.DeadlineMoved():
            longer = lasting(event.deadline_at_ms - event.before_ms)
            told = f"{event.step} is open for {longer} longer"
            return Said(event.step, f"deadline moved by {event.by}: {longer} longer", "people", "", told)
        case ev.AnswerHeld(answer=held):
            by = said_for(held.by, held.on_behalf)
            told = f"the answer of {by} came after the deadline; it is held until {event.step} closes"
            return Said(event.step, f"late answer held: {held.decision} by {by}", "quiet", "", told)
        case ev.ApprovalReassigned(change=change):
            what = f"{change.who} may answer" + (", and nobody else" if change.alone else "")
            return Said(event.step, f"reassigned by {event.by}: {what}", "people", "", f"{event.step}: {what}")


_Question = ev.QuestionAsked | ev.QuestionAnswered
_Word = ev.VoteCast | ev.VoteTakenBack | ev.PayloadEdited | ev.NoteAdded | _Question


def _of_a_word(event: _Word, decision: ev.Decision) -> Said:
    """What a person says in an approval that takes more than one answer."""
    match event:
        case ev.QuestionAsked() | ev.QuestionAnswered():
            return _of_a_question(event, decision)
        case ev.VoteCast(vote=vote):
            by = _who(vote.by, decision, vote.on_behalf, vote.delegation)
            what = f"{vote.choice} by {by}, {event.have} of {event.need}"
            who = said_for(vote.by, vote.on_behalf)
            told = f"{who} votes in {event.step}: {vote.choice} ({event.have} of {event.need})"
            return Said(event.step, what, "people", vote.reason, told)
        case ev.VoteTakenBack(why="void"):
            told = f"the vote of {event.by} in {event.step} is void ({event.have} of {event.need})"
            what = f"vote of {event.by} is void, {event.have} of {event.need}"
            return Said(event.step, what, "people", "", told)
        case ev.VoteTakenBack():
            what = f"vote taken back by {_who(event.by, decision)}, {event.have} of {event.need}"
            told = f"{event.by} takes their vote in {event.step} back ({event.have} of {event.need})"
            return Said(event.step, what, "people", "", told)
        case ev.PayloadEdited():
            what = f"edition {event.edition} by {_who(event.by, decision)}; all votes are reset"
            told = f"{event.by} edits {event.step}, edition {event.edition}: {as_json(event.payload)}"
            return Said(event.step, what, "people", event.reason, told, (("payload", event.payload),))
        case ev.NoteAdded():
            told = f"{event.by} comments on {event.step}: {event.text}"
            return Said(event.step, f"comment by {_who(event.by, decision)}", "people", event.text, told)


def _of_a_question(event: _Question, decision: ev.Decision) -> Said:
    """A question of somebody who is to approve, or what became of it."""
    if isinstance(event, ev.QuestionAsked):
        told = f"{event.by} asks {event.to.name} about {event.step}: {event.text}"
        longer = 0 if event.before_ms is None else (event.deadline_at_ms or 0) - event.before_ms
        more = f"; the deadline is {lasting(longer)} later" if longer else ""
        what = f"question {event.question} to {event.to.name} by {_who(event.by, decision)}{more}"
        return Said(event.step, what, "people", event.text, told + more)
    text, proposal = event.reply.text, event.reply.proposal
    who = f"agent {event.agent}" if event.agent else event.by
    shown = who if event.agent else _who(event.by, decision)
    if event.failed:
        told = f"{who} could not answer question {event.question} of {event.step}: {text}"
        return Said(event.step, f"question {event.question}: no answer of {who}", "quiet", text, told)
    proposed: tuple[tuple[str, Any], ...] = () if proposal is msgspec.UNSET else (("proposal", proposal),)
    told = f"{who} answers question {event.question} of {event.step}: {text}"
    if proposed:
        told += f", and proposes {as_json(proposal)}"
    return Said(event.step, f"question {event.question} answered by {shown}", "people", text, told, proposed)


def _who(by: str, decision: ev.Decision, on_behalf: str = "", delegation: str = "") -> str:
    """Who has answered, whether that is proven, and for whom under which delegation."""
    is_signed = any(isinstance(one, ev.AnswerSigned) and one.proof is not None for one in decision.events)
    under = f", for {on_behalf} under {delegation}" if delegation else f", for {on_behalf}" if on_behalf else ""
    return f"{by} ({'signed' if is_signed else 'unverified'}){under}"


def _closed(event: ev.ApprovalClosed, decision: ev.Decision) -> Said:
    edited = ", with an edit" if event.edited else ""
    who = _who(event.by, decision, event.on_behalf, event.delegation)
    by = "by its deadline" if event.expired else f"by {who}" if event.by else "by its votes"
    told = f"{event.step} is {event.verdict}: {event.reason}" if event.expired else ""
    if isinstance(event, ev.ApprovalClosed2) and not event.expired:
        told = f"{event.step} is {event.verdict}: {event.choice}, by {event.rule}"
    tone: Tone = "good" if event.verdict == "approved" else "people"
    what = f"{event.verdict} {by}{edited}"
    return Said(event.step, what, tone, event.reason, told, (("payload", event.payload),))


def _terms(event: ev.ApprovalRequested, decision: ev.Decision) -> str:
    if event.deadline_at_ms is None:
        return f"{event.reason}; no deadline"
    expiry: str = event.on_expiry
    if isinstance(event, ev.ApprovalRequested2) and expiry != "incident":
        expiry = event.terms.expiry_choice
    return f"{event.reason}; {lasting(event.deadline_at_ms - decision.at_ms)} to answer, else {expiry}"


def _refused(by: str, code: str, message: str) -> str:
    return f"-> to {by or 'its sender'}: refused ({code}), {message}"
