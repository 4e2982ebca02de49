"""Explain an event: which routes it starts, which steps wait for it, and why.

An explanation says what every part of the conditions came to, and what would happen first.

Owns the answers as values. It has no rules of its own: `RouteIndex` matches, and `decide` decides
on a workflow that is not stored anywhere. `mesh routes explain` shows the answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, assert_never

import msgspec

from mesh.core import events as ev
from mesh.core import ids
from mesh.core.amounts import as_number
from mesh.core.capabilities import stand_ins
from mesh.core.decide import decide
from mesh.core.inputs import NOWHERE, EventForwarded, EventMatched, EventOffered
from mesh.core.limits import limiter_name
from mesh.core.matching import Match, MatchProblem, RouteIndex
from mesh.core.route import ApprovalWork, AwaitedEvent, Route, Template, WaitWork, Work
from mesh.core.state import FINISHED, Directory, KeptEvent, Workflow
from mesh.inspection.assumed_calendars import assumed_calendars
from mesh.routes.expressions.compiler import compile_template
from mesh.routes.expressions.subexpressions import Part, parts_of


class First(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that would happen at once.

    `what`: dispatch, ask, call, wait, for_each, value, emit, take, hold, skip, cancel, incident,
    ended or nothing.

    `value`: the task's input, the approval's payload, the value, the data of the event, or the
    output of the workflow.
    """

    what: str
    step: str = ""
    to: str = ""  # the agent, the role, the route, or the event's type
    said: str = ""  # the question, or why
    value: Any = None
    condition: Part | None = None


class Awaited(msgspec.Struct, frozen=True, kw_only=True):
    """What a step that waits for events of this type does with this one.

    `workflow_id`: empty if its key can't be made; the alias's id if nobody is known to have the
    alias. `takes`: whether the step takes the event; None if that depends on a workflow that is not
    known here. `condition`: what the `if` of the wait comes to, if that is known.
    """

    step: str
    workflow_id: str
    said: str
    takes: bool | None
    key: tuple[Part, ...] = ()
    condition: Part | None = None
    first: tuple[First, ...] = ()


class RouteSaid(msgspec.Struct, frozen=True, kw_only=True):
    """What one route does with an event.

    `guard`, `key`: what their parts came to, if the route has them and they were evaluated.
    """

    route: str
    digest: str
    matched: bool
    reason: str
    workflow_id: str = ""
    guard: Part | None = None
    key: tuple[Part, ...] = ()
    first: tuple[First, ...] = ()
    awaited: tuple[Awaited, ...] = ()


def explain_event(
    routes: Iterable[Route], event: dict[str, Any], *, workflows: Mapping[str, Workflow] | None = None, now_ms: int
) -> list[RouteSaid]:
    """What every route does with the event, in the order of their names.

    `workflows`: the workflows that exist, by id, and aliases. One of them may take the start for a
    repeat, or wait for the event. None: not known.
    """
    named = {route.name: route for route in routes}
    directory = Directory(
        routes={name: route.digest for name, route in named.items()},
        knows_all_roles=False,
        calendars=assumed_calendars(named.values(), now_ms),
    )
    return [_said(named[name], event, workflows, directory, now_ms) for name in sorted(named)]


def _said(
    route: Route,
    event: dict[str, Any],
    workflows: Mapping[str, Workflow] | None,
    directory: Directory,
    now_ms: int,
) -> RouteSaid:
    directory = msgspec.structs.replace(directory, registered=stand_ins(route))
    index = RouteIndex([route])
    [explanation] = index.explain(event)
    asked = route.on is not None and event.get("type") == route.on.type
    condition = route.on.condition if route.on is not None and asked else None
    said = RouteSaid(
        route=route.name,
        digest=route.digest,
        matched=explanation.matched,
        reason=explanation.reason,
        guard=parts_of(condition.source, {"event": event}) if condition else None,
        key=_key(route.key, event) if any(index.match(event)) else (),
        awaited=_Waits(route, event, workflows, directory, now_ms).told(),
    )
    for match in index.match(event):
        match match:
            case MatchProblem():
                return said
            case Match():
                first = _first(match, event, (workflows or {}).get(match.workflow_id), directory, now_ms)
                return msgspec.structs.replace(said, workflow_id=match.workflow_id, first=tuple(first))
            case _:
                assert_never(match)
    return said


def _key(template: Template | None, event: dict[str, Any]) -> tuple[Part, ...]:
    """What the key's template reads, one expression after the other."""
    if template is None:
        return ()
    compiled = compile_template(template.source)
    sources = [compiled.whole.source] if compiled.whole else sorted(compiled.paths)
    return tuple(parts_of(source, {"event": event}) for source in sources)


def _first(
    match: Match, event: dict[str, Any], workflow: Workflow | None, directory: Directory, now_ms: int
) -> list[First]:
    given = EventMatched(
        workflow_id=match.workflow_id,
        route=match.route.name,
        digest=match.route.digest,
        key=match.key,
        cloud_event=event,
        **NOWHERE,
        source_at_ms=now_ms,
    )
    decided = decide(workflow, given, route=match.route, directory=directory, now_ms=now_ms)
    return _all_told(decided.events, match.route, event, decided.workflow)


class _Waits:
    """The steps of one route that wait for events of this type."""

    def __init__(
        self,
        route: Route,
        event: dict[str, Any],
        workflows: Mapping[str, Workflow] | None,
        directory: Directory,
        now_ms: int,
    ) -> None:
        self._route = route
        self._event = event
        self._workflows = workflows
        self._directory = directory
        self._now_ms = now_ms

    def told(self) -> tuple[Awaited, ...]:
        found: list[Awaited] = []
        for name, step in self._route.steps.items():
            if isinstance(step.work, WaitWork) and step.work.event is not None:
                awaited = step.work.event
                if awaited.type == self._event.get("type"):
                    found.append(self._of_step(name, awaited, {one.workflow_id for one in found}))
        return tuple(found)

    def _of_step(self, step: str, awaited: AwaitedEvent, told: set[str]) -> Awaited:
        """What one step does with the event.

        `told`: the workflows for which another step's answer already says what happens first.
        """
        key = awaited.key or self._route.key
        parts = _key(key, self._event)
        offers = RouteIndex([msgspec.structs.replace(self._route, awaited=(awaited,))]).offers(self._event)
        if not offers:
            said = f"step {step} waits for such an event, but this one gives no key, so it finds no workflow"
            return Awaited(step=step, workflow_id="", said=said, takes=False, key=parts)
        [offer] = offers
        if ids.is_alias(offer.workflow_id):
            return self._by_alias(step, awaited, offer.workflow_id, parts, told)
        name = offer.workflow_id
        given = EventOffered(
            workflow_id=name,
            route=self._route.name,
            digest=self._route.digest,
            key=offer.key,
            cloud_event=self._event,
            **NOWHERE,
            source_at_ms=self._now_ms,
        )
        about = Awaited(step=step, workflow_id=name, said="", takes=None, key=parts)
        return self._of_workflow(about, awaited, (self._workflows or {}).get(name), given, told)

    def _by_alias(self, step: str, awaited: AwaitedEvent, alias: str, key: tuple[Part, ...], told: set[str]) -> Awaited:
        """What one step does with an event that comes by an alias, for the workflow that has it."""
        known = (self._workflows or {}).get(alias)
        holder = known.holder if known is not None else None
        if holder is None:
            about = Awaited(step=step, workflow_id=alias, said="", takes=None, key=key)
            if self._workflows is not None:
                said = f"no workflow has the alias {alias} yet: it is kept until one has it, or until its time is over"
                return msgspec.structs.replace(about, said=said, takes=False, condition=self._condition(awaited, None))
            return self._unknown(about, awaited, f"the workflow that has the alias {alias}")
        name = holder.workflow_id
        kept = KeptEvent(
            cloud_event=self._event, topic="", partition=0, offset=0, at_ms=self._now_ms, alias=awaited.alias
        )
        given = EventForwarded(workflow_id=name, kept=kept, **NOWHERE, source_at_ms=self._now_ms)
        about = Awaited(step=step, workflow_id=name, said="", takes=None, key=key)
        found = self._of_workflow(about, awaited, (self._workflows or {}).get(name), given, told)
        return msgspec.structs.replace(found, said=f"{found.said} (by the alias {alias})")

    def _of_workflow(
        self,
        about: Awaited,
        awaited: AwaitedEvent,
        workflow: Workflow | None,
        given: EventOffered | EventForwarded,
        told: set[str],
    ) -> Awaited:
        is_known = workflow is not None and workflow.digest == self._route.digest
        if self._workflows is None or (workflow is not None and not is_known):
            return self._unknown(about, awaited, about.workflow_id)
        condition = self._condition(awaited, workflow if is_known else None)
        return self._known(msgspec.structs.replace(about, condition=condition), workflow, given, told)

    def _condition(self, awaited: AwaitedEvent, workflow: Workflow | None) -> Part | None:
        """What the `if` of the wait comes to; None if that is not known.

        Without a workflow it is known only if the `if` reads nothing but the event.
        """
        condition = awaited.condition
        if condition is None:
            return None
        if workflow is not None and workflow.status == "running":
            scope = _scope(self._route, workflow.cloud_event, workflow)
            return parts_of(condition.source, {**scope, "start": workflow.cloud_event, "event": self._event})
        if all(path.partition(".")[0].partition("[")[0] == "event" for path in condition.paths):
            return parts_of(condition.source, {"event": self._event})
        return None

    def _unknown(self, about: Awaited, awaited: AwaitedEvent, whose: str) -> Awaited:
        """The answer for a workflow that is not known. `whose`: that workflow in words."""
        condition = self._condition(awaited, None)
        said = f"it moves {whose} if its step {about.step} waits for it"
        if _refuses(condition) is False:
            said = f"step {about.step} of {whose} would not take it: the `if` of its wait is not true"
        elif awaited.condition is not None and condition is None:
            said = f"{said} and {awaited.condition.source} is true, which depends on that workflow"
        return msgspec.structs.replace(about, said=said, takes=_refuses(condition), condition=condition)

    def _known(
        self, about: Awaited, workflow: Workflow | None, given: EventOffered | EventForwarded, told: set[str]
    ) -> Awaited:
        """What a known workflow would do with the event."""
        decided = decide(workflow, given, route=self._route, directory=self._directory, now_ms=self._now_ms)
        takers = {event.step for event in decided.events if isinstance(event, ev.EventReceived)}
        if about.step in takers:
            said = f"it moves {about.workflow_id}: its step {about.step} waits for it"
            first: list[First] = []
            # once for each workflow, and not again for each of its steps that waits
            if about.workflow_id not in told:
                start = self._event if decided.workflow is None else decided.workflow.cloud_event
                first = _all_told(decided.events, self._route, start, decided.workflow)
            return msgspec.structs.replace(about, said=said, takes=True, first=tuple(first))
        dismissed = [event.message for event in decided.events if isinstance(event, ev.InputDismissed)]
        if dismissed:
            said = f"{about.workflow_id} ignores it: {dismissed[0]}"
        elif takers:
            said = f"step {about.step} of {about.workflow_id} does not take it"
        elif workflow is None or workflow.status == "expected":
            said = f"there is no workflow {about.workflow_id} yet: it is kept until one starts, or its time is over"
        else:
            said = f"{about.workflow_id} keeps it until a step takes it; {about.step} does not take it now"
        return msgspec.structs.replace(about, said=said, takes=False)


def _refuses(condition: Part | None) -> bool | None:
    """False if the `if` is known not to hold; else None."""
    return False if condition is not None and condition.value is not True else None


def _all_told(
    events: Sequence[ev.Event], route: Route, start: dict[str, Any], workflow: Workflow | None
) -> list[First]:
    scope = _scope(route, start, workflow)
    return [first for one in events for first in _told(one, route, scope, events)]


def _scope(route: Route, event: dict[str, Any], workflow: Workflow | None) -> dict[str, Any]:
    """What the conditions of the steps see. `event` is the one that started the workflow."""
    states = workflow.steps if workflow else {}
    steps = {
        name: states[name].output if name in states else None
        for name in route.steps
        if route.is_sparse or name in states
    }
    status = {
        name: states[name].status if name in states and states[name].status in FINISHED else "" for name in route.steps
    }
    about = (
        {"id": workflow.workflow_id, "run_id": workflow.run_id, "route": workflow.route, "key": workflow.key}
        if workflow
        else {}
    )
    return {"event": event, "steps": steps, "status": status, "workflow": about, "round": 1}


def _told(event: ev.Event, route: Route, scope: dict[str, Any], events: Sequence[ev.Event]) -> list[First]:
    found = _of_others(event) or _of_itself(event, events)
    if found is None or (found.step and ids.is_item(found.step) and ids.index_of(found.step)):
        return []  # of a for-each, only the first item is shown
    named = route.steps[ids.step_of(found.step)].condition if found.step else None
    if found.what == "ask":
        found = msgspec.structs.replace(found, said=f"{found.said}{_by_calendar(route.steps[found.step].work)}")
    return [msgspec.structs.replace(found, condition=parts_of(named.source, scope) if named else None)]


def _by_calendar(work: Work) -> str:
    """The deadline of a question that a calendar gives. The calendar itself is not known here."""
    time = work.deadline_working if isinstance(work, ApprovalWork) else None
    return "" if time is None else f" (open for {time} of {time.calendar})"


def _of_others(event: ev.Event) -> First | None:
    """What others would be asked to do, or would learn."""
    match event:
        case ev.TaskDispatched(step=step):
            return First(what="dispatch", step=step, to=event.agent, value=event.input)
        case ev.SlotRequested(step=step):
            first = f", with priority {as_number(event.priority)}" if event.priority else ""
            said = f"once {limiter_name(event.limit)} has granted it a slot{first}"
            return First(what="dispatch", step=step, to=event.agent, said=said, value=event.input)
        case ev.CallMade(step=step):
            return First(what="call", step=step, to=event.route, value=event.input)
        case ev.ApprovalRequested(step=step):
            return First(what="ask", step=step, to=event.role, said=event.question, value=event.payload)
        case ev.EventEmitted(step=step, cloud_event=sent):
            return First(what="emit", step=step, to=str(sent["type"]), value=sent.get("data"))
        case ev.IncidentRaised(step=step):
            return First(what="incident", step=step, said=event.message)
        case ev.WorkflowEnded():
            return First(what="ended", said=f"{event.status}: {event.reason}", value=event.output)
        case _:
            return None


def _of_itself(event: ev.Event, events: Sequence[ev.Event]) -> First | None:
    match event:
        case ev.WaitStarted(step=step):
            until = f"until {_time(event.due_at_ms)}" if event.due_at_ms is not None else "without end"
            return First(what="wait", step=step, to=event.awaits or "a time", said=until)
        case ev.ForEachStarted(step=step):
            return First(what="for_each", step=step, said=f"items: {len(event.items)}")
        case ev.StepComputed(step=step):
            return First(what="value", step=step, value=event.output)
        case ev.EventReceived(step=step):
            return First(what="take", step=step)
        case ev.TaskHeld(step=step):
            return First(what="hold", step=step, said=event.reason)
        case ev.StepSkipped(step=step):
            return First(what="skip", step=step, said=event.reason)
        case ev.StepCancelled(step=step):
            return First(what="cancel", step=step, said=event.reason)
        case ev.StartRepeated() if len(events) == 1:
            return First(what="nothing", said=event.reason)
        case _:
            return None


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
