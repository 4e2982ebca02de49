"""People whose roles change while answers arrive, and their working hours.

Owns the versions of both that a run plays, and how one becomes active. `operators` changes them.
"""

from collections.abc import Mapping
from typing import Final

from mesh.codec.calendars import digest_of as calendar_digest
from mesh.codec.calendars import encode_calendar, encode_calendar_activation
from mesh.codec.people import digest_of, encode_people, encode_people_activation
from mesh.core.calendars import MINUTE_MS, Calendar, WorkingDay
from mesh.core.people import People, Person, people_of
from mesh.testing.simulation.ground import Ground
from mesh.testing.simulation.routes import ROLES


def _version(more: Mapping[str, frozenset[str]]) -> People:
    """All people, some with other roles. `cem` answers under several names."""
    roles = {**ROLES, **more}
    return people_of(
        Person(id=name, names=("slack:C",) if name == "cem" else (), roles=held) for name, held in roles.items()
    )


_NONE: Final = frozenset[str]()
_MAINTAINER: Final = frozenset({"maintainer"})
ALL: Final = _version({})
# in each version enough people are left for every quorum
VERSIONS: Final = (
    ALL,
    _version({"ana": _NONE, "eve": _MAINTAINER}),
    _version({"ben": _MAINTAINER}),
    _version({"ben": _NONE, "eve": _MAINTAINER}),
    _version({"cem": _MAINTAINER, "eve": _MAINTAINER}),
)


def activate(ground: Ground, people: People) -> None:
    """Store a version and make it active, as `mesh people apply` does."""
    active = encode_people_activation(
        digest_of(people),
        topics=ground.topics,
        activation_id=ground.fresh("people"),
        by="ops",
        at_ms=ground.clock.now_ms(),
    )
    ground.note("operator", f"applies people {digest_of(people)[:15]}")
    ground.send(encode_people(people, ground.topics), active)


_NEW_YEAR_MS: Final = 1_767_225_600_000  # 2026-01-01, at which runs begin
_DAYS: Final = 20


def _hours(opens: int) -> Calendar:
    """Days of two minutes, of which one is worked."""
    begins = [_NEW_YEAR_MS + 2 * number * MINUTE_MS for number in range(_DAYS)]
    days = [
        WorkingDay(begins_ms=begin, hours=((begin + opens * MINUTE_MS, begin + (opens + 1) * MINUTE_MS),))
        for begin in begins
    ]
    until_ms = _NEW_YEAR_MS + 2 * _DAYS * MINUTE_MS
    return Calendar(name="office", zone="UTC", from_ms=_NEW_YEAR_MS, until_ms=until_ms, days=tuple(days))


CALENDARS: Final = (_hours(0), _hours(1))


def activate_hours(ground: Ground, calendar: Calendar) -> None:
    """Store a version and make it active, as `mesh calendars apply` does."""
    active = encode_calendar_activation(
        calendar.name,
        calendar_digest(calendar),
        topics=ground.topics,
        activation_id=ground.fresh("hours"),
        by="ops",
        at_ms=ground.clock.now_ms(),
    )
    ground.note("operator", f"applies hours {calendar_digest(calendar)[:15]}")
    ground.send(encode_calendar(calendar, ground.topics), active)
