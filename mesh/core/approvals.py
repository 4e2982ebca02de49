"""Approvals of several people: the terms, the votes, and how a verdict is reached from them.

Owns the values that events and the state share, and the rules that need nothing else. `decide` asks
them whether a vote brings the verdict, and replay finds the same again. An approval with a `role`
alone has none of this: its first answer is the verdict.

    terms     rendered once, when it is asked; a later version of the route changes nothing
    seats     `need` for each group; each is filled by another person
    votes     of distinct people, all for the digest of the present edition
    edition   the payload as it is now; an edit makes the next one, and resets all votes
    changes   of who may answer: stages that have come about, and reassignments, by their times
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

import msgspec

from mesh.core.people import person_of
from mesh.core.questions import AskingBack, Question
from mesh.core.reminding import Reminding
from mesh.core.signing import Level, Proof

Reasons = Literal["optional", "required", "reject"]

MOST_SEATS: Final = 100
MOST_NAMES: Final = 1_000  # in one list of people
MOST_REMEMBERED: Final = 2_000  # answers of one approval, beyond which refused ones are not
LONGEST_NAME: Final = 200
MOST_EDITS: Final = 20  # without a limit of the route's own
MOST_ANSWERS: Final = 64  # of one person in one approval, so that what is remembered stays small
MOST_NOTES: Final = 50
MOST_TEXT: Final = 16 * 1024  # bytes of one note
SHOWN_REASON: Final = 200  # characters of a vote's reason that an inbox shows
MOST_HELD_OF_ONE: Final = 4  # late answers of one person that wait for an extension
MOST_HELD: Final = 64  # ... and of all
MOST_HELD_BYTES: Final = 256 * 1024  # ... and their size, since they are part of the state
LEASE_MS: Final = 30 * 60_000  # how long a claim lasts, without a duration of the route's own

Source = tuple[str, int, int]
"""The place of an answer's record: topic, partition, offset."""


class Group(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`need` seats for people with `role`, or for some of `people`."""

    need: int
    role: str = ""
    people: tuple[str, ...] = ()

    @property
    def who(self) -> str:
        return self.role or ", ".join(self.people)


class Editing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who may edit, and how often in all. Neither role nor people: those who may vote."""

    limit: int = MOST_EDITS  # 0: nobody may
    role: str = ""
    people: tuple[str, ...] = ()


class Stage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who may answer too, for answers later than `at_ms`: people with `role`, or `people`.

    `quorum`: how many of them suffice; 0: they fill the seats like all others. `replace`: from then
    on nobody else may answer.
    """

    at_ms: int
    role: str = ""
    people: tuple[str, ...] = ()
    quorum: int = 0
    replace: bool = False

    @property
    def who(self) -> str:
        return self.role or ", ".join(self.people)


class Extending(msgspec.Struct, frozen=True, kw_only=True):
    """How far, and how often in all, people who may answer can move the deadline."""

    by_ms: int
    times: int


class Claiming(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long a claim lasts, and whether others can't answer meanwhile (`exclusive`)."""

    exclusive: bool = False
    lease_ms: int = LEASE_MS


class Terms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an approval asks of people, as rendered when it was asked.

    `excluded`: people who can't vote, as `person_of` has them, and why. `expiry_choice`: what it
    comes to at its deadline.
    """

    groups: tuple[Group, ...]
    reject_need: int = 1
    choices: tuple[str, ...] = ("approve", "reject")
    rejects: tuple[str, ...] = ("reject",)
    excluded: dict[str, str] = {}
    not_editors: bool = False
    requester: str = ""
    form: dict[str, Any] | None = None
    reason: Reasons = "optional"
    editing: Editing = Editing()
    expiry_choice: str = "reject"
    stages: tuple[Stage, ...] = ()  # in the order of their times
    extending: Extending | None = None  # None: operators alone may
    claiming: Claiming = Claiming()
    signed: Level = "none"  # what an answer must bring; the mesh may ask for more
    reminding: Reminding | None = None  # for the notifier alone
    on_nobody: Literal["incident", "wait"] = "incident"  # where too few could answer from a stage on
    asking_back: AskingBack | None = None  # None: nobody can be asked

    @property
    def need(self) -> int:
        """The number of seats."""
        return sum(group.need for group in self.groups)

    @property
    def rule(self) -> str:
        """`2 of finance, 1 of de-legal`."""
        return ", ".join(f"{group.need} of {group.who}" for group in self.groups)


class Vote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person's vote that is in force.

    `by`: the person's id. `roles`, `names`: those of the person's roles and further names at
    `at_ms` that the terms name. So nobody has to look them up again. `people`: the version that
    said so; empty: a file did.
    """

    by: str
    choice: str
    digest: str  # of the payload that the person saw
    at_ms: int  # the broker's time of the answer
    roles: tuple[str, ...] = ()
    answer_id: str = ""
    reason: str = ""
    form: Any = None
    names: tuple[str, ...] = ()
    people: str = ""
    proof: Proof | None = None  # None: nobody has signed it


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who may answer too, of the answers from `from_ms` on.

    `alone`: from then on nobody else may. `quorum`: as of a stage.
    """

    from_ms: int
    roles: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    alone: bool = False
    quorum: int = 0

    @property
    def who(self) -> str:
        return ", ".join((*self.roles, *self.people))


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Who looks at it, and until when."""

    by: str
    until_ms: int


class Held(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer that came after the deadline, while the approval was open.

    It is judged if the deadline is moved behind it, and refused when the approval closes. `by`: the
    person's id. `roles`, `names`: all roles and further names that the person had at the time of
    the answer. `version`: of the people, who said so; empty: a file did.
    """

    by: str
    decision: str
    answer_id: str
    at_ms: int
    source: Source
    roles: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    version: str = ""
    digest: str | None = None
    reason: str = ""
    payload: Any = msgspec.UNSET
    choice: str = ""
    form: Any = None
    text: str = ""
    proof: Proof | None = None
    to: str = ""
    question: int = 0


class Asking(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far an approval of version 2 is. Part of its step's state.

    The payload of the present edition, and its digest, are the step's `input` and `digest`.
    `words`: by person, the broker's time of the newest vote, edit or withdrawal. `seen`: by person,
    the marks of the answers that were judged; they stay until the workflow is forgotten. `stage`:
    how many stages have come about. `extended`: how often people have moved the deadline. `reset`:
    whose votes an edit has reset, and who have not spoken since. `questions`: those
    that are not answered; `asked`: the number of the last one.
    """

    terms: Terms
    edition: int = 1
    votes: tuple[Vote, ...] = ()
    words: dict[str, int] = {}
    seen: dict[str, tuple[str, ...]] = {}
    editors: tuple[str, ...] = ()
    notes: int = 0
    stage: int = 0
    changes: tuple[Change, ...] = ()
    claim: Claim | None = None
    held: tuple[Held, ...] = ()
    extended: int = 0
    reset: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    asked: int = 0

    @property
    def next_stage(self) -> Stage | None:
        """The stage that comes about next."""
        return self.terms.stages[self.stage] if self.stage < len(self.terms.stages) else None

    @property
    def is_changed(self) -> bool:
        """Whether it is another than when it was asked, but for its deadline and its comments."""
        is_moved = bool(self.votes or self.changes or self.held or self.questions)
        return self.edition > 1 or is_moved or self.claim is not None


class Ballot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A vote as others see it. `reason`: its first `SHOWN_REASON` characters."""

    by: str
    choice: str
    at_ms: int
    reason: str = ""
    signed: Level = "none"  # none: it is claimed, and nobody has checked by whom


class Tally(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an approval is after an event: what `standing` on `mesh.approvals.open` says."""

    edition: int
    digest: str
    have: int
    need: int
    votes: tuple[Ballot, ...] = ()
    editors: tuple[str, ...] = ()
    deadline_at_ms: int | None = None
    split: bool = False  # the votes would fill all seats, and are for several choices
    stage: int = 0  # how many stages have come about
    changes: tuple[Change, ...] = ()
    claim: Claim | None = None
    held: int = 0  # answers that came after the deadline, and wait for it to be moved
    reset: tuple[str, ...] = ()  # whose votes an edit has reset, and who have not spoken since
    questions: tuple[int, ...] = ()  # the numbers of those that are not answered


class Body(NamedTuple):
    """A person who may fill a seat. `name`, and further `names`: as `person_of` has them.

    `anywhere`: a stage or a reassignment lets them fill any seat.
    """

    name: str
    roles: frozenset[str]
    names: frozenset[str] = frozenset()
    anywhere: bool = False

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


def mark_of(answer_id: str) -> str:
    """What is remembered of an answer's id: 16 hexadecimal digits."""
    # not the id itself: it may be long, and an approval remembers many
    return sha256(answer_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]


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
    return (bool(role) and role in body.roles) or body.is_among(map(person_of, people))


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
        or body.name in people
        or not people.isdisjoint(body.names)
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
    """Who has voted, by what the vote keeps of them."""
    return among(Body(person_of(vote.by), frozenset(vote.roles), frozenset(vote.names)), changes)


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
    """The votes of all others. `names`: further names of the person, as `person_of` has them."""
    own = {person_of(by), *names}
    return tuple(vote for vote in votes if person_of(vote.by) not in own)


def with_vote(votes: Sequence[Vote], vote: Vote) -> tuple[Vote, ...]:
    """The votes with this one, in the place of any earlier one of the same person."""
    # by its further names too: the earlier vote may be older than the version that has them
    return (*without(votes, vote.by, vote.names), vote)
