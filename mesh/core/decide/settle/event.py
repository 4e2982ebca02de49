"""An event from outside: a step waits for it, may wait for it later, or no longer waits for it.

It found the workflow by its key or by an alias. By an alias, it is only for steps that wait for
events of this alias.
"""

from collections.abc import Iterator

from mesh.core import ids
from mesh.core.decide.begin.wait import is_wanted
from mesh.core.decide.draft import Draft
from mesh.core.decide.kept_events import is_kept, keep
from mesh.core.decide.progress import settled
from mesh.core.events import EventReceived, InputDismissed, WaitStarted
from mesh.core.inputs import EventForwarded, EventOffered
from mesh.core.loops import is_over
from mesh.core.route import AwaitedEvent, Route, WaitWork
from mesh.core.state import KeptEvent, Workflow


def on_offered(draft: Draft, given: EventOffered) -> None:
    workflow = draft.workflow
    kept = KeptEvent(
        cloud_event=given.cloud_event,
        topic=given.source_topic,
        partition=given.source_partition,
        offset=given.source_offset,
        at_ms=given.source_at_ms,
    )
    if not _is_open(draft, kept):
        return
    if workflow is None or workflow.status == "expected":
        # an earlier version starts nothing any more, so no run would ever come to take it
        if given.only_live:
            message = "only an earlier version of the route waits for it, and no workflow runs under this id"
            draft.add(InputDismissed(code="unclaimed", message=message))
        else:
            keep(draft, kept, given.route, given.digest, given.key)
        return
    _take(draft, workflow, kept)


def on_forwarded(draft: Draft, given: EventForwarded) -> None:
    """Take an event that came by an alias, which this workflow has or had."""
    workflow = draft.workflow
    if workflow is None or workflow.status == "expected":
        draft.add(InputDismissed(code="closed", message=f"no run of {given.workflow_id} has the alias"))
    elif _is_open(draft, given.kept):
        _take(draft, workflow, given.kept)


def _is_open(draft: Draft, kept: KeptEvent) -> bool:
    """Whether the event can still matter to the workflow."""
    workflow, event = draft.workflow, kept.cloud_event
    if workflow is not None and workflow.status not in {"running", "expected"}:
        draft.add(InputDismissed(code="closed", message=f"the workflow had ended: {workflow.status}"))
        return False
    if workflow is not None and _has_been_here(workflow, kept):
        draft.add(InputDismissed(code="repeated", message=f"event {event['id']} of {event['source']} has been here"))
        return False
    return True


def _take(draft: Draft, workflow: Workflow, kept: KeptEvent) -> None:
    event = kept.cloud_event
    awaited = dict(_awaiting(draft.route, event["type"], kept.alias))
    taking = [name for name, one in awaited.items() if _takes_now(draft, name, one, kept)]
    for name in taking:
        # one that took it may have ended the wait of another, or begun it again in the next round
        if draft.live.steps[name].status == "waiting" and not _has_begun_to_wait(draft, name):
            draft.add(EventReceived(step=name, cloud_event=event))
            settled(draft, name)
    if taking:
        return
    # a run that is being undone begins no wait again, so it keeps nothing either
    if any(not is_over(draft.route, draft.live.steps, name) for name in awaited) and draft.live.ending is None:
        keep(draft, kept, workflow.route, workflow.digest, workflow.key)
        return
    draft.add(InputDismissed(code="unclaimed", message=f"no step waits for an event of type {event['type']} any more"))


def _awaiting(route: Route, kind: str, alias: str) -> Iterator[tuple[str, AwaitedEvent]]:
    """The steps that wait, now or later, for events of this type that come by this alias.

    An empty alias: by the workflow's key.
    """
    for name, step in route.steps.items():
        awaited = step.work.event if isinstance(step.work, WaitWork) else None
        if awaited is not None and (awaited.type, awaited.alias) == (kind, alias):
            yield name, awaited


def _takes_now(draft: Draft, name: str, awaited: AwaitedEvent, kept: KeptEvent) -> bool:
    """Whether the step waits for this event, and the broker had it in time.

    One that came after the time-out is kept for a later wait: the time-out has only not been
    decided yet.
    """
    state = draft.live.steps.get(name)
    if state is None or state.status != "waiting":
        return False
    # The broker's clock may be ahead of the owner's, but a record that is here came by now.
    if state.due_at_ms is not None and min(kept.at_ms, draft.now_ms) > state.due_at_ms:
        return False
    return is_wanted(draft, name, awaited, kept.cloud_event)


def _has_begun_to_wait(draft: Draft, name: str) -> bool:
    """Whether this very decision has made the step wait."""
    return any(isinstance(event, WaitStarted) and event.step == name for event in draft.events)


def _has_been_here(workflow: Workflow, kept: KeptEvent) -> bool:
    """Whether this run already knows the event.

    The event started a run of this id, was taken by a step, or is already kept the same way.
    """
    source, name = kept.cloud_event["source"], kept.cloud_event["id"]
    # a route may wait for the type that starts it: the event has had its effect by the start
    if ids.run_id(source, name) in (workflow.run_id, *workflow.earlier_runs):
        return True
    return is_kept(workflow, kept) or ids.event_mark(source, name) in workflow.heard
