"""The log of a mesh with private workflows, as one reads it who has seen every key."""

from mesh.codec.log import decode_log_record
from mesh.codec.sealing import Key, decode_key, is_sealed, opened, opened_state
from mesh.core.events import LogRecord
from mesh.ports import Record


class Seals:
    """The keys so far. One that is deleted stays: a test may look back."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}

    def take(self, record: Record) -> None:
        """Take a record of the topic of keys."""
        key = decode_key(record)
        if isinstance(key, Key):
            self._keys[key.name] = key

    def decode(self, record: Record) -> LogRecord:
        """A record of the log."""
        return decode_log_record(opened(record, self._keys) if is_sealed(record) else record)

    def state(self, state: bytes, workflow_id: str) -> bytes | None:
        """A state in a checkpoint."""
        return opened_state(state, workflow_id, self._keys)
