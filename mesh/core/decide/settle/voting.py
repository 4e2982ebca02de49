"""An answer to an approval of version 2: what it brings about, and what its approval comes to.

`mesh.core.decide.settle.words` says which answers count.
"""

from typing import Any, Final

import msgspec

from mesh.core.approvals import LONGEST_NAME, MOST_REMEMBERED, Asking, Vote
from mesh.core.decide.draft import Draft
from mesh.core.decide.settle.delegates import giver_of, under_which
from mesh.core.decide.settle.questions import ask, asked, informed
from mesh.core.decide.settle.refusing import Refusal
from mesh.core.decide.settle.words import (
    Ballot,
    asking_of,
    body_of,
    held_of,
    judged,
    mandates_of,
    may_hold,
    proof_of,
    source_of,
    version_of,
)
from mesh.core.events import (
    AnswerHeld,
    AnswerRefused,
    AnswerRefused2,
    ApprovalClaimed,
    ApprovalClosed2,
    ApprovalReleased,
    DeadlineMoved,
    NoteAdded,
    PayloadEdited,
    VoteCast,
    VoteTakenBack,
)
from mesh.core.inputs import AnswerGiven, AnswerGiven2
from mesh.core.json_values import digest
from mesh.core.people import person_of
from mesh.core.state import StepState
from mesh.core.voting import named_people, named_roles, standing, verdict_of, with_vote, without

_FORGOTTEN: Final = frozenset({"repeated", "closed", "limit", "signature", "key", "unsigned"})
"""Codes of answers whose ids need not be remembered.

All others are: sent again, an older word has a newer time, and would count after all. Whose answer
it is that fails a check of its signature nobody knows, so it must not use up the person's id.
"""


def whole(given: AnswerGiven | AnswerGiven2) -> AnswerGiven2:
    """The answer in the form that says all."""
    if isinstance(given, AnswerGiven2):
        return given
    return AnswerGiven2(**{field: getattr(given, field) for field in given.__struct_fields__})


def refused(
    word: AnswerGiven2, name: str, step: StepState, why: Refusal, *, like: AnswerRefused | None = None
) -> AnswerRefused2:
    """The event of a refusal. `like`: what is known of the verdict."""
    asking = asking_of(step)
    now = standing(asking.terms, asking.votes, asking.changes)
    return AnswerRefused2(
        step=name,
        approval_id=word.approval_id,
        answer_id=word.answer_id,
        code=why.code,
        message=why.message,
        by=word.by,
        on_behalf=word.on_behalf,
        verdict=like.verdict if like is not None else "",
        closed=like is not None and like.closed,
        edition=asking.edition,
        have=now.have,
        need=now.need,
        is_remembered=why.code not in _FORGOTTEN and _has_room(asking, word),
        source=source_of(word),
    )


def _has_room(asking: Asking, word: AnswerGiven2) -> bool:
    """Whether a refusal can be remembered. Strangers must not fill the state with made-up names."""
    return len(word.by) <= LONGEST_NAME and sum(map(len, asking.seen.values())) < MOST_REMEMBERED


def on_word(draft: Draft, word: AnswerGiven2, name: str, step: StepState) -> ApprovalClosed2 | None:
    """Judge an answer to an open approval, and add what it brings about.

    Returns the verdict's event, for the caller to add, if there is a verdict now.
    """
    found = judged(draft, word, step)
    match word.decision:
        case _ if isinstance(found, Refusal):
            is_held = found.code == "late" and may_hold(word, step)
            draft.add(_held(draft, word, name, step) if is_held else refused(word, name, step, found))
        case "comment":
            draft.add(_note(word, name, step))
        case "ask":
            ask(draft, asked(_said(word, name), word, step, asking_of(step)))
        case "inform":
            draft.add(informed(_said(word, name), word, asking_of(step)))
        case "withdraw":
            draft.add(_withdrawal(word, name, step))
        case "claim":
            draft.add(_claim(word, name, step))
        case "release":
            draft.add(_release(draft, word, name, step))
        case "extend":
            draft.add(_extension(word, name, step))
        case _:
            _take(draft, word, name, found)
            return closing(draft, name, word)
    return None


def close_at_deadline(name: str, step: StepState) -> ApprovalClosed2:
    """What an approval comes to that has no verdict at its deadline."""
    asking = asking_of(step)
    terms = asking.terms
    now = standing(terms, asking.votes, asking.changes)
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
    asking = asking_of(step)
    now = standing(asking.terms, asking.votes, asking.changes)
    return f"no verdict by the deadline: {_reached(now.have, now.need)} of {now.rule}"


def _reached(have: int, need: int) -> str:
    return f"{have} of {need} votes"


# What an answer brings ----------------------------------------------------------------------------


def _said(word: AnswerGiven2, name: str) -> dict[str, Any]:
    """What all events of an answer say of it."""
    return {
        "step": name,
        "approval_id": word.approval_id,
        "by": word.by,
        "at_ms": word.source_at_ms,
        "answer_id": word.answer_id,
        "source": source_of(word),
    }


def _held(draft: Draft, word: AnswerGiven2, name: str, step: StepState) -> AnswerHeld:
    return AnswerHeld(step=name, approval_id=word.approval_id, answer=held_of(draft, word, asking_of(step)))


def _claim(word: AnswerGiven2, name: str, step: StepState) -> ApprovalClaimed:
    lease_ms = asking_of(step).terms.claiming.lease_ms
    return ApprovalClaimed(**_said(word, name), until_ms=word.source_at_ms + lease_ms)


def _release(draft: Draft, word: AnswerGiven2, name: str, step: StepState) -> ApprovalReleased:
    claim = asking_of(step).claim
    claimed_by = frozenset[str]() if claim is None else frozenset({person_of(claim.by)})
    return ApprovalReleased(**_said(word, name), names=tuple(sorted(body_of(draft, word).names & claimed_by)))


def _extension(word: AnswerGiven2, name: str, step: StepState) -> DeadlineMoved:
    extending = asking_of(step).terms.extending
    if extending is None or step.due_at_ms is None:
        raise AssertionError(f"{word.approval_id} has no deadline that people may move")
    due_ms = step.due_at_ms
    return DeadlineMoved(**_said(word, name), before_ms=due_ms, deadline_at_ms=due_ms + extending.by_ms)


def _note(word: AnswerGiven2, name: str, step: StepState) -> NoteAdded:
    return NoteAdded(**_said(word, name), number=asking_of(step).notes + 1, text=word.text)


def _withdrawal(word: AnswerGiven2, name: str, step: StepState) -> VoteTakenBack:
    asking = asking_of(step)
    now = standing(asking.terms, without(asking.votes, word.by), asking.changes)
    return VoteTakenBack(**_said(word, name), why="person", edition=asking.edition, have=now.have, need=now.need)


def _take(draft: Draft, word: AnswerGiven2, name: str, ballot: Ballot) -> None:
    """Take an edit, a vote, or both: the edit first, and the vote for what it made."""
    asking = asking_of(draft.live.steps[name])
    is_edit = ballot.edit is not msgspec.UNSET
    if is_edit:
        edited = PayloadEdited(
            **_said(word, name),
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
    asking = asking_of(step)
    body, mandate = body_of(draft, word), None
    if word.on_behalf:
        mandate = under_which(mandates_of(draft, word, asking), word, asking)
        body = body if mandate is None else giver_of(mandate)
    vote = Vote(
        by=word.by,
        choice=choice,
        digest=step.digest,
        at_ms=word.source_at_ms,
        # kept with the vote, so that neither replay nor a later decision asks the directory
        # (ADR 16)
        roles=tuple(sorted(body.roles & named_roles(asking.terms, asking.changes))),
        names=tuple(sorted(body.names & _known_names(asking))),
        people=version_of(draft, word),
        proof=proof_of(word),
        answer_id=word.answer_id,
        reason=word.reason,
        form=word.form,
        on_behalf=word.on_behalf,
        delegation="" if mandate is None else mandate.delegation,
        by_roles=body.by_roles,
    )
    now = standing(asking.terms, with_vote(asking.votes, vote), asking.changes)
    return VoteCast(
        step=name,
        approval_id=word.approval_id,
        vote=vote,
        edition=asking.edition,
        have=now.have,
        need=now.need,
        source=source_of(word),
    )


def _known_names(asking: Asking) -> frozenset[str]:
    """The names that matter: those of the terms, and those under which people have answered."""
    # who has answered under what is a further name of a person by now is that person
    claimed_by = () if asking.claim is None else (asking.claim.by,)
    answered = (*(name for vote in asking.votes for name in (vote.by, vote.person)), *claimed_by)
    return named_people(asking.terms, asking.changes) | frozenset(map(person_of, answered))


def closing(draft: Draft, name: str, word: AnswerGiven2 | None = None, *, reason: str = "") -> ApprovalClosed2 | None:
    """The verdict, if the votes that are in force now bring one.

    `word`: the answer that brings it. None: `reason` says what does.
    """
    step = draft.live.steps[name]
    asking = asking_of(step)
    found = verdict_of(asking.terms, asking.votes, asking.changes)
    if found is None:
        return None
    now = standing(asking.terms, asking.votes, asking.changes)
    return ApprovalClosed2(
        step=name,
        approval_id=step.task_id,
        verdict=found.verdict,
        choice=found.choice,
        payload=step.input,
        by="" if word is None else word.by,
        on_behalf="" if word is None else word.on_behalf,
        role=step.role,
        answer_id="" if word is None else word.answer_id,
        reason=reason if word is None else word.reason,
        edited=asking.edition > 1,
        edition=asking.edition,
        rule=now.rule if found.verdict == "approved" else f"{asking.terms.reject_need} against",
        have=now.have,
        need=now.need,
        votes=asking.votes,
        editors=asking.editors,
        form=None if word is None else word.form,
        source=None if word is None else source_of(word),
    )
