"""An exported log as a file: lines of JSON, compressed by gzip.

Owns the format. The first line is the head: what the file is of, and what it must give. All others
are records as the broker had them, one a line: first the log, partition by partition, then what
else a mesh needs. `at` is the broker's time; `key` and `value` are text, or base64 where the record
says so.

    {"export": 1, "mesh": "mesh.@<cluster>", "partitions": 16, "lines": 4711, ..., "sum": "..."}
    {"topic": "log", "partition": 3, "offset": 17, "at": 1764500000000, "key": ..., "sum": "..."}

Each line ends with a sum over its own text and the sum of the line before it. So a line that was
changed, lost, doubled or moved is noticed at its number; the head has the last sum.
"""

import gzip
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from hashlib import blake2b
from typing import BinaryIO, Final

import msgspec

from mesh.errors import OperatorError
from mesh.ports import Header, Record

VERSION: Final = 1
_SUM: Final = 16  # hexadecimal digits
_TAIL: Final = len(',"sum":""}') + _SUM
_LEVEL: Final = 3  # of gzip: 9 takes ten times as long for a tenth less


class ExportInvalid(OperatorError):
    """The file is no export, or a line of it is not as it was written. The message says which."""


class LogPart(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of the log, and what its fold gives.

    `states`: a digest over each workflow's id and state, in the order of the ids.
    """

    partition: int
    records: int
    next_offset: int
    workflows: int
    states: str


class ExportHead(msgspec.Struct, frozen=True, kw_only=True):
    """The first line.

    `unread`: records by topic that nobody had decided on: they are not here. `agents`: those that
    had a topic for their tasks, so that the first task for one is not undeliverable elsewhere.
    """

    export: int
    mesh: str
    prefix: str
    partitions: int
    at: str
    by: str
    version: str
    lines: int  # records in the file
    last_sum: str  # of the last of them
    topics: dict[str, int]  # records by topic, without the prefix
    log: tuple[LogPart, ...]
    unread: dict[str, int]
    agents: tuple[str, ...] = ()


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    topic: str
    partition: int
    offset: int
    at: int
    key: str | None = None
    value: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    base64: bool = False


_encode = msgspec.json.Encoder().encode
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_head = msgspec.json.Decoder(ExportHead).decode


class ExportWriter:
    """Writes the records' lines. `lines` and `sum` are those of what was written so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=_LEVEL, mtime=0)
        self.lines = 0
        self.sum = ""

    def write(self, record: Record, topic: str) -> None:
        """Write a record of `topic`, a name without the mesh's prefix."""
        text, self.sum = _summed(_encode(_line_of(record, topic)), self.sum)
        self._file.write(text)
        self.lines += 1

    def close(self) -> None:
        """Finish the compressed part. The file itself stays open."""
        self._file.close()


def head_bytes(head: ExportHead) -> bytes:
    """The head as a compressed part of its own, to stand before the records'."""
    return gzip.compress(_summed(_encode(head), "")[0], mtime=0)


class ExportReader:
    """Reads a file from its begin. `head` is there at once, `records` gives the rest once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = gzip.GzipFile(fileobj=file, mode="rb")
        text, _ = _checked(self._next(1), "", 1)
        try:
            self.head = _decode_head(text)
        except msgspec.MsgspecError as error:
            raise ExportInvalid(
                f"line 1 is not the head of an export ({error}): `mesh log export` writes one"
            ) from error
        if self.head.export != VERSION:
            raise ExportInvalid(
                f"the file has format {self.head.export}, and this agent-mesh reads {VERSION}: update it"
            )

    def records(self) -> Iterator[Record]:
        """All records, with topics as they are named without a prefix. Raises `ExportInvalid`."""
        before, number = "", 1
        while line := self._next(number + 1):
            number += 1
            if number > self.head.lines + 1:
                raise ExportInvalid(
                    f"line {number} is more than the {self.head.lines + 1:,} lines that the head tells of"
                )
            text, before = _checked(line, before, number)
            yield _record_of(text, number)
        if number != self.head.lines + 1 or before != self.head.last_sum:
            raise ExportInvalid(f"the file ends after line {number:,} of {self.head.lines + 1:,}: it was cut off")

    def _next(self, number: int) -> bytes:
        try:
            return self._file.readline()
        except EOFError as error:
            raise ExportInvalid(f"the file ends within line {number:,}: it was cut off") from error
        except (OSError, zlib.error) as error:
            raise ExportInvalid(f"line {number:,} can't be read: {error}") from error


def _summed(text: bytes, before: str) -> tuple[bytes, str]:
    found = blake2b(text, key=before.encode(), digest_size=_SUM // 2).hexdigest()
    return b'%s,"sum":"%s"}\n' % (text[:-1], found.encode()), found


def _checked(line: bytes, before: str, number: int) -> tuple[bytes, str]:
    """A line without its sum, and the sum. Raises `ExportInvalid` where they do not fit."""
    text = line[: -_TAIL - 1] + b"}"
    wanted, found = _summed(text, before)
    if line != wanted:
        raise ExportInvalid(f"line {number:,} is not as it was written, or a line before it is missing")
    return text, found


def _line_of(record: Record, topic: str) -> _Line:
    about = {"topic": topic, "partition": record.partition, "offset": record.offset, "at": record.timestamp_ms}
    try:
        return msgspec.convert(
            {
                **about,
                "key": record.key if record.key is None else record.key.decode(),
                "value": record.value if record.value is None else record.value.decode(),
                "headers": [(name, value.decode()) for name, value in record.headers],
            },
            _Line,
        )
    except UnicodeDecodeError:
        headers = [(name, _base64(value)) for name, value in record.headers]
        return msgspec.convert(
            {
                **about,
                "key": record.key if record.key is None else _base64(record.key),
                "value": record.value if record.value is None else _base64(record.value),
                "headers": headers,
                "base64": True,
            },
            _Line,
        )


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _record_of(text: bytes, number: int) -> Record:
    try:
        line = _decode_line(text)
    except msgspec.MsgspecError as error:
        raise ExportInvalid(f"line {number:,} is not a record: {error}") from error
    plain = b64decode if line.base64 else str.encode
    headers: tuple[Header, ...] = tuple((name, plain(value)) for name, value in line.headers)
    key = None if line.key is None else plain(line.key)
    value = None if line.value is None else plain(line.value)
    return Record(line.topic, line.partition, line.offset, line.at, key, value, headers)
