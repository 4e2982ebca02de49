"""Scenarios of receipts: what people send is answered once each, also if nobody can read it."""

import json
from typing import Any

from scenario_table import begin, scenario

from mesh.codec.approvals import decode_receipt
from mesh.codec.commands import decode_command_receipt
from mesh.ports import OutRecord
from mesh.testing import MeshKit

ASKS = {"review": {"approval": {"ask": "Good?", "payload": "${{ event.data }}", "role": "lead"}}}


@scenario
def answers_and_commands_that_nobody_can_read(mesh: MeshKit) -> None:
    """A misspelt answer, one that names nothing, unknown commands, and answers that share an id."""
    mesh.person("ana", roles="lead")
    run = begin(mesh, ASKS, data="text")
    [approval] = mesh.stage.questions
    topics = mesh.stage.topics

    def send(topic: str, value: Any, answer_id: str = "") -> None:
        headers = (("ce_specversion", b"1.0"), ("ce_source", b"/t"), ("ce_type", b"t"), ("ce_id", answer_id.encode()))
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        record = OutRecord(topic=topic, key=b"k", value=body, headers=headers if answer_id else ())
        mesh.act(mesh.stage.send([record]))

    send(topics.responses, {"approval_id": approval, "decision": "aprove", "by": "ana"})
    send(topics.responses, b"yes!")
    send(topics.responses, {"approval_id": approval, "decision": "approve", "by": "ana", "payload": None})
    send(topics.commands, {"command": "explode", "workflow_id": run.id, "by": "op"})
    send(topics.commands, {"command": "cancel", "workflow_id": "r:none", "by": "op"})
    for by in ("ben", "ana"):
        send(topics.responses, {"approval_id": approval, "decision": "approve", "by": by}, "same-id")
    assert run.outcome.data == {"review": run.output("review")}
    told = [
        (decode_command_receipt if record.topic == topics.command_receipts else decode_receipt)(record)
        for record in mesh.stage.receipt_records
    ]
    answers = ["malformed", "malformed", "payload", "role", "accepted"]
    assert sorted(one.code for one in told) == sorted([*answers, "malformed", "unknown"])
    assert len({dict(record.headers)["ce_id"] for record in mesh.stage.receipt_records}) == len(told)
