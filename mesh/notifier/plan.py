"""What people are to be told of an approval, and when to look again.

Owns the rules, as functions of how the approval is now and of what was told: nothing is remembered
from event to event. So it does not matter how many events passed unseen while no notifier ran, and
what was told once is not told again.

    asked      to each who may answer and was told nothing yet
    stage      the same, of somebody whom a stage or a reassignment has added
    edited     to each whose vote an edit has reset
    extended   to each who was told another deadline
    reminder   to each for whom it waits, at the last instant of the route that has come
    question   to each who was asked back, until somebody has answered
    answered   to the person who asked that
    closed     to each who was told

Notices for somebody who is away go to the one who answers for them. Without such a delegate the one
who is away hears what is new, and gets no reminders.

What is not the first that a person hears of an approval, or of a question, is held back until the
person's hours begin, unless the deadline comes sooner.

An approval that is asked again under its id (an operator's retry) begins again: what was told
counts only for the same `asked_at`. The numbers of ids go on, so no id comes twice.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from mesh.codec.notices import Notice, What, notice_id
from mesh.codec.times import rfc3339
from mesh.core.reminding import DEFAULT, Reminding, last_instant, next_instant
from mesh.notifier import asked_back
from mesh.notifier.making import held_until, notices_of
from mesh.notifier.waiting import Directory, Reachable, Waiting

ON_TIME_MS: Final = 60_000
"""A reminder that is at most so late counts as of its instant, so the cool-down runs from there."""

TOLD_LATE_MS: Final = 86_400_000
"""Nobody gets a notice of a close that is older."""

_OPEN_MS: Final = 3_600_000
"""... but where it had to wait for a person's hours, so long after they have begun."""


class Plan(NamedTuple):
    """`next_ms`: when time alone makes more due; None: never."""

    notices: list[Notice]
    next_ms: int | None


class Closing(NamedTuple):
    """How an approval ended. `verdict` empty: nobody knows any more."""

    verdict: str = ""
    by: str = ""


def plan(waiting: Waiting, told: Sequence[Notice], directory: Directory, now_ms: int) -> Plan:
    """What is due for an approval that is open.

    `told`: its notices, in the order of their topic.
    """
    notices: list[Notice] = []
    told_of = _by_person(told)
    times: list[int | None] = [_next_instant(waiting, now_ms)]
    named = list(directory.named_by(waiting))
    stood_in_for = _stood_in_for(waiting, named, now_ms)
    for reach in named:
        if reach.person in stood_in_for:
            continue
        mine = told_of.get(reach.person, [])
        of_round = [one for one in mine if one.asked_at == waiting.asked_at and one.what not in asked_back.KINDS]
        news = _news(waiting, reach, of_round, now_ms)
        if news is None:
            continue
        held_ms = held_until(waiting, reach, now_ms) if of_round else None
        if held_ms is None:
            what, at_ms = news
            whom = waiting.for_whom(reach, now_ms) or ""
            notices += notices_of(waiting, reach, what, _next_number(mine, what), at_ms, on_behalf=whom)
        times.append(held_ms)
    if waiting.questions:
        asked = asked_back.plan_asked_back(waiting, told_of, directory, now_ms)
        notices += asked.notices
        times.append(asked.held_ms)
    return Plan(notices, min((at for at in times if at is not None), default=None))


def _stood_in_for(waiting: Waiting, named: Sequence[Reachable], now_ms: int) -> frozenset[str]:
    """Who is away while somebody else gets their notices."""
    return frozenset(
        one.person for reach in named for one in reach.givers if waiting.waits_on_behalf(reach, one, now_ms)
    )


def _by_person(told: Sequence[Notice]) -> dict[str, list[Notice]]:
    found: dict[str, list[Notice]] = {}
    for one in told:
        found.setdefault(one.person, []).append(one)
    return found


def _next_number(mine: Sequence[Notice], what: What) -> int:
    return 1 + max((one.number for one in mine if one.what == what), default=0)


def _next_instant(waiting: Waiting, now_ms: int) -> int | None:
    """When time alone changes something: a reminder, or people who are about to be added."""
    reminding = _reminding(waiting)
    remind_ms = next_instant(reminding, waiting.asked_at_ms, waiting.deadline_at_ms, now_ms)
    # by the broker's clock, which may be ahead of ours
    later = [change.from_ms for change in waiting.changes if change.from_ms > now_ms]
    return min([*later, *([] if remind_ms is None else [remind_ms])], default=None)


def _news(waiting: Waiting, reach: Reachable, mine: Sequence[Notice], now_ms: int) -> tuple[What, int] | None:
    """The first thing that the person does not know, and the moment that it is about."""
    whom = waiting.for_whom(reach, now_ms)
    waits = whom is not None
    if not mine:
        if not waits:
            return None
        # a delegate was not asked from the beginning, and is not added either
        return ("asked" if whom or waiting.is_of_first(reach.body) else "stage"), now_ms
    bodies = (reach.body, *(one.body for one in reach.givers))
    is_reset = waits and any(body.is_among(waiting.reset) for body in bodies)
    if is_reset and waiting.edition > max(one.edition for one in mine):
        return "edited", now_ms
    if waiting.deadline_at != mine[-1].deadline_at and (waits or waiting.may_answer(reach.body, now_ms)):
        return "extended", now_ms
    due_ms = _reminder(waiting, reach, mine, now_ms) if waits and not reach.is_absent else None
    return None if due_ms is None else ("reminder", due_ms)


def _reminder(waiting: Waiting, reach: Reachable, mine: Sequence[Notice], now_ms: int) -> int | None:
    reminding, deadline_ms = _reminding(waiting), waiting.deadline_at_ms
    instant = last_instant(reminding, waiting.asked_at_ms, deadline_ms, now_ms)
    if instant is None or instant <= max(one.at_ms for one in mine):
        return None
    reminded = max((one.at_ms for one in mine if one.what == "reminder"), default=None)
    if reminded is not None and instant < reminded + reminding.cooldown_ms:
        return None
    # a digest comes in time, and has it
    if reach.digest is not None and (deadline_ms is None or reach.digest.next(instant) < deadline_ms):
        return None
    return instant if now_ms - instant <= ON_TIME_MS else now_ms


def _reminding(waiting: Waiting) -> Reminding:
    return DEFAULT if waiting.terms is None or waiting.terms.reminding is None else waiting.terms.reminding


def plan_close(told: Sequence[Notice], directory: Directory, closing: Closing, closed_at_ms: int, now_ms: int) -> Plan:
    """What is due for an approval that is not open any more: its close, to those who were told."""
    notices: list[Notice] = []
    held: list[int] = []
    told_of = _by_person(told)
    for reach in to_tell_of_close(told, directory, closed_at_ms, now_ms):
        opens_ms, mine = reach.opens_at(now_ms), told_of[reach.person]
        if opens_ms > now_ms:
            held.append(opens_ms)
            continue
        number = _next_number(mine, "closed")
        closed = replace(
            mine[-1],
            id=notice_id(mine[-1].approval_id, "closed", number, reach.person),
            what="closed",
            number=number,
            status="due",
            at=rfc3339(now_ms),
            verdict=closing.verdict,
            by=closing.by,
            text="",
            attempts=0,
            message="",
            reason="",
        )
        notices += [replace(closed, channel=kind) for kind in reach.kinds]
    return Plan(notices, min(held, default=None))


def to_tell_of_close(told: Sequence[Notice], directory: Directory, closed_at_ms: int, now_ms: int) -> list[Reachable]:
    """Those whom a notice has reached, and for whom the close is news."""
    people = dict.fromkeys(one.person for one in to_close(told))
    found = [directory.reachable[person] for person in people if person in directory.reachable]
    last_ms = closed_at_ms + TOLD_LATE_MS - _OPEN_MS
    return [reach for reach in found if now_ms < reach.opens_at(last_ms) + _OPEN_MS]


def to_close(told: Sequence[Notice]) -> list[Notice]:
    """The notices that reached people who do not know of the close yet."""
    last_asked = max((one.asked_at for one in told), default="")
    of_round = [one for one in told if one.asked_at == last_asked]
    know = {one.person for one in of_round if one.what == "closed"}
    return [one for one in of_round if one.status == "sent" and one.person not in know]


def why_not_wanted(notice: Notice, waiting: Waiting | None, reach: Reachable | None, now_ms: int) -> str:
    """Why a notice that is due need not go out any more; empty: it must."""
    if reach is None or notice.channel not in reach.kinds:
        return "the person has no such address any more"
    if notice.what in ("closed", "digest"):
        return ""
    if waiting is None or waiting.asked_at != notice.asked_at:
        return "the approval has closed"
    if notice.what == "extended":
        return "" if waiting.deadline_at == notice.deadline_at else "the deadline was moved again"
    if notice.what == "edited" and waiting.edition != notice.edition:
        return "the payload was edited again"
    if notice.what in asked_back.KINDS:
        return asked_back.why_not_asked(notice, waiting, reach)
    if waiting.for_whom(reach, now_ms) == notice.on_behalf:
        return ""
    whom = f" for {notice.on_behalf}" if notice.on_behalf else ""
    return f"it does not wait for the person{whom} any more"
