"""The mesh itself: its partitions, its agents, and what operators told it."""

from typing import Final

import apsw
import msgspec

from mesh.codec.state import decode_meta
from mesh.core.clock import ClockHold
from mesh.core.state import AgentCard
from mesh.inspection.read_model.queries.rows import Row, columns_of
from mesh.inspection.read_model.routers import heard_at_ms
from mesh.inspection.read_model.schema import select, select_one

# a range of the primary key: all that begin with the operation's id and a slash
_OF_OPERATION: Final = "command_id >= ? AND command_id < ?"


class PartitionRow(Row, frozen=True, array_like=True):
    """A partition of the log, and its owner.

    `positions`: for each input topic, the next offset that the owner will read. `meta`: the encoded
    state of the fold.
    """

    partition: int
    owner: str
    owner_since_ms: int
    decided_at_ms: int
    meta: bytes

    @property
    def positions(self) -> dict[str, int]:
        return decode_meta(self.meta).positions

    @property
    def hold(self) -> ClockHold | None:
        """How the broker's clock differs from the partition's time, where it has jumped."""
        return decode_meta(self.meta).hold


class CardRow(Row, frozen=True, array_like=True):
    card: AgentCard
    renewed_at_ms: int

    def is_alive(self, now_ms: int) -> bool:
        return (
            not self.card.registration
            and not self.card.stopped
            and now_ms
            < heard_at_ms(self.renewed_at_ms, self.card.renewed_at, now_ms) + self.card.expires_after_s * 1_000
        )


class CommandRow(Row, frozen=True, array_like=True):
    command_id: str
    workflow_id: str
    at_ms: int
    command: str
    by: str
    accepted: int  # 1 or 0
    code: str
    message: str


def partitions(db: apsw.Connection) -> list[PartitionRow]:
    sql = f"SELECT {columns_of(PartitionRow)} FROM partitions ORDER BY partition"  # noqa: S608 - constants only
    return [PartitionRow(*row) for row in select(db, sql)]


def cards(db: apsw.Connection) -> list[CardRow]:
    """Agents' cards by name, the last renewed first; registrations are among them."""
    rows = select(db, "SELECT card, renewed_at_ms FROM cards ORDER BY name, renewed_at_ms DESC")
    return [CardRow(msgspec.json.decode(card, type=AgentCard), at_ms) for card, at_ms in rows]


def command(db: apsw.Connection, command_id: str) -> CommandRow | None:
    """What became of a command; None if nothing is decided about it yet."""
    sql = f"SELECT {columns_of(CommandRow)} FROM commands WHERE command_id = ?"  # noqa: S608 - constants only
    row = select_one(db, sql, command_id)
    return CommandRow(*row) if row else None


def commands_of(db: apsw.Connection, operation_id: str) -> dict[str, CommandRow]:
    """What became of an operation's commands, by the id of the command."""
    sql = f"SELECT {columns_of(CommandRow)} FROM commands WHERE {_OF_OPERATION}"  # noqa: S608 - constants only
    rows = select(db, sql, f"{operation_id}/", f"{operation_id}0")
    return {row[0]: CommandRow(*row) for row in rows}


def count_commands_of(db: apsw.Connection, operation_id: str) -> tuple[int, int]:
    """How many of an operation's commands were obeyed, and how many refused."""
    sql = f"SELECT count(*) FILTER (WHERE accepted), count(*) FILTER (WHERE NOT accepted) FROM commands WHERE {_OF_OPERATION}"  # noqa: S608 - constants only
    done, refused = select_one(db, sql, f"{operation_id}/", f"{operation_id}0")
    return int(done), int(refused)
