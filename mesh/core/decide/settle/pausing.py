"""An operator's `pause` and `resume`.

While a workflow is paused, or its route, nothing new of it is sent or begun:

- `dispatch` and `call` hold what they would send (`TaskHeld`), whatever asks for it: a retry, an
  item, a slot that was granted, an undo.
- `go_on` lets no step act, and does not end the workflow; `for_each.advance` begins no item.
- A step that an operator retries, and that never got as far as a task, stays `retrying`.

What is out goes on: results and answers count, deadlines and time-outs run, and an end that one of
them brings is the end. Resuming lets all of it act, by the same rules as ever.

While an agent is paused, `dispatch` alone holds what it would send to it.
"""

from mesh.core.decide.begin import for_each
from mesh.core.decide.draft import Draft
from mesh.core.decide.progress import go_on, is_going
from mesh.core.decide.settle.budget import release_held
from mesh.core.decide.settle.refusing import accept_command, refuse_command
from mesh.core.decide.settle.retry import begin_as_it_was
from mesh.core.events import WorkflowPaused, WorkflowResumed
from mesh.core.inputs import CommandGiven
from mesh.core.layered import keys_where
from mesh.core.state import Pause, StepState


def on_pause(draft: Draft, given: CommandGiven, paused: Pause | None) -> None:
    """Hold the workflow."""
    if paused is not None:
        refuse_command(draft, given, "already", f"{given.workflow_id} is paused already, by {paused.by}")
        return
    accept_command(draft, given)
    draft.add(WorkflowPaused(by=given.by, reason=given.reason))


def on_resume(draft: Draft, given: CommandGiven, paused: Pause | None) -> None:
    """Let everything act that was held."""
    if paused is None:
        refuse_command(draft, given, "already", f"{given.workflow_id} is not paused")
        return
    accept_command(draft, given)
    draft.add(WorkflowResumed(by=given.by, reason=given.reason))
    # its route may still be paused
    if not draft.is_paused:
        _act(draft, f"resumed by {given.by}")


def on_resumed(draft: Draft) -> None:
    """Let everything act that a pause of its route, or of an agent, had held."""
    if draft.live.status == "running" and not draft.is_paused:
        _act(draft, "a pause is over")


def _act(draft: Draft, reason: str) -> None:
    release_held(draft, reason)
    _begin_retried(draft)
    _go_on_with_lists(draft)
    # any step may have what it needs by now
    go_on(draft, draft.route.steps)


def _begin_retried(draft: Draft) -> None:
    # one after the other: each may settle others too, or end the workflow
    while is_going(draft) and (found := keys_where(draft.live.steps, _is_retried)):
        begin_as_it_was(draft, found[0], draft.live.steps[found[0]])


def _is_retried(place: str, step: StepState) -> bool:  # noqa: ARG001 - as `keys_where` asks
    """Whether an operator has retried it while the workflow was paused.

    An attempt of a task that waits for its time has a time; this has none.
    """
    return step.status == "retrying" and step.due_at_ms is None


def _go_on_with_lists(draft: Draft) -> None:
    # a list whose items are all settled has ended already, paused or not
    for place in keys_where(draft.live.steps, _is_list):
        for_each.advance(draft, place)


def _is_list(place: str, step: StepState) -> bool:  # noqa: ARG001 - as `keys_where` asks
    return step.status == "iterating"
