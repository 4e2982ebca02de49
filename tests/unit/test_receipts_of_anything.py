"""Whatever comes on the topics of answers and commands has exactly one receipt each.

And the router lives: a workflow that came before ends after it.
"""

from collections import Counter
from typing import Any

import orjson
from draws import draws
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.codec.approvals import decode_receipt
from mesh.codec.commands import decode_command_receipt
from mesh.ports import Header, OutRecord
from mesh.testing import MeshKit

STEPS = {"review": {"approval": {"ask": "Good?", "payload": "${{ event.data }}", "role": "lead"}}}
HEADERS: tuple[Header, ...] = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"one"),  # all have the same
    ("ce_source", b"/me"),
    ("ce_type", b"t"),
    ("content-type", b"application/json"),
    ("content-type", b"application/cloudevents+json"),
    ("traceparent", b"x"),
)
NAMES = ("approval_id", "decision", "by", "payload", "edited", "command", "workflow_id", "step", "input", "specversion")
APPROVAL = "APPROVAL"  # stands for the id of the one that is open
VALUES = (APPROVAL, "r:k", "mesh.clock:0", "r:other/1/x", "approve", "cancel", "retry", "", "x" * 2_001, None, 1, True)

bodies = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=6).map(orjson.dumps)
damaged = st.tuples(bodies, st.integers(0, 200)).map(lambda both: both[0][: both[1]])
doubled = st.tuples(bodies, bodies).map(lambda both: both[0][:-1] + b"," + both[1][1:])
values = st.none() | st.binary(max_size=40) | bodies | damaged | doubled
records = st.lists(
    st.tuples(st.sampled_from(["responses", "commands"]), values, st.lists(st.sampled_from(HEADERS), max_size=5)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=draws(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records)
def test_whatever_comes_has_one_receipt_each_and_the_router_lives(
    sent: list[tuple[str, bytes | None, list[Header]]],
) -> None:
    with MeshKit() as mesh:
        mesh.route({"route": "r", "on": {"type": "t"}, "key": "${{ event.subject }}", "steps": STEPS})
        mesh.person("ana", roles="lead")
        mesh.publish(type="t", subject="k", data=1)
        last = mesh.publish(type="t", subject="last", data=1)
        approval = next(one for one in mesh.stage.questions if one.startswith("r:k/")).encode()
        topics = {"responses": mesh.stage.topics.responses, "commands": mesh.stage.topics.commands}
        out = [
            OutRecord(
                topic=topics[topic],
                key=None,
                value=None if value is None else value.replace(APPROVAL.encode(), approval),
                headers=tuple(headers),
                partition=0,
            )
            for topic, value, headers in sent
        ]
        mesh.act(mesh.stage.send(out))
        told, ids = Counter[tuple[str, int]](), set[bytes]()
        for record in mesh.stage.receipt_records:
            receipt: Any = (
                decode_receipt(record) if record.topic == mesh.stage.topics.receipts else decode_command_receipt(record)
            )
            if receipt.source is not None:  # else an approval ended without an answer
                told[receipt.source.topic, receipt.source.offset] += 1
                ids.add(dict(record.headers)["ce_id"])
        numbers = Counter(one.topic for one in out)
        assert told == Counter({(topic, offset): 1 for topic, count in numbers.items() for offset in range(count)})
        assert len(ids) == len(out)
        last.approve("review")
        assert last.outcome.status == "completed"
