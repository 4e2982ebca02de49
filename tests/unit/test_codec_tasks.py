"""Tasks, results and agent cards: their bytes, and the JSON Schemas that other languages go by."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jsonschema
import msgspec
import pytest
from msgspec.structs import replace

from mesh.codec.cards import decode_card, encode_card, withdraw_card, withdraw_registration
from mesh.codec.tasks import Task, decode_reply, decode_result, decode_task, encode_result, encode_sign, encode_task
from mesh.core.effects import SendTask
from mesh.core.inputs import ResultReceived, SignReceived, TaskError
from mesh.core.route import Periods
from mesh.core.state import AgentCard
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record
from mesh.services.agent_runtime.cards import registration_of

TOPICS = Topics()
SCHEMAS = Path(__file__).parents[2] / "topics" / "schemas"
EFFECT = SendTask(
    workflow_id="triage:octo/repo#12 é",
    run_id="4f2a9c01",
    route="triage",
    step="classify",
    task_id="triage:octo/repo#12 é/4f2a9c01/classify",
    attempt=2,
    agent="classifier",
    input={"title": "It broke"},
    at_ms=1_700_000_000_123,
    due_at_ms=1_700_000_030_123,
    traceparent="00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
)
CARD = AgentCard(
    name="classifier",
    version="1.2.0",
    topic="mesh.tasks.classifier",
    description="Sorts issues.",
    input_schema={"type": "object"},
    output_schema={"type": "string"},
    concurrency=8,
    max_outstanding=20,
    instance="host-1",
    renewed_at="2026-01-01T00:00:00Z",
)


def as_read(out: OutRecord) -> Record:
    return Record(out.topic, out.partition or 0, 7, 0, out.key, out.value, out.headers)


def bare(value: bytes | None, key: bytes | None = None) -> Record:
    return Record("some-topic", 3, 7, 0, key, value, ())


def a_task() -> Task:
    return decode_task(as_read(encode_task(EFFECT, topics=TOPICS, reply_partition=5)))


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


def validate(out: OutRecord, name: str) -> None:
    assert out.value is not None
    jsonschema.validate(json.loads(out.value), schema(name), jsonschema.Draft202012Validator)


def test_a_task_comes_back_as_it_was_sent() -> None:
    out = encode_task(EFFECT, topics=TOPICS, reply_partition=5)
    assert out.topic == "mesh.tasks.classifier"
    assert out.key == "triage:octo/repo#12 é/4f2a9c01/classify/2".encode()
    assert out.partition is None
    task = a_task()
    assert (task.task_id, task.attempt, task.agent) == (EFFECT.task_id, 2, "classifier")
    assert json.loads(bytes(task.input)) == EFFECT.input
    assert task.created_at.timestamp() == 1_700_000_000.123
    assert task.deadline_at.timestamp() == 1_700_000_030.123
    assert (task.reply_to.topic, task.reply_to.partition) == ("mesh.results", 5)
    assert task.idempotency_key == EFFECT.task_id
    assert task.traceparent == EFFECT.traceparent


def test_a_task_and_its_result_are_cloudevents_in_binary_mode() -> None:
    headers = dict(encode_task(EFFECT, topics=TOPICS, reply_partition=5).headers)
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_type"] == b"mesh.task"
    assert headers["ce_correlationid"].decode() == EFFECT.workflow_id
    assert headers["traceparent"].decode() == EFFECT.traceparent
    result = encode_result(a_task(), output=b"1", agent_version="1", agent_instance="i", duration_ms=1.0)
    headers = dict(result.headers)
    assert headers["ce_id"].decode() == f"{EFFECT.task_id}/2/result"
    assert headers["ce_causationid"].decode() == f"{EFFECT.task_id}/2"
    assert headers["traceparent"].decode() == EFFECT.traceparent


def test_a_result_goes_to_the_topic_and_partition_that_the_task_names() -> None:
    out = encode_result(a_task(), output=b'{"a": 1}', agent_version="1", agent_instance="i", duration_ms=1.5)
    assert (out.topic, out.partition, out.key) == ("mesh.results", 5, EFFECT.workflow_id.encode())
    assert decode_result(as_read(out)) == ResultReceived(
        task_id=EFFECT.task_id,
        attempt=2,
        workflow_id=EFFECT.workflow_id,
        status="succeeded",
        output={"a": 1},
        agent="classifier",
        agent_version="1",
        agent_instance="i",
        duration_ms=1.5,
    )


def test_a_failed_result_carries_its_error() -> None:
    error = TaskError(kind="no_title", message="There is no title.", retryable=False)
    out = encode_result(a_task(), error=error, agent_version="1", agent_instance="i", duration_ms=1.5)
    result = decode_result(as_read(out))
    assert (result.status, result.error, result.output) == ("failed", error, None)


def test_a_task_names_the_periods_that_its_route_has() -> None:
    periods = Periods(start_timeout_s=5.0, heartbeat_s=0.5)
    out = encode_task(replace(EFFECT, periods=periods), topics=TOPICS, reply_partition=5)
    task = decode_task(as_read(out))
    assert (task.start_timeout_s, task.run_timeout_s, task.heartbeat_s) == (5.0, None, 0.5)
    validate(out, "task")
    assert b"timeout_s" not in (encode_task(EFFECT, topics=TOPICS, reply_partition=5).value or b"")


def test_a_sign_of_life_goes_where_the_result_will_go() -> None:
    for status in get_args(SignReceived.__annotations__["status"]):
        out = encode_sign(a_task(), status, agent_version="1", agent_instance="i", duration_ms=1.5)
        assert (out.topic, out.partition, out.key) == ("mesh.results", 5, EFFECT.workflow_id.encode())
        assert dict(out.headers)["ce_type"] == b"mesh.sign"
        validate(out, "result")
        assert decode_reply(as_read(out)) == SignReceived(
            task_id=EFFECT.task_id,
            attempt=2,
            workflow_id=EFFECT.workflow_id,
            status=status,
            duration_ms=1.5,
            agent="classifier",
            agent_version="1",
            agent_instance="i",
        )


def test_a_sign_of_life_as_bare_json_is_understood_and_a_foreign_one_is_refused() -> None:
    sign = {"task_id": "r:k/1/s", "workflow_id": "r:k", "attempt": 1, "status": "heartbeat"}
    assert isinstance(decode_reply(bare(json.dumps(sign).encode())), SignReceived)
    assert isinstance(decode_reply(bare(json.dumps(RESULT).encode())), ResultReceived)
    for change in ({"attempt": 0}, {"workflow_id": "r:other"}):
        with pytest.raises(MalformedRecord, match="not those of one task"):
            decode_reply(bare(json.dumps(sign | change).encode()))


RESULT = {"task_id": "r:k/1/s", "workflow_id": "r:k", "attempt": 1, "status": "succeeded"}


@pytest.mark.parametrize(
    ("change", "trouble"),
    [
        ({"attempt": 0}, "not those of one task"),
        ({"workflow_id": "r:other"}, "not those of one task"),
        ({"status": "failed"}, "`error` is not there"),
        ({"error": {"kind": "k", "message": "m"}}, "there is an `error`"),
        ({"status": "done"}, "status"),
        ({"attempt": "1"}, "attempt"),
    ],
)
def test_a_result_that_does_not_hold_is_refused_with_its_trouble(change: dict[str, Any], trouble: str) -> None:
    with pytest.raises(MalformedRecord, match=trouble) as caught:
        decode_result(bare(json.dumps(RESULT | change).encode()))
    assert "some-topic/3/7" in str(caught.value)


@pytest.mark.parametrize("decode", [decode_task, decode_result, decode_reply, decode_card])
@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"\xff\xfe", b'{"task_id": "\xff"}', b"null"])
def test_bytes_that_are_something_else_are_malformed(decode: Callable[[Record], object], value: bytes | None) -> None:
    with pytest.raises(MalformedRecord, match="some-topic/3/7"):
        decode(bare(value))


def test_a_task_without_a_time_zone_is_malformed() -> None:
    value = encode_task(EFFECT, topics=TOPICS, reply_partition=5).value
    assert value is not None
    with pytest.raises(MalformedRecord, match="created_at"):
        decode_task(bare(value.replace(b'Z"', b'"')))


def test_unknown_fields_are_passed_over() -> None:
    assert decode_result(bare(json.dumps(RESULT | {"new": [1]}).encode())).task_id == "r:k/1/s"
    value = encode_task(EFFECT, topics=TOPICS, reply_partition=5).value
    assert value is not None
    assert decode_task(bare(b'{"new": [1],' + value[1:])).task_id == EFFECT.task_id


def test_a_card_comes_back_as_it_was_sent_and_its_tombstone_as_stopped() -> None:
    out = encode_card(CARD, topics=TOPICS)
    assert (out.topic, out.key) == ("mesh.agents", b"classifier/host-1")
    assert decode_card(as_read(out)) == CARD
    gone = decode_card(as_read(withdraw_card(CARD, topics=TOPICS)))
    assert (gone.name, gone.instance, gone.stopped, gone.registration) == ("classifier", "host-1", True, False)


def test_a_registration_has_a_key_without_an_instance_and_a_tombstone_of_its_own() -> None:
    registration = registration_of(msgspec.structs.replace(CARD, capabilities=("sort", "label")))
    out = encode_card(registration, topics=TOPICS)
    assert (out.key, dict(out.headers)["ce_type"]) == (b"classifier", b"mesh.agent-registration")
    assert decode_card(as_read(out)) == registration
    assert (registration.instance, registration.capabilities) == ("", ("sort", "label"))
    validate(out, "agent-card")
    gone = decode_card(as_read(withdraw_registration("classifier", topics=TOPICS)))
    assert (gone.name, gone.instance, gone.stopped, gone.registration) == ("classifier", "", True, True)


@pytest.mark.parametrize(("name", "struct"), [("task", Task), ("result", ResultReceived), ("agent-card", AgentCard)])
def test_the_schemas_have_the_fields_of_the_code(name: str, struct: type[msgspec.Struct]) -> None:
    fields = msgspec.structs.fields(struct)
    loaded = schema(name)
    assert set(loaded["properties"]) == {field.name for field in fields}
    assert set(loaded["required"]) == {field.name for field in fields if field.required}


def test_what_the_code_writes_holds_to_the_schemas() -> None:
    validate(encode_task(EFFECT, topics=TOPICS, reply_partition=5), "task")
    task = a_task()
    validate(encode_result(task, output=b"[1]", agent_version="", agent_instance="", duration_ms=0.1), "result")
    error = TaskError(kind="k", message="m")
    validate(encode_result(task, error=error, agent_version="", agent_instance="", duration_ms=0.1), "result")
    validate(encode_card(CARD, topics=TOPICS), "agent-card")


def test_what_the_schema_refuses_the_code_refuses_and_the_other_way_round() -> None:
    for change in (
        {"status": "failed"},
        {"status": "done"},
        {"attempt": 0},
        {"error": {"kind": "k", "message": "m"}},
        {"status": "started"},
        {"status": "heartbeat"},
        {},
    ):
        value: dict[str, Any] = RESULT | change
        good = jsonschema.Draft202012Validator(schema("result")).is_valid(value)
        try:
            decode_reply(bare(json.dumps(value).encode()))
            assert good, value
        except MalformedRecord:
            assert not good, value
