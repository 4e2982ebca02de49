"""The terms of an approval, rendered when it is asked: who may answer, who may not, and how many.

They go into the request's event, so a later version of the route or of the roles changes nothing
about an approval that is open. A name that is missing is an error, never "nobody is excluded".
"""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from mesh.core.approvals import MOST_NAMES, MOST_SEATS, Asking, Change, Editing, Group, Stage, Terms
from mesh.core.decide.begin.instants import working_instant_ms
from mesh.core.decide.draft import Draft
from mesh.core.people import further_names, id_of, people_by_roles, person_of
from mesh.core.questions import REQUESTER, Addressee, AskingBack
from mesh.core.route import AddresseeAsked, BackAsked, ExpressionError, Scope, SeatsAsked, Template, VotingTerms
from mesh.core.voting import Body, among, as_body, is_enough, may_vote, seated, takes_part, who_fits, why_excluded


def rendered(draft: Draft, name: str, voting: VotingTerms) -> Terms:
    """The terms as they are now. Raises `ExpressionError`."""
    scope = draft.scope_of(name)
    requester = "" if voting.requester is None else _name(voting.requester, scope, "requester")
    excluded = dict(_excluded(draft, voting, scope, requester))
    groups = tuple(_group(draft, seats, scope, excluded) for seats in voting.groups)
    edit = voting.edit
    terms = Terms(
        groups=groups,
        choices=voting.choices,
        rejects=voting.rejects,
        excluded=excluded,
        not_editors=voting.not_editors,
        requester=requester,
        form=voting.form,
        reason=voting.reason,
        editing=Editing(
            limit=edit.limit,
            role="" if edit.role is None else _name(edit.role, scope, "the role that may edit"),
            people=() if edit.people is None else _names(edit.people, scope, "the people who may edit"),
        ),
        expiry_choice=voting.expiry_choice,
        stages=tuple(_stages(draft, voting, scope)),
        extending=voting.extending,
        claiming=voting.claiming,
        signed=voting.signed,
        reminding=voting.reminding,
        on_nobody=voting.on_nobody,
        asking_back=None if voting.ask_back is None else _asking_back(voting.ask_back, scope, requester),
        # a majority counts the voters, and only the terms can say who they are: replaced below
        reject_need=1 if voting.reject == "majority" else voting.reject,
    )
    if terms.need > MOST_SEATS:
        raise ExpressionError(f"the quorum would be {terms.need} people; the most is {MOST_SEATS}")
    return terms if voting.reject != "majority" else replace(terms, reject_need=_majority(len(_voters(draft, terms))))


def why_nobody(draft: Draft, terms: Terms) -> str:
    """Which seats can't be filled by distinct people who may vote; empty if all can.

    Also empty where nobody knows all who have a role.
    """
    voters = _voters(draft, terms)
    if not draft.directory.knows_all_roles or seated(terms.groups, voters) == terms.need:
        return ""
    lacking = next((group for group in terms.groups if seated([group], voters) < group.need), None)
    # each group could be filled by itself, but some people fit several and take one seat only
    if lacking is None:
        return f"{terms.rule}: {len(voters)} people could answer, and no way to seat them fills all seats"
    return _lacks(terms, lacking, seated([lacking], voters))


def why_nobody_left(draft: Draft, asking: Asking, at_ms: int) -> str:
    """As above, of an open approval, for the people who may answer from this time on.

    Who has voted keeps the seat. A stage's own quorum suffices.
    """
    terms, changes = asking.terms, asking.changes
    if terms.on_nobody == "wait" or not draft.directory.knows_all_roles:
        return ""
    voted = [as_body(vote, changes) for vote in asking.votes]
    left = [body for body in _all_bodies(draft, terms, changes) if _may_still(asking, body, voted, at_ms)]
    everyone = [*voted, *(among(body, changes) for body in left)]
    if seated(terms.groups, everyone) == terms.need or any(is_enough(change, everyone) for change in changes):
        return ""
    lacking = next((group for group in terms.groups if seated([group], everyone) < group.need), None)
    if lacking is None:
        return f"{terms.rule}: {len(everyone)} people voted or could, and no way to seat them fills all seats"
    return _lacks(terms, lacking, seated([lacking], everyone))


def _may_still(asking: Asking, body: Body, voted: Sequence[Body], at_ms: int) -> bool:
    """Whether somebody who has not voted may."""
    terms = asking.terms
    has_voted = any(body.is_among([one.name, *one.names]) for one in voted)
    # a delegate takes part once, as all do
    if has_voted or any(takes_part(vote, body) for vote in asking.votes) or why_excluded(terms, body):
        return False
    is_barred = terms.not_editors and body.is_among(map(person_of, asking.editors))
    return not is_barred and may_vote(terms, body, asking.changes, at_ms)


def _lacks(terms: Terms, group: Group, could: int) -> str:
    without = f", without {', '.join(terms.excluded)}" if terms.excluded else ""
    return f"{group.need} of {group.who} must answer, and {could} could{without}"


def _group(draft: Draft, seats: SeatsAsked, scope: Scope, excluded: dict[str, str]) -> Group:
    role = "" if seats.role is None else _name(seats.role, scope, "role")
    people = () if seats.people is None else _names(seats.people, scope, "people")
    if isinstance(seats.need, int):
        return Group(need=seats.need, role=role, people=people)
    could = len(_voters(draft, Terms(groups=(Group(need=1, role=role, people=people),), excluded=excluded)))
    # one seat at least: a group without people must not be full from the start
    return Group(need=_majority(could) if seats.need == "majority" else max(could, 1), role=role, people=people)


def _stages(draft: Draft, voting: VotingTerms, scope: Scope) -> Iterator[Stage]:
    """The stages with their instants: each counts from the one before."""
    at_ms = draft.now_ms
    for asked in voting.stages:
        if asked.working is not None:
            at_ms = working_instant_ms(draft, asked.working, at_ms)
        else:
            at_ms += int(asked.after_s * 1000)
        yield Stage(
            at_ms=at_ms,
            role="" if asked.role is None else _name(asked.role, scope, "the role of a stage"),
            people=() if asked.people is None else _names(asked.people, scope, "the people of a stage"),
            quorum=asked.quorum,
            replace=asked.replace,
        )


def _asking_back(back: BackAsked, scope: Scope, requester: str) -> AskingBack:
    """Who can be asked. Raises `ExpressionError`."""
    to = tuple(_addressee(one, scope, requester) for one in back.to)
    names = [one.name for one in to]
    # an asker says a name, and it must mean one of them
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ExpressionError(f"two of those who can be asked back are called {double}")
    return AskingBack(to=to, limit=back.limit, extends_ms=back.extends_ms)


def _addressee(one: AddresseeAsked, scope: Scope, requester: str) -> Addressee:
    if one.is_requester:
        return Addressee(name=REQUESTER, people=(requester,))
    if one.agent:
        return Addressee(name=one.agent, agent=one.agent)
    if one.role is not None:
        role = _name(one.role, scope, "the role that can be asked back")
        return Addressee(name=role, role=role)
    people = () if one.people is None else _names(one.people, scope, "the people who can be asked back")
    return Addressee(name=", ".join(people), people=people)


def _majority(of: int) -> int:
    return of // 2 + 1


def _voters(draft: Draft, terms: Terms) -> list[Body]:
    """All who could vote now."""
    bodies = _all_bodies(draft, terms)
    could = {n for group in terms.groups for n in who_fits(group, bodies)}
    return [body for n, body in enumerate(bodies) if n in could and not why_excluded(terms, body)]


def _all_bodies(draft: Draft, terms: Terms, changes: Sequence[Change] = ()) -> list[Body]:
    """All who are known by a role, or are named."""
    people, roles = draft.directory.people, people_by_roles(draft.directory.roles)
    # by id, so that two names of one person are no two voters
    lists = (*(group.people for group in terms.groups), *(change.people for change in changes))
    named = {person_of(id_of(people, name)) for names in lists for name in names}
    return [
        Body(name, roles.get(name, frozenset()), further_names(people, name)) for name in sorted(roles.keys() | named)
    ]


def _excluded(draft: Draft, voting: VotingTerms, scope: Scope, requester: str) -> Iterator[tuple[str, str]]:
    """Who can't vote, and why. The last reason for a person is the one that is kept.

    By the name that the route gives and by the person's id: the name may be taken from the person
    later.
    """
    for name, why in _excluded_names(draft, voting, scope, requester):
        yield from dict.fromkeys((person_of(name), person_of(id_of(draft.directory.people, name))), why).items()


def _excluded_names(draft: Draft, voting: VotingTerms, scope: Scope, requester: str) -> Iterator[tuple[str, str]]:
    for template in voting.not_people:
        for name in _names(template, scope, "the people in not", may_be_none=True):
            yield name, "the route excludes them"
    for step in voting.voters_of:
        for name in _took_part(draft, step):
            yield name, f"they took part in {step}"
    if voting.not_requester:
        yield requester, "they are the requester"


def _took_part(draft: Draft, step: str) -> Iterator[str]:
    """Whose votes and edits were in force when that approval closed, in its newest round."""
    state = draft.live.steps.get(step)
    output = state.output if state is not None else None
    # of a for-each: in any of its approvals
    for one in output if isinstance(output, list) else [output]:
        yield from _took_part_in(one)


def _took_part_in(output: Any) -> Iterator[str]:
    if not isinstance(output, dict):
        return
    # for whom a vote was given has taken part, as who gave it has
    yield from (name for vote in output.get("votes", []) for name in (vote["by"], vote.get("for")) if name)
    yield from output.get("editors", [])
    # an approval of version 1 has no votes: the one whose answer counted took part alone
    yield from (output[key] for key in ("by", "for") if output.get(key))


def _name(template: Template, scope: Scope, what: str) -> str:
    value = template.render(scope)
    if isinstance(value, str) and value.strip():
        return value
    raise ExpressionError(f"{what} must be a name, and {template.source} gives {_shown(value)}")


def _names(template: Template, scope: Scope, what: str, *, may_be_none: bool = False) -> tuple[str, ...]:
    """A name or a list of names. `may_be_none`: the list may be empty."""
    value = template.render(scope)
    found = [value] if isinstance(value, str) else value
    is_list = isinstance(found, list) and all(isinstance(name, str) and name.strip() for name in found)
    if is_list and len(found) > MOST_NAMES:
        raise ExpressionError(f"{what} are {len(found):,} names; the most is {MOST_NAMES:,}")
    if is_list and (found or may_be_none):
        return tuple(found)
    raise ExpressionError(f"{what} must be a name or a list of names, and {template.source} gives {_shown(value)}")


def _shown(value: Any) -> str:
    return "an empty text" if value == "" else "null" if value is None else repr(value)[:80]
