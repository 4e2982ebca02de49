"""What is wrong, or hardly meant, in one route that compiles: the rules of `mesh routes check`, one concern a module.

Owns the rules and their words. It knows no files and no lines: a finding's path leads into the document. `mesh.services.route_check` calls it.
"""

from mesh.core.route import Route
from mesh.core.route_compile import readings_of
from mesh.services.findings import budgets, conditions, joins, loops, nulls, times, values, who
from mesh.services.findings.finding import Known, RouteFinding
from mesh.services.findings.shapes import Shapes

__all__ = ["Known", "RouteFinding", "findings_of"]


def findings_of(route: Route, known: Known) -> list[RouteFinding]:
    """All findings of one route, in no promised order."""
    shapes = Shapes(route, known)
    readings = readings_of(route)
    return [
        *conditions.findings(route, shapes),
        *joins.findings(route),
        *loops.findings(route, known),
        *times.findings(route),
        *budgets.findings(route, known),
        *who.findings(route, known),
        *values.findings(route, known, shapes, readings),
        *nulls.findings(route, readings),
    ]
