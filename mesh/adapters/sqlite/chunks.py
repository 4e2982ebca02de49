"""Records as bytes: a chunk is a list of [key, value, headers] in MessagePack.

Owns this form. It must not know the file: `log` calls it. The row has the chunk's offsets and time
in columns of its own.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from mesh.ports import Header, OutRecord, Record

CHUNK_RECORDS: Final = 512  # a reader decodes whole chunks, so they stay small enough for a portion
CHUNK_BYTES: Final = 1 << 17

_Item = tuple[bytes | None, bytes | None, tuple[Header, ...]]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[_Item]).decode


def chunks_of(records: Sequence[OutRecord], *, singly: bool) -> list[tuple[int, bytes]]:
    """Return (count, payload) for each chunk, in order.

    `singly`: each chunk has one record, so that compaction can drop it.
    """
    if len(records) == 1 or singly:
        return [(1, _encode(((record.key, record.value, record.headers),))) for record in records]
    return [
        (len(part), _encode([(record.key, record.value, record.headers) for record in part]))
        for part in _portions(records)
    ]


def _portions(records: Sequence[OutRecord]) -> Iterator[Sequence[OutRecord]]:
    start = size = 0
    for index, record in enumerate(records):
        length = len(record.value or b"")
        if index > start and (size + length > CHUNK_BYTES or index - start >= CHUNK_RECORDS):
            yield records[start:index]
            start, size = index, 0
        size += length
    yield records[start:]


def records_of(topic: str, partition: int, first: int, timestamp_ms: int, payload: bytes) -> list[Record]:
    """The chunk's records, their offsets counted from `first`."""
    return [
        Record(topic, partition, offset, timestamp_ms, key, value, headers)
        for offset, (key, value, headers) in enumerate(_decode(payload), first)
    ]


def keys_of(payload: bytes) -> list[tuple[bytes | None, bool]]:
    """Each record's key, and whether it is a tombstone."""
    return [(key, value is None) for key, value, _ in _decode(payload)]


def without_first(payload: bytes, count: int) -> bytes:
    """The chunk without its first `count` records."""
    return _encode(_decode(payload)[count:])
