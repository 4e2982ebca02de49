"""What a person may do about an approval, and why not: what the page offers.

Owns how the terms, the votes so far and the person come together. The rules themselves are those
of `mesh.core.voting`; who decides is the workflow's owner, and this only says what to show.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from mesh.codec.open_approvals import OpenChange, OpenNote, OpenStanding, OpenVote
from mesh.codec.times import parse_rfc3339
from mesh.console.staff import Reader
from mesh.core.approvals import Change, Terms
from mesh.core.people import person_of
from mesh.core.questions import found_among
from mesh.core.voting import Body, belongs, may_edit, may_vote, why_excluded
from mesh.inspection.inbox import Waiting
from mesh.inspection.wording.plain import clock_time

_FIRST: Final = Terms(groups=())  # an approval of version 1 takes these choices


class Offer(NamedTuple):
    """What the form has. `cannot`: why the person can't vote; empty: they can.

    `givers`: for whom they may answer; empty text: for themself. `edits`: the ways to send an edit,
    as decision, choice and title. `form`: the schema of what each voter fills in.
    """

    choices: tuple[str, ...] = _FIRST.choices
    rejects: tuple[str, ...] = _FIRST.rejects
    cannot: str = ""
    needs_reason: tuple[str, ...] = _FIRST.rejects
    givers: tuple[str, ...] = ()
    own_vote: OpenVote | None = None
    edits: tuple[tuple[str, str, str], ...] = ()
    no_edit: str = ""
    form: dict[str, object] | None = None
    asks: tuple[str, ...] = ()
    informs: tuple[OpenNote, ...] = ()
    comments: bool = False
    claims: bool = False
    releases: bool = False
    extends: bool = False
    claimed: str = ""  # who looks at it, in words
    missing: str = ""  # what the verdict still needs, in words

    @property
    def takes_part(self) -> bool:
        """Whether there is anything that they may do."""
        return bool(self.givers or self.edits or self.informs or self.comments or self.own_vote or self.releases)


def offer(waiting: Waiting, reader: Reader, givers: Sequence[str], now_ms: int) -> Offer:
    """What this person may do now. `givers`: for whom the inbox says that they may answer."""
    terms = waiting.request.terms
    return _of_first(waiting, reader, givers) if terms is None else _of_votes(waiting, terms, reader, givers, now_ms)


def of_link(found: Offer, *, is_used: bool) -> Offer:
    """What is left of it for somebody who came by a link, which takes one answer."""
    less = found._replace(own_vote=None, comments=False, claims=False, releases=False, extends=False)
    if not is_used:
        return less
    used = "This link has taken its answer. Sign in to send another one."
    return less._replace(cannot=used, givers=(), edits=(), no_edit="", asks=(), informs=())


def body_of(reader: Reader) -> Body:
    """The person, as the rules of votes know them."""
    names = frozenset(reader.own.mine.names)
    return Body(person_of(reader.name), frozenset(reader.own.mine.roles), names)


# One answer is the verdict ------------------------------------------------------------------------


def _of_first(waiting: Waiting, reader: Reader, givers: Sequence[str]) -> Offer:
    if not givers:
        return Offer(cannot=_not_among(f"Role {waiting.row.role}", reader))
    return Offer(givers=tuple(givers), edits=(("approve", "", "Approve my text"),))


def _not_among(who: str, reader: Reader) -> str:
    return f"{who} {'answer' if ',' in who else 'answers'} this. You are signed in as {reader.name}."


# Votes --------------------------------------------------------------------------------------------


class _Case(NamedTuple):
    """An approval of several people, and the one who looks at it."""

    waiting: Waiting
    terms: Terms
    reader: Reader
    body: Body
    now_ms: int
    others: tuple[str, ...]  # for whom they may answer, besides themself

    @property
    def standing(self) -> OpenStanding | None:
        return self.waiting.standing

    @property
    def changes(self) -> tuple[Change, ...]:
        return tuple(map(_change, self.standing.besides)) if self.standing else ()

    @property
    def may_vote(self) -> bool:
        return may_vote(self.terms, self.body, self.changes, self.now_ms)

    @property
    def may_edit(self) -> bool:
        return may_edit(self.terms, self.body, self.changes, self.now_ms)

    @property
    def why_barred(self) -> str:
        """Why the person can't vote although they have the role: four eyes."""
        if why := why_excluded(self.terms, self.body):
            return _SAID.get(why, why.replace("they took part", "you took part"))
        editors = self.standing.editors if self.standing else ()
        if self.terms.not_editors and self.body.is_among(map(person_of, editors)):
            return "you have edited the text, and who edits it does not approve it"
        return ""

    @property
    def givers(self) -> tuple[str, ...]:
        own = ("",) if self.may_vote and not self.why_barred else ()
        return (*own, *self.others)

    @property
    def is_edited_out(self) -> bool:
        return (self.standing.edition if self.standing else 1) > self.terms.editing.limit


_SAID: Final = {
    "they are the requester": "you have asked for it, and the route wants other eyes than yours",
    "the route excludes them": "the route excludes you",
}


def _of_votes(waiting: Waiting, terms: Terms, reader: Reader, givers: Sequence[str], now_ms: int) -> Offer:
    one = _Case(waiting, terms, reader, body_of(reader), now_ms, tuple(giver for giver in givers if giver))
    claimed, is_shut = _claim(one)
    is_own = _is_own_claim(one)
    acts = (one.may_vote or one.may_edit) and not is_shut
    return Offer(
        choices=terms.choices,
        rejects=terms.rejects,
        cannot=claimed if is_shut else _cannot(one),
        needs_reason=terms.choices if terms.reason == "required" else terms.rejects,
        givers=one.givers,
        own_vote=_own_vote(one),
        edits=tuple(_edits(one)) if acts and terms.signed != "own" else (),
        no_edit=_why_no_edit(one) if acts else "",
        form=terms.form,
        asks=_askable(one) if acts else (),
        informs=tuple(_asked_of(one)),
        comments=_may_comment(one),
        claims=acts and not is_own and not one.why_barred,
        releases=is_own,
        extends=acts and "" in one.givers and terms.extending is not None and waiting.row.deadline_at_ms is not None,
        claimed=claimed,
        missing=_missing(terms, one.standing),
    )


def _change(one: OpenChange) -> Change:
    return Change(
        from_ms=parse_rfc3339(one.since), roles=one.roles, people=one.people, alone=one.alone, quorum=one.quorum
    )


def _cannot(one: _Case) -> str:
    if one.givers:
        # of those who may answer
        is_own = one.terms.signed == "own"
        return "This asks for your own signature: mesh approvals approve ID --key FILE." if is_own else ""
    if one.why_barred and one.may_vote:
        return f"You can't answer this: {one.why_barred}. Somebody else has to."
    return _not_among(one.waiting.row.role, one.reader)


def _is_own_claim(one: _Case) -> bool:
    standing = one.standing
    return bool(standing and standing.claimed_by and one.body.is_among([person_of(standing.claimed_by)]))


def _claim(one: _Case) -> tuple[str, bool]:
    """Who looks at it, in words; and whether that keeps the person from answering."""
    standing = one.standing
    if standing is None or not standing.claimed_by or not standing.claimed_until:
        return "", False
    until_ms = parse_rfc3339(standing.claimed_until)
    if one.now_ms >= until_ms:
        return "", False
    when = clock_time(until_ms, one.now_ms)
    if _is_own_claim(one):
        return f"You look at it until {when}.", False
    if one.terms.claiming.exclusive:
        return f"{standing.claimed_by} looks at it until {when}, and nobody else can answer before.", True
    return f"{standing.claimed_by} looks at it until {when}.", False


def _own_vote(one: _Case) -> OpenVote | None:
    votes = one.standing.votes if one.standing else ()
    return next((vote for vote in votes if one.body.is_among([person_of(vote.by), person_of(vote.on_behalf)])), None)


def _edits(one: _Case) -> Iterator[tuple[str, str, str]]:
    terms = one.terms
    if not one.may_edit or one.is_edited_out:
        return
    if "" in one.givers and not terms.not_editors and terms.form is None:
        for choice in terms.choices:
            if choice == "approve":
                yield "approve", "", "Approve my text"
            elif choice not in terms.rejects:
                yield "choose", choice, f"{shown(choice)}, with my text"
    yield "edit", "", "Save my text, without a vote"


def _why_no_edit(one: _Case) -> str:
    editing = one.terms.editing
    if editing.limit == 0:
        return "The route lets nobody edit it."
    if not one.may_edit:
        return f"Only {editing.role or ', '.join(editing.people) or 'others'} may edit it."
    return "It has been edited as often as the route allows." if one.is_edited_out else ""


def _may_comment(one: _Case) -> bool:
    is_asker = one.terms.requester != "" and one.body.is_among([person_of(one.terms.requester)])
    return one.may_vote or one.may_edit or bool(one.others) or is_asker or bool(why_excluded(one.terms, one.body))


def _askable(one: _Case) -> tuple[str, ...]:
    """Whom one can ask before one answers."""
    back = one.terms.asking_back
    asked = sum(note.kind == "question" for note in one.waiting.notes)
    return () if back is None or asked >= back.limit else tuple(to.name for to in back.to)


def _asked_of(one: _Case) -> Iterator[OpenNote]:
    """The open questions that the person was asked."""
    back, standing = one.terms.asking_back, one.standing
    if back is None or standing is None:
        return
    for note in one.waiting.notes:
        to = found_among(back.to, note.to) if note.kind == "question" and note.question in standing.questions else None
        if to is not None and not to.agent and belongs(one.body, to.role, to.people):
            yield note


def _missing(terms: Terms, standing: OpenStanding | None) -> str:
    """What the verdict still needs, in words."""
    have, need = (standing.have, standing.need) if standing else (0, terms.need)
    said = f"{need - have} more {'vote is' if need - have == 1 else 'votes are'} needed: {terms.rule}"
    if standing is not None and standing.split:
        said = "The votes are split: they would be enough if they were for one choice"
    against = f"{terms.reject_need} against {'ends' if terms.reject_need == 1 else 'end'} it"
    return f"{said}. {against}." if terms.rejects else f"{said}."


def shown(choice: str) -> str:
    return choice.replace("_", " ").capitalize()
