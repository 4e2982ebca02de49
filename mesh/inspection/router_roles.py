"""The roles that routers' own files give, for tools that may not read the log.

Owns reading `mesh.routers` whole. The read model has the same cards for tools that have the log.
"""

from collections.abc import Iterable

from mesh.codec.router_cards import decode_router_card
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.inspection.read_model.routers import RouterRow
from mesh.ports import Broker, Record
from mesh.services.whole_topic import WholeTopic


async def roles_by_files(broker: Broker, topics: Topics, now_ms: int) -> frozenset[str] | None:
    """The roles that somebody has by the file of every living router; None: no router tells."""
    rows: dict[bytes | None, RouterRow] = {}

    def take(record: Record) -> None:
        try:
            card = decode_router_card(record)
        except MalformedRecord:
            return  # a record that is not a card says nothing about any router
        if card is None:
            rows.pop(record.key, None)
        else:
            rows[record.key] = RouterRow(card=card, renewed_at_ms=record.timestamp_ms)

    topic = WholeTopic(broker, topics.routers, take)
    try:
        await topic.start()
    finally:
        await topic.close()
    return roles_of_all(rows.values(), now_ms)


def roles_of_all(rows: Iterable[RouterRow], now_ms: int) -> frozenset[str] | None:
    """The roles that every living router has somebody for; None: none of them says."""
    said = [row.card.roles for row in rows if row.is_alive(now_ms) and row.card.roles is not None]
    return frozenset(said[0]).intersection(*said) if said else None
