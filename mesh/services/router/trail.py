"""The trail that ingress leaves beside its position, so that an input which kills it is found.

Owns what the trail says, and what follows of it; no I/O. It travels in the metadata of the group's
own commits, which every broker keeps, and which survives a `kill -9`. `ingress` calls it.

    assigned --first records--> begun --all copied--> (no trail)
                                  |
                                  | died: the next router is careful up to `until`
                                  v
                             one at a time, each announced (`at`) before it is read
                                  |
                                  | died on the same one twice: it is set aside unread
                                  v
                             a dead letter, and on behind it

A death has many reasons, and most inputs that were under way are innocent: so the first makes the
next router slow alone, and an input is set aside only after routers died on it, and on nothing
else, `PATIENCE` times. While one is announced and read, its process decides nothing (`router`).
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from mesh.ports import Committed, Record, TopicPartition

PATIENCE: Final = 2


class Trail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ingress leaves beside its position.

    `until`: the end of what was begun, an offset. `at`: what was announced; `alone`: by how many
    routers.
    """

    until: int = 0
    at: int = -1
    alone: int = 0


_NONE: Final = Trail()
_encode: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(Trail)


def read_trail(metadata: str) -> Trail:
    """The trail in a commit; an empty one where there is none, or none that this version knows."""
    try:
        return _decoder.decode(metadata) if metadata else _NONE
    except msgspec.DecodeError:
        return _NONE


class Trails:
    """The trails of the partitions that a router has.

    `is_calm`: nobody died on any of them, so no record needs a look.
    """

    def __init__(self) -> None:
        self.is_calm = True
        self._found: dict[TopicPartition, Trail] = {}  # as the router before left it
        self._written: dict[TopicPartition, Trail] = {}

    def assign(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        for place, committed in partitions.items():
            self._found[place] = read_trail(committed.metadata) if committed is not None else _NONE
            self._written.pop(place, None)
        self._look()

    def _look(self) -> None:
        self.is_calm = all(found.until == 0 for found in self._found.values())

    def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        for place in partitions:
            self._found.pop(place, None)
            self._written.pop(place, None)

    def begin(self, records: Iterable[Record]) -> dict[TopicPartition, Committed]:
        """What to commit before these records are touched: for each partition, once."""
        firsts: dict[TopicPartition, int] = {}
        ends: dict[TopicPartition, int] = {}
        for record in records:
            place = TopicPartition(record.topic, record.partition)
            # Only what comes first after an assignment, since a commit for each batch
            # would cost too much. A router that dies later leaves the rest to one
            # that begins at the last commit.
            if place not in self._written:
                firsts.setdefault(place, record.offset)
                ends[place] = record.offset + 1
        for place, end in ends.items():
            found = self._found.get(place, _NONE)
            # what the router before had begun may reach further than our first records
            self._written[place] = msgspec.structs.replace(found, until=max(found.until, end))
        return {place: Committed(first, self._text(place)) for place, first in firsts.items()}

    def is_careful(self, record: Record) -> bool:
        """Whether somebody died with this record, or one before it, under way."""
        place = TopicPartition(record.topic, record.partition)
        found = self._found.get(place, _NONE)
        return found.until > 0 and record.offset < self._written.get(place, found).until

    def is_poison(self, record: Record) -> bool:
        found = self._found.get(TopicPartition(record.topic, record.partition), _NONE)
        return found.at == record.offset and found.alone >= PATIENCE

    def announce(self, record: Record) -> dict[TopicPartition, Committed]:
        """What to commit before this record alone is touched; all before it is done."""
        place = TopicPartition(record.topic, record.partition)
        found, written = self._found.get(place, _NONE), self._written.get(place, _NONE)
        # a death on another record clears this one, so the count starts again
        alone = found.alone + 1 if found.at == record.offset else 1
        self._written[place] = msgspec.structs.replace(written, at=record.offset, alone=alone)
        return {place: Committed(record.offset, self._text(place))}

    def survived(self, record: Record) -> dict[TopicPartition, Committed]:
        """What to commit once a record that was announced has been read: nobody died on it."""
        place = TopicPartition(record.topic, record.partition)
        if place not in self._written:  # it has gone elsewhere meanwhile
            return {}
        self._written[place] = msgspec.structs.replace(self._written[place], at=-1, alone=0)
        return {place: Committed(record.offset, self._text(place))}

    def commit(self, place: TopicPartition, offset: int) -> Committed:
        """The position with what is left of the trail: nothing once all that was begun is done."""
        written = self._written.get(place, _NONE)
        if offset < written.until:
            return Committed(offset, self._text(place))
        self._found[place] = _NONE
        self._written[place] = _NONE  # so that nothing is begun a second time
        self._look()
        return Committed(offset)

    def _text(self, place: TopicPartition) -> str:
        return _encode(self._written[place]).decode()
