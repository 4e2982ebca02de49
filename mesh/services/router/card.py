"""A router's card on `mesh.routers`, by which `mesh status` knows that it is alive.

The card is published at the start, renewed, and withdrawn at a graceful stop. Owns these records.
The router itself does not need them: if they can't be written, it goes on working, logs that, and
tries again.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from importlib.metadata import version
from typing import Final

import structlog
from msgspec.structs import replace

from mesh import defaults
from mesh.codec.router_cards import RouterCard, encode_router_card, withdraw_router_card
from mesh.codec.times import rfc3339
from mesh.core.topics import Topics
from mesh.errors import MeshError
from mesh.ports import Broker, Clock, OutRecord
from mesh.services.renewal import Renewal

_log = structlog.get_logger()
_WITHDRAW_S: Final = 5.0  # for the last word to a broker that may be gone


class RouterCardKeeper:
    """`every_s`: how often the card is renewed; it expires after three times that."""

    def __init__(
        self, broker: Broker, *, topics: Topics, clock: Clock, instance: str, every_s: float, answers: str = ""
    ) -> None:
        self._broker = broker
        self._topics = topics
        self._clock = clock
        self._every_s = every_s
        self._told_failure = ""
        now = rfc3339(clock.now_ms())
        lasts_s = defaults.CARD_INTERVALS * every_s
        self._card = RouterCard(
            instance=instance,
            started_at=now,
            renewed_at=now,
            expires_after_s=lasts_s,
            answers=answers,
            software=version("agent-mesh"),
        )
        self._renewal = Renewal(clock, every_s)

    def set_roles(self, roles: Collection[str], approvers: str, *, people: str = "") -> None:
        """Say from the next renewal on, which comes soon, which roles somebody has.

        `approvers`: where that is written. `people`: the version of the people's topic that rules.
        """
        self._card = replace(self._card, roles=tuple(sorted(roles)), approvers=approvers, people=people)
        self._renewal.hasten()

    async def run(self) -> None:
        """Publish and renew the card until it is cancelled."""
        while True:
            card = replace(self._card, renewed_at=rfc3339(self._clock.now_ms()))
            await self._renewal.wait(is_sent=await self._send(encode_router_card(card, topics=self._topics)))

    async def withdraw(self) -> None:
        """Withdraw the card. Call it once `run` has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_WITHDRAW_S):
                await self._send(withdraw_router_card(self._card.instance, topics=self._topics))

    async def _send(self, record: OutRecord) -> bool:
        try:
            failures = await self._broker.send([record])
        except MeshError as error:
            return self._tell(str(error))
        return self._tell(failures[0].message if failures else "")

    def _tell(self, failure: str) -> bool:
        """Say each failure once, until the card is sent. True: there was none."""
        if failure and failure != self._told_failure:
            _log.warning(
                "router_card_not_sent",
                topic=self._topics.routers,
                error=failure,
                effect="`mesh status` does not see this router; it works all the same",
                next="if the topic is not there: mesh topics apply",
            )
        self._told_failure = failure
        return not failure
