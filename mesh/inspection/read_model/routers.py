"""Routers' cards in the read model: who runs, and since when.

Owns the table `routers`, from the records of `mesh.routers` to what the tools ask of it.
"""

from collections.abc import Sequence

import apsw
import msgspec

from mesh.codec.router_cards import RouterCard, decode_router_card
from mesh.codec.times import is_rfc3339, parse_rfc3339
from mesh.errors import MalformedRecord
from mesh.inspection.read_model.schema import select, select_one
from mesh.ports import Record


class RouterRow(msgspec.Struct, frozen=True, kw_only=True):
    """A router's last card.

    `renewed_at_ms`: when the broker took the card, or the tombstone by which it `stopped`.
    """

    card: RouterCard
    renewed_at_ms: int
    stopped: bool = False

    @property
    def instance(self) -> str:
        return self.card.instance

    def heard_at_ms(self, now_ms: int) -> int:
        """When it was last heard of.

        A broker whose clock was put back stamps records with a time to come; then its own clock
        tells.
        """
        return heard_at_ms(self.renewed_at_ms, self.card.renewed_at, now_ms)

    def gone_at_ms(self, now_ms: int) -> int:
        """The time from which it counts as gone, if nothing more is heard of it."""
        lasts_ms = 0 if self.stopped else int(self.card.expires_after_s * 1_000)
        return self.heard_at_ms(now_ms) + lasts_ms

    def is_alive(self, now_ms: int) -> bool:
        return not self.stopped and now_ms < self.gone_at_ms(now_ms)

    @property
    def started_at_ms(self) -> int:
        started = self.card.started_at
        return parse_rfc3339(started) if is_rfc3339(started) else 0


def heard_at_ms(stamped_ms: int, said: str, now_ms: int) -> int:
    """When a card was renewed: at the broker's time, unless that is still to come.

    `said`: the time by the clock of the process that renewed it.
    """
    if stamped_ms <= now_ms or not is_rfc3339(said):
        return stamped_ms
    return min(stamped_ms, parse_rfc3339(said))


def take_cards(db: apsw.Connection, records: Sequence[Record]) -> None:
    """Write these records of `mesh.routers` into the table."""
    for record in records:
        try:
            card = decode_router_card(record)
        except MalformedRecord:
            continue  # a record that is not a card says nothing about any router
        instance = card.instance if card is not None else (record.key or b"").decode("utf-8", "replace")
        stopped = card is None
        # a tombstone says only that the router stopped; the rest is in its last card
        if card is None:
            old = select_one(db, "SELECT card FROM routers WHERE instance = ?", instance)
            if old is None:
                continue
            card = msgspec.json.decode(old[0], type=RouterRow).card
        row = RouterRow(card=card, renewed_at_ms=record.timestamp_ms, stopped=stopped)
        db.execute(
            "INSERT OR REPLACE INTO routers VALUES (?, ?, ?)", (instance, row.renewed_at_ms, msgspec.json.encode(row))
        )


def routers(db: apsw.Connection) -> list[RouterRow]:
    """Every router that has or had a card, the last heard of first."""
    rows = select(db, "SELECT card FROM routers ORDER BY renewed_at_ms DESC")
    return [msgspec.json.decode(row, type=RouterRow) for (row,) in rows]
