"""A router's people: who has which role at the broker's time of an answer.

Owns how far answers may be judged: only once every activation that applies to an answer is known
(`lookout`), so it does not matter which router judges it, or when. Until the topic has an
activation, what the directory has of the approvers' file rules. `mesh.services.people` reads the
topic. Owners ask, the router looks for them.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from msgspec.structs import replace

from mesh.codec.jws_bodies import mesh_of
from mesh.codec.signed_answers import Judge, checked
from mesh.core.calendars import Calendar
from mesh.core.inputs import AnswerGiven2, CheckedAnswer
from mesh.core.people import People
from mesh.core.state import Directory
from mesh.core.topics import Topics
from mesh.errors import MeshError, UnknownFormat
from mesh.ports import Broker, Clock
from mesh.services.people import PeopleReader
from mesh.services.router.lookout import Lookout

_log = structlog.get_logger()
_FOLLOW_EVERY_S: Final = 1.0  # how late a question may count who could answer by a new version


class PeopleUnread(Exception):
    """An answer, or what asks by a calendar, is newer than the last look at the people's topic."""


class PeopleFollower:
    """`knows` and `directory_at` only look up in memory. `known`: all that was read."""

    def __init__(self, broker: Broker, topics: Topics, clock: Clock) -> None:
        self.known = PeopleReader(broker, topics)
        self.mesh = ""  # its name in signed answers, known after `start`
        self._broker = broker
        self._prefix = topics.prefix
        self._topic = topics.people
        self._clock = clock
        self._lookout = Lookout(self.known.refresh)
        self._unreadable_at_ms: int | None = None
        self._last: tuple[People, dict[str, frozenset[str]]] | None = None

    async def start(self) -> None:
        """Read all that is there. May be called again after `BrokerUnavailable`."""
        await self.known.start()
        self.mesh = mesh_of(self._prefix, await self._broker.cluster_id())

    async def close(self) -> None:
        await self.known.close()

    def current(self) -> People | None:
        """The people in effect now, by this machine's clock; None: the approvers' file rules.

        For questions, which record what they used. The last that can be read, if it is not the
        newest.
        """
        placed = self.known.timeline.at(self._clock.now_ms())
        try:
            return self.known.people_of(placed)
        except MeshError:  # a look says so, and answers wait
            return self._last[0] if self._last is not None else None

    async def follow(self, tell: Callable[[People], None]) -> None:
        """Look for activations at intervals, and report the people in effect.

        Runs until it is cancelled.
        """
        while True:
            people = self.current()
            if people is not None:
                tell(people)
            await asyncio.sleep(_FOLLOW_EVERY_S)
            try:
                await self.known.refresh()
            except MeshError as error:
                _log.warning("people_unread", error=str(error))

    async def look(self, seen_ms: int) -> None:
        """Look at the end of the topic. `seen_ms`: the newest broker timestamp seen so far.

        Raises `BrokerUnavailable`, and `UnknownFormat` if an answer waits because the version that
        judges it can't be read.
        """
        await self._lookout.look(seen_ms)
        at_ms, self._unreadable_at_ms = self._unreadable_at_ms, None
        if at_ms is not None:
            self.known.people_at(at_ms)

    def knows(self, at_ms: int, *, was_read: bool) -> bool:
        """Whether an answer of this broker time may be judged.

        `was_read`: the answer had been read before the last look began.
        """
        # no look is of use that is older than the answer, by our clock (ADR 8)
        return self._lookout.knows(at_ms) and (was_read or self._lookout.is_fresh())

    def calendars_at(self, at_ms: int) -> dict[str, Calendar]:
        """The calendars in effect at a broker time that is known, by name."""
        return self.known.calendars.at(at_ms)

    def with_delegations(self, directory: Directory, answer: AnswerGiven2) -> Directory:
        """The directory with the delegations that bear on an answer, if any do.

        The people of the answer's time are known.
        """
        known = self.known.delegations
        if answer.is_personal:
            return replace(directory, delegations=known.as_of(answer.source_at_ms))
        in_force = known.in_force(answer.source_at_ms) if answer.on_behalf else ()
        return replace(directory, delegations=in_force) if in_force else directory

    def directory_at(self, directory: Directory, at_ms: int) -> Directory:
        """The directory with the people as of a broker time that is known.

        Raises `UnknownFormat` if the version in effect can't be read.
        """
        try:
            people = self.known.people_at(at_ms)
        except UnknownFormat:
            self._unreadable_at_ms = at_ms  # the next look says so
            raise
        if people is None:
            return directory
        if self._last is None or self._last[0] is not people:
            self._last = (people, people.roles)
        return replace(directory, people=people, roles=self._last[1], roles_from=self._topic)

    def judge(self, directory: Directory, max_age_ms: int) -> Judge:
        """What a signed answer is checked against, with the directory as of its time."""
        return Judge(
            mesh=self.mesh,
            key=self.known.keys.get,
            people=directory.people,
            roles=directory.roles,
            max_age_ms=max_age_ms,
        )


def checked_answer(
    people: PeopleFollower | None, answer: AnswerGiven2, directory: Directory, max_age_ms: int
) -> CheckedAnswer:
    """A signed answer with its proof. Its keys are known as far as its people are."""
    nobody = Judge(mesh="", key=lambda _: None)
    return checked(answer, nobody if people is None else people.judge(directory, max_age_ms))
