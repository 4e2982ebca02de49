"""What is wrong, or probably a mistake, in a route that compiles: the rules of `mesh routes check`.

Each module has the rules of one concern.

Owns the rules and their words. It knows no files and no lines: a finding's path leads into the
document. `mesh.inspection.checks.report` calls it.
"""

from mesh.core.route import Route
from mesh.inspection.checks import (
    budgets,
    calendars,
    conditions,
    costs,
    event_attributes,
    joins,
    loops,
    missing_names,
    nulls,
    private,
    signing,
    times,
    values,
)
from mesh.inspection.checks.finding import Known, RouteFinding
from mesh.inspection.checks.known_values import Shapes
from mesh.routes.compiler import readings_of

__all__ = ["Known", "RouteFinding", "findings_of"]


def findings_of(route: Route, known: Known) -> list[RouteFinding]:
    """All findings of one route, in no promised order."""
    shapes = Shapes(route, known)
    readings = readings_of(route)
    return [
        *conditions.findings(route, shapes),
        *event_attributes.findings(readings),
        *joins.findings(route),
        *loops.findings(route, known),
        *times.findings(route),
        *calendars.findings(route, known),
        *private.findings(route),
        *signing.findings(route, known),
        *budgets.findings(route, known),
        *missing_names.findings(route, known),
        *values.findings(route, known, shapes, readings),
        *nulls.findings(route, readings),
        *costs.findings(route, known, readings),
    ]
