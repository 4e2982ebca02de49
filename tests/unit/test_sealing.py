"""Seals of private workflows: they open with their own key, and with nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mesh.codec.log import decode_log_record, encode_decision
from mesh.codec.sealing import (
    Key,
    decode_key,
    encode_key,
    encode_key_deleted,
    is_sealed,
    key_of,
    marked,
    new_key,
    opened,
    opened_state,
    sealed,
    sealed_state,
)
from mesh.core.crossings import crossings
from mesh.core.events import Cause, Decision, PayloadsSealed, SlotReleased, TaskSucceeded
from mesh.core.topics import Topics
from mesh.errors import UnknownFormat
from mesh.ports import OutRecord, Record

TOPICS = Topics()
KEY = new_key("refund:7", "0" * 31 + "1", "f" * 32)
DECISION = Decision(
    epoch="e",
    workflow_id="refund:7",
    at_ms=1,
    cause=Cause(kind="result", id="r"),
    positions={"mesh.results": 3},
    mark=2,
    sequence=5,
    events=(
        TaskSucceeded(step="a", task_id="refund:7/r/a", attempt=1, output={"name": "Ana"}),
        SlotReleased(step="a", limit="l", task_id="refund:7/r/a", attempt=1, asked_at_ms=1),
    ),
)


def read(record: OutRecord) -> Record:
    return Record(record.topic, record.partition or 0, 0, 1, record.key, record.value, record.headers)


def written(key: Key = KEY) -> Record:
    return read(marked(encode_decision(sealed(DECISION, key, "ab" * 16), topic=TOPICS.log, partition=0)))


def test_a_sealed_decision_opens_to_the_very_record_and_counts_the_same_without_its_key() -> None:
    record = written()
    assert is_sealed(record)
    assert key_of(record) == KEY.name
    assert b"Ana" not in (record.value or b"")
    blind = decode_log_record(opened(record, {}))
    assert isinstance(blind, Decision)
    assert crossings(blind.events) == crossings(DECISION.events) == 1
    assert replace(blind, events=DECISION.events) == DECISION
    assert decode_log_record(opened(record, {KEY.name: KEY})) == DECISION


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_seal_that_was_touched_stops_its_reader(place: int, change: int) -> None:
    decision = sealed(DECISION, KEY, "ab" * 16)
    [event] = decision.events
    assert isinstance(event, PayloadsSealed)
    state = bytearray(sealed_state(b"{}", KEY))
    body = bytearray(state[len(b"sealed:") + 16 :])
    body[place % len(body)] ^= change
    with pytest.raises(ValueError, match="broken"):
        opened_state(bytes(state[: len(b"sealed:") + 16]) + bytes(body), KEY.workflow_id, {KEY.name: KEY})


def test_another_key_or_another_workflows_seal_opens_nothing() -> None:
    other = Key(KEY.workflow_id, KEY.id, b"\1" * 32)
    with pytest.raises(UnknownFormat, match="can't be read"):
        opened(written(), {KEY.name: other})
    moved = Key("refund:8", KEY.id, KEY.secret)
    value = (written().value or b"").replace(b"refund:7", b"refund:8")
    with pytest.raises(UnknownFormat, match="can't be read"):
        opened(Record(TOPICS.log, 0, 0, 1, None, value, written().headers), {moved.name: moved})


def test_a_key_is_read_as_it_was_written_and_its_tombstone_names_it() -> None:
    record = encode_key(KEY, topics=TOPICS, partition=3)
    assert record.partition == 3
    assert decode_key(read(record)) == KEY
    assert decode_key(read(encode_key_deleted(KEY.workflow_id, KEY.id, topics=TOPICS, partition=3))) == KEY.name


def test_a_state_is_sealed_by_a_function_of_it() -> None:
    state = b'{"workflow_id": "refund:7"}'
    assert sealed_state(state, KEY) == sealed_state(state, KEY) != sealed_state(state + b" ", KEY)
    assert opened_state(sealed_state(state, KEY), "refund:7", {KEY.name: KEY}) == state
    assert opened_state(sealed_state(state, KEY), "refund:7", {}) is None
    assert opened_state(state, "refund:7", {}) == state
