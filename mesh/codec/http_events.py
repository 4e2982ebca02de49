"""CloudEvents in HTTP requests: binary, structured and batched mode.

Owns the mapping of a request to events (CloudEvents 1.0.2, "HTTP Protocol Binding"). An event in a
request meets the same rules as one in a record, since the request is read as the record that it
would be: `ce-id` is `ce_id`. It must not know who sends, or whether they may. The gateway calls it.
"""

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from mesh.codec.cloudevents import BatchOfEvents, from_record
from mesh.codec.event_batches import member_words, members_of
from mesh.codec.places import place
from mesh.errors import MalformedRecord
from mesh.ports import Header, Record

_PREFIX: Final = b"ce-"
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)
_AS_RECORD: Final = re.compile(r"(?<= )ce_(?=[a-z])")
_OTHERS: Final = frozenset({b"content-type", b"traceparent", b"tracestate"})


def events_of_request(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> list[dict[str, Any]]:
    """The events of a request, in CloudEvents' JSON format and in their order.

    `headers`: names and values as bytes, names in any case. Raises `MalformedRecord`: which event
    of a batch, which attribute, what is wrong with it, how to fix it. An empty batch has no events.
    """
    record = Record("the request", 0, 0, 0, None, body, tuple(_kept(headers)))
    try:
        return [from_record(record)]
    except BatchOfEvents:
        pass
    except MalformedRecord as error:
        raise MalformedRecord(_of_http(str(error), record)) from error
    try:
        members = members_of(record)
    except MalformedRecord as error:
        raise MalformedRecord(_of_http(str(error), record)) from error
    return [_member(member, number) for number, member in enumerate(members, 1)]


def _kept(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[Header]:
    for name, value in headers:
        lower = name.lower()
        if lower.startswith(_PREFIX):
            yield "ce_" + lower[3:].decode("latin-1"), _attribute(value)
        elif lower in _OTHERS:
            yield lower.decode("latin-1"), value


def _attribute(value: bytes) -> bytes:
    """The attribute that a header's value means ("HTTP Header Values")."""
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        value = _QUOTED_PAIR.sub(rb"\1", value[1:-1])
    return unquote_to_bytes(value)


def _member(member: Record, number: int) -> dict[str, Any]:
    try:
        return from_record(member)
    except MalformedRecord as error:
        raise MalformedRecord(member_words(number) + _of_http(str(error), member)) from error


def _of_http(message: str, record: Record) -> str:
    """A message about a record, as it is said of a request."""
    return _AS_RECORD.sub("ce-", message.removeprefix(f"{place(record)}: "))
