"""A task's attempts: the dispatch of one, what its failure brings, and the next."""

from hashlib import sha256
from typing import Any

from mesh.core import ids
from mesh.core.deciding.draft import Draft
from mesh.core.deciding.ending import end
from mesh.core.events import IncidentRaised, RetryScheduled, TaskDispatched, TaskFailed
from mesh.core.route import AgentWork, Retry
from mesh.core.state import StepState

__all__ = ["dispatch", "dispatch_again", "fail"]


def dispatch(
    draft: Draft, name: str, work: AgentWork, value: Any, reason: str, *, attempt: int, budget_from: int = 1
) -> None:
    workflow = draft.live
    task = ids.task_id(workflow.workflow_id, workflow.run_id, name)
    draft.add(
        TaskDispatched(
            step=name,
            task_id=task,
            attempt=attempt,
            agent=work.agent,
            input=value,
            due_at_ms=draft.now_ms + int(work.timeout_s * 1000),
            traceparent=draft.traceparent(task, str(attempt)),
            reason=reason,
            retry_budget_from=budget_from,
        )
    )


def dispatch_again(draft: Draft, name: str, step: StepState, *, anew: bool = False) -> None:
    """The next attempt, with the input of the first; with `anew` the count of attempts begins again."""
    work = _agent_work(draft, name)
    attempt = step.attempt + 1
    budget_from = attempt if anew else step.retry_budget_from
    reason = f"attempt {attempt - budget_from + 1} of {work.retry.attempts}, after {step.error}"
    dispatch(draft, name, work, step.input, reason, attempt=attempt, budget_from=budget_from)


def fail(draft: Draft, failed: TaskFailed) -> None:
    """Record a failed attempt and what follows of it: another attempt, an incident, or the end."""
    draft.add(failed)
    work = _agent_work(draft, failed.step)
    step = draft.live.steps[failed.step]
    retry, made = work.retry, failed.attempt - step.retry_budget_from + 1
    retryable = failed.retryable and failed.kind not in retry.non_retryable
    if retryable and made < retry.attempts:
        due = draft.now_ms + _backoff_ms(retry, made, ids.attempt_id(failed.task_id, failed.attempt))
        draft.add(RetryScheduled(step=failed.step, attempt=failed.attempt + 1, due_at_ms=due))
        return
    tried = f"attempt {made} of {retry.attempts}" if retryable else "trying again would not help"
    message = f"{failed.kind}: {failed.message} ({tried})"
    if work.on_exhausted == "fail":
        end(draft, "failed", f"{failed.step}: {message}")
    else:
        kind = "exhausted" if retryable else "non_retryable"
        draft.add(IncidentRaised(step=failed.step, kind=kind, message=message))


def _agent_work(draft: Draft, name: str) -> AgentWork:
    work = draft.route.steps[name].work
    if not isinstance(work, AgentWork):
        raise TypeError(f"step {name} of {draft.workflow_id} has attempts, but its route gives it no agent")
    return work


def _backoff_ms(retry: Retry, made: int, attempt: str) -> int:
    """Milliseconds until the next attempt; the jitter is a function of the attempt's id."""
    wait_s = min(retry.max_backoff_s, retry.backoff_s * retry.factor ** min(made - 1, 64))
    draw = int.from_bytes(sha256(attempt.encode()).digest()[:4], "big") / 2**32
    return int(wait_s * (1 - retry.jitter * draw) * 1000)
