"""What people are to be told of questions that were asked back.

Owns who hears of a question: those who can answer it, until one of them has, and then the one who
asked. Both are told once, whatever became of the votes meanwhile. The numbers of these notices are
those of the questions, which never come twice in an approval.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from mesh.codec.notices import Notice, What
from mesh.codec.open_approvals import OpenNote
from mesh.core.people import person_of
from mesh.notifier.making import held_until, notices_of
from mesh.notifier.waiting import AskedBack, Directory, Reachable, Waiting

KINDS: Final[frozenset[What]] = frozenset({"question", "answered"})


class Told(NamedTuple):
    """`held_ms`: when something begins to be due that waits for a person's hours; None: nothing."""

    notices: list[Notice]
    held_ms: int | None


def plan_asked_back(
    waiting: Waiting, told_of: Mapping[str, Sequence[Notice]], directory: Directory, now_ms: int
) -> Told:
    """What is due for the questions of an approval. `told_of`: its notices by person."""
    notices: list[Notice] = []
    held: list[int] = []
    for asked in waiting.questions:
        what: What = "question" if asked.answer is None else "answered"
        for reach in _to_tell(asked, directory):
            if _knows(told_of.get(reach.person, ()), what, asked.number):
                continue
            until_ms = None if asked.answer is None else held_until(waiting, reach, now_ms)
            if until_ms is None:
                by, text = (asked.by, asked.text) if asked.answer is None else (_who(asked.answer), asked.answer.text)
                notices += notices_of(waiting, reach, what, asked.number, now_ms, by=by, text=text)
            else:
                held.append(until_ms)
    return Told(notices, min(held, default=None))


def _to_tell(asked: AskedBack, directory: Directory) -> Iterator[Reachable]:
    """Who hears of the question as it is now."""
    asker = person_of(asked.by)
    if asked.answer is not None:
        yield from directory.among((), [asker])
    elif asked.to is not None:
        found = directory.among([asked.to.role], map(person_of, asked.to.people))
        yield from (reach for reach in found if not reach.body.is_among([asker]))


def _knows(mine: Sequence[Notice], what: What, number: int) -> bool:
    return any(one.what == what and one.number == number for one in mine)


def why_not_asked(notice: Notice, waiting: Waiting, reach: Reachable) -> str:
    """Why a notice of a question need not go out any more; empty: it must."""
    if notice.what == "answered" or waiting.is_asked(reach.body, notice.number):
        return ""
    return "the question waits for the person no more"


def _who(answer: OpenNote) -> str:
    return f"agent {answer.agent}" if answer.agent else answer.by
