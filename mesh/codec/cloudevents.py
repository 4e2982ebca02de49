"""CloudEvents 1.0.2 on Kafka records: binary and structured mode in, binary mode out.

Owns the mapping between a record and an event. An event is a `dict` in CloudEvents' JSON format:
`specversion`, `id`, `source`, `type`, then `subject`, `time`, `datacontenttype`, `dataschema`,
extensions, and `data` or `data_base64`. It must not know what any event means. Ingress and the
clients call `from_record` and `to_record`; the other codecs take their headers from
`binary_headers`.

One event in every mode
-----------------------
What rules see does not depend on the mode. `normal_event` is the rule:

- An extension is a string: `5` is "5" and `true` is "true", as binary mode has it (CloudEvents,
  "Type System"). Its name is in lower case.
- An attribute that is null or empty is absent: producers write headers without a value for what an
  event does not have.
- Data has the shape of its content type (`event_data`); without one it is JSON, and says so.

Deliberately wider than the specification: the mode is found whatever the case of header names; a
value that is a JSON object with `specversion` counts as structured where no content type says
otherwise; the header `ce_datacontenttype` is taken if it agrees with `content-type`, or is alone; a
plain `traceparent` header takes the place of a missing extension of that name, and brings the
`tracestate` header beside it along.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from mesh.codec.event_data import (
    Inexact,
    Refused,
    data_bytes,
    decode_json,
    is_json,
    put_bytes,
    same_content,
    settle_members,
)
from mesh.codec.places import place
from mesh.codec.times import is_rfc3339
from mesh.core.traces import TRACESTATE
from mesh.errors import MalformedRecord
from mesh.ports import Header, OutRecord, Record

SPECVERSION: Final = "1.0"
JSON_CONTENT: Final[Header] = ("content-type", b"application/json")

_PREFIX: Final = "ce_"
_STRUCTURED: Final = "application/cloudevents"
_BATCH: Final = _STRUCTURED + "-batch"
_REQUIRED: Final = ("specversion", "id", "source", "type")
_CORE: Final = frozenset({*_REQUIRED, "subject", "time", "datacontenttype", "dataschema"})
_DATA: Final = frozenset({"data", "data_base64"})
_ANY_TEXT: Final = frozenset(
    {"id", "source", "type", "subject", "datacontenttype", "dataschema"}
)  # as long as it is printable
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")  # CloudEvents 1.0.2, "Type System", String
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


# --- records in -----------------------------------------------------------------------------------


def from_record(record: Record) -> dict[str, Any]:
    """The event that a record carries.

    Raises `MalformedRecord`: which attribute, what is wrong with it, how to fix it. And
    `BatchOfEvents` of its kind, for a record that carries several.
    """
    try:
        return _from_record(record)
    except BatchOfEvents:
        raise BatchOfEvents(f"{place(record)}: it is a batch of events; send each as a record of its own") from None
    except Refused as refusal:
        raise MalformedRecord(f"{place(record)}: {refusal}") from refusal.__cause__


def is_cloud_event(record: Record) -> bool:
    """Whether a record means to be a CloudEvent, valid or not.

    By its headers, or by a structured value.
    """
    for name, value in record.headers:
        lower = name.lower()
        if lower.startswith(_PREFIX) or (lower == "content-type" and is_structured(_text(name, value))):
            return True
    return _structured_by_value(record.value) is not None


class BatchOfEvents(Refused):
    """The record is in batched mode: `event_batches` has its events."""


def _from_record(record: Record) -> dict[str, Any]:
    event: dict[str, Any] = {}
    content_type: str | None = None
    hop: str | None = None
    state: str | None = None
    problem: str | None = None
    for name, raw in record.headers:
        lower = name.lower()
        if lower[:3] == _PREFIX:
            attribute = lower[3:]
            if not raw and attribute not in _REQUIRED:
                continue  # absent
            text = _text(name, raw)
            if attribute in event or attribute in _DATA:
                # noted, not raised: in structured mode these headers mean nothing
                problem = problem or _header_problem(event, attribute, text, name)
            event[attribute] = text
        elif lower == "content-type" and raw:
            text = _text(name, raw)
            if content_type is not None and not same_content(content_type, text):
                raise Refused(_TWICE.format(name))
            content_type = text if content_type is None else content_type
        elif lower == "traceparent":
            hop = raw.decode("latin-1")
        elif lower == "tracestate":
            state = raw.decode("latin-1")
    # the content type goes first: with it, `ce_` headers are only copies for those who route by
    # them
    if content_type is not None and is_structured(content_type):
        event = _structured(record.value, content_type)
    elif event:
        if problem is not None:
            raise Refused(problem)
        _settle_binary(event, record.value, content_type)
    else:
        event = _bare(record.value, content_type)
    problem = _problem(event)
    if problem is not None:
        raise Refused(problem)
    if hop is not None and not event.get("traceparent") and parse_traceparent(hop) is not None:
        event["traceparent"] = hop
        if state is not None and not event.get("tracestate") and TRACESTATE.fullmatch(state):
            event["tracestate"] = state
    return event


_TWICE: Final = "header {} is there twice with different values; send it once"


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"header {name} is not UTF-8; write its value as UTF-8 text") from error


def _header_problem(event: dict[str, Any], attribute: str, value: str, header_name: str) -> str | None:
    if attribute in _DATA:
        return (
            f"header {header_name} has no meaning in binary mode; "
            "the data is the record's value, its type the header content-type"
        )
    return _TWICE.format(header_name) if event[attribute] != value else None


def _settle_binary(event: dict[str, Any], value: bytes | None, content_type: str | None) -> None:
    named = event.get("datacontenttype")
    if content_type is not None:
        if named is not None and not same_content(named, content_type):
            raise Refused(
                f"header ce_datacontenttype is {named!r}, and content-type is {content_type!r}; "
                "send content-type alone, or the same in both"
            )
        event["datacontenttype"] = content_type
    if value is not None:
        put_bytes(event, value, "the data" if content_type is None else f"the data (content-type {content_type})")


def is_structured(content_type: str) -> bool:
    """Whether a content type says that the value is the whole event."""
    return content_type[: len(_STRUCTURED)].lower() == _STRUCTURED


def _structured(value: bytes | None, content_type: str) -> dict[str, Any]:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in (_BATCH, _BATCH + "+json"):
        raise BatchOfEvents
    if media_type not in (_STRUCTURED, _STRUCTURED + "+json"):
        raise Refused(
            f"content-type {media_type} is an event format the mesh can't read; use {_STRUCTURED}+json, or binary mode"
        )
    if not value:
        raise Refused("structured mode needs the event as the record's value, and the value is empty")
    document = decode_json(value, "the structured event", around=1)
    if not isinstance(document, dict):
        raise Refused('the structured event is not a JSON object; send {"specversion": "1.0", "id": ..., ...}')
    return _normalised(document)


def _bare(value: bytes | None, content_type: str | None) -> dict[str, Any]:
    if value is None:
        raise Refused(
            "a record without a value and without ce_ headers is a tombstone, and not an event; "
            "let its producer leave it out (Debezium: tombstones.on.delete=false)"
        )
    document = _structured_by_value(value) if content_type is None or is_json(content_type) else None
    if document is None:
        raise Refused(
            "this is not a CloudEvent: send the headers ce_specversion, ce_id, ce_source and ce_type (binary mode), "
            f"or the whole event as JSON with the header content-type: {_STRUCTURED}+json (structured mode)"
        )
    return _normalised(document)


def _structured_by_value(value: bytes | None) -> dict[str, Any] | None:
    # a quick look, so that other JSON is not decoded for nothing
    if not value or b'"specversion"' not in value:
        return None
    try:
        document = decode_json(value, "the event", around=1)
    # it is JSON, and its sender must hear what would be lost of it
    except Inexact:
        raise
    except Refused:
        return None
    return document if isinstance(document, dict) and "specversion" in document else None


# --- one event in every mode ----------------------------------------------------------------------


def normal_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event as rules see it, in whatever mode it is sent.

    Raises `MalformedRecord` unless it is a CloudEvent 1.0 in the JSON format.
    """
    try:
        normal = _normalised(event)
    except Refused as refusal:
        raise _of_event(event, str(refusal)) from refusal
    problem = _problem(normal)
    if problem is not None:
        raise _of_event(event, problem)
    return normal


def present(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event without attributes that are null: in the JSON format they are absent."""
    return {name: value for name, value in event.items() if value is not None or name == "data"}


def _of_event(event: Mapping[str, Any], problem: str) -> MalformedRecord:
    return MalformedRecord(f"event {event.get('id', 'without id')!r}: {problem}")


def _normalised(document: Mapping[str, Any]) -> dict[str, Any]:
    event: dict[str, Any] = {}
    for name, value in document.items():
        if name in _DATA:
            event[name] = value
        elif value is None or (value == "" and name not in _REQUIRED):
            continue  # absent
        elif name in _CORE:
            event[name] = value
        else:
            _put_extension(event, name, value)
    settle_members(event)
    return event


def _put_extension(event: dict[str, Any], name: str, value: Any) -> None:
    lower = name.lower() if name.isascii() else name
    if lower in _CORE or lower in _DATA:
        raise Refused(f"attribute `{name}` is written `{lower}`")
    text = _attribute_text(value) if type(value) is int or type(value) is bool else value
    # two spellings of one name are one attribute
    if event.setdefault(lower, text) != text:
        raise Refused(f"attribute `{lower}` is there twice with different values; send it once")


# --- what makes an event valid --------------------------------------------------------------------


def _problem(event: Mapping[str, Any]) -> str | None:
    for name in _REQUIRED:
        if name not in event:
            return f"attribute `{name}` is missing; send it as header ce_{name} (binary mode) or as member {name!r} (structured mode)"
    for name, value in event.items():
        if name in _DATA or (name in _ANY_TEXT and type(value) is str and value and value.isprintable()):
            continue
        problem = _core_problem(name, value) if name in _CORE else _extension_problem(name, value)
        if problem is not None:
            return f"attribute `{name}` {problem}"
    return None


def _core_problem(name: str, value: Any) -> str | None:
    if type(value) is not str:
        return f"is {_json_type(value)}, and must be a string; put it in quotes"
    if not value:
        return "is empty; give it a value, or leave it out" if name not in _REQUIRED else "is empty; give it a value"
    if name == "specversion" and value != SPECVERSION:
        return f"is {value!r}; the mesh reads CloudEvents {SPECVERSION}"
    if name == "time" and not is_rfc3339(value):
        return f"is {value!r}, which is not an RFC 3339 time; write it like 2026-11-24T09:00:00Z"
    return _string_problem(value)


def _extension_problem(name: str, value: Any) -> str | None:
    if not (name.isascii() and name.isalnum() and name == name.lower()):
        return "has no valid name; use lower-case letters a-z and digits only"
    if type(value) is str:
        return _string_problem(value)
    return f"is {_json_type(value)}; an extension is a string, a boolean or an integer: put the rest into `data`"


def _string_problem(value: str) -> str | None:
    if not value.isprintable() and _CONTROL.search(value):
        return "holds a control character; percent-escape it, or leave it out"
    return None


def _json_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "a number"
        case float():
            return "a number with a fraction"
        case str():
            return "a string"
        case list() | tuple():
            return "an array"
        case _:
            return "an object"


# --- records out ----------------------------------------------------------------------------------


def to_record(
    event: Mapping[str, Any], *, topic: str, key: bytes | None = None, partition: int | None = None
) -> OutRecord:
    """An event as a record in binary mode.

    Without `key`, the extension `partitionkey` is the key, if there is one. Raises
    `MalformedRecord` if the event is not valid.
    """
    normal = normal_event(event)
    try:
        value = data_bytes(normal)
    except Refused as refusal:
        raise _of_event(event, str(refusal)) from refusal
    headers: list[Header] = [
        (_PREFIX + name, attribute.encode())
        for name, attribute in normal.items()
        if name not in _DATA and name != "datacontenttype"
    ]
    if "datacontenttype" in normal:
        headers.append(("content-type", normal["datacontenttype"].encode()))
    if key is None and "partitionkey" in normal:
        key = normal["partitionkey"].encode()
    return OutRecord(topic=topic, key=key, value=value, headers=tuple(headers), partition=partition)


def _attribute_text(value: bool | int) -> str:  # noqa: FBT001 - a value, not a switch
    """CloudEvents' canonical string form of an attribute."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@lru_cache(maxsize=4096)
def _constant_headers(source: str, event_type: str) -> tuple[Header, ...]:
    return (("ce_specversion", b"1.0"), JSON_CONTENT, ("ce_source", source.encode()), ("ce_type", event_type.encode()))


def binary_headers(
    *,
    id: str,  # noqa: A002 - CloudEvents' own names
    source: str,
    type: str,  # noqa: A002 - CloudEvents' own names
    workflow_id: str | None = None,
    causation_id: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
    time: str | None = None,
    subject: str | None = None,
) -> tuple[Header, ...]:
    """The headers of one of the mesh's own records, whose data is JSON.

    There must be few different sources and types: their headers are cached.
    """
    headers = (*_constant_headers(source, type), ("ce_id", id.encode()))
    if workflow_id is not None:
        headers += (("ce_correlationid", workflow_id.encode()),)
    if causation_id is not None:
        headers += (("ce_causationid", causation_id.encode()),)
    if traceparent is not None:
        headers += (("traceparent", traceparent.encode()),)
    if tracestate:
        headers += (("tracestate", tracestate.encode()),)
    if time is not None:
        headers += (("ce_time", time.encode()),)
    if subject is not None:
        headers += (("ce_subject", subject.encode()),)
    return headers


def header(record: Record, name: str) -> str | None:
    """A header's text, found by its name in lower case; None if it is missing or not UTF-8."""
    for own, value in record.headers:
        if own == name or own.lower() == name:
            return value.decode(errors="replace")
    return None


# --- trace context (W3C Trace Context, level 1) ---------------------------------------------------


class TraceContext(NamedTuple):
    """A place in a trace.

    `trace_id`: 32 hexadecimal digits. `span_id`: 16, the caller's span. `sampled`: the caller's
    wish.
    """

    trace_id: str
    span_id: str
    sampled: bool = True


def parse_traceparent(text: str | None) -> TraceContext | None:
    """The parts of a traceparent.

    None if there is none, or if the standard says to ignore it.
    """
    match = _TRACEPARENT.fullmatch(text) if text else None
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    # only later versions may have more fields (W3C, section 3.2)
    if version == "ff" or (version == "00" and more) or not trace.strip("0") or not span.strip("0"):
        return None
    return TraceContext(trace, span, sampled=bool(int(flags, 16) & 1))
