"""The directory as of an input: the people of an answer, the calendars of what asks.

Owns what an owner waits for: an input that is newer than the last look at the people's topic stays
at the head of its queue until the router has looked.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

from msgspec.structs import replace

from mesh.core.inputs import AnswerGiven, AnswerGiven2, CommandGiven
from mesh.core.state import Directory
from mesh.errors import UnknownFormat
from mesh.ports import Record
from mesh.services.router.input_queues import InputQueues
from mesh.services.router.people import PeopleFollower, PeopleUnread


class AsOf:
    """`wants_ms`: an input waits for a look; it is the newest broker timestamp seen so far.

    `people` None: the directory is all there is.
    """

    def __init__(self, people: PeopleFollower | None, directory: Callable[[], Directory], inputs: InputQueues) -> None:
        self.wants_ms: int | None = None
        self._people = people
        self._directory = directory
        self._inputs = inputs
        self._looked_below: Mapping[str, int] = {}  # by topic: read before the last look began

    def note_look(self, below: Mapping[str, int]) -> None:
        """The router has looked. `below`: the offsets that had been read before the look began."""
        self._looked_below, self.wants_ms = below, None

    def with_people(self, given: AnswerGiven | AnswerGiven2 | CommandGiven, record: Record) -> Directory:
        """The directory with the people as of the broker time of an answer or an order.

        Of an answer that they bear on, with the delegations too. Raises `PeopleUnread` if the
        router must look at their topic first.
        """
        if self._people is None:
            return self._directory()
        at_ms = given.source_at_ms
        if self._is_known(self._people, at_ms, record):
            with suppress(UnknownFormat):  # the look says so, and the answer waits
                found = self._people.directory_at(self._directory(), at_ms)
                return self._people.with_delegations(found, given) if isinstance(given, AnswerGiven2) else found
        raise self._unread(at_ms, record)

    def with_calendars(self, directory: Directory, at_ms: int, record: Record) -> Directory:
        """Give the directory the calendars as of the broker time of an input.

        Raises `PeopleUnread`, as above.
        """
        if self._people is None:
            return replace(directory, calendars={})
        if self._is_known(self._people, at_ms, record):
            return replace(directory, calendars=self._people.calendars_at(at_ms))
        raise self._unread(at_ms, record)

    def _is_known(self, people: PeopleFollower, at_ms: int, record: Record) -> bool:
        return people.knows(at_ms, was_read=record.offset < self._looked_below.get(record.topic, 0))

    def _unread(self, at_ms: int, record: Record) -> PeopleUnread:
        """Ask for a look."""
        # the newest stamp that was read covers all inputs of the batch, so one look is enough
        newest_ms = self._inputs.of(record.topic)[-1].timestamp_ms
        self.wants_ms = max(self.wants_ms or 0, at_ms, newest_ms)
        return PeopleUnread()
