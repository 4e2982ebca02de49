"""The attempts at a task: what the failure of one brings, and the next one."""

from hashlib import sha256

from mesh.core import ids
from mesh.core.decide.begin.call import withdraw_items
from mesh.core.decide.begin.end import end
from mesh.core.decide.begin.for_each import is_tolerated
from mesh.core.decide.begin.task import agent_work, dispatch, work_at
from mesh.core.decide.draft import Draft
from mesh.core.decide.progress import settled
from mesh.core.events import IncidentRaised, RetryScheduled, StepGivenUp, TaskFailed
from mesh.core.route import Retry
from mesh.core.state import StepState


def dispatch_again(draft: Draft, name: str, step: StepState, *, restarts: bool = False) -> None:
    """Make the next attempt, with the input of the first and by the same agent.

    With `restarts`, the count of attempts starts again, and so does the choice of an agent for a
    capability.
    """
    work = agent_work(draft, name)
    # an agent that got the task by a handover was named by another agent, and is not chosen again
    is_chosen = restarts and bool(work.capability) and step.hop == 1
    attempt = step.attempt + 1
    budget_from = attempt if restarts else step.retry_budget_from
    reason = f"attempt {attempt - budget_from + 1} of {work.retry.attempts}, after {step.error}"
    dispatch(
        draft,
        name,
        work,
        step.input,
        reason,
        attempt=attempt,
        budget_from=budget_from,
        agent="" if is_chosen else step.agent,
        hop=step.hop,
        failed=step.agent if is_chosen else "",
    )


def fail(draft: Draft, failed: TaskFailed) -> None:
    """Record a failed attempt and what follows: another attempt, an incident, or the end."""
    draft.add(failed)
    work = agent_work(draft, failed.step)
    # read after the failure: a death has moved the start of the count
    step = draft.live.steps[failed.step]
    retry, made = work.retry, failed.attempt - step.retry_budget_from + 1
    retryable = failed.retryable and failed.kind not in retry.non_retryable
    # at once, without a backoff: a death is not among the route's attempts (ADR 12)
    if retryable and failed.deaths:
        dispatch_again(draft, failed.step, step)
        return
    if retryable and made < retry.attempts:
        due = draft.now_ms + _wait_ms(retry, made, failed)
        draft.add(RetryScheduled(step=failed.step, attempt=failed.attempt + 1, due_at_ms=due))
        return
    tried = f"attempt {made} of {retry.attempts}" if retryable else "trying again would not help"
    message = f"{failed.kind}: {failed.message} ({tried})"
    give_up(draft, failed.step, message, kind="exhausted" if retryable else "non_retryable")


def give_up(draft: Draft, place: str, message: str, *, kind: str) -> None:
    """No attempt is left: continue without the step if the route says so.

    Otherwise the workflow ends, or an operator has to act.
    """
    name, choice = ids.step_of(place), work_at(draft, place).on_exhausted
    # before `on_exhausted`, which is for the step: an item that may fail ends nothing
    if ids.is_item(place) and is_tolerated(draft, name):
        draft.add(StepGivenUp(step=place, reason=message))
        settled(draft, place)
    elif choice == "continue":
        reason = message if place == name else f"{place}: {message}"
        # before the for-each is closed: after that nothing knows of its items' calls
        withdraw_items(draft, name, reason)
        draft.add(StepGivenUp(step=name, reason=reason))
        settled(draft, name)
    elif choice == "fail":
        end(draft, "failed", f"{place}: {message}")
    else:
        draft.add(IncidentRaised(step=place, kind=kind, message=message))


def _wait_ms(retry: Retry, made: int, failed: TaskFailed) -> int:
    """Milliseconds until the next attempt.

    This is the route's backoff, or what the agent asks for if that is longer, up to the route's
    longest.
    """
    backoff_ms = _backoff_ms(retry, made, ids.attempt_id(failed.task_id, failed.attempt))
    if failed.retry_after_s is None:
        return backoff_ms
    return max(backoff_ms, int(min(retry.max_backoff_s, failed.retry_after_s) * 1000))


def _backoff_ms(retry: Retry, made: int, attempt: str) -> int:
    """Milliseconds until the next attempt. The jitter is a function of the attempt's id."""
    # the exponent is bounded, since a float that overflows raises
    wait_s = min(retry.max_backoff_s, retry.backoff_s * retry.factor ** min(made - 1, 64))
    # spread like a random number, but the same whichever router decides
    draw = int.from_bytes(sha256(attempt.encode()).digest()[:4], "big") / 2**32
    return int(wait_s * (1 - retry.jitter * draw) * 1000)
