"""Why nothing is known of an attempt from here on.

The recording has no result for what the new rules ask, or none of a wait as long as theirs. Owns
these reasons; `mesh.inspection.what_if.sandbox` calls it.
"""

import re
from typing import Final

from mesh.core import ids
from mesh.core.events import CallFailed, CallMade, TaskDispatched, TaskFailed
from mesh.core.route import AgentWork, Periods, Route
from mesh.inspection.what_if.recording import Attempt, Outcome, Recording

_REFUSED_TO: Final = re.compile(r" handed over to ([a-z0-9-]+), and ")


def never(recorded: Recording, event: TaskDispatched | CallMade) -> str:
    if any(recorded.too_large.get(event.step, ())):
        return "what it gets was too large for the broker, and nothing says how much is not"
    made = [one.made for one in recorded.attempts.values() if one.made.step == event.step]
    if any(one.task_id == event.task_id for one in made):
        return f"attempt {event.attempt} was never made"
    if made and event.round > 1:
        return f"it was never in round {event.round}"
    return "it never came so far" if made else "it never ran"


def done_by_another(event: TaskDispatched | CallMade, attempt: Attempt) -> str:
    before = attempt.made
    if isinstance(event, TaskDispatched) and isinstance(before, TaskDispatched):
        return "" if before.agent == event.agent else f"agent {event.agent} never did it: {before.agent} did"
    if isinstance(event, CallMade) and isinstance(before, CallMade):
        return "" if before.route == event.route else f"route {event.route} was never called: {before.route} was"
    return "it was not a task" if isinstance(event, TaskDispatched) else "it was not a call"


def unheard(
    route: Route, event: TaskDispatched | CallMade, attempt: Attempt, outcome: Outcome, *, after_ms: int, now_ms: int
) -> str:
    """Why the recorded outcome can't be used; empty if it can.

    Under the new rules something else would have come, and nobody knows what.
    """
    if not isinstance(outcome, TaskFailed | CallFailed):
        return ""
    if isinstance(outcome, CallFailed) and outcome.kind == "parked":
        return "its end was set aside"
    if outcome is not attempt.outcomes[-1][-1]:
        return ""  # a later outcome came after all
    if is_time_out(outcome):
        longer = event.due_at_ms is None or event.due_at_ms - now_ms > after_ms
        return "no result came by the time-out, which is longer now" if longer else ""
    if isinstance(event, TaskDispatched) and (missed := _waited_longer_for(event.periods, attempt, outcome)):
        return f"no sign of life came by its {missed}, which is longer now"
    return _lets_hand_over(route, event, outcome)


def _lets_hand_over(route: Route, event: TaskDispatched | CallMade, outcome: Outcome) -> str:
    """Why a recorded refusal of a hand-over can't be used; empty if it can."""
    work = route.steps[ids.step_of(event.step)].work
    if not isinstance(outcome, TaskFailed) or outcome.kind != "handover_refused" or not isinstance(work, AgentWork):
        return ""
    to = _REFUSED_TO.search(outcome.message)
    allowed = work.handover
    if to is None or allowed is None or to[1] not in allowed.to or _hop(event) > allowed.hops:
        return ""
    return f"it would be handed over to {to[1]}, who never had it"


def _hop(event: TaskDispatched | CallMade) -> int:
    return event.hop if isinstance(event, TaskDispatched) else 1


def is_time_out(outcome: Outcome) -> bool:
    return isinstance(outcome, TaskFailed | CallFailed) and outcome.kind == "timeout"


def _waited_longer_for(periods: Periods | None, attempt: Attempt, failed: TaskFailed | CallFailed) -> str:
    """The time-out that failed the attempt, if the new rules would have waited longer; else empty.

    Such a time-out is for a sign of life from the agent.
    """
    if not isinstance(attempt.made, TaskDispatched) or attempt.made.periods is None:
        return ""
    before_s, now_s = attempt.made.periods.of(failed.kind), periods.of(failed.kind) if periods is not None else None
    return failed.kind if before_s is not None and (now_s is None or now_s > before_s) else ""
