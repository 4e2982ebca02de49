"""The time of one partition, by this machine's clock and what the broker says of its own.

Owns the correction from one to the other, and judges whether the broker's clock has jumped. It
appends nothing itself: what the log must hold of a jump waits in `event` for the owner's next
batch. `clock` watches this machine's clocks, and `mesh.core.clock` has the rules. The owner, its
take-over and its flights are the callers.
"""

from collections.abc import Callable

import structlog

from mesh.core.clock import BELIEVED_MS, LITTLE_AHEAD_MS, ClockHold, Sighting, Start, in_partition_time, jump_at_start
from mesh.core.events import ClockHeld, ClockReleased
from mesh.services.router.clock import Sight, blind

_log = structlog.get_logger()


class PartitionClock:
    """`offset_ms`: from this machine's clock to the partition's time.

    `bound_s`: what a clock may be off by before it has jumped. `has_own_clock`: the broker's clock
    is not this machine's. `hold`: the difference that the partition's state holds.

    `is_stamped_ahead`: the broker stamps records later than it is, since it never stamps one with
    an earlier time than the one before it. `jumps`: how many were seen. What left before the last
    of them left by another clock than the one that it is acknowledged by. `event`: to be logged.
    """

    __slots__ = ("_bound_ms", "_has_own_clock", "_hold", "_partition", "_seen", "event", "is_stamped_ahead", "jumps", "offset_ms")  # fmt: skip

    def __init__(
        self, partition: int, *, bound_s: float, has_own_clock: bool, hold: Callable[[], ClockHold | None]
    ) -> None:
        self.offset_ms = 0
        self.is_stamped_ahead = False
        self.jumps = 0
        self.event: ClockHeld | ClockReleased | None = None
        self._partition = partition
        self._bound_ms = bound_s * 1_000
        self._has_own_clock = has_own_clock
        self._hold = hold
        self._seen: Sighting | None = None  # this machine, when the offset was last set by it

    # Times ----------------------------------------------------------------------------------------

    @property
    def ahead_ms(self) -> int:
        """How far the broker's clock is ahead of the partition's time."""
        hold = self._hold()
        return 0 if hold is None else hold.ahead_ms

    @property
    def has_stale_stamps(self) -> bool:
        """Whether the broker stamps records with a time that does not move.

        Its clock was put back. Then only the order of records tells when they came.
        """
        return self.ahead_ms < 0 or (self.is_stamped_ahead and self._hold() is None)

    @property
    def differs(self) -> bool:
        """Whether a record's stamp may be another time than the partition's."""
        return self._hold() is not None or self.is_stamped_ahead

    def came_at(self, at_ms: int, now_ms: int) -> int:
        """When the broker took a record, in the partition's time; not later than now."""
        return min(at_ms, now_ms) if self.has_stale_stamps else in_partition_time(at_ms, self._hold(), now_ms)

    def heard_at(self, at_ms: int, now_ms: int) -> int:
        """When a sign of life came, in the partition's time; now, where its stamp can't be."""
        heard_ms = in_partition_time(at_ms, self._hold(), now_ms)
        # a stamp that is far ahead would let an attempt run on until then
        return now_ms if self.has_stale_stamps or heard_ms > now_ms + LITTLE_AHEAD_MS else heard_ms

    # At the take-over -----------------------------------------------------------------------------

    def correct(self, broker_ms: int, wall_ms: int) -> None:
        """Go by the broker, which took our claim at `broker_ms`; that was `wall_ms` here."""
        # both are cut to whole milliseconds: one less, and ours is never ahead of the broker's
        self.offset_ms = broker_ms - wall_ms - 1
        if not self._has_own_clock and self.offset_ms > self._bound_ms:
            # that clock is ours, and was put back: the broker stamps with the last time before
            self.offset_ms, self.is_stamped_ahead = -1, True
        elif not self._has_own_clock and self.offset_ms < -self._bound_ms:
            # put forward since the stamp, or the acknowledgement took that long: it is one clock
            self.offset_ms = -1

    def check_since_claim(self, at_claim: Sighting | None, seen: Sighting | None) -> None:
        """Go on by the broker, if this machine's clock has jumped since our claim.

        A take-over may last, and nobody watches the clock for its owner.
        """
        jump_ms = None if seen is None else seen.jump_since(at_claim)
        # the same clock stamps here and there, so what it is off by stays
        if jump_ms is not None and self._has_own_clock and abs(jump_ms) > self._bound_ms:
            self.offset_ms -= jump_ms

    def check_since_last_owner(
        self,
        wall_ms: int,
        last_ms: int,
        before: Sighting | None,
        seen: Sighting | None,
        *,
        claimed: Sighting | None = None,
    ) -> None:
        """Go by the partition's own time, if the broker's clock has jumped since the last owner.

        `last_ms`: of the log's last decision. `before`: of the last owner's machine; `seen`: of
        ours. `claimed`: of ours too, as our claim has it.
        """
        self._seen = seen
        # a jump that an owner before us held is held on
        self.offset_ms -= self.ahead_ms
        start = Start(
            broker_ms=wall_ms + self.offset_ms,
            last_ms=last_ms,
            wall_ms=wall_ms,
            before=before,
            now=seen,
            has_own_clock=self._has_own_clock,
        )
        jump_ms = jump_at_start(start, int(min(self._bound_ms, BELIEVED_MS)))
        # Nobody before us tells of this machine, but our claim does, and the next owner will hold
        # its clock against that.
        if seen is not None and not self._has_own_clock and seen.jump_since(before) is None:
            since_ms = seen.jump_since(claimed) or 0
            jump_ms = since_ms if abs(since_ms) > self._bound_ms else jump_ms
        if jump_ms:
            self.offset_ms -= jump_ms
            self._jumped(jump_ms, seen, "the clock jumped since the last owner")

    # While it is owned ----------------------------------------------------------------------------

    def hear(self, broker_ms: int, sent_ms: int, now_ms: int, sight: Sight = blind) -> None:
        """Check whether the broker's clock has jumped.

        It has stamped a record at `broker_ms`, which left here at `sent_ms`, and it is `now_ms`
        here. If this machine can't tell that its own clock has not jumped, the broker's is
        believed.
        """
        offset, bound_ms = broker_ms - now_ms - 1 - self.ahead_ms, self._bound_ms
        if not self._has_own_clock:  # it is watched here
            self.is_stamped_ahead = broker_ms - now_ms > bound_ms
            return
        jump_ms, early_ms = offset - self.offset_ms, sent_ms + self.offset_ms - broker_ms + self.ahead_ms
        # an acknowledgement that was long on its way looks like a clock that was put back
        if jump_ms <= bound_ms and (jump_ms >= -bound_ms or early_ms <= bound_ms):
            return
        seen = sight()
        if seen is None:
            _log.warning("clock_jumped", partition=self._partition, by_s=jump_ms / 1000)
            self.offset_ms = offset
        else:
            self._jumped(jump_ms, seen, "the broker's clock jumped")

    def own_jumped(self, by_ms: int, seen: Sighting | None) -> None:
        """Note that this machine's clock has jumped.

        The partition's time does not follow it, and the broker's clock may be the same.
        """
        # A take-over that has just ended may have found this jump by itself.
        since_ms = None if seen is None else seen.jump_since(self._seen)
        by_ms = by_ms if since_ms is None else since_ms
        self._seen = seen
        if abs(by_ms) <= self._bound_ms:
            return
        self.offset_ms -= by_ms
        self.jumps += 1
        # The broker stamps by this very clock, so its stamps have jumped as well.
        if not self._has_own_clock:
            self._jumped(by_ms, seen, "this machine's clock jumped")

    def released(self, hold: ClockHold) -> None:
        """An operator has it that the broker's clock is right: from here on it counts."""
        self.offset_ms += hold.ahead_ms

    def _jumped(self, jump_ms: int, seen: Sighting | None, why: str) -> None:
        """Note that the broker's clock has moved by `jump_ms` more than time has passed.

        If the clock is right again by that, nothing is held any longer.
        """
        self.jumps += 1
        ahead_ms = self.ahead_ms + jump_ms
        by_s, ahead_s = jump_ms / 1_000, ahead_ms / 1_000
        if abs(ahead_ms) <= self._bound_ms:
            _log.warning("clock_right_again", partition=self._partition, by_s=by_s)
            self.offset_ms += ahead_ms
            self.event = ClockReleased(reason=f"{why} by {by_s:+.1f} s, and is right again", seen=seen)
            return
        _log.warning(
            "clock_held",
            partition=self._partition,
            by_s=by_s,
            ahead_s=ahead_s,
            reason=why,
            next="deadlines go on by what really passes; set the clock right, or run `mesh clock release`",
        )
        self.event = ClockHeld(ahead_ms=ahead_ms, reason=f"{why} by {by_s:+.1f} s", seen=seen)
