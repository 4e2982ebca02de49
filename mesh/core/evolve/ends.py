"""What is left of a workflow: after its end, after it was erased, and when it is forgotten."""

from msgspec.structs import replace

from mesh.core import events as ev
from mesh.core import ids
from mesh.core.evolve.voting import without_payloads
from mesh.core.state import FINISHED, Erasure, StepState, Workflow


def ended(workflow: Workflow, event: ev.WorkflowEnded, at_ms: int) -> Workflow:
    """Drop the payloads, so that a closed workflow takes little memory. The log keeps them."""
    steps = {
        name: StepState(
            status=step.status if step.status in FINISHED else "cancelled",
            task_id=step.task_id,
            attempt=step.attempt,
            since_ms=step.since_ms if step.status in FINISHED else at_ms,
            error=step.error,
            expired=step.expired,
            # what a late answer is judged by stays until the id is forgotten
            asking=None if step.asking is None else without_payloads(step.asking),
        )
        for name, step in workflow.steps.items()
        if not ids.is_of_item(name)
    }
    cloud_event = dict(workflow.cloud_event)
    cloud_event.pop("data", None)
    cloud_event.pop("data_base64", None)
    return replace(
        workflow,
        status=event.status,
        steps=steps,
        cloud_event=cloud_event,
        updated_at_ms=at_ms,
        ended_at_ms=at_ms,
        forget_at_ms=event.forget_at_ms,
        reason=event.reason,
        kept=(),
        ending=None,
        pause=None,
        expires_at_ms=None,
        # nobody waits for the usage of these calls any more
        account=None if workflow.account is None else replace(workflow.account, unheard={}),
    )


def left(event: ev.WorkflowForgotten | ev.PayloadsErased, workflow_id: str, at_ms: int) -> Workflow | None:
    """What is left of the workflow, by the event alone: a fold without keys knows no more."""
    if isinstance(event, ev.WorkflowForgotten) or not event.run_id:
        return None
    names = {"id": event.event_id, "source": event.event_source, "type": event.event_type}
    begun = Workflow(
        workflow_id=workflow_id,
        run_id=event.run_id,
        route=event.route,
        digest=event.digest,
        key=event.key,
        status=event.status,
        started_at_ms=event.started_at_ms,
        updated_at_ms=at_ms,
        ended_at_ms=event.ended_at_ms,
        forget_at_ms=event.forget_at_ms,
        reason=f"erased by {event.by}: {event.reason}",
        cloud_event=names,
        trace_id=event.trace_id,
        steps={},
        earlier_runs=event.earlier_runs,
    )
    # what comes later, as an answer that is late, is sealed with a new key
    return replace(begun, private=True, erased=Erasure(by=event.by, reason=event.reason, at_ms=at_ms))
