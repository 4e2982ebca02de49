"""Check calendars: deadlines and stages by the working hours of a calendar that there is not.

Owns these findings. Calendars are on the mesh and not in files, so only a check against a broker
can tell. `mesh.inspection.checks.findings_of` calls it.
"""

from collections.abc import Iterator

from mesh.core.route import Route, approvals_of
from mesh.inspection.checks.finding import Known, RouteFinding, error, path_of, warning
from mesh.routes.problems import near

_APPLY = "mesh calendars apply FILE"


def findings(route: Route, known: Known) -> Iterator[RouteFinding]:
    for name, work in approvals_of(route):
        for calendar in sorted(work.calendars):
            path = path_of(route, name)
            if known.calendars is None:
                message = f"whether the calendar {calendar} was applied is not known here"
                yield warning(path, "calendar_unchecked", message, "check with --online")
            elif calendar not in known.calendars:
                message = f"nobody has applied the calendar {calendar}: asking would be an incident"
                hint = f"{_APPLY}; {near(calendar, known.calendars)}"
                yield error(path, "unknown_calendar", message, hint)
