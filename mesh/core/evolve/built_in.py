"""What the events of aliases, schedules and pauses change in their workflows.

Also in the workflows that have aliases. `evolve`'s part for `mesh.core.decide.begin.alias` and
`mesh.core.decide.built_in`.
"""

from typing import assert_never

from msgspec.structs import replace

from mesh.core import ids
from mesh.core.events import (
    AliasBound,
    AliasGranted,
    AliasReturned,
    AliasSought,
    AliasWaived,
    EventRedirected,
    HeldReleased,
    PauseLifted,
    PauseSet,
    ScheduleChanged,
    ScheduleFired,
)
from mesh.core.layered import changed
from mesh.core.pauses import PAUSES
from mesh.core.state import Pause, Pauses, Plan, StepState, Workflow

AliasOfStep = AliasSought | AliasGranted | AliasWaived
OfPauses = PauseSet | PauseLifted | HeldReleased
BuiltIn = AliasOfStep | AliasReturned | AliasBound | EventRedirected | ScheduleChanged | ScheduleFired | OfPauses


def evolve_built_in(before: Workflow | None, event: BuiltIn, workflow_id: str, at_ms: int) -> Workflow:
    """The alias, the schedule, the pauses, or the workflow that has aliases, after `event`.

    Raises `ValueError` for an event that it can't have had.
    """
    match event:
        case AliasSought() | AliasGranted() | AliasWaived() | AliasReturned() if before is not None:
            return _of_claimant(before, event, at_ms)
        case AliasBound():
            name = ids.parse_alias_id(workflow_id)
            alias = before or _standing(workflow_id, name.route, name.value, at_ms)
            return replace(alias, status="standing", holder=event.claimant, forget_at_ms=None, updated_at_ms=at_ms)
        case ScheduleChanged():
            plan = Plan(
                schedule=event.schedule,
                since_ms=event.since_ms,
                next_at_ms=event.next_at_ms,
                # kept: another definition must not start a time once more that has started a
                # workflow
                fired_at_ms=before.plan.fired_at_ms if before is not None and before.plan is not None else None,
            )
            schedule = before or _standing(workflow_id, event.route, "", at_ms)
            return replace(schedule, digest=event.digest, plan=plan, updated_at_ms=at_ms)
        case PauseSet() | PauseLifted() | HeldReleased():
            holder = before or _standing(workflow_id, PAUSES, "", at_ms)
            return replace(holder, pauses=_pauses(holder.pauses or Pauses(), event, at_ms), updated_at_ms=at_ms)
        case EventRedirected() if before is not None:
            kept = tuple(one for one in before.kept if one != event.kept)
            return replace(before, kept=kept, updated_at_ms=at_ms)
        case ScheduleFired() if before is not None and before.plan is not None:
            plan = replace(before.plan, next_at_ms=event.next_at_ms, fired_at_ms=event.scheduled_at_ms)
            return replace(before, plan=plan, updated_at_ms=at_ms)
        case _:
            raise ValueError(f"{type(event).__name__} for {workflow_id}, which is not there")


def _pauses(before: Pauses, event: OfPauses, at_ms: int) -> Pauses:
    match event:
        case PauseSet():
            pause = Pause(by=event.by, reason=event.reason, at_ms=at_ms)
            # what it has not let go by now, it holds again
            left = tuple(target for target in before.releasing if target != event.target)
            return Pauses(paused={**before.paused, event.target: pause}, releasing=left)
        case PauseLifted():
            paused = {target: pause for target, pause in before.paused.items() if target != event.target}
            return Pauses(paused=paused, releasing=(*before.releasing, event.target))
        case HeldReleased():
            return replace(before, releasing=())
        case _:
            assert_never(event)


def _of_claimant(workflow: Workflow, event: AliasOfStep | AliasReturned, at_ms: int) -> Workflow:
    """The workflow whose step asks for an alias, or that gives one back."""
    if isinstance(event, AliasReturned):
        left = tuple(alias for alias in workflow.aliases if alias != event.alias)
        return replace(workflow, aliases=left, updated_at_ms=at_ms)
    step = workflow.steps.get(event.step)
    if step is None:
        raise ValueError(f"{type(event).__name__} for step {event.step}, which has not begun")
    steps = changed(workflow.steps, {event.step: _step(step, event, at_ms)})
    aliases = workflow.aliases
    # a step may ask for the same one again, and it is given back once
    if isinstance(event, AliasSought) and event.alias not in aliases:
        aliases = (*aliases, event.alias)
    return replace(workflow, steps=steps, aliases=aliases, updated_at_ms=at_ms)


def _step(step: StepState, event: AliasOfStep, at_ms: int) -> StepState:
    match event:
        case AliasSought():
            return replace(step, status="claiming", since_ms=at_ms, alias=event.alias, claim=event.claim)
        case AliasGranted():
            return replace(step, status="succeeded", since_ms=at_ms)
        case AliasWaived():
            return replace(step, status="succeeded", since_ms=at_ms, incident=None, alias="")
        case _:
            assert_never(event)


def _standing(workflow_id: str, route: str, key: str, at_ms: int) -> Workflow:
    """A built-in workflow. It has no run, and so no start, trace or steps."""
    return Workflow(
        workflow_id=workflow_id,
        run_id="",
        route=route,
        digest="",
        key=key,
        status="standing",
        started_at_ms=at_ms,
        updated_at_ms=at_ms,
        cloud_event={},
        trace_id="",
        steps={},
    )
