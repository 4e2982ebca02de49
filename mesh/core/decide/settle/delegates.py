"""A vote for somebody else: may a delegate give it, and under which delegation?

Owns the rules of delegates in an approval. What is excluded for the one is excluded for both, and a
person takes part once, as a voter or as the one represented. Every such vote that does not count
has one of these codes, in this order:

    delegation     nothing that was in force at the answer's time lets its sender answer for that
                   person here
    excluded       the one or the other can't vote
    role           the person that it is for may not answer
    represented    the one or the other takes part already
"""

from collections.abc import Iterator, Sequence

from mesh.core import ids
from mesh.core.approvals import Asking
from mesh.core.decide.draft import Draft
from mesh.core.decide.settle.refusing import Refusal
from mesh.core.delegations import KnownDelegation, Mandate, widest
from mesh.core.inputs import AnswerGiven2
from mesh.core.people import People, further_names, id_of, person_of, roles_of
from mesh.core.signing import LEVELS, Level
from mesh.core.voting import Body, may_vote, takes_part, why_excluded


def in_force_for(draft: Draft, word: AnswerGiven2, level: Level) -> tuple[Mandate, ...]:
    """The delegations under which this answer may be given, those that cover all first.

    `level`: what an answer must bring here. A delegation must bring as much, or somebody could give
    themself the right that they can't sign for.
    """
    return widest(_mandate(draft, one, word) for one in _between(draft, word) if is_proven(one, level))


def is_proven(known: KnownDelegation, level: Level) -> bool:
    return LEVELS.index(known.delegation.signed) >= LEVELS.index(level)


def _between(draft: Draft, word: AnswerGiven2) -> Iterator[KnownDelegation]:
    """The delegations from the one person to the other, here."""
    people, route = draft.directory.people, ids.route_of(word.workflow_id)
    wanted = person_of(word.on_behalf), person_of(word.by)
    for known in draft.directory.delegations:
        one = known.delegation
        # a person may have got another id since
        if one.covers(route) and (_id(people, one.giver), _id(people, one.to)) == wanted:
            yield known


def _id(people: People | None, name: str) -> str:
    return person_of(id_of(people, name))


def _mandate(draft: Draft, known: KnownDelegation, word: AnswerGiven2) -> Mandate:
    one, people = known.delegation, draft.directory.people
    held = roles_of(draft.directory.roles, word.on_behalf)
    return Mandate(
        delegation=one.id,
        giver=word.on_behalf,
        roles=tuple(sorted(held & frozenset(one.roles) if one.roles else held)),
        names=tuple(sorted(further_names(people, word.on_behalf))),
        by_roles=bool(one.roles),
    )


def giver_of(mandate: Mandate) -> Body:
    """Whose vote is given under a mandate, with what it covers."""
    names, roles = frozenset(mandate.names), frozenset(mandate.roles)
    return Body(person_of(mandate.giver), roles, names, by_roles=mandate.by_roles)


def under_which(mandates: Sequence[Mandate], word: AnswerGiven2, asking: Asking) -> Mandate | None:
    """The first of the mandates that a vote may be given under, if any may."""
    at = (asking.changes, word.source_at_ms)
    return next((one for one in mandates if may_vote(asking.terms, giver_of(one), *at)), None)


def why_no_mandate(draft: Draft, word: AnswerGiven2) -> Refusal:
    """Refuse an answer that nothing lets its sender give."""
    message = f"no delegation from {word.on_behalf} to {word.by} was in force here when the broker took it"
    if any(True for _ in _between(draft, word)):
        message = f"the delegation from {word.on_behalf} to {word.by} must be signed as this approval asks"
    return Refusal("delegation", message)


def why_barred(asking: Asking, body: Body) -> str:
    """Why the person can't vote, whatever their roles; empty if nothing excludes them."""
    why = why_excluded(asking.terms, body)
    if not why and asking.terms.not_editors and body.is_among(map(person_of, asking.editors)):
        return "they have edited it"
    return why


def why_no_delegate(
    word: AnswerGiven2, asking: Asking, sender: Body, mandates: Sequence[Mandate], who_may: str
) -> Refusal | None:
    """Why nobody may vote so for somebody else; None if they may. There is a mandate."""
    for name, body in ((word.by, sender), (word.on_behalf, giver_of(mandates[0]))):
        why = why_barred(asking, body)
        if why:
            return Refusal("excluded", f"{name} can't vote here: {why}")
    return None if under_which(mandates, word, asking) else why_not_covered(word, mandates, who_may)


def why_not_covered(word: AnswerGiven2, mandates: Sequence[Mandate], who_may: str) -> Refusal:
    """Refuse what the person may not do, or has not delegated."""
    if all(one.by_roles for one in mandates):
        message = f"what {word.on_behalf} has delegated to {word.by} does not cover this: {who_may}"
        return Refusal("delegation", message)
    return Refusal("role", f"{word.on_behalf} is not among those who may: {who_may}")


def why_represented(word: AnswerGiven2, asking: Asking, sender: Body, giver: Body) -> Refusal | None:
    """Why a person would take part twice; None if both take part once.

    What the sender has voted before is replaced, for whomever it was.
    """
    for vote in asking.votes:
        if sender.is_among([person_of(vote.by)]):
            continue
        who = vote.by if vote.by == vote.person else f"{vote.by}, for {vote.person},"
        for name, body in ((word.on_behalf, giver), (word.by, sender)):
            if takes_part(vote, body):
                return Refusal("represented", f"{name} takes part already: {who} has voted")
    return None
