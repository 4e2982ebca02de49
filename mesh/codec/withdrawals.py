"""The bytes of withdrawals: routers tell agents which attempts nobody wants any more.

Owns the record; `topics/schemas/withdrawal.json` says the same. Routers write it, agents read it.
"""

from typing import Final

import msgspec

from mesh.codec.times import rfc3339
from mesh.core.effects import WithdrawTask
from mesh.core.ids import attempt_id
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Header, OutRecord, Record

TYPE: Final = "mesh.task.withdrawn"
_HEADERS: Final[tuple[Header, ...]] = (
    ("ce_specversion", b"1.0"),
    ("content-type", b"application/json"),
    ("ce_type", TYPE.encode()),
    ("ce_source", b"/mesh/router"),
)


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """A record of `mesh.withdrawals`: this attempt need not be begun, and may be cut short."""

    task_id: str
    attempt: int
    workflow_id: str
    agent: str
    at: str  # RFC 3339, UTC: when it was decided

    @property
    def attempt_id(self) -> str:
        return attempt_id(self.task_id, self.attempt)


_encode: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(Withdrawal)


def withdrawal_id(effect: WithdrawTask) -> str:
    return f"{attempt_id(effect.task_id, effect.attempt)}/withdrawn"


def encode_withdrawal(effect: WithdrawTask, *, topics: Topics) -> OutRecord:
    """Key: the attempt's id."""
    value = Withdrawal(
        task_id=effect.task_id,
        attempt=effect.attempt,
        workflow_id=effect.workflow_id,
        agent=effect.agent,
        at=rfc3339(effect.at_ms),
    )
    headers = (
        *_HEADERS,
        ("ce_id", withdrawal_id(effect).encode()),
        ("ce_correlationid", effect.workflow_id.encode()),
    )
    return OutRecord(topics.withdrawals, value.attempt_id.encode(), _encode(value), headers)


def decode_withdrawal(record: Record) -> Withdrawal:
    """Raises `MalformedRecord`."""
    try:
        return _decoder.decode(record.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        place = f"{record.topic}/{record.partition}/{record.offset}"
        raise MalformedRecord(f"the record {place} is not a withdrawal: {error}") from error
