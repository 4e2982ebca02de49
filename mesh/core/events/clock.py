"""A partition's time, where the broker's clock can't be believed."""

from mesh.core.clock import Sighting
from mesh.core.events.event import LogEvent


class ClockHeld(LogEvent, tag="ClockHeld.1", frozen=True, kw_only=True):
    """The broker's clock has jumped.

    It is ahead of the partition's time by `ahead_ms` now, and the partition's deadlines go on by
    what really passes. `seen`: the owner's machine at that time.
    """

    ahead_ms: int
    reason: str
    seen: Sighting | None = None


class ClockReleased(LogEvent, tag="ClockReleased.1", frozen=True, kw_only=True):
    """The partition's time is the broker's again: an operator released it, or it is right again.

    `by` is empty for the latter.
    """

    by: str = ""
    reason: str = ""
    seen: Sighting | None = None
