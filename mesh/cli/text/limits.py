"""Limits for people: why a step is queued, and what a limiter's state is.

Owns these lines; it only renders. `mesh.cli.text.workflow` calls it.
"""

from collections.abc import Iterator, Mapping

from mesh.core.amounts import as_number
from mesh.core.limits import Limiter, limiter_name
from mesh.core.state import Workflow


def why_queued(workflow: Workflow, place: str, limiters: Mapping[str, Workflow]) -> str:
    """Why a step is queued: `waits for limit openai: 10 of 10 out, 3 before it`.

    If the limiter is not known here, only its name is given.
    """
    slots = workflow.slots.get(place, ())
    if not slots:
        return "waits for a limit"
    slot = slots[-1]
    why = f"waits for limit {limiter_name(slot.limit)}"
    known = limiters.get(slot.limit)
    if known is None or known.limiter is None:
        return why
    limiter = known.limiter
    claims = [(claim.task_id, claim.attempt) for claim in limiter.queue]
    asked = (slot.task_id, slot.attempt)
    before = f", {claims.index(asked)} before it" if asked in claims else ""
    return f"{why}: {_out(limiter)}{before}"


def state_lines(limiter: Limiter) -> Iterator[str]:
    """A limiter's state: its numbers, and the first steps of its queue."""
    rate = limiter.limit.rate
    yield _out(limiter) + (f", {rate} in {as_number(limiter.limit.per_ms / 1000)} s" if rate is not None else "")
    for claim in limiter.queue[:_SHOWN]:
        yield f"waits: {claim.name}" + (f" (priority {as_number(claim.priority)})" if claim.priority else "")
    if len(limiter.queue) > _SHOWN:
        yield f"... and {len(limiter.queue) - _SHOWN:,} more"


_SHOWN = 20


def _out(limiter: Limiter) -> str:
    most = limiter.limit.concurrency
    return f"{len(limiter.holders)} out" if most is None else f"{len(limiter.holders)} of {most} out"
