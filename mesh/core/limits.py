"""Limits: how many tasks may run at once, or in a period, no matter which router sends them.

Owns the values of both sides, and what a limiter's state lets it do.

A limiter is a built-in workflow (docs/adr/0007-limits-and-priority.md). Attempts ask it for a slot,
it grants slots in order, and it gets each slot back. Everything here is a function of logged times.
"""

from bisect import bisect_right
from typing import Final

import msgspec
from msgspec.structs import replace

from mesh.core import ids

LIMITER: Final = "mesh.limit"
"""What a limiter has in the place of a route. No route can be called so."""

AGENT: Final = "agent"
"""The name of the limits that agents set for themselves; their keys are the agents' names."""

_PARTS: Final = 100
"""How many recent grants are kept one by one.

If there are more, each kept entry counts for this part of the window.
"""


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """At most `concurrency` at once, and at most `rate` grants in any `per_ms`. None: no bound."""

    concurrency: int | None = None
    rate: int | None = None
    per_ms: int = 0


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt has asked a limiter for, until it is given back.

    `limit`: the limiter's id.
    """

    limit: str
    task_id: str
    attempt: int
    asked_at_ms: int


class Claim(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt in a limiter's queue."""

    task_id: str
    attempt: int
    asked_at_ms: int
    priority: float = 0.0

    @property
    def name(self) -> str:
        return ids.attempt_id(self.task_id, self.attempt)


class Grants(msgspec.Struct, frozen=True):
    """`count` grants, the first and the last at these times."""

    first_ms: int
    last_ms: int
    count: int


class Limiter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A limiter's state.

    `holders`: attempts that have a slot, and when they asked. `queue`: the next first. `recent`:
    grants that count for the rate, the oldest first.
    """

    limit: Limit
    holders: dict[str, int] = {}
    queue: tuple[Claim, ...] = ()
    recent: tuple[Grants, ...] = ()

    @property
    def is_idle(self) -> bool:
        return not self.holders and not self.queue


def limiter_id(name: str, key: str | None = None) -> str:
    """The workflow id of the limiter with this name, and this key if the limit has keys."""
    return ids.workflow_id(LIMITER, name if key is None else f"{name}/{key}")


def limiter_name(limiter: str) -> str:
    """Its name for people: `openai`, `openai/acme`, `agent/drafter`."""
    return limiter.removeprefix(f"{LIMITER}:")


def is_limiter(workflow: str) -> bool:
    return workflow.startswith(f"{LIMITER}:")


def clock_ms(limiter: Limiter, now_ms: int) -> int:
    """The time to count by. A clock that was set back does not set the limiter back."""
    return max(now_ms, limiter.recent[-1].last_ms) if limiter.recent else now_ms


def has_room(limiter: Limiter, now_ms: int) -> bool:
    """Whether one more may be granted now."""
    due = next_grant_at_ms(limiter)
    return due is not None and due <= clock_ms(limiter, now_ms)


def next_grant_at_ms(limiter: Limiter) -> int | None:
    """The earliest time at which the next in the queue may be granted; 0: at once.

    None: not before a slot is given back, or the queue is empty.
    """
    limit = limiter.limit
    if not limiter.queue or (limit.concurrency is not None and len(limiter.holders) >= limit.concurrency):
        return None
    if limit.rate is None:
        return 0
    due, counted = 0, sum(grants.count for grants in limiter.recent)
    for grants in limiter.recent:
        if counted < limit.rate:
            break
        counted -= grants.count
        # once these have left the window, there is room for as many more
        due = grants.last_ms + limit.per_ms
    return due


def queued(limiter: Limiter | None, claim: Claim, limit: Limit) -> Limiter:
    """The limiter with one more in the queue, behind those of its own priority.

    The numbers that it brought apply from now on.
    """
    known = limiter or Limiter(limit=limit)
    # to the right of its equals: first come, first served within a priority
    place = bisect_right(known.queue, -claim.priority, key=lambda other: -other.priority)
    return replace(known, limit=limit, queue=(*known.queue[:place], claim, *known.queue[place:]))


def granted(limiter: Limiter, name: str, at_ms: int) -> Limiter:
    """The limiter after this attempt got a slot."""
    place = _place(limiter, name)
    claim, limit = limiter.queue[place], limiter.limit
    recent = limiter.recent
    if limit.rate is not None:
        # what has left the window is dropped, so that the state stays small
        recent = _counted(tuple(one for one in recent if one.last_ms + limit.per_ms > at_ms), limit, at_ms)
    return replace(
        limiter,
        holders={**limiter.holders, name: claim.asked_at_ms},
        queue=(*limiter.queue[:place], *limiter.queue[place + 1 :]),
        recent=recent,
    )


def _place(limiter: Limiter, name: str) -> int:
    for place, claim in enumerate(limiter.queue):
        if claim.name == name:
            return place
    raise ValueError(f"{name} is not in the queue")


def _counted(recent: tuple[Grants, ...], limit: Limit, at_ms: int) -> tuple[Grants, ...]:
    """The recent grants with one more."""
    # exact up to a rate of 100; above, grants in a hundredth of the window count as one entry
    # (ADR 7)
    width = limit.per_ms // _PARTS if limit.rate is not None and limit.rate > _PARTS else 0
    if recent and at_ms - recent[-1].first_ms <= width:
        last = recent[-1]
        # merged grants count as of the last of them, so the rate is never exceeded
        return (*recent[:-1], Grants(last.first_ms, at_ms, last.count + 1))
    return (*recent, Grants(at_ms, at_ms, 1))


def freed(limiter: Limiter, name: str) -> Limiter:
    """The limiter without this attempt, whether it had a slot or was in the queue."""
    if name in limiter.holders:
        return replace(limiter, holders={one: at_ms for one, at_ms in limiter.holders.items() if one != name})
    place = _place(limiter, name)
    return replace(limiter, queue=(*limiter.queue[:place], *limiter.queue[place + 1 :]))
