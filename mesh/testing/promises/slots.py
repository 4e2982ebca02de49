"""Judges limits, for `mesh.testing.promises.judge`: who has a slot of which limiter.

Owns a count of its own, made from those that grant slots and those that give them back. It must not
use a limiter's own count.

* a limiter never grants more than it may have out, and never more in any window than its rate
* a task that was held for a limit goes out with its grant, and only then
* a step that is neither queued nor running keeps no slot
"""

from collections.abc import Iterator

from mesh.core import ids
from mesh.core.events import Decision, SlotGranted, SlotQueued, SlotReleased, SlotRequested, TaskDispatched
from mesh.core.limits import AGENT, Limit, limiter_id
from mesh.core.state import AgentCard, Workflow


class SlotLedger:
    """Give it every effective event, in the order in which decisions land. It returns findings."""

    def __init__(self) -> None:
        self._limits: dict[str, Limit] = {}  # as the newest acquire said
        # limiter -> attempts with a slot, granted and not released
        self._out: dict[str, set[str]] = {}
        self._granted_at_ms: dict[str, list[int]] = {}
        # attempt -> limiters asked and not released, and when
        self._asked: dict[str, dict[str, int]] = {}

    def take(self, decision: Decision, event: object) -> Iterator[str]:
        match event:
            case SlotQueued():
                limit = Limit(concurrency=event.concurrency, rate=event.rate, per_ms=event.per_ms)
                self._limits[decision.workflow_id] = limit
            case SlotGranted():
                yield from self._grant(decision.workflow_id, event)
            case SlotRequested():
                asked = self._asked.setdefault(ids.attempt_id(event.task_id, event.attempt), {})
                asked[event.limit] = decision.at_ms
            case SlotReleased():
                self._release(event)
            case TaskDispatched():
                attempt = ids.attempt_id(event.task_id, event.attempt)
                for limiter in self._asked.get(attempt, ()):
                    if attempt not in self._out.get(limiter, ()):
                        yield f"{attempt} goes out, and {limiter} has not granted it a slot"
            case _:
                pass

    def _grant(self, limiter: str, event: SlotGranted) -> Iterator[str]:
        attempt, limit = ids.attempt_id(event.task_id, event.attempt), self._limits[limiter]
        # Otherwise it is of an earlier request, or being released: it no longer goes out.
        if self._asked.get(attempt, {}).get(limiter) == event.asked_at_ms:
            self._out.setdefault(limiter, set()).add(attempt)
        out = len(self._out.get(limiter, ()))
        if limit.concurrency is not None and out > limit.concurrency:
            yield f"{limiter} has {out} out, and may have {limit.concurrency}"
        times = self._granted_at_ms.setdefault(limiter, [])
        times.append(event.granted_at_ms)
        recent = sum(at_ms > event.granted_at_ms - limit.per_ms for at_ms in times)
        if limit.rate is not None and recent > limit.rate:
            yield f"{limiter} has granted {recent} in {limit.per_ms} ms, and may grant {limit.rate}"

    def _release(self, event: SlotReleased) -> None:
        attempt = ids.attempt_id(event.task_id, event.attempt)
        self._out.get(event.limit, set()).discard(attempt)
        self._asked.get(attempt, {}).pop(event.limit, None)


def kept_needlessly(workflow: Workflow | None) -> Iterator[str]:
    """Findings on slots that nobody needs any more.

    The decision that made them needless should have given them back.
    """
    for place, slots in workflow.slots.items() if workflow is not None else ():
        step = workflow.steps.get(place) if workflow is not None else None
        for slot in slots:
            is_current = step is not None and (step.task_id, step.attempt) == (slot.task_id, slot.attempt)
            if step is None or not is_current or step.status not in {"queued", "running"}:
                yield f"{place} keeps a slot of {slot.limit}, and is {step.status if step else 'not there'}"


def cards_of(decision: Decision) -> dict[str, AgentCard]:
    """What the directory said of agents' own limits, as far as the decision used it."""
    prefix = limiter_id(AGENT, "")
    return {
        event.agent: AgentCard(name=event.agent, version="", topic="", max_outstanding=event.concurrency)
        for event in decision.events
        if isinstance(event, SlotRequested) and event.limit.startswith(prefix)
    }
