"""What the people's topic says of open approvals and active routes: who is left, how long time is.

Owns two kinds of findings: quorums that the people there are can't reach any more, and calendars
that are missing or end soon. It warns only of what is sure: all who have voted, or whom a
stage may add, count for any seat.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import apsw

from mesh.core.activation import DELAY_MS
from mesh.core.approvals import Terms
from mesh.core.events import ApprovalRequested2
from mesh.core.people import People, person_of
from mesh.core.route import Route, approvals_of
from mesh.core.topics import Topics
from mesh.core.voting import Body, among, is_enough, seated, stage_change, who_fits, why_excluded
from mesh.errors import BrokerError, UnknownFormat
from mesh.inspection.calendar_changes import why_near
from mesh.inspection.mesh_status.values import Stuck
from mesh.inspection.read_model.queries.approval_rows import open_requests, reassigned, voters
from mesh.ports import Broker
from mesh.services.calendars import Calendars
from mesh.services.people import PeopleReader

_LOOKED_AT: Final = 1_000  # open approvals, the oldest first
_APPLY: Final = "mesh calendars apply FILE"


async def stuck_terms(
    broker: Broker, topics: Topics, db: apsw.Connection, active: Iterable[Route], now_ms: int
) -> list[Stuck]:
    """All such findings; none where the people's topic can't be read."""
    known = PeopleReader(broker, topics)
    try:
        await known.start()
        people = known.people_at(now_ms)
    except (BrokerError, UnknownFormat):  # routers say what is wrong with it
        return []
    finally:
        await known.close()
    quorums = [] if people is None else list(_quorums(db, people))
    return [*quorums, *_calendars(known.calendars, active, now_ms)]


# Quorums ------------------------------------------------------------------------------------------


def _quorums(db: apsw.Connection, people: People) -> Iterator[Stuck]:
    # an order may have named others, which only the workflow knows
    ordered, voted = reassigned(db), voters(db)
    for request, workflow_id in open_requests(db, limit=_LOOKED_AT):
        if isinstance(request, ApprovalRequested2) and workflow_id not in ordered:
            left = why_unreachable(request.terms, people, voted.get(request.approval_id, ()))
            if left:
                what = f"{request.approval_id} waits for {request.terms.rule}: {left}"
                next_step = (
                    f"mesh people apply FILE, with more people; or mesh approvals reassign '{request.approval_id}'"
                )
                yield Stuck(severity="warning", what=what, next_step=next_step)


def why_unreachable(terms: Terms, people: People, voted: Iterable[str]) -> str:
    """`quorum of 2 can't be reached: 1 person left`; empty if it may still be reached.

    `voted`: the ids of those who have.
    """
    changes = [stage_change(stage) for stage in terms.stages]
    bodies = [
        Body(person_of(person.id), person.roles, frozenset(map(person_of, person.names)))
        for person in people.persons.values()
    ]
    seated_already = {person_of(name) for name in voted}
    could = [among(body, changes) for body in bodies if not why_excluded(terms, body)]
    left = [body for body in could if body.name not in seated_already]
    everyone = [*(Body(name, frozenset(), anywhere=True) for name in sorted(seated_already)), *left]
    if seated(terms.groups, everyone) == terms.need or any(is_enough(change, everyone) for change in changes):
        return ""
    count = len({place for group in terms.groups for place in who_fits(group, everyone)})
    return f"quorum of {terms.need} can't be reached: {count} {'person' if count == 1 else 'people'} left"


# Calendars ----------------------------------------------------------------------------------------


def _calendars(known: Calendars, active: Iterable[Route], now_ms: int) -> Iterator[Stuck]:
    held = known.at(now_ms + DELAY_MS)  # one that was applied just now is about to hold
    for name, (route, step) in sorted(_asked(active).items()):
        if name not in held:
            what = f"no calendar {name} is in effect, and {step} of route {route} asks by it: that would be an incident"
            yield Stuck(severity="warning", what=what, next_step=_APPLY)
    for calendar in held.values():
        near = why_near(calendar, now_ms)
        if near:
            yield Stuck(severity="warning", what=near, next_step=f"{_APPLY}, with a longer one")


def _asked(active: Iterable[Route]) -> dict[str, tuple[str, str]]:
    """The calendars that these routes ask for, each with the first route and step that does."""
    found: dict[str, tuple[str, str]] = {}
    for route in active:
        for name, work in approvals_of(route):
            for calendar in work.calendars:
                found.setdefault(calendar, (route.name, name))
    return found
