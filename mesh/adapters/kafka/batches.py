"""Batches that can't be decoded, passed over instead of met again and again.

Owns one patch of aiokafka, its `PartitionRecords`, laid on by `pass_over_unreadable` when a broker
is opened, and nothing at import. It must change nothing for a batch that is sound. Called by
`broker`; `consumers` hands on what it makes.

aiokafka 0.14 raises where a batch does not decode, and stays where it is, so that the partition is
never read past it. Here such a batch becomes one `UnreadableRecords`, which says where it is
and why, and the reading goes on behind it:

* A record that does not decode costs its neighbours nothing: each record carries its length. A
  header's name that is not UTF-8 is no fault (Java clients read and write such names).
* A checksum that does not hold may be a fault of the wire, so the batch is fetched once more before
  it is given up. Of its header only what agrees with itself is believed: too short a step costs a
  fetch, too long a one would lose records.
* Records of an aborted transaction are passed over undecoded, as ever.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import codec
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBase
from aiokafka.record.util import decode_varint
from aiokafka.structs import ConsumerRecord

from mesh.ports import UnreadableRecords

_BEGIN: Final = struct.Struct(">qi")  # of each batch: its first offset, and the bytes that follow
_HEADER: Final = DefaultRecordBase.HEADER_STRUCT  # of a batch of format 2, the one since Kafka 0.11
_MAGIC_AT: Final = struct.calcsize(">qii")
_UNKNOWN_MS: Final = -1
_DECODERS: Final = {
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: codec.lz4_decode,
    4: codec.zstd_decode,
}

_PlainRecords: Any = fetcher.PartitionRecords
_PlainMemory: Any = fetcher.MemoryRecords


def pass_over_unreadable() -> None:
    """Let every consumer of this process read as below. Again makes no difference."""
    fetcher.MemoryRecords = Batches
    fetcher.PartitionRecords = PartitionRecords


class Batches:
    """The batches of one fetch of a partition.

    It is aiokafka's `MemoryRecords`, and also shows the bytes of the batch that it gave last.
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._plain = _PlainMemory(raw)
        self._begin = self._end = 0
        self.has_next = self._plain.has_next
        self.size_in_bytes = self._plain.size_in_bytes

    def next_batch(self) -> Any:
        self._begin = self._end
        _, length = _BEGIN.unpack_from(self._raw, self._begin)
        self._end = self._begin + _BEGIN.size + length
        return self._plain.next_batch()

    @property
    def given(self) -> bytes:
        return self._raw[self._begin : self._end]

    def next_offset(self) -> int | None:
        """Where the batch behind the given one begins; None where this fetch has none."""
        return int(_BEGIN.unpack_from(self._raw, self._end)[0]) if self.has_next() else None


class PartitionRecords(_PlainRecords):  # type: ignore[misc] # aiokafka is untyped here
    """What one fetch brought of a partition: an iterator over its records, in order."""

    next_fetch_offset: int

    # Where a checksum did not hold at the last look: partitions and offsets.
    _doubted: Final[set[tuple[Any, int]]] = set()

    def _unpack_records(self) -> Iterator[Any]:
        while self._records.has_next():
            begin = self.next_fetch_offset
            try:
                batch = self._records.next_batch()
            except CorruptRecordException as error:  # too short for a header: nothing of it is known
                yield self._give_up(begin + 1, _UNKNOWN_MS, error)
                return
            if self._check_crcs and not batch.validate_crc():
                if (self._tp, begin) not in self._doubted:
                    self._doubted.add((self._tp, begin))
                    return  # the position stays, so it is fetched once more
                self._doubted.discard((self._tp, begin))
                yield self._give_up(self._believed_end(begin), _UNKNOWN_MS, "its checksum does not hold")
                continue
            if self._doubted:
                self._doubted.discard((self._tp, begin))
            if self._is_to_be_read(batch):
                yield from self._records_of(batch)
            # A batch keeps its last offset also where its last records were compacted away.
            self.next_fetch_offset = max(self.next_fetch_offset, batch.next_offset)

    def _believed_end(self, begin: int) -> int:
        """The offset behind a batch whose checksum does not hold."""
        behind = self._records.next_offset()
        if behind is not None:
            return int(behind)
        raw = self._records.given
        if len(raw) < _HEADER.size:
            return begin + 1
        first, *_, last_delta, _, _, _, _, _, count = _HEADER.unpack_from(raw)
        return int(first + count) if 0 < count == last_delta + 1 else begin + 1

    def _is_to_be_read(self, batch: Any) -> bool:
        """False for a transaction's marker, and for what was written in one that was aborted."""
        if self._isolation_level == fetcher.READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return False
        return not batch.is_control_batch

    def _records_of(self, batch: Any) -> Iterator[Any]:
        end, tp = batch.next_offset, self._tp
        try:
            for record in batch:
                offset = record.offset
                if offset >= end:  # to believe it would pass over what lies behind the batch
                    error = CorruptRecordException(f"a record in it claims the offset {offset}")
                    yield from self._one_by_one(batch, error)
                    return
                # a fetch begins with the whole batch that holds its offset, so
                # the first records may be old
                if offset >= self.next_fetch_offset:
                    read = self._consumer_record(tp, record)
                    self.next_fetch_offset = offset + 1
                    yield read
        except Exception as raised:  # noqa: BLE001 - whatever a codec or a parser raises is about these bytes
            yield from self._one_by_one(batch, raised)

    def _one_by_one(self, batch: Any, error: Exception) -> Iterator[Any]:
        """The rest of a batch of which something does not decode."""
        raw, end = self._records.given, batch.next_offset
        is_new = len(raw) >= _HEADER.size and raw[_MAGIC_AT] >= 2  # noqa: PLR2004 - the format that carries lengths
        found = _taken_apart(raw) if is_new else ()
        for part in found:
            if part.offset < self.next_fetch_offset:
                continue
            if part.fields is None:
                yield self._give_up(part.offset + 1, part.timestamp_ms, error)
                continue
            self.next_fetch_offset = part.offset + 1
            key, value, headers = part.fields
            sizes = (-1 if key is None else len(key), -1 if value is None else len(value))
            yield ConsumerRecord(
                *self._tp, part.offset, part.timestamp_ms, batch.timestamp_type, key, value, None, *sizes, headers
            )
        if self.next_fetch_offset < end:
            yield self._give_up(end, _UNKNOWN_MS, error)

    def _give_up(self, end: int, timestamp_ms: int, why: object) -> UnreadableRecords:
        """Stand in for the records from here to `end`, and go on behind them."""
        begin = self.next_fetch_offset
        self.next_fetch_offset = max(end, begin + 1)
        return UnreadableRecords(
            topic=self._tp.topic,
            partition=self._tp.partition,
            offset=self.next_fetch_offset - 1,
            timestamp_ms=timestamp_ms,
            key=None,
            value=None,
            headers=(),
            first_offset=begin,
            reason=str(why) or repr(why),
        )


class _Part(NamedTuple):
    """One record of a batch; `fields` (key, value, headers) is None where they don't decode."""

    offset: int
    timestamp_ms: int
    fields: tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]] | None


def _taken_apart(raw: bytes) -> Sequence[_Part]:
    """The records of a batch, as far as their lengths can be followed.

    Slower than aiokafka, and more patient.
    """
    first, _, _, _, _, attributes, last_delta, first_ms, max_ms, _, _, _, count = _HEADER.unpack_from(raw)
    body: bytes = raw[_HEADER.size :]
    parts: list[_Part] = []
    try:
        if attributes & DefaultRecordBase.CODEC_MASK:
            body = bytes(_DECODERS[attributes & DefaultRecordBase.CODEC_MASK](body))
        at, offset = 0, first - 1
        for _ in range(count):
            length, at = decode_varint(body, at)
            if length < 0 or at + length > len(body) or offset >= first + last_delta:
                break
            is_appended = attributes & DefaultRecordBase.TIMESTAMP_TYPE_MASK
            part = _part(body[at : at + length], first, max_ms if is_appended else None, first_ms)
            if part is None or not offset < part.offset <= first + last_delta:
                part = _Part(offset + 1, max_ms, None)
            offset, at = part.offset, at + length
            parts.append(part)
    except Exception:  # noqa: BLE001 - as above; what could be followed counts
        return parts
    return parts


def _part(raw: bytes, first: int, appended_ms: int | None, first_ms: int) -> _Part | None:
    """One record; None where not even its offset can be told."""
    try:
        delta_ms, at = decode_varint(raw, 1)
        delta, at = decode_varint(raw, at)
    except (ValueError, IndexError):
        return None
    timestamp_ms = first_ms + delta_ms if appended_ms is None else appended_ms
    try:
        key, at = _bytes(raw, at)
        value, at = _bytes(raw, at)
        count, at = decode_varint(raw, at)
        headers: list[tuple[str, bytes | None]] = []
        for _ in range(count):
            name, at = _bytes(raw, at)
            held, at = _bytes(raw, at)
            headers.append(((name or b"").decode("utf-8", "replace"), held))
    except (ValueError, IndexError):
        return _Part(first + delta, timestamp_ms, None)
    return _Part(first + delta, timestamp_ms, (key, value, tuple(headers)))


def _bytes(raw: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = decode_varint(raw, at)
    if length < 0:
        return None, at
    if at + length > len(raw):
        raise ValueError(length)
    return raw[at : at + length], at + length
