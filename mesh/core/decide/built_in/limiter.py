"""A limiter: it takes requests for slots, grants what there is room for, and takes slots back.

The highest priority goes first, and among equals the request that came first. It needs no
time-outs, because every workflow that asks gives back exactly once.
"""

from typing import Final

from mesh.core import ids
from mesh.core.decide.draft import Draft
from mesh.core.events import (
    CommandRefused,
    EffectUndeliverable,
    InputDismissed,
    SlotFreed,
    SlotGranted,
    SlotQueued,
    WorkflowForgotten,
)
from mesh.core.inputs import CommandGiven, Input, SlotReturned, SlotWanted, TimerDue, Undeliverable
from mesh.core.limits import Limiter, clock_ms, has_room, next_grant_at_ms

_PORTION: Final = 100  # grants of one decision


def decide_limiter(draft: Draft, given: Input) -> None:
    match given:
        case SlotWanted():
            _on_wanted(draft, given)
        case SlotReturned():
            _on_returned(draft, given)
        case TimerDue():
            _on_timer(draft, given)
        case CommandGiven():
            message = "a limiter takes no commands: cancel a workflow that has a slot, and the slot comes back"
            draft.add(
                CommandRefused(
                    command_id=given.command_id, command=given.command, code="built_in", message=message, by=given.by
                )
            )
        case Undeliverable(effect_id=effect, topic=topic, code=code, message=message):
            draft.add(EffectUndeliverable(effect_id=effect, topic=topic, code=code, message=message))
        case _:
            draft.add(InputDismissed(code="unknown", message=f"a limiter takes no {type(given).__name__}"))


def _on_wanted(draft: Draft, given: SlotWanted) -> None:
    draft.add(
        SlotQueued(
            task_id=given.task_id,
            attempt=given.attempt,
            # with the attempt it names the claim; both sides read it from the asker's decision
            # (ADR 7)
            asked_at_ms=given.source_at_ms,
            concurrency=given.concurrency,
            rate=given.rate,
            per_ms=given.per_ms,
            priority=given.priority,
        )
    )
    _grant(draft)


def _on_returned(draft: Draft, given: SlotReturned) -> None:
    limiter = draft.workflow.limiter if draft.workflow is not None else None
    name = ids.attempt_id(given.task_id, given.attempt)
    # the release of an earlier claim by the same attempt must not free a later one
    if limiter is None or _asked_at(limiter, name) != given.asked_at_ms:
        draft.add(InputDismissed(code="unknown", message=f"{name} has no slot here to give back"))
        return
    draft.add(SlotFreed(task_id=given.task_id, attempt=given.attempt))
    _grant(draft)


def _on_timer(draft: Draft, given: TimerDue) -> None:
    """Grant one more that is now within the rate, or forget an unused limiter.

    A limiter is forgotten when nobody has used it for long.
    """
    workflow = draft.workflow
    if workflow is None or workflow.limiter is None:
        return
    due = next_grant_at_ms(workflow.limiter)
    if given.kind == "rate" and due is not None and due <= given.due_at_ms:
        _grant(draft)
    if given.kind == "forget" and workflow.forget_at_ms is not None and workflow.forget_at_ms <= given.due_at_ms:
        draft.add(WorkflowForgotten())


def free_unread(draft: Draft, task_id: str, attempt: int) -> None:
    """Free a slot whose release can't be read: the record's name says whose slot it was."""
    limiter = draft.workflow.limiter if draft.workflow is not None else None
    if limiter is not None and _asked_at(limiter, ids.attempt_id(task_id, attempt)) is not None:
        draft.add(SlotFreed(task_id=task_id, attempt=attempt))
        _grant(draft)


def _asked_at(limiter: Limiter, name: str) -> int | None:
    if name in limiter.holders:
        return limiter.holders[name]
    return next((claim.asked_at_ms for claim in limiter.queue if claim.name == name), None)


def _grant(draft: Draft) -> None:
    # bounded, so that the decision fits into a record: the owner's timer brings the rest at once
    for _ in range(_PORTION):
        limiter = draft.live.limiter
        if limiter is None or not has_room(limiter, draft.now_ms):
            return
        first = limiter.queue[0]
        draft.add(
            SlotGranted(
                task_id=first.task_id,
                attempt=first.attempt,
                asked_at_ms=first.asked_at_ms,
                # a time that never runs back, so that grants leave the window in their order
                granted_at_ms=clock_ms(limiter, draft.now_ms),
            )
        )
