"""A draft: the events of one decision so far, and the state after them.

Owns the rule that every event is evolved as soon as it is decided, so that the next one is decided
on the state after it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from mesh.core import ids, traces
from mesh.core.amounts import as_number
from mesh.core.decide.open_approvals import TO_COMPLETE, completed, questions_out, unanswered
from mesh.core.events import (
    ApprovalRequested,
    CallMade,
    Event,
    EventEmitted,
    ForEachStarted,
    IncidentRaised,
    SlotRequested,
    StepCancelled,
    StepComputed,
    StepGivenUp,
    StepSkipped,
    TaskDispatched,
    TaskHeld,
)
from mesh.core.evolve import evolve
from mesh.core.evolve.budget import unended
from mesh.core.pauses import NO_PAUSES, agent_target, route_target
from mesh.core.route import ExpressionError, Route, Scope
from mesh.core.state import FINISHED, Directory, Pause, StepState, Workflow

_SENT: Final = (TaskDispatched, TaskHeld, SlotRequested, CallMade, ApprovalRequested)
"""What goes from a step to somebody else, or waits for it to be sent."""

_MADE: Final = (StepComputed, EventEmitted, ForEachStarted, StepSkipped)
"""What a step makes when it begins, and keeps."""

NOTHING_WITHHELD: Final[Mapping[str, str]] = MappingProxyType({})
_HAS_OUTPUT: Final = frozenset({"succeeded", "skipped", "rejected", "failed"})


class Shortage(NamedTuple):
    """What the budget lacks for one more task.

    The task needs `need` of `name`, and `left` of `limit` remains. `name` is empty if the budget's
    time is over. `may_pass`: tasks that are out may use less than is reserved for them, and then
    there is enough.
    """

    name: str
    need: float = 0.0
    left: float = 0.0
    limit: float = 0.0
    may_pass: bool = False

    @property
    def what(self) -> str:
        """`30 tokens, and 20 of 40 are left`."""
        if not self.name:
            return "more time"
        return f"{as_number(self.need)} {self.name}, and {as_number(self.left)} of {as_number(self.limit)} are left"


class TooLarge(ExpressionError):
    """What a step makes is larger than the broker takes."""


class Draft:
    """The events so far, and the state after them.

    `withheld`: places where what is to be sent, or kept, is too large, and what to say of it. There
    it becomes an incident instead. The workflow's own output is at the place "". `pauses`: of the
    partition, by target.
    """

    __slots__ = ("_route", "_scope", "directory", "events", "now_ms", "pauses", "withheld", "workflow", "workflow_id")

    def __init__(
        self,
        workflow: Workflow | None,
        workflow_id: str,
        route: Route | None,
        directory: Directory,
        now_ms: int,
        *,
        withheld: Mapping[str, str] = NOTHING_WITHHELD,
        pauses: Mapping[str, Pause] = NO_PAUSES,
    ) -> None:
        self.workflow = workflow
        self.workflow_id = workflow_id
        self._route = route
        self.directory = directory
        self.now_ms = now_ms
        self.events: list[Event] = []
        self._scope: Scope | None = None
        self.withheld = withheld
        self.pauses = pauses

    def add(self, event: Event) -> None:
        """Take the next event of the decision.

        Raises `TooLarge` for what a step makes at a place that is withheld. A task, a call or a
        question is replaced by an incident there.
        """
        if self.withheld:
            event = self._instead_of(event)
        needless: tuple[str, ...] = ()
        # by exact class, and first of all: most events are none of these
        if type(event) in TO_COMPLETE:
            if type(event) is IncidentRaised and ids.is_question(event.step):
                # nobody has to act, and the approval goes on: the question has its answer
                self.add(StepGivenUp(step=event.step, reason=event.message))
                self.add(unanswered(event, self.live, self.now_ms))
                return
            needless = questions_out(event, self.workflow)
            event = completed(event, self.workflow)
        self.events.append(event)
        self.workflow = evolve(self.workflow, event, workflow_id=self.workflow_id, at_ms=self.now_ms)
        # the event may have changed what expressions see
        self._scope = None
        for place in needless:
            # what was never sent costs nothing, and only this decision knows that it was not
            unsent = () if self.live.account is None else self.unsent(place)
            self.add(StepCancelled(step=place, reason="its approval is open no longer", unsent=unsent))

    def _instead_of(self, event: Event) -> Event:
        if isinstance(event, _SENT) and event.step in self.withheld:
            return IncidentRaised(step=event.step, kind="too_large", message=self.withheld[event.step])
        if isinstance(event, _MADE) and event.step in self.withheld:
            # not replaced: the caller would go on as if the step were settled; `begin` makes the
            # incident
            raise TooLarge(self.withheld[event.step])
        return event

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

    def go_over(self, route: Route) -> None:
        """Decide by another version of the route from here on."""
        self._route, self._scope = route, None

    def scope(self) -> Scope:
        """What expressions see now."""
        if self._scope is None:
            workflow, route = self.live, self.route
            self._scope = {
                "event": workflow.cloud_event,
                "steps": _outputs(route, workflow.steps),
                "workflow": {
                    "id": workflow.workflow_id,
                    "run_id": workflow.run_id,
                    "route": workflow.route,
                    "key": workflow.key,
                },
            }
            # few routes read it, and it would be made again after each event
            if route.reads_status:
                self._scope["status"] = _statuses(route, workflow.steps)
        return self._scope

    def scope_of(self, place: str) -> Scope:
        """What the expressions at this place see now.

        In a loop that includes its round, and for an item the item and its index.
        """
        scope = self.scope()
        if not self.route.looped and place.isidentifier():
            return scope
        step = ids.step_of(place)
        if ids.is_tool(place):
            place = ids.asker_of(place)
        if step in self.route.looped:
            state = self.live.steps.get(step)
            scope = {**scope, "round": 1 if state is None else state.round}
        if ids.is_item(place):
            index = ids.index_of(place)
            scope = {**scope, "item": self.live.steps[step].input[index], "index": index}
        return scope

    def shortage(self, reserve: dict[str, float], *, is_call: bool = False) -> Shortage | None:
        """What the budget lacks for one more task with this reserve; None if the task may be sent.

        A call (`is_call`) is not a hop.
        """
        account = self.live.account
        if account is None:
            return None
        if account.is_time_over:
            return Shortage("")
        need = {**reserve, "hops": 1.0} if "hops" in account.limits and not is_call else reserve
        for name, limit in account.limits.items():
            taken = account.spent.get(name, 0.0) + account.reserved.get(name, 0.0)
            # a task that reserves nothing of a name is never held for it, even if agents used more
            # than they had reserved
            if name in need and taken + need[name] > limit:
                # it would fit if every reserve came back unused, so waiting may help
                may_pass = account.spent.get(name, 0.0) + need[name] <= limit
                return Shortage(name, need[name], max(0.0, limit - taken), limit, may_pass)
        return None

    @property
    def is_paused(self) -> bool:
        """Whether an operator holds the workflow, by itself or with its route."""
        workflow = self.live
        return workflow.pause is not None or (bool(self.pauses) and route_target(workflow.route) in self.pauses)

    def why_paused(self, agent: str = "") -> str:
        """What an operator holds: the workflow, its route or this agent. Empty: nothing of them."""
        if self.live.pause is not None:
            return "the workflow is paused"
        if not self.pauses:
            return ""
        if self.is_paused:
            return f"route {self.live.route} is paused"
        return f"agent {agent} is paused" if agent_target(agent) in self.pauses else ""

    def why_short(self, short: Shortage) -> str:
        """What is lacking, and which calls keep it reserved until they end."""
        account = self.live.account
        kept = unended(account, short.name) if account is not None and short.name else ""
        return f"needs {short.what}" + (f"; {kept}" if kept else "")

    def unsent(self, step: str = "") -> tuple[str, ...]:
        """The places where this same decision has made a task that is out.

        Of `step`, or of all steps. Such a task is not sent if it is no longer wanted.
        """
        found: list[str] = []
        for event in self.events:
            if isinstance(event, TaskDispatched) and (not step or step in (event.step, ids.step_of(event.step))):
                state = self.live.steps.get(event.step)
                # a later event of this decision may have settled or replaced the task
                if state is not None and (state.status, state.task_id) == ("running", event.task_id):
                    found.append(event.step)
        return tuple(found)

    def traceparent(self, *parts: str) -> str:
        """A span of the workflow's trace, its id a function of `parts`."""
        # not drawn at random: what is sent again after a crash has the same span
        workflow = self.live
        return f"00-{workflow.trace_id}-{ids.span_id(*parts)}-{traces.flags(workflow)}"


def _outputs(route: Route, steps: Mapping[str, StepState]) -> dict[str, Any]:
    """The output of each step that is done.

    In a sparse route a missing output is null. In a loop it is the last round's.
    """
    found: dict[str, Any] = {}
    for name in route.steps:
        state = steps.get(name)
        if state is not None and (state.status in _HAS_OUTPUT or route.is_sparse):
            found[name] = state.output
        elif route.is_sparse:
            found[name] = None
    return found


def _statuses(route: Route, steps: Mapping[str, StepState]) -> dict[str, str]:
    return {
        name: state.status if (state := steps.get(name)) is not None and state.status in FINISHED else ""
        for name in route.steps
    }
