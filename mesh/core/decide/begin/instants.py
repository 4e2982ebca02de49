"""Times of waits and approvals: those that a template gives, and those of a calendar."""

from datetime import datetime
from typing import Any

from mesh.core.calendars import WorkingTime, instant_of
from mesh.core.decide.draft import Draft
from mesh.core.json_values import kind_of
from mesh.core.route import ExpressionError


def instant_ms(value: Any, key: str) -> int:
    """An RFC 3339 time in milliseconds since the epoch. Raises `ExpressionError`.

    `key`: what the route calls it.
    """
    if not isinstance(value, str):
        raise ExpressionError(f"{key} needs a time as a string, such as 2026-11-24T09:00:00Z, not {kind_of(value)}")
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise ExpressionError(f"{key} needs a time such as 2026-11-24T09:00:00Z, and got {value[:60]}") from None
    # it would mean another moment on each router's machine
    if found.tzinfo is None:
        raise ExpressionError(f"the time {value[:60]} has no offset: write Z or +01:00 after it")
    return int(found.timestamp() * 1000)


class CalendarLacks(ExpressionError):
    """A calendar does not say when a time is over."""


def working_instant_ms(draft: Draft, time: WorkingTime, from_ms: int) -> int:
    """When this much working time after `from_ms` is over, by the calendar as of the input.

    Raises `CalendarLacks`, and `CalendarUnread` if nobody has looked up the calendars.
    """
    found, problem = instant_of(time, draft.directory.calendars, from_ms)
    if found is None:
        raise CalendarLacks(problem)
    return found
