"""What else follows when an input is parked.

A workflow does not repeat what it told another one, so nobody may wait for it.
"""

from mesh.core import ids
from mesh.core.crossings import CrossingId
from mesh.core.decide.built_in.limiter import free_unread
from mesh.core.decide.draft import Draft
from mesh.core.decide.settle.call import account_for
from mesh.core.decide.settle.limit import fail_to_ask
from mesh.core.events import AliasRefused, CallFailed, CallRefused, IncidentRaised, InputParked, SlotRefused


def on_parked(draft: Draft, parked: InputParked, about: CrossingId | None) -> None:
    """Record the parked input, and settle the step that waits for it.

    A call, a claim or a request for a slot is refused. If the end of a call or an answer was
    parked, an operator has to act. A slot that was given back is free all the same.
    """
    draft.add(parked)
    message = f"{parked.topic}/{parked.partition}/{parked.offset} was parked: {parked.message}"
    if about is None:
        return
    task, attempt = about.caller.task_id, about.caller.attempt
    match about.what:
        case "call":
            draft.add(CallRefused(caller=about.caller, code=parked.code, message=message))
        case "end":
            _end_unread(draft, about, message)
        case "claim":
            draft.add(AliasRefused(claimant=about.caller, message=message))
        case "claimed":
            _answer_unread(draft, about, message)
        case "acquire":
            draft.add(SlotRefused(task_id=task, attempt=attempt, message=message))
        case "release":
            free_unread(draft, task, attempt)
        case "grant" | "denial":
            fail_to_ask(draft, about, "parked", message)
        # a cancellation: nobody waits for it
        case _:
            pass


def _end_unread(draft: Draft, about: CrossingId, message: str) -> None:
    caller = about.caller
    parsed, workflow = ids.parse_step_id(caller.task_id), draft.workflow
    step = workflow.steps.get(parsed.step) if parsed is not None and workflow is not None else None
    expected = ("calling", caller.task_id, caller.attempt)
    if parsed is not None and step is not None and (step.status, step.task_id, step.attempt) == expected:
        # without usage: nobody has read how much it took, so the whole slice counts
        failed = CallFailed(
            step=parsed.step, task_id=caller.task_id, attempt=caller.attempt, kind="parked", message=message
        )
        draft.add(failed)
        draft.add(IncidentRaised(step=parsed.step, kind="parked", message=message))
    elif account_for(draft, ids.attempt_id(caller.task_id, caller.attempt), None):
        for place, held in draft.live.steps.items():
            # it may have waited for that, and there is no route here to go on by
            if held.status == "held":
                draft.add(IncidentRaised(step=place, kind="parked", message=message))


def _answer_unread(draft: Draft, about: CrossingId, message: str) -> None:
    claimant = about.caller
    parsed, workflow = ids.parse_step_id(claimant.task_id), draft.workflow
    step = workflow.steps.get(parsed.step) if parsed is not None and workflow is not None else None
    if parsed is not None and step is not None and (step.status, step.claim) == ("claiming", claimant.attempt):
        draft.add(IncidentRaised(step=parsed.step, kind="alias", message=message))
