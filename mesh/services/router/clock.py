"""The clocks of this machine, watched: whether the wall clock has jumped while a router lives.

Owns the looking alone; what follows of a jump is each owner's to log. Called once a turn of the
router; what it costs is a subtraction, unless the clock has moved by more than a turn ever takes.
"""

from collections.abc import Callable
from typing import Final

from mesh.core.clock import Sighting
from mesh.ports import Clock

Sight = Callable[[], Sighting | None]
"""Reads this machine's clocks; None: they tell nothing but the wall clock."""


def blind() -> None:
    """A `Sight` for a machine that has no clock but one, as in a simulation."""
    return


class ClockWatch:
    __slots__ = ("_before", "_bound_ms", "_clock", "_last_ms", "sight")

    def __init__(self, clock: Clock, sight: Sight, bound_s: float) -> None:
        self.sight: Final = sight
        self._clock = clock
        self._bound_ms = bound_s * 1_000
        self._before = sight()
        self._last_ms = clock.now_ms()

    def jump_ms(self) -> int:
        """How far the wall clock has jumped since this was last asked.

        0: not beyond the bound.
        """
        now_ms = self._clock.now_ms()
        moved_ms, self._last_ms = now_ms - self._last_ms, now_ms
        if abs(moved_ms) <= self._bound_ms:
            return 0
        now = self.sight()
        jump_ms = None if now is None else now.jump_since(self._before)
        self._before = now
        return jump_ms if jump_ms is not None and abs(jump_ms) > self._bound_ms else 0
