"""What a person says of themself: they delegate, end a delegation, or are away.

Owns who may say so, and what it must be. Nothing of it is kept here: what is decided goes to the
topic of delegations, and is in effect two seconds later, for each router alike. A word that is sent
again gives a record of the same name, so it changes nothing.

    repeated      the delegation is known
    delegation    it is not one: of whom, to whom, or for how long
    unknown       the person has no such delegation, or it has ended
    limit         too many are under way
"""

from hashlib import sha256

from mesh.core.decide.draft import Draft
from mesh.core.decide.settle.refusing import Refusal
from mesh.core.decide.settle.signatures import signed_event, why_unproven
from mesh.core.delegations import MOST_UNDER_WAY, SAID, Absence, Delegation, DelegationEnd, why_invalid
from mesh.core.events import AbsenceSaid, AnswerRefused, DelegationGiven, DelegationTakenBack
from mesh.core.inputs import AnswerGiven2, CheckedAnswer
from mesh.core.json_values import text_of
from mesh.core.people import id_of, person_of
from mesh.core.signing import Level
from mesh.core.state import Directory

PersonalEvent = DelegationGiven | DelegationTakenBack | AbsenceSaid


def on_personal(draft: Draft, given: AnswerGiven2) -> None:
    if isinstance(given, CheckedAnswer):
        draft.add(signed_event(given))
    found = why_unproven(given, draft.directory.answers) or _judged(draft, given)
    if not isinstance(found, Refusal):
        draft.add(found)
        return
    code, message = found
    draft.add(AnswerRefused(approval_id="", answer_id=given.answer_id, code=code, message=message, by=given.by))


def _judged(draft: Draft, given: AnswerGiven2) -> PersonalEvent | Refusal:
    if not is_known(draft.directory, given.by):
        return Refusal("delegation", f"nobody is called {given.by}, by {draft.directory.roles_from or 'any file'}")
    match given.decision:
        case "delegate":
            return _delegation(draft, given)
        case "end":
            return _end(draft, given)
        case _:
            return _absence(given)


def is_known(directory: Directory, name: str) -> bool:
    """Whether anybody has this name."""
    if directory.people is not None:
        return directory.people.named(name) is not None
    return person_of(name) in map(person_of, directory.roles)


def _delegation(draft: Draft, given: AnswerGiven2) -> DelegationGiven | Refusal:
    directory = draft.directory
    if not is_known(directory, given.to):
        return Refusal("delegation", f"nobody is called {given.to}, to whom {given.by} would delegate")
    to = id_of(directory.people, given.to)
    if person_of(to) == person_of(given.by):
        return Refusal("delegation", f"{given.by} can't delegate to themself")
    one = Delegation(
        id=_id_of(given),
        giver=given.by,
        to=to,
        start_ms=max(given.start_ms, given.source_at_ms),
        until_ms=given.until_ms,
        roles=given.roles,
        routes=given.routes,
        by=given.by,
        reason=given.reason,
        signed=_level(given),
        # so that an audit can check it, without trust in who writes the topic
        jws=given.jws,
    )
    if why := why_invalid(one):
        return Refusal("delegation", f"{given.by} can't delegate to {to} so: {why}")
    own = [known for known in directory.delegations if person_of(known.delegation.giver) == person_of(given.by)]
    if any(known.delegation.id == one.id for known in own):
        return Refusal("repeated", f"the delegation {one.id} was given before")
    if sum(known.is_under_way(given.source_at_ms) for known in own) >= MOST_UNDER_WAY:
        return Refusal("limit", f"{given.by} has {MOST_UNDER_WAY} delegations under way: end one first")
    return DelegationGiven(delegation=one, answer_id=given.answer_id)


def _id_of(given: AnswerGiven2) -> str:
    """The same for the same word sent again, so that one that was ended never comes back."""
    said = [given.by, given.answer_id, given.to, given.start_ms, given.until_ms, [*given.roles], [*given.routes]]
    return f"{SAID}{sha256(text_of(said).encode()).hexdigest()[:16]}"


def _level(given: AnswerGiven2) -> Level:
    return given.proof.how if isinstance(given, CheckedAnswer) and given.proof is not None else "none"


def _end(draft: Draft, given: AnswerGiven2) -> DelegationTakenBack | Refusal:
    known = next((one for one in draft.directory.delegations if one.delegation.id == given.delegation), None)
    if known is None or person_of(id_of(draft.directory.people, known.delegation.giver)) != person_of(given.by):
        return Refusal("unknown", f"{given.by} has no delegation {given.delegation}: `mesh delegations` lists them")
    if not known.is_under_way(given.source_at_ms):
        return Refusal("unknown", f"the delegation {given.delegation} has ended")
    end = DelegationEnd(id=given.delegation, by=given.by, reason=given.reason)
    return DelegationTakenBack(end=end, answer_id=given.answer_id)


def _absence(given: AnswerGiven2) -> AbsenceSaid | Refusal:
    at_ms = given.source_at_ms
    # until now: they are back
    start_ms = min(max(given.start_ms, at_ms), max(given.until_ms, at_ms))
    absence = Absence(
        person=given.by,
        start_ms=start_ms,
        until_ms=max(given.until_ms, at_ms),
        said_ms=at_ms,
        by=given.by,
        reason=given.reason,
    )
    return AbsenceSaid(absence=absence, answer_id=given.answer_id)
