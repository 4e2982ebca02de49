"""What `decide` may look up beside the state.

People's roles, the agents that have put their card on `mesh.agents`, which of them are alive, which
are registered for a capability, and the active version of each route.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from msgspec.structs import replace

from mesh.codec.cards import decode_card
from mesh.core.people import People
from mesh.core.signing import Level
from mesh.core.state import AgentCard, Directory
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, MalformedRecord, TopicMissing
from mesh.ports import Broker, Clock, Reader, Record, TopicPartition
from mesh.services.reading import read_up_to

_log = structlog.get_logger()
_PAUSE_S = 0.5
_POLL_S = 5.0


class DirectoryFollower:
    """Follows the agent cards. `current` is always a value that a decision may keep.

    Liveness is soft: it ranks the candidates for a capability, so it may be late by a poll. A
    card's age counts from the broker's time of its record.
    """

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        roles: Mapping[str, frozenset[str]],
        clock: Clock,
        *,
        roles_from: str = "",
        answers: Level = "none",
    ) -> None:
        self._broker = broker
        self._topics = topics
        self._clock = clock
        self._reader: Reader | None = None
        self._cards: dict[str, AgentCard] = {}
        self._expiries_ms: dict[tuple[str, str], float] = {}  # by name and instance
        self._replicas: dict[tuple[str, str], AgentCard] = {}  # those that have not expired
        self._registrations: dict[str, AgentCard] = {}
        self._is_ruled = False  # by the people's topic
        # few decisions ask by a calendar, and those need it as of their input (`owner`)
        self.current = Directory(
            roles=dict(roles), roles_from=roles_from, topic_prefix=topics.prefix, answers=answers, calendars=None
        )

    async def start(self) -> None:
        """Read the cards that are there now. May be called again after `BrokerUnavailable`."""
        info = (await self._broker.topics()).get(self._topics.agents)
        if info is None:
            raise TopicMissing(f"topic {self._topics.agents} is not there: run `mesh topics apply`")
        partitions = [TopicPartition(self._topics.agents, p) for p in range(info.partitions)]
        begins = await self._broker.begin_offsets(partitions)
        ends = await self._broker.end_offsets(partitions)
        # it may be a second try
        await self.close()
        self._reader = await self._broker.reader()
        self._reader.assign(begins)
        async for records in read_up_to(self._reader, ends):
            self._take(records)
        self._look_at_clock()

    async def follow(self) -> None:
        """Read cards as they come, until it is cancelled."""
        if self._reader is None:
            raise RuntimeError("the directory is not started")
        while True:
            try:
                self._take(await self._reader.poll(max_records=1_000, timeout_s=_POLL_S))
            except BrokerUnavailable as error:
                _log.warning("agent_cards_unread", error=str(error))
                await asyncio.sleep(_PAUSE_S)
            self._look_at_clock()

    def set_roles(self, roles: Mapping[str, frozenset[str]], people: People | None = None) -> None:
        """Set people's roles from the next decision on. Earlier decisions stay.

        `people`: the same with their further names. Nothing changes once the people's topic rules.
        """
        if not self._is_ruled:
            self.current = replace(self.current, roles=dict(roles), people=people)

    def set_people(self, people: People) -> None:
        """The people by their topic, which rules from now on."""
        if not self._is_ruled or people is not self.current.people:
            self._is_ruled = True
            self.current = replace(self.current, roles=people.roles, people=people, roles_from=self._topics.people)

    def set_routes(self, routes: Mapping[str, str]) -> None:
        """The active version of each route by its digest, from the next decision on."""
        if routes != self.current.routes:
            self.current = replace(self.current, routes=dict(routes))

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.close()

    def _take(self, records: Sequence[Record]) -> None:
        known, registered = dict(self._cards), dict(self._registrations)
        for record in records:
            try:
                card = decode_card(record)
            except MalformedRecord as error:
                _log.warning("agent_card_unreadable", error=str(error))
                continue
            self._note(card, record.timestamp_ms)
        # A new value, since decisions under way may keep the one before.
        if self._cards != known:
            self.current = replace(self.current, agents=dict(self._cards))
        if self._registrations != registered:
            self.current = replace(self.current, registered=_by_capability(self._registrations.values()))

    def _note(self, card: AgentCard, at_ms: int) -> None:
        if not card.registration:
            self._expiries_ms[card.name, card.instance] = 0 if card.stopped else at_ms + card.expires_after_s * 1_000
            self._replicas[card.name, card.instance] = card
        elif card.stopped:
            self._registrations.pop(card.name, None)
        else:
            known = self._registrations.get(card.name)
            if known is None or known.capabilities != card.capabilities:
                self._registrations[card.name] = card
        known = self._cards.get(card.name)
        if not card.stopped and (known is None or _said(known) != _said(card)):
            self._cards[card.name] = card

    def _look_at_clock(self) -> None:
        now_ms = self._clock.now_ms()
        self._expiries_ms = {key: at_ms for key, at_ms in self._expiries_ms.items() if now_ms < at_ms}
        alive = frozenset(name for name, _ in self._expiries_ms)
        if alive != self.current.alive:
            self.current = replace(self.current, alive=alive)
        self._replicas = {key: card for key, card in self._replicas.items() if key in self._expiries_ms}
        promised = _promised(self._cards, self._replicas.values())
        if promised != self.current.promised:
            self.current = replace(self.current, promised=promised)


def _promised(last: Mapping[str, AgentCard], alive: Iterable[AgentCard]) -> dict[str, tuple[dict[str, Any], ...]]:
    """The output schemas of agents that do not check their outputs themselves, by agent.

    By the cards of their living replicas, or by the last card of an agent that has none. Where a
    replica declares nothing, or checks its outputs itself, nothing is promised for all of them.
    """
    cards: dict[str, list[AgentCard]] = {}
    for card in alive:
        cards.setdefault(card.name, []).append(card)
    for name, card in last.items():
        cards.setdefault(name, [card])
    found = {}
    for name, own in cards.items():
        schemas = [card.output_schema for card in own if not card.checks_output and card.output_schema is not None]
        if len(schemas) == len(own):
            found[name] = tuple(schema for n, schema in enumerate(schemas) if schema not in schemas[:n])
    return found


def _by_capability(registrations: Iterable[AgentCard]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for card in registrations:
        for capability in card.capabilities:
            found.setdefault(capability, []).append(card.name)
    return {capability: tuple(sorted(names)) for capability, names in found.items()}


def _said(card: AgentCard) -> tuple[object, ...]:
    """The parts of a card that a decision may depend on."""
    return card.version, card.output_schema, card.max_outstanding, card.checks_output
