"""How a notice of an open approval is made: its id, and what it keeps of how the approval is.

`mesh.notifier.plan` and `mesh.notifier.asked_back` say which ones are due.
"""

from collections.abc import Iterator

from mesh.codec.notices import LONGEST_TEXT, Notice, What, notice_id
from mesh.codec.times import rfc3339
from mesh.notifier.waiting import Reachable, Waiting


def notices_of(
    waiting: Waiting,
    reach: Reachable,
    what: What,
    number: int,
    at_ms: int,
    *,
    by: str = "",
    text: str = "",
    on_behalf: str = "",
) -> Iterator[Notice]:
    """A notice for each address of a person. `by`, `text`: who said what, of a question back.

    `on_behalf`: who is away, and for whom the person may answer.
    """
    for kind in reach.kinds:
        yield Notice(
            id=notice_id(waiting.approval_id, what, number, reach.person),
            what=what,
            number=number,
            person=reach.person,
            channel=kind,
            at=rfc3339(at_ms),
            approval_id=waiting.approval_id,
            question=waiting.question[:LONGEST_TEXT],
            requester="" if waiting.terms is None else waiting.terms.requester,
            asked_at=waiting.asked_at,
            edition=waiting.edition,
            deadline_at=waiting.deadline_at,
            by=by,
            text=text[:LONGEST_TEXT],
            on_behalf=on_behalf,
        )


def held_until(waiting: Waiting, reach: Reachable, now_ms: int) -> int | None:
    """Until when what is not the first has to wait for the person's hours; None: it is due.

    It does not wait where the deadline comes before the hours.
    """
    opens_ms, deadline_ms = reach.opens_at(now_ms), waiting.deadline_at_ms
    return opens_ms if opens_ms > now_ms and (deadline_ms is None or opens_ms < deadline_ms) else None
