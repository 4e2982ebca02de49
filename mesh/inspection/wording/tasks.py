"""Words for tasks: what agents are given, and what they say.

Owns the two texts of each such event. `mesh.inspection.wording.words_of` calls it.
"""

from typing import Final

from mesh.core import events as ev
from mesh.inspection.wording.phrases import as_json, duration, lasting, timeless
from mesh.inspection.wording.said import Said

_NAMED: Final = 5  # tasks, in one line


def words_of(event: ev.Event, decision: ev.Decision) -> Said | None:
    match event:
        case ev.TaskDispatched():
            told = f"task {event.step} to {event.agent}: {as_json(event.input)} ({timeless(event.reason)})"
            if event.approvals:
                told += f", with {_verdicts(event)}"
            return Said(event.step, _dispatched(event), "work", event.reason, told, (("input", event.input),))
        case ev.TaskSucceeded():
            what = f"succeeded after {duration(event.duration_ms)}"
            return Said(event.step, what, "good", _agent(event), shows=(("output", event.output),))
        case ev.TaskFailed():
            why = f"{event.kind}: {event.message}{'' if event.retryable else ' (not to be retried)'}"
            told = f"that attempt has failed: {timeless(event.message)}" if decision.cause.kind == "timer" else ""
            what = f"attempt {event.attempt} failed{_after(event)}"
            return Said(event.step, what, "bad", f"{why} {_agent(event)}".strip(), told)
        case ev.TaskHandedOver():
            return Said(event.step, f"handed over to {event.to}{_after(event)}", "work", _agent(event))
        case ev.ApprovalWanted():
            told = f"{event.step} waits: its agent wants {event.name} approved"
            return Said(event.step, f"wants {event.name} approved{_after(event)}", "people", _agent(event), told)
        case ev.RetryScheduled():
            wait_ms = event.due_at_ms - decision.at_ms
            told = f"{event.step} will be tried again in {lasting(wait_ms)}"
            return Said(event.step, f"attempt {event.attempt} in {duration(max(0, wait_ms))}", "people", told=told)
        case ev.StepGivenUp():
            told = f"{event.step} has failed, and the rest goes on: {timeless(event.reason)}"
            return Said(event.step, "failed for good", "bad", event.reason, told)
        case ev.TasksWithdrawn():
            return Said("", _withdrawn(event), "quiet")
        case ev.TaskHeld():
            held = f"task {event.step} to {event.agent}" if event.agent else event.step
            what = f"held before attempt {event.attempt}"
            return Said(event.step, what, "people", event.reason, f"{held} is held: {event.reason}")
        case _:
            return None


def _dispatched(event: ev.TaskDispatched) -> str:
    what = f"dispatched to {event.agent}"
    what += f", round {event.round}" if event.round > 1 else ""
    what += f", attempt {event.attempt}" if event.attempt > 1 else ""
    return what + (f", with {_verdicts(event)}" if event.approvals else "")


def _verdicts(event: ev.TaskDispatched) -> str:
    """What was decided on the calls that its agent has asked about."""
    return ", ".join(f"{one.name} {one.verdict}" for one in event.approvals)


def _withdrawn(event: ev.TasksWithdrawn) -> str:
    named = [f"{one.task_id.rpartition('/')[2]}, attempt {one.attempt}, of {one.agent}" for one in event.tasks[:_NAMED]]
    more = f", and {len(event.tasks) - _NAMED} more" if len(event.tasks) > _NAMED else ""
    return f"withdrawn from their agents: {'; '.join(named)}{more}"


_Ended = ev.TaskFailed | ev.TaskHandedOver | ev.ApprovalWanted


def _after(event: _Ended) -> str:
    return f" after {duration(event.duration_ms)}" if event.duration_ms else ""


def _agent(event: ev.TaskSucceeded | _Ended) -> str:
    version = f"version {event.agent_version}" if event.agent_version else ""
    return f"({version}{' on ' if version else 'on '}{event.agent_instance})" if event.agent_instance else version
