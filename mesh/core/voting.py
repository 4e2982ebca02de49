"""Who may vote, who fills which seat, and how a verdict is reached from votes.

Owns the rules of approvals that need nothing but their values (`mesh.core.approvals`). `decide`
asks them whether a vote brings the verdict, and replay finds the same again.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from mesh.core.approvals import SHOWN_REASON, Asking, Ballot, Change, Group, Stage, Tally, Terms, Vote
from mesh.core.people import person_of


class Body(NamedTuple):
    """A person who may fill a seat. `name`, and further `names`: as `person_of` has them.

    `anywhere`: a stage or a reassignment lets them fill any seat. `by_roles`: they fill no seat
    that names them, since who answers for them may do so by their roles alone.
    """

    name: str
    roles: frozenset[str]
    names: frozenset[str] = frozenset()
    anywhere: bool = False
    by_roles: bool = False

    def is_among(self, people: Iterable[str]) -> bool:
        """Whether one of these is a name of the person. They are as `person_of` has them."""
        return any(name == self.name or name in self.names for name in people)


class Standing(NamedTuple):
    """The choice that is nearest to its verdict: how many of the seats it fills."""

    choice: str
    have: int
    need: int
    rule: str  # what must be reached, in words

    @property
    def lacks(self) -> int:
        return self.need - self.have


class Verdict(NamedTuple):
    verdict: Literal["approved", "rejected"]
    choice: str


def named_roles(terms: Terms, changes: Sequence[Change] = ()) -> frozenset[str]:
    """All roles that decide who may vote or edit."""
    groups = {group.role for group in terms.groups} | {stage.role for stage in terms.stages}
    return frozenset(groups.union({terms.editing.role}, *(change.roles for change in changes))) - {""}


def named_people(terms: Terms, changes: Sequence[Change] = ()) -> frozenset[str]:
    """All who may vote or edit by name, as `person_of` has them."""
    seats = (*(group.people for group in terms.groups), *(stage.people for stage in terms.stages))
    lists = (*seats, *(change.people for change in changes), terms.editing.people)
    return frozenset(person_of(name) for people in lists for name in people)


def why_excluded(terms: Terms, body: Body) -> str:
    """Why the person can't vote; empty if nothing excludes them."""
    return next((why for name, why in terms.excluded.items() if body.is_among([name])), "")


def belongs(body: Body, role: str, people: Iterable[str]) -> bool:
    """Whether the person has the role, or is one of the people."""
    has_role = bool(role) and role in body.roles
    return has_role or (not body.by_roles and body.is_among(map(person_of, people)))


def stage_change(stage: Stage) -> Change:
    """What a stage changes. It is for answers later than its instant."""
    return Change(
        from_ms=stage.at_ms + 1,
        roles=(stage.role,) if stage.role else (),
        people=stage.people,
        alone=stage.replace,
        quorum=stage.quorum,
    )


def may_vote(terms: Terms, body: Body, changes: Sequence[Change] = (), at_ms: int = 0) -> bool:
    """Whether there is a seat that the person could fill, with an answer of this time."""
    may = any(belongs(body, group.role, group.people) for group in terms.groups)
    # by their times, not by when they were decided: the order of reading must not matter
    for change in sorted(changes, key=lambda one: one.from_ms):
        if change.from_ms <= at_ms:
            may = _is_named(change, body) or (may and not change.alone)
    return may


def may_edit(terms: Terms, body: Body, changes: Sequence[Change] = (), at_ms: int = 0) -> bool:
    """Whether the person may edit, however often that was done."""
    editing = terms.editing
    if editing.role or editing.people:
        return belongs(body, editing.role, editing.people)
    return may_vote(terms, body, changes, at_ms) and not why_excluded(terms, body)


def _is_named(change: Change, body: Body) -> bool:
    return any(belongs(body, role, ()) for role in change.roles) or belongs(body, "", change.people)


def seated(groups: Sequence[Group], bodies: Sequence[Body]) -> int:
    """How many seats these people can fill, each person one.

    A maximum matching by augmenting paths: who came first may move to another seat that they fit.
    """
    fits = [among for group in groups for among in [who_fits(group, bodies)] * group.need]
    seat_of: dict[int, int] = {}

    def fill(seat: int, tried: set[int]) -> bool:
        for body in fits[seat]:
            if body not in tried:
                tried.add(body)
                # a person who has a seat gives it up if somebody else can fill it, so the order of
                # votes does not matter (ADR 16)
                if body not in seat_of or fill(seat_of[body], tried):
                    seat_of[body] = seat
                    return True
        return False

    return sum(fill(seat, set()) for seat in range(len(fits)))


def who_fits(group: Group, bodies: Sequence[Body]) -> list[int]:
    """Which of these could fill a seat of the group, by their places."""
    people = frozenset(map(person_of, group.people))
    return [
        n
        for n, body in enumerate(bodies)
        if body.anywhere
        or (not body.by_roles and (body.name in people or not people.isdisjoint(body.names)))
        or (group.role and group.role in body.roles)
    ]


def standing(terms: Terms, votes: Sequence[Vote], changes: Sequence[Change] = ()) -> Standing:
    """The approving choice that lacks the fewest votes; of several, the first in the route.

    A stage's own quorum counts where it is nearer than the seats.
    """
    best = Standing("", 0, terms.need, terms.rule)
    for choice in terms.choices:
        if choice not in terms.rejects:
            for found in _standings(terms, [vote for vote in votes if vote.choice == choice], choice, changes):
                best = found if found.have and found.lacks < best.lacks else best
    return best


def _standings(terms: Terms, votes: Sequence[Vote], choice: str, changes: Sequence[Change]) -> Iterator[Standing]:
    """How far one choice is: by the seats, then by each quorum of a stage's own."""
    yield Standing(choice, seated(terms.groups, [as_body(vote, changes) for vote in votes]), terms.need, terms.rule)
    for change in changes:
        if change.quorum:
            have = sum(_is_named(change, as_body(vote)) for vote in votes)
            yield Standing(choice, min(have, change.quorum), change.quorum, f"{change.quorum} of {change.who}")


def verdict_of(terms: Terms, votes: Sequence[Vote], changes: Sequence[Change] = ()) -> Verdict | None:
    """The verdict that these votes bring; None: not yet. Rejections go first."""
    against = [vote.choice for vote in votes if vote.choice in terms.rejects]
    if len(against) >= terms.reject_need:
        # of two that are named equally often, the first in the route
        return Verdict("rejected", max(terms.rejects, key=against.count))
    leading = standing(terms, votes, changes)
    return Verdict("approved", leading.choice) if leading.have == leading.need else None


def is_split(terms: Terms, votes: Sequence[Vote], changes: Sequence[Change] = ()) -> bool:
    """Whether the votes would fill all seats if they were for one choice."""
    for_it = [as_body(vote, changes) for vote in votes if vote.choice not in terms.rejects]
    return verdict_of(terms, votes, changes) is None and seated(terms.groups, for_it) == terms.need


def tally_of(asking: Asking, digest: str, deadline_at_ms: int | None) -> Tally:
    """How the votes are, for others to see."""
    now = standing(asking.terms, asking.votes, asking.changes)
    return Tally(
        edition=asking.edition,
        digest=digest,
        have=now.have,
        need=now.need,
        votes=tuple(
            Ballot(
                by=vote.by,
                choice=vote.choice,
                at_ms=vote.at_ms,
                reason=vote.reason[:SHOWN_REASON],
                signed="none" if vote.proof is None else vote.proof.how,
                on_behalf=vote.on_behalf,
            )
            for vote in asking.votes
        ),
        editors=asking.editors,
        deadline_at_ms=deadline_at_ms,
        split=is_split(asking.terms, asking.votes, asking.changes),
        stage=asking.stage,
        changes=asking.changes,
        claim=asking.claim,
        held=len(asking.held),
        reset=asking.reset,
        questions=tuple(one.number for one in asking.questions),
    )


def as_body(vote: Vote, changes: Sequence[Change] = ()) -> Body:
    """Whose vote it is, by what the vote keeps of them."""
    names, roles = frozenset(vote.names), frozenset(vote.roles)
    return among(Body(person_of(vote.person), roles, names, by_roles=vote.by_roles), changes)


def takes_part(vote: Vote, body: Body) -> bool:
    """Whether the person has sent this vote, or is the one whose vote it is."""
    return body.is_among([person_of(vote.by), person_of(vote.person)])


def among(body: Body, changes: Sequence[Change]) -> Body:
    """The person, who may fill any seat if one of these changes names them."""
    return body._replace(anywhere=any(_is_named(change, body) for change in changes))


def is_enough(change: Change, bodies: Iterable[Body]) -> bool:
    """Whether these people could fill the quorum that a stage has of its own."""
    return bool(change.quorum) and sum(_is_named(change, body) for body in bodies) >= change.quorum


def is_claimed(asking: Asking, body: Body, at_ms: int) -> bool:
    """Whether somebody else's exclusive claim keeps this person from answering."""
    claim = asking.claim
    if claim is None or not asking.terms.claiming.exclusive or at_ms >= claim.until_ms:
        return False
    return not body.is_among([person_of(claim.by)])


def without(votes: Sequence[Vote], by: str, names: Iterable[str] = ()) -> tuple[Vote, ...]:
    """The votes in which the person takes no part: neither sent by them nor for them.

    `names`: further names of the person, as `person_of` has them.
    """
    own = {person_of(by), *names}
    return tuple(vote for vote in votes if own.isdisjoint((person_of(vote.by), person_of(vote.person))))


def with_vote(votes: Sequence[Vote], vote: Vote) -> tuple[Vote, ...]:
    """The votes with this one, in the place of any earlier one of the same people."""
    # by its further names too: the earlier vote may be older than the version that has them
    return (*without(votes, vote.by, (person_of(vote.person), *vote.names)), vote)
