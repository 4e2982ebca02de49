"""An agent's card on the registry topic, and its registration, which stays.

The card is published at start, renewed, and withdrawn at a graceful stop. Owns these records. If
the registry can't be written to, the agent goes on working: it logs that, and tries again at the
next renewal. The registration is written at the start and again from time to time. So while two
versions of an agent run, the one that outlives the other has the last word on what it can do. A
version without capabilities withdraws what an older one may have registered.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from msgspec.structs import replace

from mesh import defaults
from mesh.agent.definition import Agent
from mesh.codec.cards import encode_card, withdraw_card, withdraw_registration
from mesh.core.state import AgentCard
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable
from mesh.ports import Broker, Clock, OutRecord
from mesh.services.renewal import Renewal

_REGISTER_EVERY: Final = 30  # renewals of the card: five minutes, as a card is renewed by default


def card_of(
    agent: Agent[Any, Any],
    *,
    topics: Topics,
    instance: str,
    now_ms: int,
    expires_after_s: float = defaults.CARD_INTERVALS * defaults.CARD_INTERVAL_S,
) -> AgentCard:
    """What an agent says about itself."""
    return AgentCard(
        name=agent.name,
        version=agent.version,
        topic=topics.tasks(agent.name),
        description=agent.description,
        input_schema=agent.input_schema,
        output_schema=agent.output_schema,
        concurrency=agent.concurrency,
        max_outstanding=agent.max_outstanding,
        instance=instance,
        renewed_at=datetime.fromtimestamp(now_ms / 1000, UTC).isoformat().replace("+00:00", "Z"),
        expires_after_s=expires_after_s,
        capabilities=agent.capabilities,
        checks_output=True,
    )


def registration_of(card: AgentCard) -> AgentCard:
    """The part of the card that outlasts its process."""
    return replace(card, instance="", registration=True)


class CardKeeper:
    """`life`: of this process, as its commits name it. `keeps`: what it goes on with."""

    def __init__(
        self,
        broker: Broker,
        agent: Agent[Any, Any],
        *,
        topics: Topics,
        clock: Clock,
        instance: str,
        every_s: float,
        log: Any,
        life: str = "",
        keeps: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._broker = broker
        self._agent = agent
        self._topics = topics
        self._clock = clock
        self._instance = instance
        self._every_s = every_s
        self._life = life
        self._keeps = keeps
        self._has_kept = False
        self._number = 0
        self._is_withdrawn = False
        self._renewal = Renewal(clock, every_s)
        self._log: structlog.stdlib.BoundLogger = log

    async def run(self) -> None:
        """Renew the card until it is withdrawn; register in between."""
        left = 0  # renewals until it registers again
        while not self._is_withdrawn:
            is_sent = await self._send(encode_card(self._card(), topics=self._topics))
            if left == 0 and await self._send(self._registration()):
                left = _REGISTER_EVERY
            left = max(0, left - 1)
            await self._renewal.wait(is_sent=is_sent)

    def hasten(self) -> None:
        """Renew the card now: what it says has changed."""
        self._renewal.hasten()

    async def tell(self) -> bool:
        """Publish the card now; false if the broker does not have it."""
        self._has_kept = True
        return await self._send(encode_card(self._card(), topics=self._topics))

    async def withdraw(self) -> None:
        """Withdraw the card.

        A renewal on its way lands before this, because a later call's records land later.
        """
        self._is_withdrawn = True
        # what it still keeps is given up with the card, and what has ended must not be taken for
        # that
        if self._has_kept:
            await self._send(encode_card(self._card(), topics=self._topics))
        await self._send(withdraw_card(self._card(), topics=self._topics))

    def _registration(self) -> OutRecord:
        # an earlier version of the agent may have registered some
        if not self._agent.capabilities:
            return withdraw_registration(self._agent.name, topics=self._topics)
        return encode_card(registration_of(self._card()), topics=self._topics)

    def _card(self) -> AgentCard:
        card = card_of(
            self._agent,
            topics=self._topics,
            instance=self._instance,
            now_ms=self._clock.now_ms(),
            expires_after_s=defaults.CARD_INTERVALS * self._every_s,
        )
        if not self._has_kept:
            return card
        self._number += 1
        return replace(card, life=self._life, keeps=tuple(self._keeps()), number=self._number)

    async def _send(self, record: OutRecord) -> bool:
        try:
            failures = await self._broker.send([record])
        except BrokerUnavailable as error:
            self._log.warning("card_not_sent", error=str(error))
            return False
        for failure in failures:
            self._log.warning("card_not_sent", topic=record.topic, code=failure.code.value, error=failure.message)
        return not failures
