"""Whether this process has been away.

It may have been stopped, asleep, or held up by a handler that blocks the loop. Owns `Pulse`. A
process that was away for long may have lost its partitions to another replica without knowing, and
must ask the broker before it begins anything. `runtime` beats, `workers` ask.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

PART: Final = 4  # of the session's time-out: an absence below it can't have cost the membership


boot_s: Final[Callable[[], float]] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Seconds since some moment, including the time that the machine slept."""


class Pulse:
    """Notices when this process was away for more than a quarter of `session_s`.

    It is in doubt from then on until `trust`.

    `absences`: how many there were, as of the last beat.
    """

    __slots__ = ("_beat_s", "_is_in_doubt", "_limit_s", "_ticks", "absences")

    def __init__(self, session_s: float, ticks: Callable[[], float] = boot_s) -> None:
        self._limit_s = session_s / PART
        self._ticks = ticks
        self._beat_s = ticks()
        self._is_in_doubt = False
        self.absences = 0

    def beat(self) -> None:
        """Note that the loop turns. Call it far more often than the limit."""
        now_s = self._ticks()
        if now_s - self._beat_s > self._limit_s:
            self._is_in_doubt = True
            self.absences += 1
        self._beat_s = now_s

    def is_in_doubt(self) -> bool:
        """Whether this process was away; true even before the first beat after an absence."""
        return self._is_in_doubt or self._ticks() - self._beat_s > self._limit_s

    def trust(self, absences: int) -> None:
        """Trust the process again: the broker has answered.

        `absences`: how many there were when the broker was asked. If there was another one
        meanwhile, nothing changes.
        """
        self.beat()
        # else the answer is older than the last absence, and may be wrong by now
        if self.absences == absences:
            self._is_in_doubt = False
