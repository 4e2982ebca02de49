"""CloudEvents 1.0.2 on Kafka records: binary and structured mode in, binary mode out.

Owns the mapping between a record and an event. An event is a `dict` in CloudEvents' JSON format:
`specversion`, `id`, `source`, `type`, then `subject`, `time`, `datacontenttype`, `dataschema`,
extensions, and `data` or `data_base64`. It must not know what any event means. Ingress and the
clients call `from_record` and `to_record`; the other codecs take their headers from
`binary_headers`.

How data is read in binary mode
-------------------------------
    content-type                        becomes
    application/json, text/json, +json  `data`, decoded; bytes that are not JSON are refused
    absent                              `data`: JSON if it is, else text; else `data_base64`
    any other                           `data`: text if it is UTF-8 and no other charset is named;
                                        else `data_base64`
    no value (null)                     neither

A structured event's `data_base64` is decoded likewise where its `datacontenttype` says JSON, so
that rules see the same event in either mode. Deliberately wider than the specification: the mode is
found whatever the case of header names; a value that is a JSON object with `specversion` counts as
structured where no content type says otherwise; a plain `traceparent` header takes the place of a
missing extension of that name, and brings the `tracestate` header beside it along.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from mesh.codec import exact_json
from mesh.codec.places import place
from mesh.codec.times import is_rfc3339
from mesh.core.traces import TRACESTATE
from mesh.errors import MalformedRecord
from mesh.ports import Header, OutRecord, Record

SPECVERSION: Final = "1.0"
JSON_CONTENT: Final[Header] = ("content-type", b"application/json")
MAX_JSON_DEPTH: Final = (
    # levels; C decoders and encoders recurse, and the interpreter's limit of 1,000 frames is not
    # ours to use up
    128
)

_PREFIX: Final = "ce_"
_STRUCTURED: Final = "application/cloudevents"
_REQUIRED: Final = ("specversion", "id", "source", "type")
_CORE: Final = frozenset({*_REQUIRED, "subject", "time", "datacontenttype", "dataschema"})
_DATA: Final = frozenset({"data", "data_base64"})
_NOT_IN_BINARY: Final = frozenset({*_DATA, "datacontenttype"})
_ANY_TEXT: Final = frozenset(
    {"id", "source", "type", "subject", "datacontenttype", "dataschema"}
)  # as long as it is printable
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")  # CloudEvents 1.0.2, "Type System", String
_JSON_TYPE: Final = re.compile(r"(application|text)/([^;\s]+\+)?json\s*(;.*)?", re.IGNORECASE)
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


# --- records in -----------------------------------------------------------------------------------


def from_record(record: Record) -> dict[str, Any]:
    """The event that a record carries.

    Raises `MalformedRecord`: which attribute, what is wrong with it, how to fix it.
    """
    try:
        return _from_record(record)
    except _Refused as refusal:
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


class _Refused(MalformedRecord):
    """The problem, without the record's place."""


class _Inexact(_Refused):
    """It is JSON, but something of it would be lost."""


def _from_record(record: Record) -> dict[str, Any]:
    event: dict[str, Any] = {}
    content_type: str | None = None
    hop: str | None = None
    state: str | None = None
    for name, raw in record.headers:
        lower = name.lower()
        if lower[:3] == _PREFIX:
            attribute = lower[3:]
            if attribute in event or attribute in _NOT_IN_BINARY:
                _check_header(event, attribute, _text(name, raw), name)
            event[attribute] = _text(name, raw)
        elif lower == "content-type":
            content_type = _text(name, raw)
        elif lower == "traceparent":
            hop = raw.decode("latin-1")
        elif lower == "tracestate":
            state = raw.decode("latin-1")
    if content_type is not None and is_structured(content_type):
        event = _structured(record.value, content_type)
    elif event:
        if content_type is not None:
            event["datacontenttype"] = content_type
        _add_data(event, record.value, content_type)
    else:
        event = _bare(record.value, content_type)
    problem = _problem(event)
    if problem is not None:
        raise _Refused(problem)
    if hop is not None and "traceparent" not in event and parse_traceparent(hop) is not None:
        event["traceparent"] = hop
        if state is not None and "tracestate" not in event and TRACESTATE.fullmatch(state):
            event["tracestate"] = state
    return event


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise _Refused(f"header {name} is not UTF-8; write its value as UTF-8 text") from error


def _check_header(event: dict[str, Any], attribute: str, value: str, header_name: str) -> None:
    if attribute in _NOT_IN_BINARY:
        raise _Refused(
            f"header {header_name} has no meaning in binary mode; the data is the record's value, its type the header content-type"
        )
    if event[attribute] != value:
        raise _Refused(f"header {header_name} is there twice with different values; send it once")


def is_structured(content_type: str) -> bool:
    """Whether a content type says that the value is the whole event."""
    return content_type[: len(_STRUCTURED)].lower() == _STRUCTURED


def _structured(value: bytes | None, content_type: str) -> dict[str, Any]:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith(_STRUCTURED + "-batch"):
        raise _Refused("content-type is a batch of events; send each event as a record of its own")
    if media_type not in (_STRUCTURED, _STRUCTURED + "+json"):
        raise _Refused(
            f"content-type {media_type} is an event format the mesh can't read; use {_STRUCTURED}+json, or binary mode"
        )
    if not value:
        raise _Refused("structured mode needs the event as the record's value, and the value is empty")
    document = decode_json(value, "the structured event")
    if not isinstance(document, dict):
        raise _Refused('the structured event is not a JSON object; send {"specversion": "1.0", "id": ..., ...}')
    return _normalised(document)


def _normalised(document: dict[str, Any]) -> dict[str, Any]:
    """The event without null attributes, and with JSON data decoded.

    In CloudEvents' JSON format, null means absent.
    """
    event = {name: value for name, value in document.items() if value is not None or name == "data"}
    encoded = event.get("data_base64")
    if encoded is None:
        return event
    if event.get("data") is not None:
        raise _Refused("`data` and `data_base64` are both there; send one of them")
    event.pop("data", None)
    content_type = event.get("datacontenttype")
    if isinstance(content_type, str) and _is_json(content_type):
        event["data"] = decode_json(_decoded(encoded), "`data_base64`")
        del event["data_base64"]
    return event


def _decoded(encoded: Any) -> bytes:
    try:
        return b64decode(encoded, validate=True)
    except (ValueError, TypeError) as error:
        raise _Refused("`data_base64` is not base64; encode the bytes by RFC 4648, section 4") from error


def _bare(value: bytes | None, content_type: str | None) -> dict[str, Any]:
    document = _structured_by_value(value) if content_type is None or _is_json(content_type) else None
    if document is None:
        raise _Refused(
            "this is not a CloudEvent: send the headers ce_specversion, ce_id, ce_source and ce_type (binary mode), "
            f"or the whole event as JSON with the header content-type: {_STRUCTURED}+json (structured mode)"
        )
    return _normalised(document)


def _structured_by_value(value: bytes | None) -> dict[str, Any] | None:
    if not value or b'"specversion"' not in value:
        return None
    try:
        document = decode_json(value, "the event")
    except _Inexact:
        raise
    except _Refused:
        return None
    return document if isinstance(document, dict) and "specversion" in document else None


# --- data -----------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _is_json(content_type: str) -> bool:
    return _JSON_TYPE.fullmatch(content_type.strip()) is not None


@lru_cache(maxsize=256)
def _is_utf8(content_type: str) -> bool:
    match = _CHARSET.search(content_type)
    return match is None or match[1].lower() in ("utf-8", "utf8", "us-ascii")


def _add_data(event: dict[str, Any], value: bytes | None, content_type: str | None) -> None:
    if value is None:
        return
    if content_type is not None and _is_json(content_type):
        if value:
            event["data"] = decode_json(value, f"the data (content-type {content_type})")
        return
    if content_type is None:
        try:
            event["data"] = decode_json(value, "the data")
        except _Inexact:
            raise
        except _Refused:
            pass
        else:
            return
    try:
        if content_type is None or _is_utf8(content_type):
            event["data"] = value.decode()
            return
    except UnicodeDecodeError:
        pass
    event["data_base64"] = b64encode(value).decode()


def decode_json(value: bytes, what: str) -> Any:
    """Decode JSON from outside.

    Raises `MalformedRecord` if it is not JSON, holds a number or a key that would be lost
    (`exact_json`), or nests deeper than `MAX_JSON_DEPTH`; `what` begins the message.
    """
    try:
        document = exact_json.decode(value)
    except exact_json.NotJson as error:
        reason = str(error).removeprefix("not JSON: ")
        raise _Refused(f"{what} is not JSON ({reason}); send valid JSON, or name its real content-type") from error
    except exact_json.JsonRefused as error:
        raise _Inexact(f"{what} can't be taken as it is: {error}") from error
    if value.count(b"[") + value.count(b"{") > MAX_JSON_DEPTH and _depth(document) > MAX_JSON_DEPTH:
        raise _Refused(f"{what} is nested deeper than {MAX_JSON_DEPTH} levels; flatten it, or send it as text")
    return document


def _depth(document: Any) -> int:
    """Levels of objects and arrays, counted only up to the first one too many."""
    level: list[Any] = [document] if isinstance(document, dict | list) else []
    depth = 0
    while level and depth <= MAX_JSON_DEPTH:
        depth += 1
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
    return depth


# --- what makes an event valid --------------------------------------------------------------------


def validate_event(event: Mapping[str, Any]) -> None:
    """Raises `MalformedRecord` unless `event` is a CloudEvent 1.0 in the JSON format."""
    problem = _problem(event)
    if problem is None and "data" in event and "data_base64" in event:
        problem = "`data` and `data_base64` are both there; send one of them"
    if problem is not None:
        raise MalformedRecord(f"event {event.get('id', 'without id')!r}: {problem}")


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
    if type(event.get("data_base64", "")) is not str:
        return "`data_base64` is not a string; encode the bytes by RFC 4648, section 4"
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
    if type(value) is bool or type(value) is int:
        return None
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
        case int() | float():
            return "a number"
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
    validate_event(event)
    content_type, value = _content(event)
    headers: list[Header] = [
        (_PREFIX + name, _attribute_text(attribute).encode())
        for name, attribute in event.items()
        if name not in _DATA and name != "datacontenttype"
    ]
    if content_type is not None:
        headers.append(("content-type", content_type.encode()))
    if key is None and "partitionkey" in event:
        key = _attribute_text(event["partitionkey"]).encode()
    return OutRecord(topic=topic, key=key, value=value, headers=tuple(headers), partition=partition)


def _content(event: Mapping[str, Any]) -> tuple[str | None, bytes | None]:
    content_type: str | None = event.get("datacontenttype")
    if "data_base64" in event:
        try:
            return content_type or "application/octet-stream", _decoded(event["data_base64"])
        except _Refused as refusal:
            raise MalformedRecord(f"event {event['id']!r}: {refusal}") from refusal
    if "data" not in event:
        return content_type, None
    data = event["data"]
    if content_type is not None and not _is_json(content_type) and isinstance(data, str):
        return content_type, data.encode()
    try:
        exact_json.check_value(data)
    except exact_json.JsonRefused as error:
        raise MalformedRecord(f"event {event['id']!r}: `data` can't be sent as it is: {error}") from error
    return content_type or "application/json", orjson.dumps(data)


def _attribute_text(value: Any) -> str:
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
    if version == "ff" or (version == "00" and more) or not trace.strip("0") or not span.strip("0"):
        return None
    return TraceContext(trace, span, sampled=bool(int(flags, 16) & 1))
