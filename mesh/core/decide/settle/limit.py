"""A slot granted or refused, for a step whose task waits for it."""

from mesh.core import ids
from mesh.core.crossings import CrossingId
from mesh.core.decide.begin.task import agent_work, dispatch
from mesh.core.decide.draft import Draft
from mesh.core.events import IncidentRaised, InputDismissed
from mesh.core.inputs import SlotDenied, SlotGiven
from mesh.core.limits import Slot, limiter_name
from mesh.core.state import StepState


def on_slot_given(draft: Draft, given: SlotGiven) -> None:
    """Ask the next limit, or send the task.

    If nobody waits for the slot any more, its release is under way already.
    """
    place = _waiting(draft, given.task_id, given.attempt)
    slot = Slot(limit=given.limit, task_id=given.task_id, attempt=given.attempt, asked_at_ms=given.asked_at_ms)
    # the step waits for the last limit that it asked; those before have granted their slots
    if place is None or draft.live.slots[place][-1] != slot:
        draft.add(InputDismissed(code="late", message=f"{_attempt(given)} wants no slot of {given.limit} any more"))
        return
    step = draft.live.steps[place]
    dispatch(
        draft,
        place,
        agent_work(draft, place),
        step.input,
        f"{limiter_name(given.limit)} has granted a slot",
        attempt=step.attempt,
        budget_from=step.retry_budget_from,
        # as it was chosen when it queued: the slot may be one of that agent's own limit
        agent=step.agent,
        hop=step.hop,
        beyond=given.limit,
    )


def on_slot_denied(draft: Draft, given: SlotDenied) -> None:
    place = _waiting(draft, given.task_id, given.attempt)
    if place is None or draft.live.slots[place][-1].limit != given.limit:
        draft.add(InputDismissed(code="late", message=f"{_attempt(given)} wants no slot of {given.limit} any more"))
        return
    message = f"limit {limiter_name(given.limit)} could not be asked for a slot: {given.message}"
    draft.add(IncidentRaised(step=place, kind="limit", message=message))


def fail_to_ask(draft: Draft, about: CrossingId, kind: str, message: str) -> None:
    """Raise an incident: the request or its answer is lost, and an operator must ask again."""
    place = _waiting(draft, about.caller.task_id, about.caller.attempt)
    if place is not None:
        draft.add(IncidentRaised(step=place, kind=kind, message=message))


def _waiting(draft: Draft, task: str, attempt: int) -> str | None:
    """The place of the step that is queued for this attempt."""
    parsed, workflow = ids.parse_step_id(task), draft.workflow
    step: StepState | None = workflow.steps.get(parsed.step) if parsed is not None and workflow is not None else None
    if parsed is None or step is None or step.status != "queued" or (step.task_id, step.attempt) != (task, attempt):
        return None
    return parsed.step


def _attempt(given: SlotGiven | SlotDenied) -> str:
    return ids.attempt_id(given.task_id, given.attempt)
