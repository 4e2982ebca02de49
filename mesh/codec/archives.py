"""The history of a workflow that is over, as a compressed part of an archive file.

Owns the format. Each part is a gzip member of its own, so that one can be read without the others,
and `zcat` shows them all. Its first line is the head, and each other line a decision as the log has
it, at its place in the log.

    {"archive": 1, "workflow_id": "refund:4711", "decisions": 9, "sum": "...", ...}
    {"partition": 3, "offset": 1204, "run_id": "...", "record": {...}}
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from mesh.core.events import Decision
from mesh.errors import OperatorError

VERSION: Final = 1
_GZIP: Final = 31  # zlib's window bits for a gzip member


class ArchiveDamaged(OperatorError):
    """A part of an archive file is not as it was written. The message says which."""


class ArchivedHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a part is of. `sum`: SHA-256 of the lines behind it. `last_offset`: of its decisions."""

    archive: int
    workflow_id: str
    route: str
    status: str
    started_at_ms: int
    ended_at_ms: int | None
    search: dict[str, Any]
    partition: int
    last_offset: int
    decisions: int
    sum: str


class ArchivedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, as its record's text, and where the log has it."""

    partition: int
    offset: int
    run_id: str
    record: msgspec.Raw

    def decision(self) -> Decision:
        return _decode_decision(self.record)


_encode = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(ArchivedHead).decode
_decode_line = msgspec.json.Decoder(ArchivedDecision).decode
_decode_decision = msgspec.json.Decoder(Decision).decode


def sum_of(decisions: Sequence[ArchivedDecision]) -> str:
    """What the head says of them."""
    return "sha256:" + sha256(_lines(decisions)).hexdigest()


def encode_part(head: ArchivedHead, decisions: Sequence[ArchivedDecision]) -> bytes:
    return gzip.compress(_encode(head) + b"\n" + _lines(decisions), mtime=0)


def _lines(decisions: Sequence[ArchivedDecision]) -> bytes:
    return b"".join(_encode(one) + b"\n" for one in decisions)


def decode_part(part: bytes, where: str) -> tuple[ArchivedHead, list[ArchivedDecision]]:
    """One part, whole. Raises `ArchiveDamaged`, which names `where`."""
    try:
        first, _, rest = gzip.decompress(part).partition(b"\n")
        head = _decode_head(first)
        found = [_decode_line(line) for line in rest.splitlines()]
    except (OSError, EOFError, zlib.error, msgspec.MsgspecError) as error:
        raise ArchiveDamaged(f"{where} can't be read ({error}): restore the file from a copy") from error
    if head.archive != VERSION:
        raise ArchiveDamaged(f"{where} has format {head.archive}, and this agent-mesh reads {VERSION}: update it")
    if "sha256:" + sha256(rest).hexdigest() != head.sum:
        raise ArchiveDamaged(f"{where}, of {head.workflow_id}, is not as it was written: restore the file from a copy")
    return head, found


def parts_of(file: bytes, name: str) -> Iterator[tuple[int, int]]:
    """Where each part of a file begins, and how long it is. Raises `ArchiveDamaged`."""
    at = 0
    while at < len(file):
        member = zlib.decompressobj(_GZIP)
        try:
            member.decompress(file[at:])
        except zlib.error as error:
            raise ArchiveDamaged(f"{name} can't be read from byte {at} on ({error}): restore it from a copy") from error
        if not member.eof:
            raise ArchiveDamaged(f"{name} is cut off within the part at byte {at}: restore it from a copy")
        length = len(file) - at - len(member.unused_data)
        yield at, length
        at += length
