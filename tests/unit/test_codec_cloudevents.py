"""CloudEvents on records: they conform with the CloudEvents SDK both ways.

Also what is refused, and in which words.
"""

import re
from base64 import b64encode
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.codec.cloudevents import (
    TraceContext,
    binary_headers,
    from_record,
    is_cloud_event,
    normal_event,
    parse_traceparent,
    to_record,
)
from mesh.codec.event_data import MAX_JSON_DEPTH
from mesh.codec.times import parse_rfc3339, rfc3339
from mesh.errors import MalformedRecord
from mesh.ports import Header, OutRecord, Record

busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BINARY: tuple[Header, ...] = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"a1"),
    ("ce_source", b"/shop"),
    ("ce_type", b"order.placed"),
)
EVENT = {"specversion": "1.0", "id": "a1", "source": "/shop", "type": "order.placed"}
STRUCTURED: Header = ("content-type", b"application/cloudevents+json; charset=UTF-8")
JSON: Header = ("content-type", b"application/json")


def record(*headers: Header, value: bytes | None = None, key: bytes | None = None) -> Record:
    return Record("mesh.events", 3, 17, 1_700_000_000_000, key, value, headers)


def read_back(out: OutRecord) -> Record:
    return Record(out.topic, 0, 0, 0, out.key, out.value, out.headers)


def structured(event: Any) -> Record:
    return record(STRUCTURED, value=orjson.dumps(event))


# --- both modes -----------------------------------------------------------------------------------


def test_binary_mode_becomes_the_json_format() -> None:
    headers = (
        *BINARY,
        ("ce_subject", b"12"),
        ("ce_time", b"2026-11-24T09:00:00Z"),
        ("ce_tenant", "süd".encode()),
        JSON,
    )
    assert from_record(record(*headers, value=b'{"n": 1}')) == {
        **EVENT,
        "subject": "12",
        "time": "2026-11-24T09:00:00Z",
        "tenant": "süd",
        "datacontenttype": "application/json",
        "data": {"n": 1},
    }


def test_structured_mode_gives_what_binary_mode_gives() -> None:
    event = {**EVENT, "retries": 3, "urgent": True, "data": {"n": [1, None]}}
    text = {**event, "retries": "3", "urgent": "true", "datacontenttype": "application/json"}
    assert from_record(structured(event)) == text
    assert from_record(read_back(to_record(event, topic="t"))) == text


@pytest.mark.parametrize(
    "content_type", [b"APPLICATION/CloudEvents+JSON", b"application/cloudevents", b"application/cloudevents+json"]
)
@pytest.mark.parametrize("name", ["content-type", "Content-Type", "CONTENT-TYPE"])
def test_structured_mode_is_known_whatever_the_case(name: str, content_type: bytes) -> None:
    assert from_record(record((name, content_type), value=orjson.dumps(EVENT))) == EVENT


def test_header_names_are_taken_whatever_their_case() -> None:
    shouted = tuple((name.upper(), value) for name, value in BINARY)
    assert from_record(record(*shouted, ("Content-Type", b"application/json"), value=b"1"))["data"] == 1


def test_the_content_type_decides_where_both_modes_are_there() -> None:
    event = {**EVENT, "id": "from-the-value"}
    assert from_record(record(*BINARY, STRUCTURED, value=orjson.dumps(event)))["id"] == "from-the-value"


@pytest.mark.parametrize("headers", [(), (JSON,)])
def test_a_structured_event_without_its_content_type_is_known_by_its_specversion(headers: tuple[Header, ...]) -> None:
    assert from_record(record(*headers, value=orjson.dumps(EVENT))) == EVENT


def test_attributes_that_are_null_or_empty_are_absent() -> None:
    assert from_record(structured({**EVENT, "subject": None, "tenant": None, "data_base64": None})) == EVENT
    empty = ("subject", "time", "datacontenttype", "dataschema", "tenant")
    assert from_record(structured({**EVENT, **dict.fromkeys(empty, "")})) == EVENT
    assert from_record(record(*BINARY, *((f"ce_{name}", b"") for name in empty))) == EVENT


def test_the_names_of_extensions_are_in_lower_case_in_both_modes() -> None:
    event = {**EVENT, "tenantid": "x"}
    assert from_record(record(*BINARY, ("ce_tenantId", b"x"))) == event
    assert from_record(structured({**EVENT, "tenantId": "x"})) == event
    assert from_record(structured({**event, "tenantId": "x"})) == event


@pytest.mark.parametrize(
    ("content_type", "named"),
    [
        (b"application/json", b"application/json"),
        (b"application/json; charset=utf-8", b"application/json"),
        (b"Application/JSON", b"application/json;charset=UTF-8"),
        (None, b"application/json"),
    ],
)
def test_a_content_type_may_stand_in_both_headers(content_type: bytes | None, named: bytes) -> None:
    headers = [] if content_type is None else [("content-type", content_type)]
    event = from_record(record(*BINARY, *headers, ("ce_datacontenttype", named), value=b"1"))
    assert event == {**EVENT, "datacontenttype": (content_type or named).decode(), "data": 1}


def test_text_is_not_percent_decoded() -> None:
    assert from_record(record(*BINARY, ("ce_subject", "a%20\u20ac".encode())))["subject"] == "a%20\u20ac"


@pytest.mark.parametrize(
    ("content_type", "value", "expected"),
    [
        (b"application/json", b"[1]", {"data": [1]}),
        (b"text/json", b"null", {"data": None}),
        (b"application/geo+json; charset=utf-8", b'"x"', {"data": "x"}),
        (b"application/json", b"", {}),
        (b"application/json", None, {}),
        (b"text/plain", b"1", {"data": "1"}),
        (b"text/plain", b"", {"data": ""}),
        (b"text/plain; charset=latin-1", b"a\xfc", {"data": "a\xfc"}),
        (b"text/plain; charset=us-ascii", "\xfc".encode(), {"data": "\xfc"}),
        (b'text/plain; charset="utf-16"', "\xfc".encode("utf-16"), {"data": "\xfc"}),
        (b"application/jsonlines", b"1", {"data": "1"}),
        (b"image/svg+xml", b"<svg/>", {"data": "<svg/>"}),
        (b"model/gltf+json", b"[]", {"data": []}),
        (b"application/protobuf", b"\x08\x01", {"data_base64": "CAE="}),
        (b"application/protobuf", b"\x08\xc8\x01", {"data_base64": "CMgB"}),
        (b"application/octet-stream; charset=utf-8", b"{}", {"data_base64": "e30="}),
        (b"application/octet-stream", b"", {"data_base64": ""}),
        (b"nonsense", b"1", {"data_base64": "MQ=="}),
        (None, b"1", {"data": 1}),
        (None, b"", {}),
        (b"", b"1", {"data": 1}),
    ],
)
def test_data_is_read_by_its_content_type(
    content_type: bytes | None, value: bytes | None, expected: dict[str, Any]
) -> None:
    headers = BINARY if content_type is None else (*BINARY, ("content-type", content_type))
    event = from_record(record(*headers, value=value))
    assert {name: event[name] for name in event if name.startswith("data") and name != "datacontenttype"} == expected


def test_json_in_base64_is_decoded_so_that_rules_see_one_event_in_both_modes() -> None:
    event = {**EVENT, "datacontenttype": "application/json", "data_base64": b64encode(b'{"n":1}').decode()}
    assert from_record(structured(event))["data"] == {"n": 1}
    assert "data_base64" not in from_record(structured(event))


def test_the_key_does_not_change_the_event() -> None:
    assert from_record(record(*BINARY, key=b"k")) == EVENT


def test_partitionkey_is_the_key_unless_another_is_given() -> None:
    event = {**EVENT, "partitionkey": "p"}
    assert to_record(event, topic="t").key == b"p"
    assert to_record(event, topic="t", key=b"k").key == b"k"
    assert to_record(EVENT, topic="t", partition=2).partition == 2


def test_bytes_without_a_content_type_stay_bytes() -> None:
    event = {**EVENT, "data_base64": "e30="}
    assert from_record(read_back(to_record(event, topic="t"))) == {
        **EVENT,
        "datacontenttype": "application/octet-stream",
        "data_base64": "e30=",
    }


# --- what is refused, in which words --------------------------------------------------------------


def without(name: str) -> tuple[Header, ...]:
    return tuple(header for header in BINARY if header[0] != name)


NO_EVENT = (
    "this is not a CloudEvent: send the headers ce_specversion, ce_id, ce_source and ce_type (binary mode), "
    "or the whole event as JSON with the header content-type: application/cloudevents+json (structured mode)"
)
MALFORMED: list[tuple[Record, str]] = [
    (record(value=b"hello"), NO_EVENT),
    (record(JSON, value=b""), NO_EVENT),
    (
        record(),
        (
            "a record without a value and without ce_ headers is a tombstone, and not an event; "
            "let its producer leave it out (Debezium: tombstones.on.delete=false)"
        ),
    ),
    (record(JSON, value=b'{"id": 1}'), NO_EVENT),
    (record(value=b'["specversion", "specversion"]'), NO_EVENT),
    (
        record(*without("ce_id")),
        "attribute `id` is missing; send it as header ce_id (binary mode) or as member 'id' (structured mode)",
    ),
    (
        record(*without("ce_specversion")),
        "attribute `specversion` is missing; send it as header ce_specversion (binary mode) or as member 'specversion' (structured mode)",
    ),
    (
        record(*without("ce_specversion"), ("ce_specversion", b"0.3")),
        "attribute `specversion` is '0.3'; the mesh reads CloudEvents 1.0",
    ),
    (record(*without("ce_source"), ("ce_source", b"")), "attribute `source` is empty; give it a value"),
    (
        record(*BINARY, ("ce_time", b"yesterday")),
        "attribute `time` is 'yesterday', which is not an RFC 3339 time; write it like 2026-11-24T09:00:00Z",
    ),
    (
        record(*BINARY, ("ce_my_tenant", b"x")),
        "attribute `my_tenant` has no valid name; use lower-case letters a-z and digits only",
    ),
    (
        record(*BINARY, ("ce_tenant", b"a\nb")),
        "attribute `tenant` holds a control character; percent-escape it, or leave it out",
    ),
    (record(*BINARY, ("ce_tenant", b"\xff")), "header ce_tenant is not UTF-8; write its value as UTF-8 text"),
    (record(*BINARY, ("CE_ID", b"b2")), "header CE_ID is there twice with different values; send it once"),
    (
        record(*BINARY, JSON, ("ce_datacontenttype", b"text/plain")),
        (
            "header ce_datacontenttype is 'text/plain', and content-type is 'application/json'; "
            "send content-type alone, or the same in both"
        ),
    ),
    (
        record(*BINARY, ("ce_data_base64", b"e30=")),
        "header ce_data_base64 has no meaning in binary mode; the data is the record's value, its type the header content-type",
    ),
    (
        record(*BINARY, JSON, ("Content-Type", b"text/plain"), value=b"1"),
        "header Content-Type is there twice with different values; send it once",
    ),
    (
        record(*BINARY, value=b"one"),
        (
            "the data is not JSON (unexpected character, expected a JSON value: line 1 column 1 (char 0)); "
            "send valid JSON, or name its real content-type"
        ),
    ),
    (
        record(*BINARY, ("content-type", b"text/plain"), value=b"\xff"),
        (
            "the data (content-type text/plain) is not text in utf-8, which content type text/plain says; "
            "name its real charset there, or its real type, such as application/octet-stream"
        ),
    ),
    (
        record(*BINARY, ("content-type", b"text/plain; charset=rot13"), value=b"a"),
        ("content type text/plain; charset=rot13 names a charset that the mesh can't read; send the data in UTF-8"),
    ),
    (
        record(*BINARY, JSON, value=b"{"),
        (
            "the data (content-type application/json) is not JSON (unexpected end of data: line 1 column 2 (char 1)); "
            "send valid JSON, or name its real content-type"
        ),
    ),
    (
        record(*BINARY, JSON, value=b"[" * 200 + b"]" * 200),
        "the data (content-type application/json) is nested deeper than 128 levels; flatten it, or send it as text",
    ),
    (record(STRUCTURED), "structured mode needs the event as the record's value, and the value is empty"),
    (
        record(STRUCTURED, value=b"[]"),
        'the structured event is not a JSON object; send {"specversion": "1.0", "id": ..., ...}',
    ),
    (
        record(("content-type", b"application/cloudevents-batch+json"), value=b"[]"),
        "it is a batch of events; send each as a record of its own",
    ),
    (
        record(("content-type", b"application/cloudevents+avro"), value=b"x"),
        (
            "content-type application/cloudevents+avro is an event format the mesh can't read; "
            "use application/cloudevents+json, or binary mode"
        ),
    ),
    (structured({**EVENT, "id": 7}), "attribute `id` is a number, and must be a string; put it in quotes"),
    (
        structured({**EVENT, "subject": ["x"]}),
        "attribute `subject` is an array, and must be a string; put it in quotes",
    ),
    (
        structured({**EVENT, "specversion": None}),
        (
            "attribute `specversion` is missing; "
            "send it as header ce_specversion (binary mode) or as member 'specversion' (structured mode)"
        ),
    ),
    (
        structured({**EVENT, "tenant": {"a": 1}}),
        "attribute `tenant` is an object; an extension is a string, a boolean or an integer: put the rest into `data`",
    ),
    (
        structured({**EVENT, "tenant_id": "x"}),
        "attribute `tenant_id` has no valid name; use lower-case letters a-z and digits only",
    ),
    (structured({**EVENT, "Subject": "x"}), "attribute `Subject` is written `subject`"),
    (
        structured({**EVENT, "tenantId": "x", "tenantid": "y"}),
        "attribute `tenantid` is there twice with different values; send it once",
    ),
    (
        structured({**EVENT, "rate": 1.5}),
        "attribute `rate` is a number with a fraction; an extension is a string, a boolean or an integer: put the rest into `data`",
    ),
    (
        structured({**EVENT, "datacontenttype": "text/plain", "data": {"n": 1}}),
        (
            "`data` is no string, and datacontenttype text/plain is not JSON; "
            "send a string, `data_base64`, or datacontenttype application/json"
        ),
    ),
    (
        structured({**EVENT, "datacontenttype": "text/plain; charset=latin-1", "data": "\u20ac"}),
        "`data` can't be written in iso8859-1 (ordinal not in range(256)); send it in UTF-8",
    ),
    (
        structured({**EVENT, "datacontenttype": "text/plain; charset=none", "data": "a"}),
        "content type text/plain; charset=none names a charset that the mesh can't read; send the data in UTF-8",
    ),
    (
        structured({**EVENT, "data_base64": "%%"}),
        "`data_base64` is not base64; encode the bytes by RFC 4648, section 4",
    ),
    (
        structured({**EVENT, "data": 1, "data_base64": "YQ=="}),
        "`data` and `data_base64` are both there; send one of them",
    ),
    (structured({**EVENT, "data_base64": 5}), "`data_base64` is not a string; encode the bytes by RFC 4648, section 4"),
    (
        structured({**EVENT, "datacontenttype": "application/json", "data_base64": "%%"}),
        "`data_base64` is not base64; encode the bytes by RFC 4648, section 4",
    ),
]


@pytest.mark.parametrize(("malformed", "message"), MALFORMED, ids=[message[:40] for _, message in MALFORMED])
def test_what_is_no_event_is_refused_with_its_place_and_the_mend(malformed: Record, message: str) -> None:
    with pytest.raises(MalformedRecord) as caught:
        from_record(malformed)
    assert str(caught.value) == f"mesh.events, partition 3, offset 17: {message}"


def test_the_same_header_twice_with_one_value_is_no_contradiction() -> None:
    assert from_record(record(*BINARY, ("ce_id", b"a1")))["id"] == "a1"


def test_json_of_the_greatest_depth_is_taken() -> None:
    value = b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH
    assert from_record(record(*BINARY, JSON, value=value))["data"]


def test_many_objects_side_by_side_are_not_deep() -> None:
    value = orjson.dumps([{"n": [i]} for i in range(500)])
    assert len(from_record(record(*BINARY, JSON, value=value))["data"]) == 500


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({}, "event 'without id': attribute `specversion` is missing"),
        ({**EVENT, "data": 1, "data_base64": ""}, "event 'a1': `data` and `data_base64` are both there"),
        ({**EVENT, "type": ""}, "event 'a1': attribute `type` is empty"),
    ],
)
def test_an_event_is_checked_before_it_is_sent(event: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedRecord, match="^" + re.escape(message)):
        normal_event(event)
    with pytest.raises(MalformedRecord):
        to_record(event, topic="t")


def test_bad_base64_is_not_sent() -> None:
    with pytest.raises(MalformedRecord, match="event 'a1': `data_base64` is not base64"):
        to_record({**EVENT, "data_base64": "%"}, topic="t")


# --- conformance ----------------------------------------------------------------------------------

# CloudEvents' String: no control characters, no surrogates, no noncharacters
text = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), max_size=20)
some_text = text.filter(bool)
extension_name = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(
    lambda name: (
        name not in {*EVENT, "subject", "time", "datacontenttype", "dataschema", "data", "partitionkey", "traceparent"}
    )
)
times = st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - `timezones` makes them aware
json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)
objects = st.dictionaries(text, json_value, max_size=4)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": draw(some_text),
        "source": draw(some_text),
        "type": draw(some_text),
        **draw(st.dictionaries(extension_name, some_text, max_size=3)),
    }
    for name in ("subject", "dataschema"):
        if draw(st.booleans()):
            event[name] = draw(some_text)
    if draw(st.booleans()):
        event["time"] = draw(times).isoformat().replace("+00:00", "Z")
    kind = draw(st.sampled_from(["none", "json", "text", "bytes"]))
    match kind:
        case "json":
            event |= {"datacontenttype": "application/json", "data": draw(objects)}
        case "text":
            event |= {"datacontenttype": "text/plain", "data": draw(some_text)}
        case "bytes":
            value = b"\xff" + draw(st.binary(max_size=20))
            event |= {"datacontenttype": "application/octet-stream", "data_base64": b64encode(value).decode()}
        case _:
            pass
    return event


def by_the_sdk(event: dict[str, Any]) -> CloudEvent:
    attributes = {
        name: value for name, value in event.items() if not name.startswith("data") or name.startswith("datac")
    }
    if "dataschema" in event:
        attributes["dataschema"] = event["dataschema"]
    if "time" in event:
        attributes["time"] = datetime.fromisoformat(event["time"])
    data = event.get("data")
    if "data_base64" in event:
        data = JSONFormat().read(None, orjson.dumps(event)).get_data()
    return CloudEvent(attributes, data)


@busy
@given(events())
def test_what_is_written_comes_back(event: dict[str, Any]) -> None:
    assert from_record(read_back(to_record(event, topic="t"))) == event


@busy
@given(events())
def test_structured_events_come_in_unchanged(event: dict[str, Any]) -> None:
    assert from_record(structured(event)) == event


@busy
@given(events())
def test_the_sdk_reads_what_is_written_here(event: dict[str, Any]) -> None:
    event.setdefault("time", "2026-11-24T09:00:00Z")  # the SDK would set its own
    out = to_record(event, topic="t")
    message = kafka.KafkaMessage(dict(out.headers), out.key, out.value or b"")
    read = kafka.from_kafka_event(message)
    expected = by_the_sdk(event)
    assert read.get_attributes() == expected.get_attributes()
    assert read.get_data() == expected.get_data()


@busy
@given(events())
def test_what_the_sdk_writes_is_read_here_in_both_modes(event: dict[str, Any]) -> None:
    event.setdefault("time", "2026-11-24T09:00:00Z")  # the SDK would set its own
    theirs = by_the_sdk(event)
    for message in (kafka.to_binary_event(theirs), kafka.to_structured_event(theirs)):
        # Without data the SDK sends no null but an empty value, which has no meaning of its own in
        # binary mode.
        value = message.value or None
        assert from_record(Record("t", 0, 0, 0, None, value, tuple(message.headers.items()))) == event


@busy
@given(
    st.lists(st.tuples(st.sampled_from(["ce_id", "CE_type", "content-type", "ce_x", "x"]), st.binary(max_size=30))),
    st.none() | st.binary(),
)
def test_any_bytes_are_an_event_or_malformed_and_nothing_else(headers: list[Header], value: bytes | None) -> None:
    try:
        event = from_record(record(*headers, value=value))
    except MalformedRecord:
        return
    assert normal_event(event) == event


# --- headers of our own ---------------------------------------------------------------------------


def test_binary_headers_make_an_event_that_reads_back() -> None:
    headers = binary_headers(
        id="i",
        source="/s",
        type="t",
        workflow_id="w",
        causation_id="c",
        traceparent=TRACEPARENT,
        time="2026-11-24T09:00:00Z",
        subject="s",
    )
    assert from_record(record(*headers, value=b"{}")) == {
        "specversion": "1.0",
        "id": "i",
        "source": "/s",
        "type": "t",
        "correlationid": "w",
        "causationid": "c",
        "traceparent": TRACEPARENT,
        "time": "2026-11-24T09:00:00Z",
        "subject": "s",
        "datacontenttype": "application/json",
        "data": {},
    }
    assert len(binary_headers(id="i", source="/s", type="t")) == 5


@pytest.mark.parametrize(
    ("meant", "expected"),
    [
        (record(("CE_id", b"x")), True),
        (record(STRUCTURED), True),
        (record(value=b'{"specversion": "1.0"}'), True),
        (record(JSON, value=b'{"approval_id": "x"}'), False),
        (record(value=b'{"specversion"'), False),
        (record(), False),
    ],
)
def test_whether_a_record_means_to_be_an_event(meant: Record, expected: bool) -> None:
    assert is_cloud_event(meant) is expected


# --- trace context --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "context"),
    [
        (TRACEPARENT, TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")),
        (TRACEPARENT[:-1] + "0", TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=False)),
        ("01" + TRACEPARENT[2:] + "-more", TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")),
        (TRACEPARENT + "-more", None),
        ("ff" + TRACEPARENT[2:], None),
        (TRACEPARENT.upper().replace("4BF9", "4BF9"), None),
        ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", None),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01", None),
        ("", None),
        (None, None),
    ],
)
def test_a_traceparent_is_read_as_the_standard_says(header: str | None, context: TraceContext | None) -> None:
    assert parse_traceparent(header) == context


def test_a_plain_traceparent_header_stands_in_for_the_extension() -> None:
    assert from_record(record(*BINARY, ("Traceparent", TRACEPARENT.encode())))["traceparent"] == TRACEPARENT
    assert "traceparent" not in from_record(record(*BINARY, ("traceparent", b"nonsense")))


# --- times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "at_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-24T09:00:00.5Z", 1795510800500),
        ("2026-11-24t09:00:00.123456789+01:00", 1795507200123),
        ("1972-06-30T23:59:60Z", 78796800000),
        ("1969-12-31T23:59:59Z", -1000),
    ],
)
def test_rfc3339_becomes_milliseconds(written: str, at_ms: int) -> None:
    assert parse_rfc3339(written) == at_ms


@pytest.mark.parametrize(
    "written",
    [
        "",
        "2026-11-24",
        "2026-11-24T09:00:00",
        "2026-13-24T09:00:00Z",
        "2026-11-24 09:00:00Z",
        "2026-11-24T09:00Z",
        "٢026-11-24T09:00:00Z",
    ],
)
def test_what_is_no_rfc3339_time_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        parse_rfc3339(written)


@busy
@given(st.integers(0, 4_000_000_000_000))
def test_milliseconds_come_back(at_ms: int) -> None:
    assert parse_rfc3339(rfc3339(at_ms)) == at_ms


def test_never_is_the_last_moment_that_can_be_written() -> None:
    assert rfc3339(2**60) == "9999-12-31T23:59:59.999Z"


@busy
@given(st.datetimes(timezones=st.just(timezone(timedelta(hours=5, minutes=30))), min_value=datetime(1970, 1, 2)))  # noqa: DTZ001 - as above
def test_offsets_count(moment: datetime) -> None:
    assert parse_rfc3339(moment.isoformat()) == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
