"""Search attributes in the read model: of each workflow all, and an index of its texts.

Owns the tables `search` (the attributes as JSON) and `search_texts`.
`mesh.inspection.read_model.projection` calls it for each start.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import apsw
import msgspec

from mesh.core.events import Event, WorkflowStarted
from mesh.inspection.read_model.schema import select_one

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def take_starts(db: apsw.Connection, workflow_id: str, events: Iterable[Event]) -> None:
    """Keep the attributes of a run that these events start."""
    for event in events:
        if isinstance(event, WorkflowStarted):
            _take(db, workflow_id, event.search)


def _take(db: apsw.Connection, workflow_id: str, search: Mapping[str, Any] | None) -> None:
    """Put the attributes of a run in place of those of the run before it."""
    known = attributes_of(db, workflow_id)
    if known:
        db.execute("DELETE FROM search WHERE workflow_id = ?", (workflow_id,))
        texts = [(name, value, workflow_id) for name, value in known.items() if isinstance(value, str)]
        db.executemany("DELETE FROM search_texts WHERE name = ? AND value = ? AND workflow_id = ?", texts)
    if search:
        db.execute("INSERT INTO search VALUES (?, ?)", (workflow_id, msgspec.json.encode(search).decode()))
        texts = [(name, value, workflow_id) for name, value in search.items() if isinstance(value, str)]
        db.executemany("INSERT INTO search_texts VALUES (?, ?, ?)", texts)


def attributes_of(db: apsw.Connection, workflow_id: str) -> dict[str, Any]:
    """The attributes of a workflow; empty if it has none."""
    row = select_one(db, "SELECT attributes FROM search WHERE workflow_id = ?", workflow_id)
    return read_attributes(row[0]) if row else {}


def read_attributes(text: str | None) -> dict[str, Any]:
    """The attributes that the table has as JSON."""
    return _decode(text) if text else {}
