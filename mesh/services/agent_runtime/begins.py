"""Which tasks of one partition may begin.

The rule lets the partition's next owner tell what a dead process may have had in its hands.

Owns `Begins`: the rule, the text of it beside the committed offset, and what that text says of an
earlier owner (`Tenure`). No I/O, no clock. `assignment` commits, `workers` asks. The model of the
rule is `tests/unit/test_begins_model.py`; the why is docs/adr/0012.

A process takes a partition over by a commit that says so (its *tenure* is open), and gives it back
by one that does not. Where the next owner finds a tenure open, that process died. What it may have
had in its hands is known by two things, which each commit carries:

    line     every task below this offset may have been begun, if it had no deaths
    named    tasks with deaths, each by its offset: these may have been begun, and no other

So a task without deaths begins only below the line, one with deaths only once it is named; both
count when the broker has acknowledged the commit. The line runs ahead of the begins by a reserve,
so that a commit for each ordinary turn is enough, and only a burst waits for one. The named are
exact, because a task that has killed a process must be counted for what it does itself, and a
neighbour must not be counted for what the other did.

The text comes after the done spans of `offsets`, after a comma where older readers stop:

    t1:1+2,1+1,;o<life>;l<line>;x<offset>.<offset>;k<life>/<offset>.<offset>

Numbers are in base 36, from the committed offset on. `k` (kept) names tasks that a former owner
goes on with, after it gave the partition back in good order. Nobody else begins them (`keepers`).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from mesh.services.agent_runtime.base36 import base36

MARK: Final = ",;"
MAX_NAMED: Final = 128  # at once, in one partition: some 600 characters
MAX_KEPT: Final = 128  # at once, in one partition
MAX_KEEPERS: Final = 8  # with names of 140 characters at most, all of it fits beside the done spans
_LIFE: Final = re.compile(r"[^A-Za-z0-9_.@-]")
_MAX_LIFE_CHARS: Final = 120
_DELTA: Final = re.compile(r"[0-9a-z]{1,13}")


class Life(NamedTuple):
    """One life of one process: two processes of one name, one after the other, have two."""

    instance: str
    began: str  # when, in any form without a slash

    @property
    def text(self) -> str:
        return f"{_LIFE.sub('_', self.instance)[:_MAX_LIFE_CHARS]}~{_LIFE.sub('_', self.began)[:20]}"


class Tenure(NamedTuple):
    """What a commit says of the partition's owner at that time.

    The life (its text), and what it may have begun.
    """

    life: str
    line: int
    named: frozenset[int]

    @property
    def instance(self) -> str:
        return self.life.rpartition("~")[0]


def tenure_of(offset: int, text: str) -> Tenure | None:
    """The tenure that was open at a commit of `offset`.

    None if none was open, or if the text is not ours.
    """
    _, mark, rest = text.partition(MARK)
    parts = {part[:1]: part[1:] for part in rest.split(";")} if mark else {}
    if "o" not in parts:
        return None
    numbers = [_number(delta) for delta in parts.get("x", "").split(".") if delta]
    named = frozenset(offset + number for number in numbers if number is not None)
    return Tenure(parts["o"], offset + (_number(parts.get("l", "")) or 0), named)


def kept_of(offset: int, text: str) -> dict[int, str]:
    """The tasks that a commit of `offset` says are kept, each with its keeper's life."""
    _, _, rest = text.partition(MARK)
    kept: dict[int, str] = {}
    for part in rest.split(";"):
        life, slash, deltas = part[1:].partition("/")
        if part[:1] == "k" and slash:
            numbers = [_number(delta) for delta in deltas.split(".")]
            kept |= {offset + number: life for number in numbers if number is not None}
    return kept


def kept_text(offset: int, kept: Mapping[int, str]) -> str:
    """What a commit of `offset` says of the tasks that are kept; it follows `MARK`."""
    by_life: dict[str, list[int]] = {}
    for one in sorted(kept):
        if one >= offset:
            by_life.setdefault(kept[one], []).append(one - offset)
    return ";".join(f"k{life}/{_join(deltas)}" for life, deltas in by_life.items())


def may_keep(kept: Mapping[int, str], offsets: Iterable[int], life: str) -> list[int]:
    """As many of these tasks of ours as a commit has room to name, beside what is kept already."""
    others = set(kept.values()) - {life}
    return list(offsets)[: MAX_KEPT - len(kept)] if len(others) < MAX_KEEPERS else []


def _number(text: str) -> int | None:
    return int(text, 36) if _DELTA.fullmatch(text) else None


class Proposal(NamedTuple):
    """What a commit will have said, once it is acknowledged."""

    line: int
    named: frozenset[int]


class Begins:
    """Says what may begin in one partition during one tenure. `first`: the tenure's first offset.

    `found`: the tenure that was open, be it another's, whose tasks nobody has yet, or our own,
    lost and back again. What it may have begun is said by our commits too, until it is dealt with.
    """

    __slots__ = ("_begun", "_life", "_wanted", "line", "named", "next_offset")

    def __init__(self, first: int, life: Life, found: Tenure | None = None) -> None:
        self.line = first if found is None else max(first, found.line)
        self.named: frozenset[int] = frozenset() if found is None else found.named
        self.next_offset = first  # above everything begun
        self._life = life.text
        self._wanted: dict[int, None] = {}  # with deaths, and not named yet
        self._begun = 0  # since the last proposal

    def begin(self, offset: int) -> None:
        """Note that a task is begun."""
        self._begun += 1
        if offset >= self.next_offset:
            self.next_offset = offset + 1

    def want(self, offset: int) -> None:
        """Name a task with deaths."""
        self._wanted[offset] = None

    def finish(self, offset: int) -> None:
        """Note that this task need not be named any more."""
        if offset in self.named:
            self.named -= {offset}
        self._wanted.pop(offset, None)

    def is_short(self, left: int) -> bool:
        """Whether the line is so near that a burst would meet it."""
        return self.line - self.next_offset <= left

    def propose(self, concurrency: int, waiting: int = 0) -> Proposal:
        """What the next commit should say.

        The number of tasks begun since the last proposal says how far ahead the line must be.

        `waiting`: the first offset that waits for the line; there may be none before it.
        """
        # Far enough ahead that only a burst waits for a commit, and not so far that a death makes
        # hundreds of suspects (docs/adr/0012).
        reserve = max(2 * concurrency, 4 * self._begun)
        self._begun = 0
        self.next_offset = max(self.next_offset, waiting)
        more = list(self._wanted)[: max(0, MAX_NAMED - len(self.named))]
        return Proposal(max(self.line, self.next_offset + reserve), self.named.union(more))

    def text(self, offset: int, proposal: Proposal) -> str:
        """The text of a commit at `offset`."""
        named = _join(sorted(one - offset for one in proposal.named if one >= offset))
        line = base36(max(0, proposal.line - offset))
        return f"{MARK}o{self._life};l{line}" + (f";x{named}" if named else "")

    def accept(self, proposal: Proposal) -> None:
        """Take what the proposal says: the broker has its commit."""
        self.line = max(self.line, proposal.line)
        # one that ended while the commit was on its way is not to be named any more
        self.named |= {offset for offset in proposal.named if offset in self._wanted}
        for offset in proposal.named:
            self._wanted.pop(offset, None)


def _join(numbers: Iterable[int]) -> str:
    return ".".join(map(base36, numbers))
