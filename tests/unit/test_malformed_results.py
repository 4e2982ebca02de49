"""A result that can't be read fails its attempt, as long as anything of it says which that is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.adapters.memory import MemoryCluster
from mesh.codec.malformed_results import failure_instead
from mesh.core.inputs import ResultReceived
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Header, OutRecord, Record
from mesh.services.router.input_records import reply_input
from mesh.testing import MeshKit, silent

TOPICS = Topics()
TASK = "r:octo/repo#12/0a1b2c3d/check[7]"
ROUTE = """
route: r
on: {type: t}
key: ${{ event.subject }}
steps:
  work: {agent: foreign, input: 1, timeout: 1h, on_exhausted: fail}
"""


def record(value: bytes | None, *headers: Header, key: bytes | None = b"r:octo/repo#12") -> Record:
    return Record(TOPICS.results, 3, 17, 1_000, key, value, headers)


def told(value: Any, *headers: Header, key: bytes | None = b"k") -> ResultReceived:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    reply, cause = reply_input(record(raw, *headers, key=key))
    assert isinstance(reply, ResultReceived)
    assert cause.id == f"{reply.task_id}/{reply.attempt}"
    return reply


IDS = {"task_id": TASK, "attempt": 2}
TORN = json.dumps({**IDS, "status": "succeeded", "output": {"a": [1, 2]}}).encode()


@pytest.mark.parametrize(
    "value",
    [
        IDS,
        {**IDS, "workflow_id": "r:octo/repo#12", "status": "done"},
        {**IDS, "workflow_id": "r:another", "status": "succeeded"},
        {**IDS, "workflow_id": "r:octo/repo#12", "status": "failed"},
        {**IDS, "workflow_id": "r:octo/repo#12", "status": "succeeded", "duration_ms": "long"},
        b'{"attempt": 2, "task_id": "' + TASK.encode() + b'", "output": NaN}',
        TORN[:-12],
        TORN[:-2] + b"\xff\xfe",
        TORN.replace(b"[1, 2]", b"[" * 100_000),
        TORN.replace(b"[1, 2]", b"1" * 5_000),
    ],
)
def test_what_can_be_read_of_the_value_says_which_attempt_it_is(value: Any) -> None:
    reply = told(value)
    assert (reply.task_id, reply.attempt, reply.workflow_id) == (TASK, 2, "r:octo/repo#12")
    assert reply.status == "failed"
    assert reply.error is not None
    assert (reply.error.kind, reply.error.retryable) == ("result_invalid", False)
    assert "mesh.results/3/17" in reply.error.message


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ((("ce_causationid", f"{TASK}/2".encode()),), None),
        ((("CE_CausationId", f"{TASK}/2".encode()),), b"\xff"),
        ((("ce_id", f"{TASK}/2/result".encode()),), None),
        ((("ce_id", b"something else"),), f"{TASK}/2".encode()),
    ],
)
@pytest.mark.parametrize("value", [None, b"", b"no JSON", b"[1]", b'{"task_id": 5}'])
def test_else_the_headers_or_the_key_say_it(headers: tuple[Header, ...], key: bytes | None, value: bytes) -> None:
    reply, _ = reply_input(record(value, *headers, key=key))
    assert (reply.task_id, reply.attempt) == (TASK, 2)


def test_who_sent_it_is_kept() -> None:
    reply = told({**IDS, "agent": "checker", "agent_version": "7", "agent_instance": "one", "status": 1})
    assert (reply.agent, reply.agent_version, reply.agent_instance) == ("checker", "7", "one")
    assert reply.error is not None
    assert reply.error.message.startswith("agent checker sent a result that can't be read: the record mesh.results")


@pytest.mark.parametrize(
    ("value", "headers", "key"),
    [
        (b"", (), b"r:octo/repo#12"),
        (b'{"task_id": "no task", "attempt": 1}', (), None),
        (b'{"task_id": "' + TASK.encode() + b'"}', (), b"r:octo/repo#12"),
        (b'{"task_id": "' + TASK.encode() + b'", "attempt": 0}', (), None),
        (b'{"task_id": "' + TASK.encode() + b'", "attempt": true}', (), None),
        (b'{"task_id": "' + TASK.encode() + b'", "attempt": 99999999999}', (), None),
        (None, (("ce_causationid", f"{TASK}/0".encode()),), None),
        (None, (("ce_causationid", f"{TASK}/99999999999".encode()),), None),
        (None, (("ce_causationid", f"{TASK}/x".encode()),), None),
        (json.dumps({**IDS, "status": "heartbeat", "duration_ms": "long"}).encode(), (), None),
        (json.dumps(IDS).encode(), (("ce_type", b"mesh.sign"),), None),
    ],
)
def test_what_says_no_attempt_and_a_sign_of_life_stay_malformed(
    value: bytes | None, headers: tuple[Header, ...], key: bytes | None
) -> None:
    with pytest.raises(MalformedRecord):
        reply_input(record(value, *headers, key=key))


@given(
    value=st.one_of(
        st.none(), st.binary(max_size=200), st.text(alphabet='{}[]":,0aNe\\ ', max_size=60).map(str.encode)
    ),
    key=st.one_of(st.none(), st.binary(max_size=30)),
    headers=st.lists(st.tuples(st.sampled_from(["ce_id", "ce_causationid", "x"]), st.binary(max_size=30)), max_size=3),
)
def test_any_bytes_are_an_attempt_or_none(value: bytes | None, key: bytes | None, headers: list[Header]) -> None:
    found = failure_instead(record(value, *headers, key=key), "why")
    assert found is None or found.status == "failed"


@pytest.mark.parametrize("named_by", ["value", "header"])
def test_the_step_does_not_wait_for_its_time_out(mesh_kit: MeshKit, named_by: str) -> None:
    mesh = mesh_kit
    mesh.agent("foreign", silent)
    mesh.route(ROUTE)
    run = mesh.publish(type="t", subject="a")
    workflow_id, run_id = run._where()
    task = f"{workflow_id}/{run_id}/work"
    value = json.dumps({"task_id": task, "attempt": 1, "output": 1}).encode() if named_by == "value" else b"{"
    headers = ((("ce_causationid", f"{task}/1".encode()),)) if named_by == "header" else ()
    cluster: MemoryCluster = mesh._engine._cluster  # type: ignore[attr-defined] # the kit's agents send no nonsense
    connection = cluster.connect("foreign")
    partitions = mesh.act(connection.topics())[TOPICS.results].partitions
    for partition in range(partitions):  # it counts where its workflow is, and nowhere else
        mesh.act(connection.send([OutRecord(TOPICS.results, b"k", value, headers, partition)]))
    mesh.advance("1s")
    assert run.outcome.status == "failed"
    assert "result_invalid" in run.outcome.reason
