"""Batches as foreign producers and damaged disks leave them.

What decodes is read, what does not is named, and reading goes on behind it.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition as KafkaPartition

from mesh.adapters.kafka import batches
from mesh.codec.dead_letters import dead_letter, decode_dead_letter
from mesh.codec.places import place
from mesh.core.topics import Topics
from mesh.ports import Record, UnreadableRecords

PLACE = KafkaPartition("t", 0)
CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
ATTRIBUTES_AT, CRC_AT, COUNT_AT, LAST_DELTA_AT, BODY_AT = 21, 17, 57, 23, 61


def batch(
    base: int, values: Sequence[bytes], *, codec: int = 0, header: str = "h", transactional: bool = False
) -> bytearray:
    builder = DefaultRecordBatchBuilder(2, codec, transactional, 7 if transactional else -1, 0, 0, 1 << 20)
    for offset, value in enumerate(values):
        builder.append(offset, 1_000 + offset, b"k", value, [(header, b"v")])
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base)
    return raw


def sealed(raw: bytearray) -> bytearray:
    """With the checksum that it should have."""
    struct.pack_into(">I", raw, CRC_AT, calc_crc32c(bytes(raw[ATTRIBUTES_AT:])))
    return raw


def with_codec(raw: bytearray, codec: int) -> bytearray:
    (attributes,) = struct.unpack_from(">h", raw, ATTRIBUTES_AT)
    struct.pack_into(">h", raw, ATTRIBUTES_AT, attributes & ~7 | codec)
    return sealed(raw)


def fetch(raw: bytes, at: int, aborted: Sequence[tuple[int, int]] = ()) -> Any:
    return batches.PartitionRecords(PLACE, batches.Batches(raw), list(aborted), at, None, None, True, 1)


def read(raw: bytes, at: int = 0, aborted: Sequence[tuple[int, int]] = ()) -> tuple[list[Any], int]:
    """What a consumer that asks again from its position gets, and its position after that."""
    got: list[Any] = []
    for _ in range(20):
        records = fetch(_from(raw, at), at, aborted)
        found = list(records)
        got += found
        if records.next_fetch_offset == at and not found:
            if not _from(raw, at):
                break
            records = fetch(_from(raw, at), at, aborted)  # a doubted checksum is looked at once more
            got += list(records)
        at = records.next_fetch_offset
    return got, at


def _from(raw: bytes, at: int) -> bytes:
    """As a broker answers: whole batches, from the one that holds the offset on."""
    begin = 0
    while begin < len(raw):
        base, length = struct.unpack_from(">qi", raw, begin)
        (delta,) = struct.unpack_from(">i", raw, begin + LAST_DELTA_AT)
        following = struct.unpack_from(">q", raw, begin + 12 + length)[0] if begin + 12 + length < len(raw) else None
        if at <= base + max(delta, 0) if following is None else at < following:
            return raw[begin:]
        begin += 12 + length
    return b""


def seen(got: Sequence[Any]) -> list[object]:
    return [(r.first_offset, r.offset) if isinstance(r, UnreadableRecords) else r.value for r in got]


@pytest.fixture(autouse=True)
def nothing_doubted() -> Iterator[None]:
    batches.PartitionRecords._doubted.clear()
    yield
    assert not batches.PartitionRecords._doubted


@pytest.mark.parametrize("codec", [0, *CODECS.values()])
def test_batches_of_every_codec_are_read(codec: int) -> None:
    raw = batch(0, [b"a" * 2_000, b"b"], codec=codec) + batch(2, [b"c"])
    got, at = read(bytes(raw))
    assert (seen(got), at) == ([b"a" * 2_000, b"b", b"c"], 3)


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 5, 6, 7])
def test_a_batch_that_its_codec_does_not_decode_is_named_and_passed_over(codec: int) -> None:
    raw = with_codec(batch(0, [b"a", b"b", b"c"]), codec) + batch(3, [b"d"])
    got, at = read(bytes(raw))
    assert (seen(got), at) == ([(0, 2), b"d"], 4)
    assert got[0].reason


@pytest.mark.parametrize("codec", [0, *CODECS.values()])
def test_a_batch_with_a_wrong_checksum_is_fetched_once_more_and_then_passed_over(codec: int) -> None:
    damaged = batch(0, [b"a" * 50, b"b"], codec=codec)
    damaged[-3] ^= 0xFF
    raw = bytes(batch(-1, []))[:0] + bytes(damaged) + bytes(batch(2, [b"c"]))
    once = fetch(raw, 0)
    assert (list(once), once.next_fetch_offset) == ([], 0)
    again = fetch(raw, 0)
    assert (seen(list(again)), again.next_fetch_offset) == ([(0, 1), b"c"], 3)
    assert read(bytes(damaged))[1] == 2


def test_a_fault_of_the_wire_costs_nothing() -> None:
    sound = batch(0, [b"a"])
    damaged = bytearray(sound)
    damaged[-1] ^= 0xFF
    assert list(fetch(bytes(damaged), 0)) == []
    assert seen(list(fetch(bytes(sound), 0))) == [b"a"]


def test_a_header_that_does_not_agree_with_itself_moves_by_one_offset_alone() -> None:
    damaged = batch(0, [b"a", b"b"])
    struct.pack_into(">i", damaged, LAST_DELTA_AT, 1_000_000)
    list(fetch(bytes(damaged), 0))
    records = fetch(bytes(damaged), 0)
    assert (seen(list(records)), records.next_fetch_offset) == ([(0, 0)], 1)


def test_a_record_that_does_not_decode_costs_its_neighbours_nothing() -> None:
    raw = batch(0, [b"aaaa", b"bbbb", b"cccc"])
    at = raw.index(b"bbbb") - 1
    raw[at] = 0x7E  # its value is said to be longer than the record
    got, position = read(bytes(sealed(raw)) + bytes(batch(3, [b"d"])))
    assert (seen(got), position) == ([b"aaaa", (1, 1), b"cccc", b"d"], 4)


def test_a_header_whose_name_is_no_utf8_is_no_fault() -> None:
    raw = batch(0, [b"a", b"b"], header="XX")
    while b"XX" in raw:
        raw[raw.index(b"XX")] = 0xFF
    got, at = read(bytes(sealed(raw)))
    assert (seen(got), at) == ([b"a", b"b"], 2)
    assert got[0].headers == (("\ufffdX", b"v"),)
    assert (got[0].key, got[1].timestamp) == (b"k", 1_001)


def test_records_that_a_count_promises_and_that_are_not_there_are_one_gap() -> None:
    raw = batch(0, [b"a"])
    struct.pack_into(">i", raw, COUNT_AT, 3)
    struct.pack_into(">i", raw, LAST_DELTA_AT, 2)
    got, at = read(bytes(sealed(raw)) + bytes(batch(3, [b"d"])))
    assert (seen(got), at) == ([b"a", (1, 2), b"d"], 4)


def test_an_undecodable_batch_of_an_aborted_transaction_is_nobodys_dead_letter() -> None:
    raw = with_codec(batch(0, [b"a", b"b"], transactional=True), 7) + batch(2, [b"c"])
    got, at = read(bytes(raw), aborted=[(7, 0)])
    assert (seen(got), at) == ([b"c"], 3)


def test_reading_may_begin_inside_a_batch_that_does_not_decode() -> None:
    got, at = read(bytes(with_codec(batch(0, [b"a", b"b", b"c"]), 7) + batch(3, [b"d"])), at=1)
    assert (seen(got), at) == ([(1, 2), b"d"], 4)


def test_every_bit_of_a_batch_may_be_wrong_and_the_next_batch_is_read() -> None:
    """With its checksum made to hold, so that any result of a decoder is seen."""
    sound = batch(0, [b"one", b"two"])
    for index in range(BODY_AT, len(sound)):
        for bit in range(8):
            raw = bytearray(sound)
            raw[index] ^= 1 << bit
            got, at = read(bytes(sealed(raw)) + bytes(batch(2, [b"c"])))
            assert at == 3, (index, bit)
            assert seen(got)[-1] == b"c", (index, bit)


def test_the_dead_letter_of_what_does_not_decode_has_its_place_and_the_reason() -> None:
    unreadable = UnreadableRecords("mesh.events", 3, 9, -1, None, None, (), 5, "unknown codec")
    letter = dead_letter(
        unreadable, code="malformed", message="no value", component="ingress", group="g", topics=Topics(), at_ms=1
    )
    read_back = decode_dead_letter(Record("mesh.dlq", 0, 0, 1, letter.key, letter.value, letter.headers))
    assert (read_back.code, read_back.id) == ("unreadable", "mesh.events/3/9")
    assert "mesh.events/3, offset 5 to 9, can't be decoded (unknown codec)" in read_back.message
    assert place(unreadable) == "mesh.events, partition 3, offsets 5 to 9"
