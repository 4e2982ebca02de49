"""Starts: what an event does to a workflow of its id, new, live or lately ended."""

from typing import Any

from mesh.core import ids
from mesh.core.calls import Slice
from mesh.core.decide.begin.call import refuse
from mesh.core.decide.draft import Draft
from mesh.core.decide.progress import go_on
from mesh.core.events import CallRefused, StartRepeated, WorkflowStarted
from mesh.core.inputs import EventMatched, ScheduledStart, WorkflowCalled
from mesh.core.route import Budget, Route
from mesh.core.searching import attributes
from mesh.core.state import Workflow
from mesh.core.traces import TRACEPARENT


def on_event(draft: Draft, given: EventMatched | WorkflowCalled | ScheduledStart) -> None:
    event = given.cloud_event
    caller, part = (given.caller, given.slice) if isinstance(given, WorkflowCalled) else (None, None)
    run = ids.run_id(event["source"], event["id"])
    refusal = _repeats(draft.workflow, run, draft.route)
    if refusal:
        draft.add(StartRepeated(event_source=event["source"], event_id=event["id"], reason=refusal))
        if caller is not None:
            # the caller waits for the end of a workflow that will not begin for it
            refuse(draft, caller, run, refusal)
        return
    if caller is not None and draft.route.private:
        # what it is called with lies open in the log of its caller
        message = f"route {given.route} is private, and can't be called"
        draft.add(CallRefused(caller=caller, code="private", message=message))
        return
    budget = draft.route.budget
    trace, parent = _trace_of(event, given.workflow_id, run)
    draft.add(
        WorkflowStarted(
            route=given.route,
            digest=given.digest,
            run_id=run,
            key=given.key,
            cloud_event=event,
            trace_id=trace,
            parent_span_id=parent,
            closed_retention_s=draft.route.closed_retention_s,
            budget=_limits(budget, part),
            # from the route's own budget alone: time passes for all alike, so a slice has none
            # (ADR 11)
            expires_at_ms=None if budget is None or budget.time_s is None else draft.now_ms + int(budget.time_s * 1000),
            caller=caller,
            slice=part,
            search=attributes(draft.route.search, event) if draft.route.search else None,
            # once an id is sealed, its next runs are, too: a fold without keys knows no earlier run
            private=draft.route.private or (draft.workflow is not None and draft.workflow.private),
        )
    )
    go_on(draft, draft.route.steps)


def _limits(budget: Budget | None, part: Slice | None) -> dict[str, float] | None:
    """The smaller of the route's own budget and the caller's slice, name by name.

    None: the run keeps no account.
    """
    own = None if budget is None else budget.limits
    if part is None:
        return own
    limits = {**part.limits, **(own or {})}
    return {name: min(limit, part.limits.get(name, limit)) for name, limit in limits.items()}


def _repeats(workflow: Workflow | None, run: str, route: Route) -> str:
    """Why a start for this id changes nothing; empty if it changes something."""
    if workflow is None or workflow.status == "expected":
        return ""
    # a run's id comes from its event, so this is a repeat and not a second start
    if workflow.run_id == run:
        return "the same event started this run"
    if workflow.status == "running":
        return f"run {workflow.run_id} is still going"
    if route.on_repeat == "ignore":
        return f"run {workflow.run_id} ended as {workflow.status}, and the route says on_repeat: ignore"
    if run in workflow.earlier_runs:
        return f"the same event started the earlier run {run}"
    return ""


def _trace_of(event: dict[str, Any], workflow_id: str, run: str) -> tuple[str, str | None]:
    """The trace and span that a run belongs to.

    They are the upstream's if it sent a valid traceparent, else a trace of the run's own.
    """
    found = TRACEPARENT.fullmatch(str(event.get("traceparent", "")))
    return (found[1], found[2]) if found else (ids.trace_id(workflow_id, run), None)
