"""An answer to an approval of version 2: a vote, an edit, a withdrawal or a comment.

Every answer gets one of the codes below, in this order. What counts is the newest word of a person,
by the time of the broker, in any order of reading. The directory has people and their roles as of
the answer's time.

    repeated                        its id was judged before; it has no effect
    closed, late                    there is a verdict, or the deadline had passed
    superseded                      a later vote, edit or withdrawal of the same person was read
    excluded, role                  the person may not answer
    choice, reason, form, digest, schema, edits, limit
                                    what the answer says does not fit
"""

from typing import Any, Final, NamedTuple

import msgspec

from mesh.core.approvals import (
    LONGEST_NAME,
    MOST_ANSWERS,
    MOST_NOTES,
    MOST_REMEMBERED,
    MOST_TEXT,
    Asking,
    Body,
    Terms,
    Vote,
    mark_of,
    may_edit,
    may_vote,
    named_people,
    named_roles,
    standing,
    verdict_of,
    why_excluded,
    with_vote,
    without,
)
from mesh.core.decide.draft import Draft
from mesh.core.events import (
    AnswerRefused,
    AnswerRefused2,
    ApprovalClosed2,
    NoteAdded,
    PayloadEdited,
    VoteCast,
    VoteTakenBack,
)
from mesh.core.inputs import AnswerGiven, AnswerGiven2
from mesh.core.json_values import digest, text_of
from mesh.core.people import further_names, person_of, roles_of
from mesh.core.schemas import why_unfit
from mesh.core.state import StepState

_FORGOTTEN: Final = frozenset({"repeated", "closed", "limit"})
"""Codes of answers whose ids need not be remembered.

All others are: sent again, an older word has a newer time, and would count after all.
"""

_MOST_OFTEN: Final = {0: "it may not be edited", 1: "it may be edited once, and has been"}


class Refusal(NamedTuple):
    code: str
    message: str


class Ballot(NamedTuple):
    """What an answer would bring about. `choice` empty: no vote. `edit` UNSET: no edit."""

    choice: str = ""
    edit: Any = msgspec.UNSET


def whole(given: AnswerGiven | AnswerGiven2) -> AnswerGiven2:
    """The answer in the form that says all."""
    if isinstance(given, AnswerGiven2):
        return given
    return AnswerGiven2(**{field: getattr(given, field) for field in given.__struct_fields__})


def refused(
    word: AnswerGiven2, name: str, step: StepState, why: Refusal, *, like: AnswerRefused | None = None
) -> AnswerRefused2:
    """The event of a refusal. `like`: what is known of the verdict."""
    asking = _asking(step)
    now = standing(asking.terms, asking.votes)
    return AnswerRefused2(
        step=name,
        approval_id=word.approval_id,
        answer_id=word.answer_id,
        code=why.code,
        message=why.message,
        by=word.by,
        verdict=like.verdict if like is not None else "",
        closed=like is not None and like.closed,
        edition=asking.edition,
        have=now.have,
        need=now.need,
        is_remembered=why.code not in _FORGOTTEN and _has_room(asking, word),
    )


def _has_room(asking: Asking, word: AnswerGiven2) -> bool:
    """Whether a refusal can be remembered. Strangers must not fill the state with made-up names."""
    return len(word.by) <= LONGEST_NAME and sum(map(len, asking.seen.values())) < MOST_REMEMBERED


def is_repeated(word: AnswerGiven2, step: StepState) -> bool:
    """Whether this person's answer with this id was judged before."""
    return mark_of(word.answer_id) in _asking(step).seen.get(person_of(word.by), ())


def on_word(draft: Draft, word: AnswerGiven2, name: str, step: StepState) -> ApprovalClosed2 | None:
    """Judge an answer to an open approval, and add what it brings about.

    Returns the verdict's event, for the caller to add, if there is a verdict now.
    """
    found = _judged(draft, word, step)
    match word.decision:
        case _ if isinstance(found, Refusal):
            draft.add(refused(word, name, step, found))
        case "comment":
            draft.add(_note(word, name, step))
        case "withdraw":
            draft.add(_withdrawal(word, name, step))
        case _:
            _take(draft, word, name, found)
            return _closing(draft, word, name)
    return None


def close_at_deadline(name: str, step: StepState) -> ApprovalClosed2:
    """What an approval comes to that has no verdict at its deadline."""
    asking = _asking(step)
    terms = asking.terms
    now = standing(terms, asking.votes)
    return ApprovalClosed2(
        step=name,
        approval_id=step.task_id,
        verdict="rejected" if terms.expiry_choice in terms.rejects else "approved",
        choice=terms.expiry_choice,
        payload=step.input,
        reason=f"no verdict by the deadline ({_reached(now.have, now.need)}); on_expiry: {terms.expiry_choice}",
        edited=asking.edition > 1,
        expired=True,
        edition=asking.edition,
        rule=terms.rule,
        have=now.have,
        need=now.need,
        votes=asking.votes,
        editors=asking.editors,
    )


def why_expired(step: StepState) -> str:
    """What an operator reads of an approval whose deadline has passed."""
    asking = _asking(step)
    now = standing(asking.terms, asking.votes)
    return f"no verdict by the deadline: {_reached(now.have, now.need)} of {asking.terms.rule}"


def _reached(have: int, need: int) -> str:
    return f"{have} of {need} votes"


def _asking(step: StepState) -> Asking:
    if step.asking is None:
        raise AssertionError(f"{step.task_id} asks for no votes")
    return step.asking


# What an answer brings ----------------------------------------------------------------------------


def _note(word: AnswerGiven2, name: str, step: StepState) -> NoteAdded:
    return NoteAdded(
        step=name,
        approval_id=word.approval_id,
        by=word.by,
        at_ms=word.source_at_ms,
        answer_id=word.answer_id,
        number=_asking(step).notes + 1,
        text=word.text,
    )


def _withdrawal(word: AnswerGiven2, name: str, step: StepState) -> VoteTakenBack:
    asking = _asking(step)
    now = standing(asking.terms, without(asking.votes, word.by))
    return VoteTakenBack(
        step=name,
        approval_id=word.approval_id,
        by=word.by,
        at_ms=word.source_at_ms,
        answer_id=word.answer_id,
        why="person",
        edition=asking.edition,
        have=now.have,
        need=now.need,
    )


def _take(draft: Draft, word: AnswerGiven2, name: str, ballot: Ballot) -> None:
    """Take an edit, a vote, or both: the edit first, and the vote for what it made."""
    asking = _asking(draft.live.steps[name])
    is_edit = ballot.edit is not msgspec.UNSET
    if is_edit:
        edited = PayloadEdited(
            step=name,
            approval_id=word.approval_id,
            by=word.by,
            at_ms=word.source_at_ms,
            answer_id=word.answer_id,
            payload=ballot.edit,
            digest=digest(ballot.edit),
            edition=asking.edition + 1,
            need=asking.terms.need,
            reason=word.reason,
        )
        draft.add(edited)
    # where editors can't vote, this very edit has made its sender one
    if ballot.choice and not (is_edit and asking.terms.not_editors):
        draft.add(_vote(draft, word, name, ballot.choice))


def _vote(draft: Draft, word: AnswerGiven2, name: str, choice: str) -> VoteCast:
    step = draft.live.steps[name]
    asking = _asking(step)
    body, people = _body(draft, word), draft.directory.people
    vote = Vote(
        by=word.by,
        choice=choice,
        digest=step.digest,
        at_ms=word.source_at_ms,
        # kept with the vote, so that neither replay nor a later decision asks the directory
        # (ADR 16)
        roles=tuple(sorted(body.roles & named_roles(asking.terms))),
        names=tuple(sorted(body.names & named_people(asking.terms))),
        people="" if people is None else people.digest,
        answer_id=word.answer_id,
        reason=word.reason,
        form=word.form,
    )
    now = standing(asking.terms, with_vote(asking.votes, vote))
    return VoteCast(
        step=name, approval_id=word.approval_id, vote=vote, edition=asking.edition, have=now.have, need=now.need
    )


def _closing(draft: Draft, word: AnswerGiven2, name: str) -> ApprovalClosed2 | None:
    """The verdict, if the votes that are in force now bring one."""
    step = draft.live.steps[name]
    asking = _asking(step)
    found = verdict_of(asking.terms, asking.votes)
    if found is None:
        return None
    now = standing(asking.terms, asking.votes)
    return ApprovalClosed2(
        step=name,
        approval_id=word.approval_id,
        verdict=found.verdict,
        choice=found.choice,
        payload=step.input,
        by=word.by,
        role=step.role,
        answer_id=word.answer_id,
        reason=word.reason,
        edited=asking.edition > 1,
        edition=asking.edition,
        rule=asking.terms.rule if found.verdict == "approved" else f"{asking.terms.reject_need} against",
        have=now.have,
        need=now.need,
        votes=asking.votes,
        editors=asking.editors,
        form=word.form,
    )


# What an answer must be ---------------------------------------------------------------------------


def _judged(draft: Draft, word: AnswerGiven2, step: StepState) -> Ballot | Refusal:
    """What this answer brings about, or why it does not count."""
    asking = _asking(step)
    person = person_of(word.by)
    if is_repeated(word, step):
        return Refusal("repeated", "the answer with this id was judged before; it counts once")
    # by the broker's timestamp of the answer, however late it is read
    if step.due_at_ms is not None and word.source_at_ms > step.due_at_ms:
        return Refusal("late", "it reached the broker after the deadline")
    # a comment replaces nothing, so it is never out of date; of two at the same time the one read
    # later counts
    if word.decision != "comment" and asking.words.get(person, -1) > word.source_at_ms:
        return Refusal("superseded", f"{word.by} has sent a later answer, and that one counts")
    found = _of_person(draft, word, step) or _of_content(draft, word, step)
    # last: an answer that would not count anyway is refused for its own reason
    if isinstance(found, Ballot) and len(asking.seen.get(person, ())) >= MOST_ANSWERS:
        return Refusal("limit", f"one person may send {MOST_ANSWERS} answers to an approval")
    return found


def _body(draft: Draft, word: AnswerGiven2) -> Body:
    people = draft.directory.people
    person = people.named(word.by) if people is not None else None
    # the person's own record, because the roles of all people would be looked through
    held = roles_of(draft.directory.roles, word.by) if person is None else person.roles
    return Body(person_of(word.by), held, further_names(people, word.by))


def _of_person(draft: Draft, word: AnswerGiven2, step: StepState) -> Refusal | None:
    """Why the person may not send such an answer."""
    asking, body = _asking(step), _body(draft, word)
    terms = asking.terms
    match word.decision:
        case "withdraw":  # also before the vote is read, but by nobody who could have none
            has_voted = any(person_of(vote.by) == body.name for vote in asking.votes)
            return (
                None
                if has_voted or may_vote(terms, body) or may_edit(terms, body)
                else _no_role(draft, word, terms.rule)
            )
        case "comment":
            # those who may not vote, or asked for it, may still be heard
            is_asker = terms.requester != "" and body.is_among([person_of(terms.requester)])
            if may_vote(terms, body) or may_edit(terms, body) or why_excluded(terms, body) or is_asker:
                return None
            return _no_role(draft, word, terms.rule)
        case "edit":
            return _of_editor(draft, word, terms, body)
        case _:
            return _of_voter(draft, word, asking, body)


def _of_voter(draft: Draft, word: AnswerGiven2, asking: Asking, body: Body) -> Refusal | None:
    terms = asking.terms
    why = why_excluded(terms, body)
    if not why and terms.not_editors and body.is_among(map(person_of, asking.editors)):
        why = "they have edited it"
    if why:
        return Refusal("excluded", f"{word.by} can't vote here: {why}")
    return None if may_vote(terms, body) else _no_role(draft, word, terms.rule)


def _of_editor(draft: Draft, word: AnswerGiven2, terms: Terms, body: Body) -> Refusal | None:
    if may_edit(terms, body):
        return None
    why = why_excluded(terms, body)
    if why and may_vote(terms, body):
        return Refusal("excluded", f"{word.by} can't edit here: {why}")
    return _no_role(draft, word, terms.editing.role or ", ".join(terms.editing.people) or terms.rule)


def _no_role(draft: Draft, word: AnswerGiven2, rule: str) -> Refusal:
    where = f", by {draft.directory.roles_from}" if draft.directory.roles_from else ""
    shown = rule if len(rule) <= LONGEST_NAME else f"{rule[:LONGEST_NAME]}..."
    return Refusal("role", f"{word.by or 'nobody'} is not among those who may: {shown}{where}")


def _of_content(draft: Draft, word: AnswerGiven2, step: StepState) -> Ballot | Refusal:
    """What the answer says, or why it does not fit."""
    match word.decision:
        case "withdraw":
            return Ballot()
        case "comment":
            return _of_comment(word, step) or Ballot()
        case _:
            ballot = _ballot(word, step)
            if isinstance(ballot, Refusal):
                return ballot
            why = _of_words(word, step, ballot) or _of_digest(word, step) or _of_edit(draft, word, step, ballot)
            return why or ballot


def _of_comment(word: AnswerGiven2, step: StepState) -> Refusal | None:
    if not word.text.strip():
        return Refusal("malformed", "a comment needs a `text`")
    if _size(word.text) > MOST_TEXT:
        return Refusal("too_large", f"the text of a comment has at most {MOST_TEXT:,} bytes")
    if _asking(step).notes >= MOST_NOTES:
        return Refusal("limit", f"an approval takes {MOST_NOTES} comments")
    return None


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _ballot(word: AnswerGiven2, step: StepState) -> Ballot | Refusal:
    """The choice and the edit that the answer stands for."""
    terms = _asking(step).terms
    given = word.payload if word.decision in ("approve", "choose", "edit") else msgspec.UNSET
    # compared by digest, because Python holds 1 and true to be equal
    edit = given if given is not msgspec.UNSET and digest(given) != step.digest else msgspec.UNSET
    if word.decision == "edit":
        return Ballot(edit=edit) if edit is not msgspec.UNSET else Refusal("edits", "the edit changes nothing")
    choice = _choice(word, terms)
    if isinstance(choice, Refusal):
        return choice
    # a rejection edits nothing, whatever payload came with it
    return Ballot(choice, msgspec.UNSET if choice in terms.rejects else edit)


def _choice(word: AnswerGiven2, terms: Terms) -> str | Refusal:
    """The choice that the answer names, or the only one that it can mean."""
    if word.decision == "choose":
        wanted = [word.choice] if word.choice in terms.choices else []
    elif word.decision == "reject":
        wanted = [choice for choice in terms.rejects if word.choice in ("", choice)]
    else:
        wanted = [choice for choice in terms.choices if choice not in terms.rejects and word.choice in ("", choice)]
    if len(wanted) == 1:
        return wanted[0]
    return Refusal("choice", f"say which: decision `choose`, and as `choice` one of {', '.join(terms.choices)}")


def _of_words(word: AnswerGiven2, step: StepState, ballot: Ballot) -> Refusal | None:
    """Reason and form, as the terms want them of a vote."""
    terms = _asking(step).terms
    if not ballot.choice:
        return None
    # all votes are in the verdict's event, which must not be larger than a record
    if _size(word.reason) > MOST_TEXT or (word.form is not None and _size(text_of(word.form)) > MOST_TEXT):
        return Refusal("too_large", f"a reason and a form have at most {MOST_TEXT:,} bytes each")
    is_wanted = terms.reason == "required" or (terms.reason == "reject" and ballot.choice in terms.rejects)
    if is_wanted and not word.reason.strip():
        return Refusal("reason", f"{ballot.choice} needs a `reason`")
    if terms.form is not None:
        problem = why_unfit(terms.form, word.form, "the form", at="form")
        if problem:
            return Refusal("form", problem)
    return None


def _of_digest(word: AnswerGiven2, step: StepState) -> Refusal | None:
    # not optional as in version 1: a vote is for one edition, and must say which (ADR 16)
    if word.digest is None:
        return Refusal("digest", f"say which payload you saw: send `digest`; it is {step.digest} now")
    if word.digest != step.digest:
        return Refusal("digest", f"it answers another payload: the present one has {step.digest}")
    return None


def _of_edit(draft: Draft, word: AnswerGiven2, step: StepState, ballot: Ballot) -> Refusal | None:
    asking = _asking(step)
    if ballot.edit is msgspec.UNSET:
        return None
    if step.payload_schema is not None:
        problem = why_unfit(step.payload_schema, ballot.edit, "the edited payload", at="payload")
        if problem:
            return Refusal("schema", problem)
    limit = asking.terms.editing.limit
    # edition 1 is the payload as it was asked, so this is one more than the edits so far
    if asking.edition > limit:
        return Refusal("edits", _MOST_OFTEN.get(limit, f"it may be edited {limit} times, and has been"))
    # of an approval with another payload: it is an edit too
    if not may_edit(asking.terms, _body(draft, word)):
        return Refusal("edits", f"{word.by} may vote but not edit")
    return None
