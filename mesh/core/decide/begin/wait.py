"""Wait for a time, or for an event from outside, which may have come already."""

from typing import Any

from mesh.core.decide.begin.instants import instant_ms
from mesh.core.decide.draft import Draft
from mesh.core.events import EventReceived, RoundStarted, StepComputed, WaitStarted
from mesh.core.joins import upstream
from mesh.core.route import AwaitedEvent, ExpressionError, Route, Step, WaitWork


def begin_wait(draft: Draft, step: Step, work: WaitWork, reason: str) -> bool:
    """Begin to wait. Raises `ExpressionError`.

    True: what it waits for is there already.
    """
    if work.event is not None:
        return _begin_for_event(draft, step, work, work.event, reason)
    if work.until is None:
        due = draft.now_ms + int((work.seconds or 0) * 1000)
    else:
        due = instant_ms(work.until.render(draft.scope_of(step.name)), "until")
    if due <= draft.now_ms:
        draft.add(StepComputed(step=step.name, output=None, reason=f"{reason}; the time has come"))
        return True
    draft.add(WaitStarted(step=step.name, due_at_ms=due, reason=reason))
    return False


def _begin_for_event(draft: Draft, step: Step, work: WaitWork, awaited: AwaitedEvent, reason: str) -> bool:
    due = None if work.timeout_s is None else draft.now_ms + int(work.timeout_s * 1000)
    # even if the event is here already: `EventReceived` is only for a step that waits
    draft.add(WaitStarted(step=step.name, awaits=awaited.type, due_at_ms=due, reason=reason))
    kept = [one.cloud_event for one in draft.live.kept if one.alias == awaited.alias]
    for event in [*_taken_beside(draft, step.name, awaited.alias), *kept]:
        if is_wanted(draft, step.name, awaited, event):
            draft.add(EventReceived(step=step.name, cloud_event=event, kept=True))
            return True
    return False


def _taken_beside(draft: Draft, name: str, alias: str) -> list[dict[str, Any]]:
    """Kept events that another step took in this decision.

    If they came now, both steps would wait for them and both would get them. Those that a step
    before this one took are left out, and those of an earlier round.
    """
    before, found = upstream(draft.route, name), list[dict[str, Any]]()
    for event in draft.events:
        if isinstance(event, RoundStarted) and name in event.steps:
            found.clear()
        elif (
            isinstance(event, EventReceived)
            and event.kept
            and event.step != name
            and event.step not in before
            and _alias_of(draft.route, event.step) == alias
        ):
            found.append(event.cloud_event)
    return found


def _alias_of(route: Route, name: str) -> str:
    """The alias by which the events come that a step waits for; empty: by the workflow's key."""
    work = route.steps[name].work
    return work.event.alias if isinstance(work, WaitWork) and work.event is not None else ""


def is_wanted(draft: Draft, name: str, awaited: AwaitedEvent, cloud_event: dict[str, Any]) -> bool:
    """Whether this is the awaited event, by its type and the condition."""
    if cloud_event["type"] != awaited.type:
        return False
    if awaited.condition is None:
        return True
    scope = draft.scope_of(name)
    try:
        return awaited.condition.is_true({**scope, "start": scope["event"], "event": cloud_event})
    # its sender chooses what is in it: an event that lacks a field is not the one awaited, and must
    # not stop the run
    except ExpressionError:
        return False
