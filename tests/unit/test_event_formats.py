"""What producers really send is taken, or is one clear dead letter: the table in docs/events.md.

The records were made by the CloudEvents SDKs themselves, or are those of the producers' own pages
(tests/data/cloudevents says how and whence).
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent
from event_mesh import EventMesh
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from mesh.codec.cloudevents import from_record
from mesh.ports import Header, Record
from mesh.testing import MeshKit

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "cloudevents"
PAGE = (ROOT / "docs" / "events.md").read_text()
BINARY: tuple[Header, ...] = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"a1"),
    ("ce_source", b"/shop"),
    ("ce_type", b"order.placed"),
)
EVENT = {"specversion": "1.0", "id": "a1", "source": "/shop", "type": "order.placed"}
JSON: Header = ("content-type", b"application/json")
AS_JSON = {"datacontenttype": "application/json"}


@pytest.fixture
def event_mesh() -> Iterator[EventMesh]:
    with MeshKit() as kit:
        yield EventMesh(kit)


def record(*headers: Header, value: bytes | None = None) -> Record:
    return Record("mesh.events", 0, 0, 0, b"key", value, headers)


# --- what the SDKs made ---------------------------------------------------------------------------


def recorded(language: str) -> Iterator[tuple[str, str, Record]]:
    for one in json.loads((DATA / f"{language}.json").read_text())["records"]:
        # as a consumer of Kafka gives it: a header without a value is empty
        headers = [(name, b64decode(value or "")) for name, value in one["headers"]]
        value = None if one["value"] is None else b64decode(one["value"])
        yield one["name"], one["mode"], record(*headers, value=value)


def by_the_python_sdk() -> Iterator[tuple[str, str, Record]]:
    base = {"source": "/sdk/python", "type": "sdk.made", "time": datetime(2026, 11, 24, 9, tzinfo=UTC)}
    more = {"subject": "7", "tenant": "süd", "retries": 3}
    made: dict[str, tuple[dict[str, Any], Any]] = {
        "json": ({**more, "datacontenttype": "application/json"}, {"n": 1}),
        "json-charset": ({"datacontenttype": "application/json; charset=utf-8"}, {"n": 1}),
        "untyped": ({}, {"n": 1}),
        "text": ({"datacontenttype": "text/plain"}, "süß"),
        "bytes": ({"datacontenttype": "application/octet-stream"}, b"\x08\xc8\x01"),
        "bytes-utf8": ({"datacontenttype": "application/octet-stream"}, b"\x08\x01"),
        "empty": ({}, None),
    }
    for name, (attributes, data) in made.items():
        event = CloudEvent({**base, "id": f"py-{name}", **attributes}, data)
        for mode, write in (("binary", kafka.to_binary_event), ("structured", kafka.to_structured_event)):
            message = write(event)
            yield name, mode, record(*message.headers.items(), value=message.value)


def made_by(language: str) -> list[tuple[str, str, Record]]:
    return list(by_the_python_sdk() if language == "python" else recorded(language))


EXPECTED: dict[str, dict[str, Any]] = {
    "json": {"subject": "7", "tenant": "süd", "retries": "3", **AS_JSON, "data": {"n": 1}},
    "json-charset": {"datacontenttype": "application/json; charset=utf-8", "data": {"n": 1}},
    "untyped": {**AS_JSON, "data": {"n": 1}},
    "text": {"datacontenttype": "text/plain", "data": "süß"},
    "bytes": {"datacontenttype": "application/octet-stream", "data_base64": "CMgB"},
    "bytes-utf8": {"datacontenttype": "application/octet-stream", "data_base64": "CAE="},
    "empty": {},
}
LANGUAGES = ("python", "javascript", "java")


@pytest.mark.parametrize("language", LANGUAGES)
def test_events_of_an_sdk_are_the_same_in_both_modes(language: str) -> None:
    made = made_by(language)
    assert sorted({name for name, _, _ in made}) == sorted(EXPECTED)
    assert len(made) == 2 * len(EXPECTED)
    for name, mode, one in made:
        event = from_record(one)
        expected = dict(EXPECTED[name])
        if name == "json" and language != "python":
            expected["urgent"] = "true"
        assert event.pop("id")
        assert event.pop("time") in ("2026-11-24T09:00:00Z", "2026-11-24T09:00:00.000Z")
        assert event == {"specversion": "1.0", "source": f"/sdk/{language}", "type": "sdk.made", **expected}, mode


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_events_of_an_sdk_start_workflows(event_mesh: EventMesh, language: str, mode: str) -> None:
    records = [one for _, has_mode, one in made_by(language) if has_mode == mode]
    event_mesh.send(*records)
    assert event_mesh.letters() == []
    assert sorted(event_mesh.started()) == sorted(from_record(one)["id"] for one in records)


# --- the table ------------------------------------------------------------------------------------

VENDORS = {one["name"]: one for one in json.loads((DATA / "vendors.json").read_text())["records"]}
STRUCTURED: Header = ("content-type", b"application/cloudevents+json")


def vendor(name: str) -> Record:
    one = VENDORS[name]
    headers = [(header, (value or "").encode()) for header, value in one["headers"]]
    return record(*headers, value=None if one["value"] is None else one["value"].encode())


def body(event: Any) -> bytes:
    return json.dumps(event).encode()


SPRING = {"specversion": "1.0", "id": "9c1a", "source": "/orders", "type": "order.placed", "data": {"total": 99}}
DEBEZIUM = {
    "specversion": "1.0",
    "id": "name:test_server;lsn:29274832;txId:565",
    "source": "/debezium/postgresql/test_server",
    "type": "io.debezium.connector.postgresql.DataChangeEvent",
    "time": "2020-01-13T13:55:39.738Z",
    "data": {"before": None, "after": {"pk": 1, "name": "Bob"}},
    **AS_JSON,
}
OF_DEBEZIUM = {
    "op": "r",
    "version": "3.2.0.Final",
    "connector": "postgresql",
    "name": "test_server",
    "tsms": "1578923739738",
    "snapshot": "true",
    "db": "postgres",
    "schema": "s1",
    "table": "a",
    "lsn": "29274832",
    "txid": "565",
    "txtotalorder": "1",
    "txdatacollectionorder": "1",
}
AVRO = from_record(vendor("Debezium, Avro data"))
TRACE = "00-113ad9c4e42b27583ae98ba698d54255-e3743e35ff56f219-01"
DAPR = {
    "specversion": "1.0",
    "id": "5929aaac-a5e2-4ca1-859c-edfe73f11565",
    "source": "checkout",
    "type": "com.dapr.event.sent",
    "time": "2020-09-23T06:23:21Z",
    "topic": "orders",
    "pubsubname": "order_pub_sub",
    "traceid": TRACE,
    "traceparent": TRACE,
    "datacontenttype": "application/json; charset=utf-8",
    "data": {"orderId": 1},
}
BATCH: Header = ("content-type", b"application/cloudevents-batch+json; charset=utf-8")

CASES: dict[str, list[tuple[Record, dict[str, Any] | list[str] | str]]] = {
    "CloudEvents SDK for Python": [],
    "CloudEvents SDK for JavaScript": [],
    "CloudEvents SDK for Java": [],
    "`ce_datacontenttype` beside `content-type`, or alone (Spring, JavaScript)": [
        (vendor("Spring Cloud Function"), SPRING | AS_JSON),
        (vendor("Spring Cloud Function, both headers"), SPRING | AS_JSON | {"id": "9c1b"}),
    ],
    "`ce_datacontenttype` and `content-type` that differ": [
        (record(*BINARY, JSON, ("ce_datacontenttype", b"text/plain"), value=b"1"), "content-type is 'application/json'")
    ],
    "Spring Cloud Stream before 4.2.1": [
        (
            vendor("Spring Cloud Stream, quoted"),
            SPRING | AS_JSON | {"id": "9c1c", "source": '"/my/source"', "type": "my.type"},
        )
    ],
    "Dapr": [(vendor("Dapr"), DAPR)],
    "Debezium, JSON": [
        (vendor("Debezium, JSON"), DEBEZIUM | {f"iodebezium{name}": value for name, value in OF_DEBEZIUM.items()})
    ],
    "Debezium, Avro as data": [
        (
            vendor("Debezium, Avro data"),
            {**AVRO, "iodebeziumtxid": "578", "data_base64": b64encode(b"AAAAAAEAAgICAg==").decode()},
        )
    ],
    "Debezium's attributes as headers": [
        (vendor("Debezium, binary mode"), DEBEZIUM | {"iodebeziumop": "r", "iodebeziumtxid": "565"})
    ],
    "a tombstone: no value and no `ce_` headers": [
        (vendor("Debezium, tombstone"), "is a tombstone, and not an event"),
    ],
    "`application/cloudevents+json` with parameters, or a JSON value with `specversion` and no content type": [
        (record(("content-type", b"application/cloudevents+json; charset=UTF-8"), value=body(EVENT)), EVENT),
        (record(value=body(EVENT)), EVENT),
    ],
    "`application/cloudevents-batch+json`": [
        (record(BATCH, value=body([EVENT, {**EVENT, "id": "a2"}])), ["a1", "a2"]),
    ],
    "Avro, Protobuf or XML as event format (`application/cloudevents+avro`, ...)": [
        (
            record(("content-type", f"application/cloudevents{kind}".encode()), value=b"\x00"),
            f"content-type application/cloudevents{kind} is an event format the mesh can't read",
        )
        for kind in ("+avro", "+protobuf", "+xml", "-batch+protobuf")
    ],
    "a header name in any case; the same header twice with one value": [
        (record(*((name.upper(), value) for name, value in BINARY), ("ce_id", b"a1")), EVENT),
    ],
    "the same header twice with different values": [
        (record(*BINARY, ("CE_ID", b"a2")), "header CE_ID is there twice with different values"),
        (record(*BINARY, JSON, ("content-type", b"text/plain")), "header content-type is there twice"),
    ],
    "a `ce_` header that is not UTF-8": [
        (record(*BINARY, ("ce_tenant", b"s\xfcd")), "header ce_tenant is not UTF-8"),
    ],
    "data that is not what its content type says": [
        (record(*BINARY, JSON, value=b"{"), "the data (content-type application/json) is not JSON"),
        (record(*BINARY, value=b"plain"), "the data is not JSON"),
        (record(*BINARY, ("content-type", b"text/plain"), value=b"\xff"), "is not text in utf-8"),
    ],
    "CloudEvents 0.3": [
        (record(*BINARY[1:], ("ce_specversion", b"0.3")), "the mesh reads CloudEvents 1.0"),
    ],
}


def rows() -> dict[str, bool]:
    """The rows of the page's table: the producer, and whether its events are taken."""
    section = PAGE.partition("## What producers send\n")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {row[0]: row[1] == "yes" for row in cells[2:]}


def test_each_row_of_the_page_is_held_by_a_test() -> None:
    assert list(rows()) == list(CASES)


@pytest.mark.parametrize("name", [name for name, cases in CASES.items() if cases])
def test_a_row_of_the_page_holds(event_mesh: EventMesh, name: str) -> None:
    for one, expected in CASES[name]:
        assert rows()[name] == (not isinstance(expected, str)), name
        before = len(event_mesh.letters())
        event_mesh.send(one)
        letters = event_mesh.letters()[before:]
        if isinstance(expected, str):
            [letter] = letters
            assert letter.code == "malformed"
            assert expected in letter.message
            assert (letter.original.value, letter.original.headers) == (one.value, one.headers)
            continue
        assert letters == []
        if isinstance(expected, dict):
            assert from_record(one) == expected
        ids = [expected["id"]] if isinstance(expected, dict) else expected
        assert set(ids) <= set(event_mesh.started())


# --- the AsyncAPI document ------------------------------------------------------------------------


def test_the_asyncapi_document_describes_each_content_mode() -> None:
    document = YAML(typ="safe").load((ROOT / "topics" / "asyncapi.yaml").read_text())
    described = {name: document["components"]["messages"][name]["headers"] for name in document_names(document)}
    event_schema = json.loads((ROOT / "topics" / "schemas" / "event.json").read_text())
    made = [(mode, one) for language in LANGUAGES for _, mode, one in made_by(language)]
    modes = {"binary": "event", "structured": "event-structured"}
    for mode, one in [*made, *((mode, one) for mode, one in table_records() if mode in modes)]:
        headers = {name.lower(): value.decode() for name, value in one.headers}
        fitting = [name for name, schema in described.items() if Draft202012Validator(schema).is_valid(headers)]
        assert fitting == [modes[mode]]
        if mode == "structured":
            jsonschema.validate(json.loads(one.value or b""), event_schema)
    [(batch, _)] = CASES["`application/cloudevents-batch+json`"]
    headers = {name.lower(): value.decode() for name, value in batch.headers}
    assert [name for name, schema in described.items() if Draft202012Validator(schema).is_valid(headers)] == [
        "event-batch"
    ]


def document_names(document: dict[str, Any]) -> list[str]:
    return list(document["channels"]["events"]["messages"])


def table_records() -> Iterator[tuple[str, Record]]:
    """What the table takes, with its mode."""
    for cases in CASES.values():
        for one, expected in cases:
            if isinstance(expected, dict) and one.headers:
                names = [name.lower() for name, _ in one.headers]
                yield "binary" if "ce_id" in names else "structured", one
