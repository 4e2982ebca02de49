"""What the events of limits change in a workflow that asks for slots, and in a limiter.

`evolve`'s part for `mesh.core.decide.begin.limit` and `mesh.core.decide.built_in.limiter`.
"""

from typing import Final, assert_never

from msgspec.structs import replace

from mesh.core import ids
from mesh.core.events import SlotFreed, SlotGranted, SlotQueued, SlotReleased, SlotRequested
from mesh.core.limits import LIMITER, Claim, Limit, Limiter, Slot, freed, granted, limiter_name, queued
from mesh.core.state import StepState, Workflow

LimiterEvent = SlotQueued | SlotGranted | SlotFreed

_REMEMBERED_MS: Final = 60_000
"""How long a limiter that nobody uses is kept; longer where its grants still count."""


def queue_up(step: StepState | None, event: SlotRequested, at_ms: int) -> StepState:
    """Keep what is needed to send the task later. An earlier attempt may still be answered."""
    return StepState(
        status="queued",
        task_id=event.task_id,
        attempt=event.attempt,
        retry_budget_from=event.retry_budget_from,
        since_ms=at_ms,
        input=event.input,
        agent=event.agent,
        error=step.error if step else "",
        output=step.output if step else None,
        round=event.round,
        hop=event.hop,
        reserved=event.reserved,
        charged=step.charged if step else None,
        stale=step is not None and step.stale,
        # the attempt that was out may do its work, whatever becomes of this one
        acted=step is not None and (step.acted or step.status == "running"),
        deaths=step.deaths if step else (),
        tools=step.tools if step else None,
    )


def asked(slots: dict[str, tuple[Slot, ...]], event: SlotRequested, at_ms: int) -> dict[str, tuple[Slot, ...]]:
    slot = Slot(limit=event.limit, task_id=event.task_id, attempt=event.attempt, asked_at_ms=at_ms)
    return {**slots, event.step: (*slots.get(event.step, ()), slot)}


def released(before: Workflow, event: SlotReleased) -> Workflow:
    slot = Slot(limit=event.limit, task_id=event.task_id, attempt=event.attempt, asked_at_ms=event.asked_at_ms)
    left = tuple(one for one in before.slots.get(event.step, ()) if one != slot)
    others = {place: kept for place, kept in before.slots.items() if place != event.step}
    return replace(before, slots={**others, event.step: left} if left else others)


def evolve_limiter(before: Workflow | None, event: LimiterEvent, workflow_id: str, at_ms: int) -> Workflow:
    """The limiter after `event`. Raises `ValueError` for a slot that was never asked for."""
    limiter = _limiter(before.limiter if before else None, event, workflow_id)
    # never within the window: a limiter that forgets its grants would exceed the rate (ADR 7)
    idle_ms = max(_REMEMBERED_MS, limiter.limit.per_ms)
    forget_at_ms = at_ms + idle_ms if limiter.is_idle else None
    if before is not None:
        return replace(before, limiter=limiter, updated_at_ms=at_ms, forget_at_ms=forget_at_ms)
    return Workflow(
        workflow_id=workflow_id,
        run_id="",
        route=LIMITER,
        digest="",
        key=limiter_name(workflow_id),
        status="standing",
        started_at_ms=at_ms,
        updated_at_ms=at_ms,
        forget_at_ms=forget_at_ms,
        cloud_event={},
        trace_id="",
        steps={},
        limiter=limiter,
    )


def _limiter(known: Limiter | None, event: LimiterEvent, workflow_id: str) -> Limiter:
    if isinstance(event, SlotQueued):
        claim = Claim(
            task_id=event.task_id, attempt=event.attempt, asked_at_ms=event.asked_at_ms, priority=event.priority
        )
        return queued(known, claim, Limit(concurrency=event.concurrency, rate=event.rate, per_ms=event.per_ms))
    if known is None:
        raise ValueError(f"{type(event).__name__} for {workflow_id}, which nobody has asked for anything")
    name = ids.attempt_id(event.task_id, event.attempt)
    match event:
        case SlotGranted():
            return granted(known, name, event.granted_at_ms)
        case SlotFreed():
            return freed(known, name)
        case _:
            assert_never(event)
