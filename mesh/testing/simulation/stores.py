"""A checkpoint store in memory that outlives its router, as a disk does.

Owns how a store may be harmed; `world` decides when. It may be lost, go back to an older state, or
be ahead of its log, as a disk's files may. `world` uses it.
"""

from collections.abc import Collection, Mapping

from msgspec.structs import replace

from mesh.ports import Checkpoint


class MemoryCheckpointStore:
    """One partition's checkpoint.

    Every state saved so far is kept, so that `turn_back` can give an older one.

    `is_foreign`: it was put there by `become` or `run_ahead`, and no router has written to it
    since.
    """

    def __init__(self) -> None:
        self.is_foreign = False
        self._kept: list[Checkpoint] = []
        self._put: dict[str, bytes | None] = {}

    def load(self) -> Checkpoint | None:
        self._put = {}
        return self.last()

    def last(self) -> Checkpoint | None:
        """What `load` gives, for those who only look on."""
        return self._kept[-1] if self._kept else None

    def put(self, changed: Mapping[str, bytes], removed: Collection[str]) -> None:
        self._put.update(dict.fromkeys(removed))
        self._put.update(changed)

    def save(self, *, offset: int, epoch_tokens: bytes, meta: bytes) -> None:
        self.is_foreign = False
        workflows = dict(self._kept[-1].workflows) if self._kept else {}
        for name, state in self._put.items():
            if state is None:
                workflows.pop(name, None)
            else:
                workflows[name] = state
        self._put = {}
        self._kept.append(Checkpoint(offset=offset, epoch_tokens=epoch_tokens, meta=meta, workflows=workflows))

    def delete(self) -> None:
        self.is_foreign = False
        self._kept.clear()
        self._put = {}

    def close(self) -> None:
        """Do nothing: what was saved stays."""

    def turn_back(self, saves: int) -> None:
        """Go back by `saves` saves, as if an old backup had been put in place."""
        del self._kept[max(0, len(self._kept) - saves) :]

    def run_ahead(self, offsets: int) -> None:
        """Say that the log has more, as if the log had been put back to an older state."""
        if self._kept:
            self._kept.append(replace(self._kept[-1], offset=self._kept[-1].offset + offsets))
            self.is_foreign = True

    def become(self, other: "MemoryCheckpointStore") -> None:
        """Take another store's content, as if another log's checkpoint were put here."""
        self._kept = list(other._kept)  # noqa: SLF001 - one of our own kind
        self.is_foreign = self.is_foreign or other is not self
