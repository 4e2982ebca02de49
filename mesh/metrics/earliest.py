"""The earliest of many times that come and go: of open approvals, of incidents."""

from heapq import heapify, heappop, heappush
from typing import Final

_SLACK: Final = 1_000


class Earliest:
    """Times by name. `first` costs nothing much, however many there are."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], int] = {}
        self._heap: list[tuple[int, tuple[str, str]]] = []

    def put(self, name: tuple[str, str], at_ms: int) -> None:
        if self._at.get(name) == at_ms:
            return
        self._at[name] = at_ms
        heappush(self._heap, (at_ms, name))
        # entries are not taken back, so those that no longer hold pile up
        if len(self._heap) > 2 * len(self._at) + _SLACK:
            self._heap = [(at, known) for known, at in self._at.items()]
            heapify(self._heap)

    def drop(self, name: tuple[str, str]) -> None:
        self._at.pop(name, None)

    def first(self) -> int | None:
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None
