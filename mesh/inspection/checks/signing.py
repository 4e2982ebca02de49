"""Check signatures: an approval that asks for less than the mesh does.

Owns this finding. What the mesh asks for is a setting of its routers, so it holds where the check
runs with the same setting. `mesh.inspection.checks.findings_of` calls it.
"""

from collections.abc import Iterator

from mesh.core.route import Route, approvals_of
from mesh.core.signing import stricter
from mesh.inspection.checks.finding import Known, RouteFinding, path_of, warning, written


def findings(route: Route, known: Known) -> Iterator[RouteFinding]:
    for name, work in approvals_of(route):
        path = path_of(route, name)
        level = written(route, name)[path[-1]].get("signed")
        if level is not None and work.voting is not None and level != stricter(work.voting.signed, known.answers):
            message = f"signed: {level} has no effect: MESH_ANSWERS=signed asks for a signature of every answer"
            yield warning((*path, "signed"), "no_effect", message, "write signed: gateway or own, or remove it")
