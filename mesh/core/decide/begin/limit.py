"""Limits, from the side of the workflow: what an attempt is under, and the slots that go back.

A slot is given back exactly once, as soon as its attempt is neither queued nor running, for
whatever reason. One pass for each decision sees to it, so no other rule need think of slots.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from mesh.core import ids
from mesh.core.decide.draft import Draft
from mesh.core.events import RoundStarted, SlotReleased, SlotRequested
from mesh.core.limits import AGENT, Limit, Slot, limiter_id
from mesh.core.matching import made_key
from mesh.core.route import AgentWork, ExpressionError, StepLimit
from mesh.core.state import Workflow


class LimitAt(NamedTuple):
    """A limiter, and the numbers to send it."""

    limiter: str
    limit: Limit


class Attempt(msgspec.Struct, frozen=True):
    """An attempt whose agent is known, on its way there.

    `place`, `task`: of the step. `turn`: the round of its loop. `reserve`: what is set aside of the
    budget. `budget_from`: the attempt from which the retries are counted.
    """

    place: str
    task: str
    attempt: int
    agent: str
    value: Any
    reason: str
    budget_from: int
    turn: int
    hop: int
    reserve: dict[str, float]


def limits_of(draft: Draft, work: AgentWork, agent: str, *, beyond: str = "") -> list[LimitAt]:
    """The limits that a task for this agent is under, in the order in which all tasks ask for them.

    Only those after `beyond`. Raises `ExpressionError`.
    """
    found: list[LimitAt] = []
    card = draft.directory.agents.get(agent)
    if card is not None and card.max_outstanding is not None:
        found.append(LimitAt(limiter_id(AGENT, agent), Limit(concurrency=card.max_outstanding)))
    if work.limit is not None:
        found.append(LimitAt(_limiter(draft, work.limit), work.limit.limit))
    # all ask in the same order, or two tasks could each hold the slot that the other waits for
    return sorted(one for one in found if one.limiter > beyond)


def _limiter(draft: Draft, limit: StepLimit) -> str:
    if limit.key is None:
        return limiter_id(limit.name)
    # of the start event alone, which stays as it is: each attempt of the run asks the same limiter
    key = made_key(limit.key, {"event": draft.live.cloud_event})
    if not key.strip() or len(key) > ids.MAX_KEY_LENGTH:
        raise ExpressionError(
            f"the key of limit {limit.name} has {len(key)} characters: 1 to {ids.MAX_KEY_LENGTH} are taken"
        )
    return limiter_id(limit.name, key)


def request(draft: Draft, at: LimitAt, one: Attempt) -> None:
    """Ask for a slot. Raises `ExpressionError`."""
    draft.add(
        SlotRequested(
            step=one.place,
            limit=at.limiter,
            task_id=one.task,
            attempt=one.attempt,
            agent=one.agent,
            input=one.value,
            reason=one.reason,
            concurrency=at.limit.concurrency,
            rate=at.limit.rate,
            per_ms=at.limit.per_ms,
            priority=_priority(draft),
            retry_budget_from=one.budget_from,
            round=one.turn,
            hop=one.hop,
            reserved=_reserved(draft, one.place, one.reserve),
        )
    )


def _priority(draft: Draft) -> float:
    template = draft.route.priority
    if template is None:
        return 0.0
    value = template.render({"event": draft.live.cloud_event})
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ExpressionError(f"priority must be a number, and {template.source} is not")
    return float(value)


def _reserved(draft: Draft, place: str, reserve: dict[str, float]) -> dict[str, float] | None:
    """What the budget must still have when the task goes out, its hop included."""
    account = draft.live.account
    # compensation is never held for budget, so it reserves nothing either (ADR 11)
    if account is None or ids.is_undo(place):
        return None
    return {**reserve, "hops": 1.0} if "hops" in account.limits else reserve or None


def look_after_slots(draft: Draft) -> None:
    """Give back the slots that this decision made needless.

    Called once for each decision on a workflow that has asked for any.
    """
    for place in _touched(draft):
        for slot in draft.live.slots.get(place, ()):
            if not _is_wanted(draft.live, place, slot):
                _release(draft, place, slot)


def release_all(draft: Draft) -> None:
    """Give back every slot, because the workflow ends."""
    for place, slots in draft.live.slots.items():
        for slot in slots:
            _release(draft, place, slot)


def _touched(draft: Draft) -> Iterable[str]:
    """The places where slots may have become needless.

    The places of this decision's events, or all places if an event is about more than an item.
    """
    places: set[str] = set()
    for event in draft.events:
        place = getattr(event, "step", "")
        # it may have settled other places too: a for-each's items, or the steps of a loop
        if isinstance(event, RoundStarted) or (place and not ids.is_item(place)):
            return list(draft.live.slots)
        places.add(place)
    # a set has another order in each process, and a decision made again must be the same
    return sorted(places)


def _is_wanted(workflow: Workflow, place: str, slot: Slot) -> bool:
    step = workflow.steps.get(place)
    return (
        step is not None
        and step.status in {"queued", "running"}
        # each attempt has a slot of its own: a retry that is under way must not keep the old one
        # (ADR 7)
        and (step.task_id, step.attempt) == (slot.task_id, slot.attempt)
    )


def _release(draft: Draft, place: str, slot: Slot) -> None:
    draft.add(
        SlotReleased(
            step=place, limit=slot.limit, task_id=slot.task_id, attempt=slot.attempt, asked_at_ms=slot.asked_at_ms
        )
    )
