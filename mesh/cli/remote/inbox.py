"""What is open for people, from the console instead of the broker.

Owns how its approvals become the rows of an inbox. So filters, pages, ids and cards are those of an
inbox that was read from the broker.
"""

import msgspec

from mesh.cli.remote.api import Api
from mesh.codec.open_approvals import LOG_OFFSET
from mesh.inspection.documents.approvals import Approval
from mesh.inspection.inbox import Inbox
from mesh.inspection.inbox.parts import take
from mesh.inspection.inbox.schema import make_tables, open_in_memory
from mesh.inspection.read_model.schema import transaction
from mesh.ports import Record

_encode = msgspec.json.Encoder().encode


class RemoteInbox(Inbox):
    """The inbox of the token's person, in memory. `catch_up` reads all of it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.db = open_in_memory()

    async def catch_up(self) -> None:
        """Read what is open now."""
        records = [record for one in [one async for one in self._api.open()] for record in _records(one)]
        make_tables(self.db)
        with transaction(self.db):
            take(self.db, records)


def _records(one: Approval) -> list[Record]:
    """The records that the topic has of it."""
    waiting = one.waiting
    if waiting is None:
        return []
    parts = {"request": _encode(waiting.request)}
    if waiting.standing is not None:
        parts["standing"] = _encode(waiting.standing)
    parts |= {f"note/{note.number}": _encode(note) for note in waiting.notes}
    headers = ((LOG_OFFSET, b"0"),)
    at_ms = waiting.row.asked_at_ms
    return [
        Record("", 0, number, at_ms, f"{part}/{one.approval_id}".encode(), value, headers)
        for number, (part, value) in enumerate(parts.items())
    ]
