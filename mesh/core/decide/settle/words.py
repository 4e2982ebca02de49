"""What an answer to an approval of version 2 must be: who gives it, when, and what it says.

Every answer that does not count has one of these codes, in this order, after those of signatures
(`mesh.core.decide.settle.signatures`). What counts is the newest word of a person, by the time of
the broker, in any order of reading. The directory has people and their roles as of the answer's
time; of an answer that was held, the answer has them itself.

    repeated                        its id was judged before; it has no effect
    closed, late                    there is a verdict, or the deadline had passed
    superseded                      a later vote, edit or withdrawal of the same person was read
    delegation                      nobody has delegated to who sends it, or not for that
    excluded, role, claimed, represented
                                    the person may not answer, or takes part already
    choice, reason, form, digest, schema, edits, limit, question
                                    what the answer says does not fit
"""

from typing import Any, Final, NamedTuple, cast

import msgspec

from mesh.core.approvals import (
    LONGEST_NAME,
    MOST_ANSWERS,
    MOST_HELD,
    MOST_HELD_BYTES,
    MOST_HELD_OF_ONE,
    MOST_NOTES,
    MOST_TEXT,
    Asking,
    Held,
    Source,
    Terms,
    mark_of,
)
from mesh.core.decide.draft import Draft
from mesh.core.decide.settle.delegates import (
    giver_of,
    in_force_for,
    why_barred,
    why_no_delegate,
    why_no_mandate,
    why_represented,
)
from mesh.core.decide.settle.questions import room_for_notes, why_not_answered, why_not_asked
from mesh.core.decide.settle.refusing import Refusal
from mesh.core.delegations import Mandate
from mesh.core.inputs import AnswerGiven2, AnswerKind, CheckedAnswer
from mesh.core.json_values import digest, text_of
from mesh.core.people import further_names, person_of, roles_of
from mesh.core.schemas import why_unfit
from mesh.core.signing import Proof, stricter
from mesh.core.state import StepState
from mesh.core.voting import Body, is_claimed, may_edit, may_vote, takes_part, why_excluded

_MOVED_OFTEN: Final = {1: "its deadline may be moved once, and has been"}
_NO_WORDS: Final = frozenset({"comment", "ask", "inform", "claim", "release", "extend"})
"""Answers that take the place of no other of the same person."""

_MOST_OFTEN: Final = {0: "it may not be edited", 1: "it may be edited once, and has been"}


class Ballot(NamedTuple):
    """What an answer would bring about. `choice` empty: no vote. `edit` UNSET: no edit."""

    choice: str = ""
    edit: Any = msgspec.UNSET


class HeldWord(AnswerGiven2, tag="HeldWord", frozen=True, kw_only=True):
    """An answer that was held, as it is judged. It is no input, and in no record.

    `held_roles`, `names`, `version`: of the person and of the people as of the answer's time, and
    `mandates`: the delegations that were in force then.
    """

    held_roles: frozenset[str]
    names: frozenset[str]
    mandates: tuple[Mandate, ...] = ()
    version: str
    proof: Proof | None = None


def proof_of(word: AnswerGiven2) -> Proof | None:
    """Whose key has signed the answer; None: nobody's."""
    return word.proof if isinstance(word, CheckedAnswer | HeldWord) else None


def asking_of(step: StepState) -> Asking:
    if step.asking is None:
        raise AssertionError(f"{step.task_id} asks for no votes")
    return step.asking


def is_repeated(word: AnswerGiven2, step: StepState) -> bool:
    """Whether this person's answer with this id was judged before."""
    return mark_of(word.answer_id) in asking_of(step).seen.get(person_of(word.by), ())


def judged(draft: Draft, word: AnswerGiven2, step: StepState) -> Ballot | Refusal:
    """What this answer brings about, or why it does not count."""
    asking = asking_of(step)
    person = person_of(word.by)
    if is_repeated(word, step):
        return Refusal("repeated", "the answer with this id was judged before; it counts once")
    # by the broker's timestamp of the answer, however late it is read
    if step.due_at_ms is not None and word.source_at_ms > step.due_at_ms:
        return Refusal("late", "it reached the broker after the deadline")
    # what replaces nothing is never out of date; of two at the same time the one read later counts
    if word.decision not in _NO_WORDS:
        if asking.words.get(person, -1) > word.source_at_ms:
            return Refusal("superseded", f"{word.by} has sent a later answer, and that one counts")
        if word.on_behalf and asking.words.get(person_of(word.on_behalf), -1) > word.source_at_ms:
            return Refusal("superseded", f"{word.on_behalf} has sent a later answer, and that one counts")
    found = _of_person(draft, word, step) or _of_content(draft, word, step)
    # last: an answer that would not count anyway is refused for its own reason
    if isinstance(found, Ballot) and len(asking.seen.get(person, ())) >= MOST_ANSWERS:
        return Refusal("limit", f"one person may send {MOST_ANSWERS} answers to an approval")
    return found


def body_of(draft: Draft, word: AnswerGiven2) -> Body:
    """Who gives the answer, with the roles and names as of its time."""
    if isinstance(word, HeldWord):
        return Body(person_of(word.by), word.held_roles, word.names)
    people = draft.directory.people
    person = people.named(word.by) if people is not None else None
    # the person's own record, because the roles of all people would be looked through
    roles = roles_of(draft.directory.roles, word.by) if person is None else person.roles
    return Body(person_of(word.by), roles, further_names(people, word.by))


def mandates_of(draft: Draft, word: AnswerGiven2, asking: Asking) -> tuple[Mandate, ...]:
    """The delegations under which an answer for somebody else may be given, as of its time."""
    if isinstance(word, HeldWord):
        return word.mandates
    return in_force_for(draft, word, stricter(draft.directory.answers, asking.terms.signed))


def version_of(draft: Draft, word: AnswerGiven2) -> str:
    """The version of the people that the answer is judged by; empty: a file has them."""
    if isinstance(word, HeldWord):
        return word.version
    return "" if draft.directory.people is None else draft.directory.people.digest


def _of_person(draft: Draft, word: AnswerGiven2, step: StepState) -> Refusal | None:
    """Why the person may not send such an answer."""
    asking, body = asking_of(step), body_of(draft, word)
    terms = asking.terms
    match word.decision:
        case "withdraw":  # also before the vote is read, but by nobody who could have none
            has_voted = any(takes_part(vote, body) for vote in asking.votes)
            return None if has_voted or _may_take_part(word, asking, body) else _no_role(draft, word, _who_may(asking))
        case "comment":
            # those who may not vote, or asked for it, may still be heard
            is_asker = terms.requester != "" and body.is_among([person_of(terms.requester)])
            if _may_take_part(word, asking, body) or why_excluded(terms, body) or is_asker:
                return None
            return _no_role(draft, word, _who_may(asking))
        case "inform":  # who was asked may have no right to vote
            return why_not_answered(word, asking, body)
        case "release" if asking.claim is not None and body.is_among([person_of(asking.claim.by)]):
            return None
        case "edit":
            why = _of_editor(draft, word, asking, body)
        # who may edit may say that they are looking, and ask
        case "claim" | "release" | "ask" if may_edit(terms, body, asking.changes, word.source_at_ms):
            why = None
        case _:
            why = _of_voter(draft, word, asking, body)
    if why is None and word.decision != "release" and is_claimed(asking, body, word.source_at_ms):
        return Refusal("claimed", f"{asking.claim.by if asking.claim else ''} has claimed it: ask them, or wait")
    if why is None and word.on_behalf:
        return why_represented(word, asking, body, giver_of(mandates_of(draft, word, asking)[0]))
    return why


def _of_voter(draft: Draft, word: AnswerGiven2, asking: Asking, body: Body) -> Refusal | None:
    if word.on_behalf:
        mandates = mandates_of(draft, word, asking)
        if not mandates:
            return why_no_mandate(draft, word)
        return why_no_delegate(word, asking, body, mandates, _shown(_who_may(asking)))
    why = why_barred(asking, body)
    if why:
        return Refusal("excluded", f"{word.by} can't vote here: {why}")
    may = may_vote(asking.terms, body, asking.changes, word.source_at_ms)
    return None if may else _no_role(draft, word, _who_may(asking))


def _of_editor(draft: Draft, word: AnswerGiven2, asking: Asking, body: Body) -> Refusal | None:
    terms = asking.terms
    if may_edit(terms, body, asking.changes, word.source_at_ms):
        return None
    why = why_excluded(terms, body)
    if why and may_vote(terms, body, asking.changes, word.source_at_ms):
        return Refusal("excluded", f"{word.by} can't edit here: {why}")
    return _no_role(draft, word, terms.editing.role or ", ".join(terms.editing.people) or _who_may(asking))


def _may_take_part(word: AnswerGiven2, asking: Asking, body: Body) -> bool:
    at = (asking.changes, word.source_at_ms)
    return may_vote(asking.terms, body, *at) or may_edit(asking.terms, body, *at)


def _who_may(asking: Asking) -> str:
    """Who may answer, in words, whatever the time of the answer."""
    return ", ".join((asking.terms.rule, *(change.who for change in asking.changes)))


def _no_role(draft: Draft, word: AnswerGiven2, rule: str) -> Refusal:
    # of an answer that was held, another version of the people may have ruled
    says = "" if isinstance(word, HeldWord) else draft.directory.roles_from
    where = f", by {says}" if says else ""
    return Refusal("role", f"{word.by or 'nobody'} is not among those who may: {_shown(rule)}{where}")


def _shown(rule: str) -> str:
    return rule if len(rule) <= LONGEST_NAME else f"{rule[:LONGEST_NAME]}..."


def _of_content(draft: Draft, word: AnswerGiven2, step: StepState) -> Ballot | Refusal:
    """What the answer says, or why it does not fit."""
    match word.decision:
        case "withdraw" | "claim" | "release":
            return Ballot()
        case "comment":
            return _of_text(word, "a comment") or _of_room(step) or Ballot()
        case "ask":
            return _of_text(word, "a question") or why_not_asked(draft, word, asking_of(step)) or Ballot()
        case "inform":
            return _of_text(word, "an answer to a question") or Ballot()
        case "extend":
            return _of_extension(step) or Ballot()
        case _:
            ballot = _ballot(word, step)
            if isinstance(ballot, Refusal):
                return ballot
            why = _of_words(word, step, ballot) or _of_digest(word, step) or _of_edit(draft, word, step, ballot)
            return why or ballot


def _of_text(word: AnswerGiven2, what: str) -> Refusal | None:
    if not word.text.strip():
        return Refusal("malformed", f"{what} needs a `text`")
    if _size(word.text) > MOST_TEXT:
        return Refusal("too_large", f"the text of {what} has at most {MOST_TEXT:,} bytes")
    return None


def _of_room(step: StepState) -> Refusal | None:
    # the answers to open questions must have room
    if room_for_notes(asking_of(step)) > 0:
        return None
    return Refusal("limit", f"an approval takes {MOST_NOTES} notes: comments, questions and answers")


def _of_extension(step: StepState) -> Refusal | None:
    asking = asking_of(step)
    extending = asking.terms.extending
    if extending is None or step.due_at_ms is None:
        return Refusal("limit", "the people who may answer can't move its deadline; an operator can")
    if asking.extended >= extending.times:
        return Refusal(
            "limit",
            _MOVED_OFTEN.get(extending.times, f"its deadline may be moved {extending.times} times, and has been"),
        )
    return None


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _ballot(word: AnswerGiven2, step: StepState) -> Ballot | Refusal:
    """The choice and the edit that the answer stands for."""
    terms = asking_of(step).terms
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
    terms = asking_of(step).terms
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
    asking = asking_of(step)
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
    if not may_edit(asking.terms, body_of(draft, word), asking.changes, word.source_at_ms):
        return Refusal("edits", f"{word.by} may vote but not edit")
    return None


# Held ---------------------------------------------------------------------------------------------


def may_hold(word: AnswerGiven2, step: StepState) -> bool:
    """Whether a late answer can wait until the approval closes or its deadline is moved."""
    held = asking_of(step).held
    size = sum(_size_of(one.payload, one.form, one.reason + one.text) for one in held)
    return (
        len(word.by) <= LONGEST_NAME
        and len(held) < MOST_HELD
        and sum(person_of(one.by) == person_of(word.by) for one in held) < MOST_HELD_OF_ONE
        and size + _size_of(word.payload, word.form, word.reason + word.text) <= MOST_HELD_BYTES
    )


def _size_of(payload: Any, form: Any, text: str) -> int:
    return _size(text_of([None if payload is msgspec.UNSET else payload, form, text]))


def held_of(draft: Draft, word: AnswerGiven2, asking: Asking) -> Held:
    """What is kept of a late answer."""
    body = body_of(draft, word)
    return Held(
        by=word.by,
        decision=word.decision,
        answer_id=word.answer_id,
        at_ms=word.source_at_ms,
        source=(word.source_topic, word.source_partition, word.source_offset),
        # all of them: which of them count is known when it is judged
        roles=tuple(sorted(body.roles)),
        names=tuple(sorted(body.names)),
        version=version_of(draft, word),
        digest=word.digest,
        reason=word.reason,
        payload=word.payload,
        choice=word.choice,
        form=word.form,
        text=word.text,
        proof=proof_of(word),
        to=word.to,
        question=word.question,
        on_behalf=word.on_behalf,
        mandates=mandates_of(draft, word, asking) if word.on_behalf else (),
    )


def held_word(draft: Draft, approval_id: str, held: Held) -> HeldWord:
    """The answer that was held, to be judged."""
    topic, partition, offset = held.source
    return HeldWord(
        workflow_id=draft.workflow_id,
        source_topic=topic,
        source_partition=partition,
        source_offset=offset,
        source_at_ms=held.at_ms,
        approval_id=approval_id,
        answer_id=held.answer_id,
        decision=cast("AnswerKind", held.decision),
        by=held.by,
        digest=held.digest,
        reason=held.reason,
        payload=held.payload,
        choice=held.choice,
        form=held.form,
        text=held.text,
        to=held.to,
        question=held.question,
        on_behalf=held.on_behalf,
        held_roles=frozenset(held.roles),
        names=frozenset(held.names),
        mandates=held.mandates,
        version=held.version,
        proof=held.proof,
    )


def source_of(word: AnswerGiven2) -> Source | None:
    """The place of an answer that was held; of all others the decision's cause has it."""
    return (word.source_topic, word.source_partition, word.source_offset) if isinstance(word, HeldWord) else None
