"""A decision in the making. Owns the rule that every event is evolved as soon as it is decided, so that the next one is decided on the state after it."""

from typing import Final

from mesh.core import ids
from mesh.core.events import Event
from mesh.core.evolve import evolve
from mesh.core.route import Route, Scope
from mesh.core.state import Directory, Workflow

__all__ = ["Draft"]

_HAS_OUTPUT: Final = frozenset({"succeeded", "skipped", "rejected"})


class Draft:
    """The events so far, and the state after them."""

    __slots__ = ("_route", "_scope", "directory", "events", "now_ms", "workflow", "workflow_id")

    def __init__(
        self, workflow: Workflow | None, workflow_id: str, route: Route | None, directory: Directory, now_ms: int
    ) -> None:
        self.workflow = workflow
        self.workflow_id = workflow_id
        self._route = route
        self.directory = directory
        self.now_ms = now_ms
        self.events: list[Event] = []
        self._scope: Scope | None = None

    def add(self, event: Event) -> None:
        self.events.append(event)
        self.workflow = evolve(self.workflow, event, workflow_id=self.workflow_id, at_ms=self.now_ms)
        self._scope = None

    @property
    def live(self) -> Workflow:
        if self.workflow is None:
            raise AssertionError(f"{self.workflow_id} is not live")
        return self.workflow

    @property
    def route(self) -> Route:
        if self._route is None:
            raise AssertionError(f"{self.workflow_id}: deciding on a live workflow needs its route")
        return self._route

    def scope(self) -> Scope:
        """What expressions see now."""
        if self._scope is None:
            workflow = self.live
            self._scope = {
                "event": workflow.cloud_event,
                "steps": {name: step.output for name, step in workflow.steps.items() if step.status in _HAS_OUTPUT},
                "workflow": {
                    "id": workflow.workflow_id,
                    "run_id": workflow.run_id,
                    "route": workflow.route,
                    "key": workflow.key,
                },
            }
        return self._scope

    def traceparent(self, *parts: str) -> str:
        """A span of the workflow's trace, its id a function of `parts`."""
        return f"00-{self.live.trace_id}-{ids.span_id(*parts)}-01"
