"""How many events a second each source may send. Knows time only as an argument."""

from typing import Final

_BURST_S: Final = 2.0


class Rate:
    """A bucket of tokens: `per_s` come in each second, and twice as many fit in."""

    def __init__(self, per_s: float, now_s: float) -> None:
        self._per_s = per_s
        self._most = max(1.0, per_s * _BURST_S)
        self._left = self._most
        self._at_s = now_s

    def take(self, count: int, now_s: float) -> float:
        """0 if `count` events may come now; else the seconds after which they may.

        More at once than fit in are taken when it is full, and paid off afterwards: else a large
        batch could never come.
        """
        self._left = min(self._most, self._left + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = max(self._at_s, now_s)
        wanted = min(float(count), self._most)
        if self._left < wanted:
            return (wanted - self._left) / self._per_s
        self._left -= count
        return 0.0
