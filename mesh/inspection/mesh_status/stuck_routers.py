"""Whether the routers are alive and at work, judged by their cards, their commits and the log.

Owns the findings about routers. A router that is alive renews its card; a dead one's card expires,
or it withdrew the card when it stopped. Where no router has ever had a card (a mesh from before
there were any, or without the topic), only what is unread tells.

    no living router                      error: nothing moves. A warning where all of them stopped
                                          in good order, and nothing is open or unread
    a partition whose owner is dead       error, once a living router has had time to take it over
    inputs overdue, routers alive         warning: the routers are behind
    a time overdue, routers alive         warning: its partition is held up
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from mesh.codec.times import rfc3339
from mesh.inspection.mesh_status.look import PATIENCE_MS, Lag
from mesh.inspection.mesh_status.spans import numbers, span
from mesh.inspection.mesh_status.values import Backlog, Stuck
from mesh.inspection.read_model.queries import PartitionRow
from mesh.inspection.read_model.routers import RouterRow

TAKE_OVER_MS: Final = 30_000
"""How long a take-over may take: a session's time-out, and reading the end of the log."""


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What routers have to do: what is unread, and times that have come and were not acted on.

    `overdue_times`: how many, and the first of them.
    """

    backlogs: Sequence[Backlog]
    inbox: Lag
    results: Lag
    overdue_times: tuple[int, int]
    open_workflows: int
    has_routes: bool

    @property
    def unread(self) -> str:
        """What is overdue, in words; empty if nothing is."""
        overdue = [(one.topic, one.overdue) for one in self.backlogs if one.overdue]
        inputs = (("the inbox", self.inbox), ("results", self.results))
        overdue += [(name, lag.overdue) for name, lag in inputs if lag.overdue]
        return ", ".join(f"{count:,} unread in {name}" for name, count in overdue)


def stuck_routers(
    rows: Sequence[RouterRow], owned: Mapping[int, PartitionRow], inputs: Inputs, now_ms: int
) -> list[Stuck]:
    """What is wrong with the routers. `rows`: those that have or had a card."""
    if not rows:
        return _without_cards(owned, inputs, now_ms)
    alive = [row for row in rows if row.is_alive(now_ms)]
    if not alive:
        return [_none_alive(rows, inputs, now_ms)]
    return [*_left(rows, alive, owned, now_ms), *_behind(alive, owned, inputs), *_late(inputs, now_ms)]


def held_clocks(owned: Mapping[int, PartitionRow]) -> list[Stuck]:
    """The finding about clocks that jumped, one for all partitions: mostly they share one clock."""
    held = [(row.partition, row.hold) for row in owned.values() if row.hold is not None]
    if not held:
        return []
    ahead_s, since_ms = held[0][1].ahead_ms / 1_000, min(hold.since_ms for _, hold in held)
    partitions = ", ".join(str(partition) for partition, _ in held)
    return [
        Stuck(
            severity="warning",
            what=f"the clock has jumped by {ahead_s:+,.0f} s since {rfc3339(since_ms)}: deadlines of partitions {partitions} "
            "go on by the time that really passes",
            next_step="set the clock right, and they follow it by themselves; if it is right now: mesh clock release",
        )
    ]


def _none_alive(rows: Sequence[RouterRow], inputs: Inputs, now_ms: int) -> Stuck:
    last = max(rows, key=lambda row: row.heard_at_ms(now_ms))
    ago = span(now_ms - last.heard_at_ms(now_ms))
    end = f"stopped {ago} ago" if last.stopped else f"was heard of last {ago} ago, and did not stop in good order"
    unread = f"{inputs.unread}, and " if inputs.unread else ""
    # All stopped in good order, and nothing is open or unread: somebody meant it so.
    is_calm = all(row.stopped for row in rows if row.gone_at_ms(now_ms) >= last.heard_at_ms(now_ms))
    is_calm = is_calm and not inputs.open_workflows and not inputs.unread
    return Stuck(
        severity="warning" if is_calm and last.stopped else "error",
        what=f"{unread}no router is alive: {last.instance} {end}",
        next_step="mesh router",
    )


def _left(
    rows: Sequence[RouterRow], alive: Sequence[RouterRow], owned: Mapping[int, PartitionRow], now_ms: int
) -> list[Stuck]:
    """Partitions of a dead router that no living one has taken over, although it had the time."""
    known = {row.instance: row for row in rows}
    dead = {p: row for p, one in owned.items() if (row := known.get(one.owner)) and not row.is_alive(now_ms)}
    if not dead:
        return []
    gone_ms = min(row.gone_at_ms(now_ms) for row in dead.values())
    # The living ones may have started only after that death, and need as long from then.
    if now_ms - max(gone_ms, min(row.started_at_ms for row in alive)) < TAKE_OVER_MS:
        return []
    who = ", ".join(sorted({row.instance for row in dead.values()}))
    others = ", ".join(sorted(row.instance for row in alive)[:3])
    what = f"partitions {numbers(tuple(sorted(dead)))} have no router: {who} had them, and is gone for {span(now_ms - gone_ms)}"
    next_step = f"look at the log of {others}, which should have taken them over; if in doubt, restart it"
    return [Stuck(severity="error", what=what, next_step=next_step)]


def _behind(alive: Sequence[RouterRow], owned: Mapping[int, PartitionRow], inputs: Inputs) -> list[Stuck]:
    if not inputs.unread:
        return []
    if any(one.overdue for one in inputs.backlogs) and not inputs.has_routes:
        what = f"{inputs.unread}: no route was ever active, and until one is, routers leave events unread"
        return [Stuck(severity="warning", what=what, next_step="mesh routes apply FILE")]
    late = tuple(sorted({*inputs.inbox.late, *inputs.results.late}))
    who = sorted({owned[p].owner for p in late if p in owned} or {row.instance for row in alive})
    where = f"partitions {numbers(late)} of {', '.join(who[:3])} are behind" if late else "the routers are behind"
    more = (
        "; if it is the load, run more routers, up to one for each partition" if len(alive) < max(len(owned), 1) else ""
    )
    next_step = f"look at the log of {', '.join(who[:3])} for what holds it up{more}"
    return [Stuck(severity="warning", what=f"{inputs.unread}: {where}", next_step=next_step)]


def _late(inputs: Inputs, now_ms: int) -> list[Stuck]:
    """Times that have come, with a living router that has not acted on them.

    They wait for inputs that came before them, so they say nothing while inputs are behind.
    """
    count, first_ms = inputs.overdue_times
    if not count or inputs.unread or now_ms - first_ms < TAKE_OVER_MS:
        return []
    next_step = (
        "look at the routers' logs for `timers_wait`: they ask the broker first whether all earlier inputs are read"
    )
    return [Stuck(severity="warning", what=_came(count, first_ms, now_ms), next_step=next_step)]


def _without_cards(owned: Mapping[int, PartitionRow], inputs: Inputs, now_ms: int) -> list[Stuck]:
    last_ms = max((max(row.decided_at_ms, row.owner_since_ms) for row in owned.values()), default=0)
    what, quiet_ms = inputs.unread, now_ms - last_ms
    if not what:
        count, first_ms = inputs.overdue_times
        if not count:
            return []
        return [Stuck(severity="error", what=_came(count, first_ms, now_ms), next_step="mesh router")]
    if not last_ms:
        return [Stuck(severity="error", what=f"{what}, and no router has ever run here", next_step="mesh router")]
    if quiet_ms > PATIENCE_MS:
        why = f"{what}, and no router is alive: the last decision was {span(quiet_ms)} ago"
        return [Stuck(severity="error", what=why, next_step="mesh router")]
    why = f"{what}: the routers are behind"
    return [Stuck(severity="warning", what=why, next_step="run more routers, up to one for each partition")]


def _came(count: int, first_ms: int, now_ms: int) -> str:
    what = "the time of a step has come" if count == 1 else f"the time of {count:,} steps has come"
    return f"{what}{', the first' if count > 1 else ''} {span(now_ms - first_ms)} ago, and no router has acted on it"
