"""Whether tasks that a former owner of their partition goes on with are still in its hands.

Owns the reading of agents' cards (`mesh.agents`) for as long as such tasks wait here. A process
that keeps tasks lists them on its card before it gives their partition back. It takes each off when
the result is at the broker. So the card tells the four fates apart:

    kept      a card that is renewed lists it
    ended     the card does not list it any more
    given up  the card was withdrawn while it listed it: the process stopped in good order
    dead      the card is not renewed any more, or another life has its place

Called by `assignment`, which asks again whenever something was read, and every second.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import structlog

from mesh.codec.cards import decode_card
from mesh.core.state import AgentCard
from mesh.errors import BrokerError, MalformedRecord, TopicMissing
from mesh.ports import Broker, Reader, Record, TopicPartition

Fate = Literal["kept", "ended", "given up", "dead"]

_POLL_S: Final = 1.0
_AGAIN_S: Final = 1.0
_PATIENCE_S: Final = 30.0  # with a broker that does not let us read the cards


class _Seen:
    """The last card of one process, by our own clock."""

    __slots__ = ("expires_after_s", "is_withdrawn", "keeps", "life", "number", "seen_s")

    def __init__(self, card: AgentCard) -> None:
        self.life = card.life
        self.number = card.number
        self.keeps = frozenset(card.keeps)
        self.expires_after_s = card.expires_after_s
        # our own clock: a machine whose clock is wrong must not be taken for dead
        self.seen_s = _now_s()
        self.is_withdrawn = False


class Keepers:
    """`agent`: the name whose cards count."""

    def __init__(self, broker: Broker, topic: str, *, agent: str, log: Any) -> None:
        self._broker = broker
        self._topic = topic
        self._agent = agent
        self._log: structlog.stdlib.BoundLogger = log
        self._cards: dict[str, _Seen] = {}  # by instance
        self._since_ms: float = float("inf")  # the cards from then on are wanted
        self._is_wanted = asyncio.Event()
        self._is_current = False  # all cards are read that were there when a task was asked for last
        self._blind_since_s: float | None = None  # the cards can't be read

    def want(self, at_ms: int) -> None:
        """A task waits here. The broker took it at `at_ms`, so its keeper's cards are younger."""
        self._since_ms = min(self._since_ms, at_ms)
        self._is_current = False
        self._is_wanted.set()

    def fate(self, life: str, place: str) -> Fate:
        """What became of the task at `place`, which `life` keeps.

        "kept" as long as it is not known.
        """
        if not self._is_current:
            is_hopeless = self._blind_since_s is not None and _now_s() - self._blind_since_s > _PATIENCE_S
            # nobody can say more: it is done here, as if it were not kept
            return "given up" if is_hopeless else "kept"
        card = next((card for card in self._cards.values() if card.life == life), None)
        if card is None:
            return "dead"
        if place not in card.keeps:
            return "ended"
        if card.is_withdrawn:
            return "given up"
        return "dead" if _now_s() - card.seen_s > card.expires_after_s else "kept"

    async def run(self, look: Callable[[], bool]) -> None:
        """Follow the cards while tasks wait, until cancelled.

        `look` is called whenever something may have changed; false: nothing waits any more.
        """
        while True:
            await self._is_wanted.wait()
            try:
                await self._follow(look)
            except BrokerError as error:
                self._is_current = False
                if self._blind_since_s is None:
                    self._blind_since_s = _now_s()
                self._log.warning("keepers_unread", error=str(error), retry_in_s=_AGAIN_S)
                await asyncio.sleep(_AGAIN_S)
                look()

    async def _follow(self, look: Callable[[], bool]) -> None:
        reader = await self._broker.reader()
        try:
            since_ms = self._since_ms
            partitions = await self._partitions()
            reader.assign(await self._broker.offsets_at(partitions, int(since_ms)))
            # again from the beginning, if an older task comes to wait meanwhile
            while self._since_ms >= since_ms:
                if not self._is_current:
                    await self._read_up(reader, partitions)
                if not look():
                    self._rest()
                    return
                self._take_all(await reader.poll(max_records=1000, timeout_s=_POLL_S))
        finally:
            await reader.close()

    async def _partitions(self) -> list[TopicPartition]:
        info = (await self._broker.topics()).get(self._topic)
        if info is None:
            raise TopicMissing(f"the topic {self._topic} is not there (create it with `mesh topics apply`)")
        return [TopicPartition(self._topic, p) for p in range(info.partitions)]

    async def _read_up(self, reader: Reader, partitions: list[TopicPartition]) -> None:
        """Read up to where the topic ends now: what a keeper said before it gave a task back."""
        self._is_current = True  # what comes to wait from here on asks for more
        ends = await self._broker.end_offsets(partitions)
        while any(reader.position(at) < end for at, end in ends.items()):
            self._take_all(await reader.poll(max_records=1000, timeout_s=_POLL_S))
        self._blind_since_s = None

    def _rest(self) -> None:
        self._is_wanted.clear()
        self._cards.clear()
        self._since_ms = float("inf")
        self._is_current = False

    def _take_all(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                card = decode_card(record)
            except MalformedRecord:  # routers tell of it
                continue
            if card.name != self._agent or card.registration:
                continue
            before = self._cards.get(card.instance)
            # a card whose sender had given it up may land behind later ones
            is_late = before is not None and before.life == card.life and card.number < before.number
            if not card.stopped:
                if not is_late:
                    self._cards[card.instance] = _Seen(card)
            elif card.instance in self._cards:
                self._cards[card.instance].is_withdrawn = True


def _now_s() -> float:
    return asyncio.get_running_loop().time()
