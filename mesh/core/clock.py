"""Time that can be believed: whether the broker's clock has jumped, and by how much.

A clock that jumps must not make deadlines come due. So a partition has a time of its own, which is
the broker's as long as that goes on as it should. After a jump the partition's time goes on by what
has really passed, and the difference is held (`ClockHold`) until the clock is right again or an
operator says that it is right now. Pure: routers bring what they have seen of their machine.

What tells a jump from a long downtime (docs/architecture.md argues for it):

    the machine has not been started     its uptime says how long that was
    since the last owner
    another machine, or a start          nothing does: a gap of up to a week is believed
    between, on SQLite
    Kafka                                the router's own clock: it must say as much
"""

from typing import Final

import msgspec

AT_START_MS: Final = 600_000
"""What two machines' clocks may differ by before one of them is held to be wrong: ten minutes."""

BELIEVED_MS: Final = 7 * 86_400_000
"""The longest downtime that is believed where nothing but the clock itself tells of it."""

LITTLE_AHEAD_MS: Final = 1_000
"""How far a broker's stamp may be ahead of its owner's clock without a jump of either."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A machine's clocks, read at once.

    `boot`: the id of the machine's start. `uptime_ms`: since then, asleep or awake, whatever its
    wall clock did. `at_ms`: the wall clock.
    """

    boot: str
    uptime_ms: int
    at_ms: int

    def jump_since(self, before: "Sighting | None") -> int | None:
        """How much more the wall clock has moved than time has passed; None: it can't be told."""
        # two machines that tell no boot id must not pass for one
        if before is None or before.boot != self.boot or not self.boot:
            return None
        return (self.at_ms - before.at_ms) - (self.uptime_ms - before.uptime_ms)


class ClockHold(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The broker's clock differs from a partition's time.

    It is ahead by `ahead_ms` (behind, if negative), since `since_ms` of that time.
    """

    ahead_ms: int
    since_ms: int


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a new owner knows of time.

    `broker_ms`: the broker's clock at its take-over, less what is held already; `last_ms`: of the
    log's last decision, 0 without one. `before`: of the last owner's machine; `now`: of ours.
    `has_own_clock`: the broker's clock is not this machine's.
    """

    broker_ms: int
    last_ms: int
    wall_ms: int
    before: Sighting | None
    now: Sighting | None
    has_own_clock: bool


def jump_at_start(start: Start, bound_ms: int) -> int:
    """How far the broker's clock has jumped since the last owner; 0: it can be believed."""
    # an empty log has no time to hold the clock against
    gap_ms = start.broker_ms - start.last_ms if start.last_ms else 0
    if start.has_own_clock:
        return _jump_beside(start, gap_ms)
    jump_ms = None if start.now is None else start.now.jump_since(start.before)
    if jump_ms is not None:
        return jump_ms if abs(jump_ms) > bound_ms else 0
    # a long gap may be a downtime; a clock behind the log can't be one
    return gap_ms if gap_ms > BELIEVED_MS or gap_ms < -bound_ms else 0


def _jump_beside(start: Start, gap_ms: int) -> int:
    """Two clocks must agree that so much time has passed."""
    # time can't have run back, whatever the second clock says
    if gap_ms < -AT_START_MS:
        return gap_ms
    disagree_ms = start.broker_ms - start.wall_ms
    # not more than the gap, or the partition's time would run back behind the log
    return min(disagree_ms, gap_ms) if gap_ms > AT_START_MS and disagree_ms > AT_START_MS else 0


def in_partition_time(at_ms: int, hold: ClockHold | None, now_ms: int) -> int:
    """When the broker took a record, in its partition's time; `now_ms` is of that time too.

    Before the jump both were the same: of the two readings it is the later one that is not yet to
    come.
    """
    if hold is None:
        return at_ms
    readings = [one for one in (at_ms, at_ms - hold.ahead_ms) if one <= now_ms + LITTLE_AHEAD_MS]
    # a record that is here came by now, whatever its stamp says
    return max(readings, default=now_ms)
