"""Dead letters: records that nobody could read or use."""

import msgspec

from mesh.codec.times import parse_rfc3339, rfc3339
from mesh.inspection.letters import LetterStatus
from mesh.inspection.read_model.queries import DeadLetterRow
from mesh.inspection.wording.plain import rfc3339_or_none


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the record lies that is dead. Topic empty: it is not known."""

    topic: str
    partition: int
    offset: int


class Handling(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did about it."""

    operation: str
    by: str
    reason: str
    at: str | None


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter. `redriven`: how often it was sent back before."""

    id: str
    at: str
    original: Source
    code: str
    message: str
    workflow_id: str | None
    route: str | None
    status: LetterStatus
    redriven: int
    handled: Handling | None

    @property
    def row(self) -> DeadLetterRow:
        """As the read model has it."""
        where, handled = self.id.partition("/"), self.handled
        return DeadLetterRow(
            int(where[0]),
            int(where[2]),
            parse_rfc3339(self.at),
            self.original.topic,
            self.original.partition,
            self.original.offset,
            self.code,
            self.message,
            self.workflow_id or "",
            self.route or "",
            self.redriven,
            self.status,
            "" if handled is None else handled.operation,
            "" if handled is None else handled.by,
            "" if handled is None else handled.reason,
            None if handled is None or handled.at is None else parse_rfc3339(handled.at),
        )


def letter_document(row: DeadLetterRow) -> Letter:
    handled = Handling(
        operation=row.operation, by=row.handled_by, reason=row.handled_reason, at=rfc3339_or_none(row.handled_at_ms)
    )
    return Letter(
        id=f"{row.partition}/{row.offset}",
        at=rfc3339(row.at_ms),
        original=Source(topic=row.topic, partition=row.source_partition, offset=row.source_offset),
        code=row.code,
        message=row.message,
        workflow_id=row.workflow_id or None,
        route=row.route or None,
        status=row.status,
        redriven=row.times,
        handled=None if row.handled_at_ms is None else handled,
    )
