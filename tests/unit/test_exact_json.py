"""JSON from outside: exact or refused, wherever it comes in."""

import json
import math
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import orjson
import pytest
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, PlainSerializer, TypeAdapter

from mesh import agent
from mesh.codec import exact_json
from mesh.codec.approvals import decode_receipt, decode_request, decode_response
from mesh.codec.cards import decode_card
from mesh.codec.cloudevents import from_record, to_record
from mesh.codec.commands import decode_command
from mesh.codec.definitions import decode_activation, decode_definition
from mesh.codec.exact_json import JsonRefused, NotJson
from mesh.codec.github import read_payload
from mesh.codec.inbox import decode_inbox
from mesh.codec.log import decode_log_record
from mesh.codec.outcomes import decode_outcome
from mesh.codec.tasks import Task, decode_reply, decode_result, decode_task
from mesh.codec.yaml_lines import read_yaml_text
from mesh.core.inputs import TaskError
from mesh.errors import MalformedRecord, UnknownFormat
from mesh.ports import Record
from mesh.services.agent_runtime.call import AgentCall
from mesh.services.agent_runtime.threads import DaemonThreads

KEPT = (
    "0", "-0", "1", "-9223372036854775808", "18446744073709551615", "0.1", "-0.0", "0.0", "1.50", "1e3", "1E+2",
    "0.30000000000000004", "0.1000000000000000055511151231257827021181583404541015625", "0.10000000000000001",
    "123456789.12345678", "1e22", "1e-7", "5e-324", "1.7976931348623157e308", "9007199254740992.0", "0e400",
    "100000000000000000000.0", "0e99999999999999999999", "-0.0e-99999999999999999999",
)  # fmt: skip
LOST = (
    "18446744073709551616", "-9223372036854775809", "1" * 400, "9007199254740993.0", "9999999999999999.9", "1e400",
    "-1e400", "1e-400", "1.4e-323", "0.1000000000000000055511151231257828", "123456789012345678901.5",
    "0." + "1" * 1200, "1e99999999999999999999", "-0.01e-99999999999999999999",
)  # fmt: skip


@pytest.mark.parametrize("text", KEPT)
def test_what_a_double_or_64_bits_hold_is_kept(text: str) -> None:
    value = exact_json.decode(text)
    assert value == json.loads(text)
    assert type(value) is type(json.loads(text))
    assert exact_json.decode('{"a": [1, {"b": ' + text + "}]}")["a"][1]["b"] == value


@pytest.mark.parametrize("text", LOST)
def test_what_would_become_another_number_is_refused_by_its_path(text: str) -> None:
    with pytest.raises(JsonRefused, match=r'^a\[1\]\["?.b c.*\]: the number .*send it as a string') as caught:
        exact_json.decode(('{"a": [1, {"b c": ' + text + "}]}").encode())
    assert not isinstance(caught.value, NotJson)
    with pytest.raises(JsonRefused, match=r"^the value: the number"):
        exact_json.decode(text)


@pytest.mark.parametrize("text", LOST)
def test_digits_in_a_text_are_no_number(text: str) -> None:
    assert exact_json.decode(f'{{"a": "[{text}, {text}]"}}') == {"a": f"[{text}, {text}]"}


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":2}', '{"b":[{"a":1,"a":{}}]}', r'{"a":"\u0022\u0022","\u0061":1}', '{"a":"\\"","a":"\\""}']
)
def test_an_object_has_each_key_once(text: str) -> None:
    with pytest.raises(JsonRefused, match="the key 'a' is given twice in one object"):
        exact_json.decode(text)


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "[Infinity]", "-Infinity", '"\\ud800"', "01", "[1e400", "1 2", b"\xff"]
)
def test_what_is_no_json_is_said_to_be_none(text: Any) -> None:
    with pytest.raises(NotJson, match=r"^not JSON: "):
        exact_json.decode(text)


@pytest.mark.parametrize("depth", [300, 2_000, 200_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    with pytest.raises(JsonRefused):
        exact_json.decode("[" * depth + "18446744073709551616" + "]" * depth)
    with pytest.raises(JsonRefused):
        exact_json.decode("[" * depth + "]" * depth)


def test_a_quote_that_is_escaped_by_its_number_is_no_lost_key() -> None:
    assert exact_json.decode(r'{"a": "\u0022", "b": "\\u0022"}') == {"a": '"', "b": r"\u0022"}


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=draws(200), deadline=None)
@given(values, st.booleans())
def test_whatever_json_has_comes_through_as_it_is(value: Any, ascii_alone: bool) -> None:
    assert exact_json.decode(orjson.dumps(value)) == value
    assert exact_json.decode(json.dumps(value, ensure_ascii=ascii_alone).encode()) == value
    exact_json.check_value(value)


@settings(max_examples=draws(200), deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=None))
def test_a_decimal_is_its_double_or_refused(number: Any) -> None:
    text = f"{number:f}" if "." in f"{number:f}" else f"{number:f}.0"
    try:
        found = exact_json.decode(text)
    except JsonRefused:
        assert float(text) != number
    else:
        assert found == float(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [2**64]}, r"a\[0\]: the number 18446744073709551616 does not fit in 64 bits"),
        ({"a": {"b-c": float("nan")}}, r"a\['b-c'\]: nan is not a number that JSON has"),
        ([float("-inf")], r"\[0\]: -inf is not a number"),
        ("\ud800", "the value: the text holds half of a surrogate pair"),
        (2**5000, "the value: the number of 5001 bits does not fit"),
    ],
)
def test_values_are_held_to_the_same_rule(value: Any, message: str) -> None:
    with pytest.raises(JsonRefused, match=message):
        exact_json.check_value(value)


@pytest.mark.parametrize("indent", [True, False])
def test_whatever_an_old_log_holds_can_be_shown(indent: bool) -> None:
    value = {"big": 2**70, "half": "\ud800", "deep": [[1]]}
    assert json.loads(exact_json.encode(value, indent=indent)) == value
    assert json.loads(exact_json.encode({1: [2]}, indent=indent)) == {"1": [2]}


# --- every entrance -------------------------------------------------------------------------------

BIG = b"18446744073709551616"


def record(value: bytes | None, key: bytes | None = None, **headers: str) -> Record:
    return Record(
        topic="t",
        partition=0,
        offset=7,
        timestamp_ms=1,
        key=key,
        value=value,
        headers=tuple((name.replace("__", "-"), text.encode()) for name, text in headers.items()),
    )


def binary(value: bytes, **more: str) -> Record:
    return record(value, None, ce_specversion="1.0", ce_id="1", ce_source="/s", ce_type="t", **more)


STRUCTURED = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"wei":%b}}' % BIG
RESULT = b'{"task_id":"r:k/00000000/s","attempt":1,"workflow_id":"r:k","status":"succeeded","output":{"wei":%b}}' % BIG
ANSWER = b'{"approval_id":"r:k/00000000/s","decision":"approve","by":"ana","payload":{"wei":%b}}' % BIG
ENTRANCES: list[tuple[Any, Record]] = [
    (from_record, binary(b'{"wei":%b}' % BIG, content__type="application/json")),
    (from_record, binary(b'{"wei":%b}' % BIG)),
    (from_record, record(STRUCTURED, content__type="application/cloudevents+json")),
    (from_record, record(STRUCTURED)),
    (decode_response, record(ANSWER)),
    (decode_command, record(b'{"command":"cancel","workflow_id":"r:k","by":"ana","step":{"wei":%b}}' % BIG)),
    (decode_result, record(RESULT)),
    (decode_reply, record(RESULT)),
    (decode_definition, record(b'{"route":"r","wei":%b}' % BIG, b"sha256:0")),
    (decode_card, record(b'{"name":"a","instance":"i","wei":%b}' % BIG)),
]


@pytest.mark.parametrize(("decode", "given"), ENTRANCES)
def test_each_entrance_refuses_it_with_the_path(decode: Any, given: Record) -> None:
    with pytest.raises(MalformedRecord, match=f"wei: the number {BIG.decode()} does not fit in 64 bits"):
        decode(given)


def test_the_clients_entrances_refuse_it_too() -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"wei": 2**64}}
    with pytest.raises(MalformedRecord, match="wei: the number 18446744073709551616 does not fit"):
        to_record(event, topic="t")
    with pytest.raises(MalformedRecord, match="repository: the number"):
        read_payload(b'{"repository": %b}' % BIG)
    [document], _ = read_yaml_text("a: [1, 18446744073709551616]\nb: 1e400\nc: .nan\nd: 0.1\n")
    assert [(fault.line, fault.message.split(" (")[0]) for fault in document.faults] == [
        (1, "the number does not fit in 64 bits"),
        (2, "the number 1e400 can't be kept exactly"),
        (3, "nan is not a JSON number"),
    ]


def task_of(name: str) -> Task:
    return decode_task(
        record(
            b'{"task_id":"r:k/00000000/s","attempt":1,"workflow_id":"r:k","run_id":"00000000","route":"r","step":"s","agent":"%b",'
            b'"input":1,"idempotency_key":"i","created_at":"2026-01-01T00:00:00Z","deadline_at":"2026-01-01T00:00:00Z",'
            b'"reply_to":{"topic":"t","partition":0},"traceparent":""}' % name.encode()
        )
    )


@pytest.mark.parametrize(
    "output",
    [
        float("nan"),
        [1, float("inf")],
        (1, float("nan")),
        {"a": {float("nan"), 1.0}},
        frozenset([float("-inf")]),
        deque([float("nan")]),
        {"a": {float("nan"): 1}},
        {float("inf"): 1},
        {"a": {"b": 2**64}},
        {"a": [-(2**63) - 1]},
    ],
)
async def test_an_output_that_json_can_not_hold_is_invalid(output: Any) -> None:
    @agent("odd")
    async def odd(value: Any) -> Any:
        return output

    answer = await AgentCall(odd, threads=DaemonThreads(1, "test")).answer(task_of("odd"))
    assert isinstance(answer, TaskError)
    assert answer.kind == "output_invalid"


class Shade(StrEnum):
    DARK = "dark"


class Named(NamedTuple):
    a: int


@dataclass
class Point:
    x: int


ODD = (
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), date(2026, 1, 2), time(3, 4), UUID(int=7), Shade.DARK, Named(1), Point(1),
    Decimal("0.10"), timedelta(seconds=1), b"bytes", {1}, (1, 2), {1: 2}, {None: 1}, 2**64, -(2**63), math.nan, math.inf,
    None, "null", "\ud800", "ü", 1e22, -0.0, Path("a"), defaultdict(int, a=1),
)  # fmt: skip


@settings(max_examples=draws(300), deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(ODD),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_what_is_written_in_one_step_is_what_pydantic_writes(value: Any) -> None:
    if (made := exact_json.written(value)) is not None:
        assert orjson.loads(made) == orjson.loads(TypeAdapter(Any).dump_json(value))
        assert exact_json.decode(made) == orjson.loads(made)


class Hidden(BaseModel):
    secret: Annotated[str, Field(exclude=True)] = "s"


@pytest.mark.parametrize(
    ("returned", "output", "expected"),
    [
        (dict[str, Any], {"a": [1, None]}, {"a": [1, None]}),
        (dict[str, Any], {"a": Hidden()}, {"a": {}}),
        (dict[str, Any], {"a": datetime(2026, 1, 2, tzinfo=UTC)}, {"a": "2026-01-02T00:00:00Z"}),
        (list[dict[str, str]], [{"a": "b"}], [{"a": "b"}]),
        (dict[str, Annotated[str, PlainSerializer(str.upper)]], {"a": "b"}, {"a": "B"}),
        (dict[str, datetime], {"a": datetime(2026, 1, 2, tzinfo=UTC)}, {"a": "2026-01-02T00:00:00Z"}),
        (Hidden, Hidden(), {}),
    ],
)
async def test_an_output_is_written_by_its_type(returned: Any, output: Any, expected: Any) -> None:
    async def handler(value: Any) -> Any:
        return output

    handler.__annotations__["return"] = returned
    answer = await AgentCall(agent("typed")(handler), threads=DaemonThreads(1, "test")).answer(task_of("typed"))
    assert isinstance(answer, bytes), answer
    assert orjson.loads(answer) == expected


# --- any bytes ------------------------------------------------------------------------------------

DECODERS = (
    from_record, decode_response, decode_command, decode_result, decode_reply, decode_definition, decode_activation,
    decode_card, decode_inbox, decode_log_record, decode_outcome, decode_request, decode_receipt, decode_task,
)  # fmt: skip
GARBAGE = (
    b"", b"\x9f", b'{"input":"EventOffer\x9fd.1","workflow_id":"a"}', b"[" * 100_000, b'{"a":' * 100_000, b"null", b"[]",
    b'{"input":"EventMatched.1","source_offset":1e400}', b'{"input":"EventMatched.1","source_offset":%b}' % (b"9" * 5000),
    b'{"input":"EventMatched.1","cloud_event":{"a":"\\ud800"}}', b'"\\ud800"', b"\xef\xbb\xbf{}", b"NaN",
)  # fmt: skip


def one_kind_of_error(decode: Any, value: bytes | None, key: bytes | None) -> None:
    with suppress(MalformedRecord, UnknownFormat):
        decode(record(value, key, ce_specversion="1.0"))


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("value", GARBAGE)
def test_any_bytes_are_one_kind_of_error(decode: Any, value: bytes) -> None:
    for key in (None, b"sha256:0", b"activation/1", b"\x9f/\xff"):
        one_kind_of_error(decode, value, key)
    one_kind_of_error(decode, None, b"\x9f")


@settings(max_examples=draws(300), deadline=None)
@given(
    st.sampled_from(DECODERS), st.sampled_from([STRUCTURED, RESULT, ANSWER]), st.binary(max_size=4), st.integers(0, 90)
)
def test_damaged_bytes_are_one_kind_of_error(decode: Any, value: bytes, damage: bytes, at: int) -> None:
    one_kind_of_error(decode, value[:at] + damage + value[at + len(damage) :], None)


# What is known without reading it again ----------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b'{"id":"a","output":{"n":1}}',
        b'{"id":"a","output": {"n":1}}',
        b'{"output":7,"more":{"output":{"n":1}}}',
        b'{"n":1}',
    ],
)
def test_a_part_is_found_wherever_the_bytes_hold_it(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_json, "check", lambda _: pytest.fail("the whole was read again"))
    exact_json.check_part(raw, {"n": 1}, after=b'"output":')


@pytest.mark.parametrize("raw", [b'{"output":{"n":9007199254740993.0}}', b'{"output":{"n":1,"n":9007199254740992.0}}'])
def test_a_part_that_the_bytes_hold_in_other_words_is_checked(raw: bytes) -> None:
    with pytest.raises(exact_json.JsonRefused):
        exact_json.check_part(raw, {"n": 9007199254740992.0}, after=b'"output":')


class _AlikeKey(str):
    """A key that is equal to no other, whatever its letters."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


@pytest.mark.parametrize(
    ("value", "is_known"),
    [
        ({"a": [1, 0.1, None, "x", True]}, True),
        ({"n": 2**64}, False),
        ({1: "x"}, False),
        ({_AlikeKey("a"): 1, _AlikeKey("a"): 2}, False),
        ({"a": 1.0}, False),
    ],
)
def test_only_plain_values_are_known_to_be_written_whole(value: Any, is_known: bool) -> None:
    raw = b'{"a":1}' if value == {"a": 1.0} else json.dumps(value, separators=(",", ":")).encode()
    assert exact_json.is_written_as(value, raw) is is_known
