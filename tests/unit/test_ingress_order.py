"""Copies of one source stay in its order, also where the broker takes less than it says."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.codec.inbox import decode_inbox
from mesh.core.inputs import AnswerGiven, AnswerUnreadable
from mesh.core.topics import Topics
from mesh.ports import Delivery, OutRecord, Record, SendFailure
from mesh.services.router.config import RouterConfig
from mesh.services.router.ingress import Ingress

TOPICS = Topics()
SAYS, TAKES = 1_000_000, 200_000


class Broker:
    """`landed`: what it has, in order. It says that it takes more than it does."""

    max_record_bytes = SAYS

    def __init__(self) -> None:
        self.landed: list[OutRecord] = []
        self.calls = 0

    async def send(self, records: Sequence[OutRecord]) -> list[SendFailure]:
        self.calls += 1
        failures = []
        for index, record in enumerate(records):
            if record.size_bytes() > TAKES:
                failures.append(SendFailure(index, Delivery.TOO_LARGE, "too large"))
            else:
                self.landed.append(record)
        return failures


class Routes:
    async def prepare(self, times_ms: Sequence[int]) -> None:
        assert not times_ms


class Clock:
    def now_ms(self) -> int:
        return 0


def answer(offset: int, size: int) -> Record:
    value = {
        "approval_id": "r:k/4f2a9c01/review",
        "decision": "approve",
        "by": "ana",
        "payload": {"text": "x" * size},
    }
    return Record(TOPICS.responses, 0, offset, 1_000, None, orjson.dumps(value), ())


async def copied(sizes: Sequence[int]) -> Broker:
    broker: Any = Broker()
    routes: Any = Routes()
    ingress = Ingress(broker, TOPICS, routes, RouterConfig(instance="one", partitions=4), Clock())
    assert await ingress._copy([answer(offset, size) for offset, size in enumerate(sizes)])
    found: Broker = broker
    return found


@settings(deadline=None, max_examples=draws(30))
@given(sizes=st.lists(st.sampled_from([10, 50_000, 100_000, 300_000, 900_000]), max_size=8))
async def test_a_refusal_lands_where_its_answer_would_have_landed(sizes: list[int]) -> None:
    broker = await copied(sizes)
    inputs = [
        decode_inbox(Record(out.topic, out.partition or 0, at, 0, out.key, out.value, out.headers))
        for at, out in enumerate(broker.landed)
        if out.topic == TOPICS.inbox
    ]
    kinds = [AnswerUnreadable if size > TAKES else AnswerGiven for size in sizes]
    assert [type(one) for one in inputs] == kinds
    # a watermark that has passed an offset takes what comes later with that offset for a repeat
    assert [getattr(one, "source_offset", None) for one in inputs] == list(range(len(sizes)))
    assert len(broker.landed) - len(inputs) == sum(size > TAKES for size in sizes), "a dead letter for each"


@pytest.mark.parametrize("count", [1, 500])
async def test_small_copies_are_sent_at_once(count: int) -> None:
    assert (await copied([10] * count)).calls == 1
