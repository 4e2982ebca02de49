"""Approvals of several people: the terms, the votes, and how far an approval is.

Owns the values that events and the state share. `mesh.core.voting` has the rules. An approval with
a `role` alone has none of this: its first answer is the verdict.

    terms     rendered once, when it is asked; a later version of the route changes nothing
    seats     `need` for each group; each is filled by another person
    votes     of distinct people, all for the digest of the present edition
    edition   the payload as it is now; an edit makes the next one, and resets all votes
    changes   of who may answer: stages that have come about, and reassignments, by their times
"""

from hashlib import sha256
from typing import Any, Final, Literal

import msgspec

from mesh.core.delegations import Mandate
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

    `by`: the id of who sent it. `on_behalf`: the id of the person whose vote it is, if a delegate
    sent it, under `delegation`; `by_roles`: that covers no seat that names the person. `roles`,
    `names`: those of the person's roles and further names at `at_ms` that the terms name. So nobody
    has to look them up again. `people`: the version that said so; empty: a file did.
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
    on_behalf: str = ""
    delegation: str = ""
    by_roles: bool = False

    @property
    def person(self) -> str:
        """Whose vote it is: who fills the seat."""
        return self.on_behalf or self.by


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
    the answer. `version`: of the people, who said so; empty: a file did. `on_behalf`: for whom it
    was sent, and `mandates`: the delegations that were in force for that.
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
    on_behalf: str = ""
    mandates: tuple[Mandate, ...] = ()


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
    on_behalf: str = ""  # whose vote it is, if a delegate sent it


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


def mark_of(answer_id: str) -> str:
    """What is remembered of an answer's id: 16 hexadecimal digits."""
    # not the id itself: it may be long, and an approval remembers many
    return sha256(answer_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
