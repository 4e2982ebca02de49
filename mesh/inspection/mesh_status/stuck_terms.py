"""What the people's topic says of open approvals and active routes: who is left, how long time is.

Owns three kinds of findings: quorums that the people there are can't reach any more, roles whose
people are all away, and calendars that are missing or end soon. It warns only of what is sure: all
who have voted, or whom a stage may add, count for any seat. Who is away counts where somebody who
is there may answer for them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import apsw

from mesh.core.activation import DELAY_MS
from mesh.core.approvals import Terms
from mesh.core.calendars import utc_text
from mesh.core.delegations import Absence, KnownDelegation
from mesh.core.events import ApprovalRequested2
from mesh.core.ids import route_of
from mesh.core.people import People, id_of, person_of
from mesh.core.route import Route, approvals_of
from mesh.core.topics import Topics
from mesh.core.voting import Body, among, is_enough, seated, stage_change, who_fits, why_excluded
from mesh.errors import BrokerError, UnknownFormat
from mesh.inspection.calendar_changes import why_near
from mesh.inspection.mesh_status.look import roles_asked
from mesh.inspection.mesh_status.values import Stuck
from mesh.inspection.read_model.queries.approval_rows import open_requests, reassigned, voters
from mesh.ports import Broker
from mesh.services.calendars import Calendars
from mesh.services.people import PeopleReader

_LOOKED_AT: Final = 1_000  # open approvals, the oldest first
_STAND_IN: Final = "mesh delegations add --from PERSON --to PERSON --until 7d"
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
    calendars = _calendars(known.calendars, active, now_ms)
    if people is None:
        return list(calendars)
    away = Away(people, known.delegations.absent(now_ms), known.delegations.in_force(now_ms))
    return [*_quorums(db, people, away), *_roles(active, people, away), *calendars]


# Who is away --------------------------------------------------------------------------------------


class Away:
    """`absent`: by person. `delegations`: those in force."""

    def __init__(self, people: People, absent: Mapping[str, Absence], delegations: Collection[KnownDelegation]) -> None:
        self._until_ms = {id_of(people, name): one.until_ms for name, one in absent.items()}
        self._stood_in_for = [
            (id_of(people, one.delegation.giver), one.delegation.routes)
            for one in delegations
            if id_of(people, one.delegation.to) not in self._until_ms
        ]

    def of(self, route: str) -> dict[str, int]:
        """Who can't answer in this route, by id, and until when."""
        found = dict(self._until_ms)
        for giver, routes in self._stood_in_for:
            if not routes or route in routes:
                found.pop(giver, None)
        return found


def _until(away: Mapping[str, int]) -> str:
    """`ben is away until 2026-12-04 09:00 UTC`."""
    return ", ".join(f"{person} is away until {utc_text(until_ms)}" for person, until_ms in sorted(away.items()))


def _roles(active: Iterable[Route], people: People, away: Away) -> Iterator[Stuck]:
    """Roles that active routes ask for, and whose people are all away."""
    for role, (route, step) in sorted(roles_asked(active).items()):
        gone = away.of(route)
        held_by = {person.id for person in people.persons.values() if role in person.roles}
        if held_by and held_by <= gone.keys():
            them = {person: gone[person] for person in held_by}
            what = f"nobody with the role {role} is there, which {step} of route {route} asks: {_until(them)}"
            yield Stuck(severity="warning", what=what, next_step=_STAND_IN)


# Quorums ------------------------------------------------------------------------------------------


def _quorums(db: apsw.Connection, people: People, away: Away) -> Iterator[Stuck]:
    # an order may have named others, which only the workflow knows
    ordered, voted = reassigned(db), voters(db)
    for request, workflow_id in open_requests(db, limit=_LOOKED_AT):
        if isinstance(request, ApprovalRequested2) and workflow_id not in ordered:
            seen = voted.get(request.approval_id, ())
            first, left = "mesh people apply FILE, with more people", why_unreachable(request.terms, people, seen)
            if not left:
                first = _STAND_IN
                left = why_unreachable(request.terms, people, seen, away.of(route_of(workflow_id)))
            if left:
                what = f"{request.approval_id} waits for {request.terms.rule}: {left}"
                next_step = f"{first}; or mesh approvals reassign '{request.approval_id}'"
                yield Stuck(severity="warning", what=what, next_step=next_step)


def why_unreachable(
    terms: Terms, people: People, voted: Collection[str], away: Mapping[str, int] = MappingProxyType({})
) -> str:
    """`quorum of 2 can't be reached: 1 person left`; empty if it may still be reached.

    `voted`: the ids of those who have. `away`: who does not count, and until when they are away.
    """
    changes = [stage_change(stage) for stage in terms.stages]
    bodies = [
        Body(person_of(person.id), person.roles, frozenset(map(person_of, person.names)))
        for person in people.persons.values()
    ]
    seated_already = {person_of(name) for name in voted}
    could = [among(body, changes) for body in bodies if not why_excluded(terms, body)]
    gone = {person_of(name): until_ms for name, until_ms in away.items()}
    left = [body for body in could if body.name not in seated_already and body.name not in gone]
    everyone = [*(Body(name, frozenset(), anywhere=True) for name in sorted(seated_already)), *left]
    if seated(terms.groups, everyone) == terms.need or any(is_enough(change, everyone) for change in changes):
        return ""
    count = len({place for group in terms.groups for place in who_fits(group, everyone)})
    missed = {body.name for body in could if any(who_fits(group, [body]) for group in terms.groups)} - seated_already
    them = {name: until_ms for name, until_ms in away.items() if person_of(name) in missed}
    count_text = f"{count} {'person' if count == 1 else 'people'}"
    return f"quorum of {terms.need} can't be reached: {count_text} left{'; ' if them else ''}{_until(them)}"


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
