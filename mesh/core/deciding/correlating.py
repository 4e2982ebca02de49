"""Correlating: an event from outside that a workflow's steps wait for, or will wait for, or that nobody waits for any more."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from mesh.core import ids
from mesh.core.deciding.draft import Draft
from mesh.core.deciding.progress import settled
from mesh.core.deciding.waiting import is_wanted
from mesh.core.events import EventKept, EventReceived, EventUnclaimed, InputDismissed
from mesh.core.inputs import EventOffered
from mesh.core.route import AwaitedEvent, Route, WaitWork
from mesh.core.state import FINISHED, KeptEvent, StepState, Workflow

__all__ = ["on_offered"]

KEPT: Final = 100  # events of one workflow
KEPT_BYTES: Final = 512 * 1024  # of theirs, once there is more than one

_encode = msgspec.json.Encoder().encode


def on_offered(draft: Draft, given: EventOffered) -> None:
    workflow, event = draft.workflow, given.cloud_event
    if workflow is not None and workflow.status not in {"running", "expected"}:
        draft.add(InputDismissed(code="closed", message=f"the workflow had ended: {workflow.status}"))
        return
    if workflow is not None and _has_been_here(workflow, event):
        draft.add(InputDismissed(code="repeated", message=f"event {event['id']} of {event['source']} has been here"))
        return
    if workflow is None or workflow.status == "expected":
        if given.only_live:
            message = "only an earlier version of the route waits for it, and no workflow runs under this id"
            draft.add(InputDismissed(code="unclaimed", message=message))
        else:
            _keep(draft, given)
        return
    awaited = dict(_awaiting(draft.route, event["type"]))
    taking = [name for name, one in awaited.items() if _takes_now(draft, name, one, event)]
    for name in taking:
        if draft.live.steps[name].status == "waiting":  # one that took it may have ended the wait of another
            draft.add(EventReceived(step=name, cloud_event=event))
            settled(draft, name)
    if taking:
        return
    if any(_is_to_come(draft.live.steps.get(name)) for name in awaited) and draft.live.ending is None:
        _keep(draft, given)
        return
    draft.add(InputDismissed(code="unclaimed", message=f"no step waits for an event of type {event['type']} any more"))


def _awaiting(route: Route, kind: str) -> Iterator[tuple[str, AwaitedEvent]]:
    """The steps that wait, now or ever, for events of this type."""
    for name, step in route.steps.items():
        if isinstance(step.work, WaitWork) and step.work.event is not None and step.work.event.type == kind:
            yield name, step.work.event


def _takes_now(draft: Draft, name: str, awaited: AwaitedEvent, event: dict[str, Any]) -> bool:
    state = draft.live.steps.get(name)
    return state is not None and state.status == "waiting" and is_wanted(draft, name, awaited, event)


def _is_to_come(state: StepState | None) -> bool:
    """A wait that has not begun, or whose condition did not take this one: a later wait of the step may."""
    return state is None or state.status not in FINISHED


def _has_been_here(workflow: Workflow, event: dict[str, Any]) -> bool:
    """It started this run or an earlier one, was taken by a step, or is kept."""
    source, name = event["source"], event["id"]
    if ids.run_id(source, name) in (workflow.run_id, *workflow.earlier_runs):
        return True
    kept = any((one.cloud_event["source"], one.cloud_event["id"]) == (source, name) for one in workflow.kept)
    return kept or ids.event_mark(source, name) in workflow.heard


def _keep(draft: Draft, given: EventOffered) -> None:
    """Keep it; with more than the end of the workflow could put aside in one decision, put it aside at once."""
    kept = KeptEvent(
        cloud_event=given.cloud_event,
        topic=given.source_topic,
        partition=given.source_partition,
        offset=given.source_offset,
        at_ms=given.source_at_ms,
    )
    others = () if draft.workflow is None else draft.workflow.kept
    if others and (len(others) == KEPT or len(_encode((*others, kept))) > KEPT_BYTES):
        reason = f"{len(others)} events are kept already, and no step has taken them"
        draft.add(EventUnclaimed(kept=kept, reason=reason))
        return
    draft.add(
        EventKept(
            kept=kept,
            route=given.route,
            digest=given.digest,
            key=given.key,
            expires_at_ms=draft.now_ms + int(draft.route.keep_events_s * 1000),
        )
    )
