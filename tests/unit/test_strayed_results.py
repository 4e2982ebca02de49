"""A result that was sent to a partition of another workflow: it says so, and names its own."""

from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from one_partition import PEOPLE, START_MS, only

from mesh.adapters.system import SystemEntropy
from mesh.codec.dead_letters import decode_dead_letter
from mesh.core.events import InputDismissed, InputParked
from mesh.core.ids import partition_of_key
from mesh.core.topics import Topics
from mesh.ports import Broker, Record
from mesh.services.router.batch import Batch
from mesh.services.router.config import RouterConfig
from mesh.services.router.owner import Owner

PARTITIONS = 4
WORKFLOW = "r:order-7"
HOME = partition_of_key(WORKFLOW.encode(), PARTITIONS)


def owner_of(partition: int) -> Owner:
    return Owner(
        partition,
        broker=cast(Broker, SimpleNamespace(max_record_bytes=100_000, has_own_clock=True)),
        topics=Topics(),
        config=RouterConfig(instance="r", partitions=PARTITIONS),
        route_of=lambda _: None,
        directory=lambda: PEOPLE,
        token="t",
        entropy=SystemEntropy(),
    )


def result(partition: int, status: str = "succeeded") -> Record:
    value = {
        "task_id": f"{WORKFLOW}/00000001/a",
        "attempt": 1,
        "workflow_id": WORKFLOW,
        "status": status,
        "output": 1,
        "duration_ms": 1,
        "agent_version": "1",
        "agent_instance": "i",
    }
    return Record("mesh.results", partition, 7, START_MS, WORKFLOW.encode(), msgspec.json.encode(value), ())


@pytest.mark.parametrize("partition", [number for number in range(PARTITIONS) if number != HOME])
def test_a_result_in_a_wrong_partition_is_a_dead_letter_that_names_the_right_one(partition: int) -> None:
    owner, batch = owner_of(partition), Batch()
    owner._take(batch, result(partition), START_MS)
    [decision] = batch.decisions
    parked = only(decision.events, InputParked)
    assert parked.code == "wrong_partition"
    assert f"sent to mesh.results/{partition}" in parked.message
    assert f"send it to mesh.results/{HOME}, with the key {WORKFLOW}" in parked.message
    # its workflow's timeline is another log partition, and offsets of the two have no order
    assert decision.workflow_id == ""
    assert decision.positions == {"mesh.results": 8}
    [letter] = batch.effect_records
    sent = decode_dead_letter(Record(letter.topic, 0, 0, START_MS, letter.key, letter.value, letter.headers))
    assert (sent.code, sent.original.partition, sent.original.offset) == ("wrong_partition", partition, 7)


def test_a_result_that_came_to_its_own_partition_too_late_is_dismissed() -> None:
    owner, batch = owner_of(HOME), Batch()
    owner._take(batch, result(HOME), START_MS)
    [decision] = batch.decisions
    assert only(decision.events, InputDismissed).code == "unknown"
    assert decision.workflow_id == WORKFLOW
