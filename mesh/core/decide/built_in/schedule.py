"""A schedule: when a route starts by itself.

A built-in workflow, in the partition of its own id. Each scheduled time is one decision, and its
record starts one workflow.

Every router sends the schedules that it knows, at its start and whenever its routes change. Repeats
change nothing. Of two definitions that differ, the newer is the one that is active from a later
broker time, no matter which router sends it, or when. So routers with different files agree, and an
old file does not bring back what was replaced.
"""

from mesh.core.decide.draft import Draft
from mesh.core.events import (
    CommandAccepted,
    CommandRefused,
    EffectUndeliverable,
    InputDismissed,
    ScheduleChanged,
    ScheduleFired,
)
from mesh.core.inputs import CommandGiven, Input, ScheduleSet, TimerDue, Undeliverable
from mesh.core.schedules import Schedule, fired_event, last_time, missed_times, next_time, rfc3339
from mesh.core.state import Plan


def decide_schedule(draft: Draft, given: Input) -> None:
    match given:
        case ScheduleSet():
            _on_set(draft, given)
        case TimerDue():
            plan = draft.workflow.plan if draft.workflow is not None else None
            if plan is not None and plan.next_at_ms is not None and plan.next_at_ms <= given.due_at_ms:
                _fire(draft, plan.schedule, plan.next_at_ms)
        case CommandGiven():
            _on_command(draft, given)
        case Undeliverable(effect_id=effect, topic=topic, code=code, message=message):
            draft.add(EffectUndeliverable(effect_id=effect, topic=topic, code=code, message=message))
        case _:
            draft.add(InputDismissed(code="unknown", message=f"a schedule takes no {type(given).__name__}"))


def _on_set(draft: Draft, given: ScheduleSet) -> None:
    workflow = draft.workflow
    plan = workflow.plan if workflow is not None else None
    if workflow is not None and plan is not None:
        # the digest decides between two of the same time, so that all routers come to the same one,
        # in whatever order they announce them
        known = (plan.since_ms, workflow.digest)
        if known == (given.since_ms, given.digest):
            draft.add(InputDismissed(code="repeated", message=f"definition {given.digest} is known"))
            return
        if known > (given.since_ms, given.digest):
            draft.add(InputDismissed(code="late", message=f"{given.digest} is older than {workflow.digest}"))
            return
        if plan.next_at_ms is not None and plan.next_at_ms <= given.since_ms:
            # it was, or is about to be, due before this definition holds
            _fire(draft, plan.schedule, plan.next_at_ms)
    draft.add(
        ScheduleChanged(
            route=given.route,
            digest=given.digest,
            since_ms=given.since_ms,
            schedule=given.schedule,
            next_at_ms=_next(draft, given),
            by=given.by,
        )
    )


def _next(draft: Draft, given: ScheduleSet) -> int | None:
    """The schedule's next time.

    A change of anything else keeps the time that is to come, or that was missed. No time comes
    before one that has already started a workflow.
    """
    plan = draft.workflow.plan if draft.workflow is not None else None
    if given.schedule is None:
        return None
    if plan is not None and plan.schedule == given.schedule:
        return plan.next_at_ms
    fired_at_ms = plan.fired_at_ms if plan is not None else None
    return next_time(given.schedule, max(given.since_ms, fired_at_ms or 0))


def _fire(draft: Draft, schedule: Schedule | None, due_ms: int) -> None:
    """Start a workflow. Of the times that were missed, only the last one fires, late.

    The event says which others there were.
    """
    # a newer definition may make it fire before its time by this owner's clock
    workflow, now_ms = draft.live, max(draft.now_ms, due_ms)
    if schedule is None:
        raise AssertionError(f"{draft.workflow_id} is due without a schedule")
    at_ms = last_time(schedule, due_ms, now_ms)
    draft.add(
        ScheduleFired(
            route=workflow.route,
            digest=workflow.digest,
            key=rfc3339(at_ms),
            cloud_event=fired_event(workflow.route, at_ms, (now_ms - at_ms) // 1000),
            scheduled_at_ms=at_ms,
            next_at_ms=next_time(schedule, now_ms),
            missed=missed_times(schedule, due_ms, at_ms),
        )
    )


def _on_command(draft: Draft, given: CommandGiven) -> None:
    """End the schedule, if an operator cancels it, until the route has a newer definition."""
    workflow = draft.workflow
    plan: Plan | None = workflow.plan if workflow is not None else None
    if given.command != "cancel" or workflow is None or plan is None or plan.schedule is None:
        message = "a schedule that holds can be cancelled, and nothing else"
        draft.add(
            CommandRefused(
                command_id=given.command_id, command=given.command, code="built_in", message=message, by=given.by
            )
        )
        return
    draft.add(CommandAccepted(command_id=given.command_id, command="cancel", by=given.by, reason=given.reason))
    draft.add(ScheduleChanged(route=workflow.route, digest=workflow.digest, since_ms=plan.since_ms, by=given.by))
