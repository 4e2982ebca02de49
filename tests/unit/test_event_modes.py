"""One event in every mode: what rules see, or the refusal, does not depend on how it was sent.

Binary mode is written here as the Kafka binding of CloudEvents says, and not by the mesh's own
encoder, which has a share in the test too.
"""

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from test_codec_cloudevents import EVENT, busy, extension_name, json_value, some_text, text

from mesh.codec.cloudevents import from_record, normal_event, to_record
from mesh.core.ids import run_id
from mesh.errors import MalformedRecord
from mesh.ports import Header, Record

SCHEMA = Path(__file__).parents[2] / "topics" / "schemas" / "event.json"
EVENT_SCHEMA = Draft202012Validator(orjson.loads(SCHEMA.read_bytes()))
STRUCTURED: Header = ("content-type", b"application/cloudevents+json")
TYPES = (
    "application/json",
    "application/vnd.x+json; charset=utf-8",
    "text/plain",
    "text/plain; charset=iso-8859-1",
    "text/plain; charset=nonsense",
    "application/xml",
    "application/octet-stream",
    "application/protobuf",
    "",
)
names = st.sampled_from(["iodebeziumtxId", "UPPER", "with_line", "tenantid"]) | extension_name
extensions = st.none() | text | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(0, 1) | st.just(["x"])
attributes = st.fixed_dictionaries(
    {"id": some_text, "source": some_text, "type": some_text},
    optional={
        "subject": text | st.none(),
        "time": st.sampled_from(["2026-11-24T09:00:00Z", "yesterday", "", None]),
        "dataschema": text | st.none(),
    },
)


def canonical(value: Any) -> bytes:
    """CloudEvents 1.0.2, "Type System": the string form of each type."""
    return orjson.dumps(value) if isinstance(value, bool | int | float | list) else str(value).encode()


def binary(event: dict[str, Any], raw: bytes | None) -> Record:
    headers = [
        (f"ce_{name}", canonical(value))
        for name, value in event.items()
        if value is not None and name not in ("data", "data_base64", "datacontenttype")
    ]
    content_type = event.get("datacontenttype")
    if content_type is None and raw is not None:
        content_type = "application/octet-stream" if "data_base64" in event else "application/json"
    if content_type:
        headers.append(("content-type", content_type.encode()))
    return Record("mesh.events", 0, 0, 0, None, raw, tuple(headers))


def structured(event: dict[str, Any]) -> Record:
    return Record("mesh.events", 0, 0, 0, None, orjson.dumps(event), (STRUCTURED,))


def read(record: Record) -> dict[str, Any] | None:
    try:
        return from_record(record)
    except MalformedRecord:
        return None


def published(event: dict[str, Any]) -> dict[str, Any] | None:
    """As `mesh publish` sends it."""
    try:
        out = to_record(event, topic="mesh.events")
    except MalformedRecord:
        return None
    return from_record(Record("mesh.events", 0, 0, 0, out.key, out.value, out.headers))


def explained(event: dict[str, Any]) -> dict[str, Any] | None:
    """As `mesh routes explain` and the routes' other tools take it."""
    try:
        return normal_event(event)
    except MalformedRecord:
        return None


@st.composite
def events(draw: st.DrawFn) -> tuple[dict[str, Any], bytes | None]:
    """An event in the JSON format, and the bytes of its data."""
    event = {"specversion": "1.0", **draw(st.dictionaries(names, extensions, max_size=3)), **draw(attributes)}
    content_type = draw(st.sampled_from(TYPES))
    event |= {"datacontenttype": content_type} if content_type else {}
    match draw(st.sampled_from(["none", "json", "text", "bytes"])):
        case "json" if not content_type or "json" in content_type:
            data = draw(json_value)
            return {**event, "data": data}, orjson.dumps(data)
        case "text" if content_type and "json" not in content_type:
            data = draw(text)
            latin = "8859" in content_type
            raw = data.encode("latin-1", "replace") if latin else data.encode()
            return {**event, "data": raw.decode("latin-1") if latin else data}, raw
        case "bytes":
            raw = draw(st.binary(max_size=8) | json_value.map(orjson.dumps) | text.map(str.encode))
            return {**event, "data_base64": b64encode(raw).decode()}, raw
        case _:
            return event, None


@busy
@given(events())
def test_an_event_is_the_same_or_refused_in_every_mode(drawn: tuple[dict[str, Any], bytes | None]) -> None:
    event, raw = drawn
    seen = read(structured(event))
    assert published(event) == seen
    assert explained(event) == seen
    if not any(isinstance(value, float | list) for value in event.values() if value is not event.get("data")):
        assert read(binary(event, raw)) == seen
    if seen is not None:
        EVENT_SCHEMA.validate({name: value for name, value in event.items() if value is not None or name in seen})
        EVENT_SCHEMA.validate(seen)
        assert all(type(value) is str for name, value in seen.items() if name != "data")
        assert run_id(seen["source"], seen["id"]) == run_id(event["source"], event["id"])
        assert published(seen) == seen


@busy
@given(st.sampled_from(TYPES), st.binary(max_size=8) | json_value.map(orjson.dumps))
def test_one_content_type_gives_one_shape_whatever_the_bytes(content_type: str, raw: bytes) -> None:
    headers = tuple((f"ce_{name}", value.encode()) for name, value in EVENT.items())
    seen = read(Record("t", 0, 0, 0, None, raw, (*headers, ("content-type", content_type.encode()))))
    if seen is None or not raw:
        return
    is_bytes = content_type in ("application/octet-stream", "application/protobuf")
    assert ("data_base64" in seen) == is_bytes
    assert ("data" in seen) == (not is_bytes)
    if is_bytes:
        assert b64decode(seen["data_base64"]) == raw
    elif not content_type or "json" in content_type:
        assert seen["data"] == orjson.loads(raw)
    else:
        assert type(seen["data"]) is str
