"""Which routes one run plays, and every version of each.

They are some of the fixed kinds, all that these call, and some drawn ones. Owns the choice. `world`
makes one for its plan; parties and judge ask it.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import msgspec

from mesh.core import ids
from mesh.core.route import CallWork, Route, Step
from mesh.routes.compiler import compile_route
from mesh.testing.simulation.called_routes import CALLED, SCHEDULED
from mesh.testing.simulation.drawn import DrawnRoute
from mesh.testing.simulation.heavy import HEAVY
from mesh.testing.simulation.routes import CHANGED, FIXED
from mesh.testing.simulation.voted_routes import VOTED


class Repertoire(msgspec.Struct, frozen=True, kw_only=True):
    """The routes of one run.

    `kinds`: names of the routes that events start, of type `sim.<name>`. `versions`: those of each
    route by name; routers begin with the first. `called`: routes that steps call. If one of these
    were withdrawn, its callers could not end.
    """

    kinds: tuple[str, ...]
    called: frozenset[str]
    versions: dict[str, list[Route]]

    @classmethod
    def of(cls, kinds: Iterable[str], drawn: Sequence[DrawnRoute] = (), *, beside: Iterable[str] = ()) -> "Repertoire":
        """The repertoire of these kinds, with all that they call, and the schedule.

        `beside`: further fixed routes, whose events are not among those of the kinds.
        """
        names = tuple(kinds)
        versions: dict[str, list[Route]] = {}
        called: set[str] = set()
        todo = [*names, *beside, SCHEDULED]
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
        """Whether workflows of this kind are forgotten during a run.

        Then an event that is sent again starts another workflow.
        """
        return self.versions[kind][0].closed_retention_s < 60.0

    def awaited_by(self, kind: str) -> tuple[str, ...]:
        """The types of the events that this kind's steps wait for."""
        return tuple(dict.fromkeys(awaited.type for awaited in self.versions[kind][0].awaited))

    def step_of(self, workflow: str, place: str) -> Step | None:
        """The step in the first version of the workflow's route. None if there is none."""
        versions = self.versions.get(ids.route_of(workflow))
        return versions[0].steps.get(ids.step_of(place)) if versions else None


def _callees(route: Route) -> list[str]:
    return [step.work.route for step in route.steps.values() if isinstance(step.work, CallWork)]


@cache
def _fixed(name: str) -> list[Route]:
    if name in CALLED:
        return [compile_route(CALLED[name])]
    document = {**FIXED, **VOTED, **HEAVY}[name]
    changed = [_compiled({**document, **CHANGED[name]})] if name in CHANGED else []
    return [_compiled(document), *changed]


def _compiled(document: dict[str, Any]) -> Route:
    return compile_route({"on": {"type": f"sim.{document['route']}"}, "key": "${{ event.subject }}", **document})
