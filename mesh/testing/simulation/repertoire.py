"""Which routes one run plays: some of the fixed kinds, all that they call, some drawn ones, and
every version of each.

`world` makes one for its plan; parties and judge ask it.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import msgspec

from mesh.core import ids
from mesh.core.route import CallWork, Route, Step
from mesh.routes.compiler import compile_route
from mesh.testing.simulation.drawn import DrawnRoute
from mesh.testing.simulation.routes import CALLED, CHANGED, FIXED, SCHEDULED


class Repertoire(msgspec.Struct, frozen=True, kw_only=True):
    """`kinds`: names of the routes that events start, of type `sim.<name>`.

    `versions`: of each route by name; the first is what routers begin with.

    `called`: routes that steps call: were one withdrawn, their callers could not end.
    """

    kinds: tuple[str, ...]
    called: frozenset[str]
    versions: dict[str, list[Route]]

    @classmethod
    def of(cls, kinds: Iterable[str], drawn: Sequence[DrawnRoute] = ()) -> "Repertoire":
        """With all that those kinds call, and the schedule."""
        names = tuple(kinds)
        versions: dict[str, list[Route]] = {}
        called: set[str] = set()
        todo = [*names, SCHEDULED]
        while todo:
            name = todo.pop(0)
            if name not in versions:
                versions[name] = _fixed(name)
                callees = sorted({route for version in versions[name] for route in _callees(version)})
                called.update(callees)
                todo += callees
        for route in drawn:
            versions[route.first.name] = [*route]
            called.update(name for version in route for name in _callees(version))
        started = tuple(route.first.name for route in drawn if route.first.on is not None)
        return cls(kinds=names + started, called=frozenset(called), versions=versions)

    def first(self) -> list[Route]:
        return [routes[0] for routes in self.versions.values()]

    def every(self) -> list[Route]:
        return [route for routes in self.versions.values() for route in routes]

    def is_brief(self, kind: str) -> bool:
        """Its workflows are forgotten during a run, so that an event sent again starts another."""
        return self.versions[kind][0].closed_retention_s < 60.0

    def awaited_by(self, kind: str) -> tuple[str, ...]:
        """Types of the events that its steps wait for."""
        return tuple(dict.fromkeys(awaited.type for awaited in self.versions[kind][0].awaited))

    def step_of(self, workflow: str, place: str) -> Step | None:
        """What the first version of the workflow's route says of a step."""
        versions = self.versions.get(ids.route_of(workflow))
        return versions[0].steps.get(ids.step_of(place)) if versions else None


def _callees(route: Route) -> list[str]:
    return [step.work.route for step in route.steps.values() if isinstance(step.work, CallWork)]


@cache
def _fixed(name: str) -> list[Route]:
    if name in CALLED:
        return [compile_route(CALLED[name])]
    document = FIXED[name]
    changed = [_compiled({**document, **CHANGED[name]})] if name in CHANGED else []
    return [_compiled(document), *changed]


def _compiled(document: dict[str, Any]) -> Route:
    return compile_route({"on": {"type": f"sim.{document['route']}"}, "key": "${{ event.subject }}", **document})
