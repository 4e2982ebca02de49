"""Codec: what operators order of one approval, and answers that say who is looking."""

from typing import Any

import msgspec
import pytest
from one_partition import as_record

from mesh.codec.approvals import decode_response
from mesh.codec.commands import decode_command, encode_command
from mesh.core.inputs import AnswerGiven2, ApprovalOrder
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Record

ID = "r:k/12345678/review"


def ordered(command: str, **order: Any) -> Record:
    value = {"command": command, "workflow_id": "r:k", "by": "op", "order": {"approval_id": ID, **order}}
    return Record("mesh.commands", 0, 7, 1, None, msgspec.json.encode(value), ())


@pytest.mark.parametrize(
    ("command", "order"),
    [
        ("extend", ApprovalOrder(approval_id=ID, by_ms=1_500)),
        ("extend", ApprovalOrder(approval_id=ID, until_ms=1_763_902_800_000)),
        ("reassign", ApprovalOrder(approval_id=ID, roles=("lead",), people=("eve",), replace=True)),
        ("void", ApprovalOrder(approval_id=ID, voter="ben")),
    ],
)
def test_an_order_goes_there_and_back(command: Any, order: ApprovalOrder) -> None:
    out = encode_command(
        topics=Topics(), command=command, workflow_id="r:k", by="op", command_id="c", at_ms=1, order=order
    )
    assert decode_command(as_record(out, 1)).order == order


@pytest.mark.parametrize(
    ("command", "order", "message"),
    [
        ("extend", {}, "needs plus or until, and nothing else"),
        ("extend", {"plus": "soon"}, "`plus` is not a duration"),
        ("extend", {"plus": "9999d"}, "`plus` is not a duration"),
        ("extend", {"until": "soon"}, "`until`"),
        ("extend", {"plus": "1h", "until": "2026-11-24T09:00:00Z"}, "not both"),
        ("extend", {"plus": "1h", "replace": True}, "nothing else"),
        ("extend", {"plus": 7}, "does not hold"),
        ("reassign", {"replace": True}, "needs people or roles"),
        ("reassign", {"people": [" "]}, "a name that is blank"),
        ("reassign", {"people": ["x" * 201]}, "longer than 200"),
        ("reassign", {"people": ["x"], "voter": "y"}, "nothing else"),
        ("void", {"voter": " "}, "a name that is blank"),
        ("void", {"voter": "x", "approval_id": "r:other/12345678/review"}, "not that of an approval of r:k"),
        ("void", {"voter": "x", "approval_id": "x"}, "not that of an approval of r:k"),
        ("void", {"vote": "x"}, "does not hold"),
    ],
)
def test_what_is_wrong_with_an_order_is_said(command: str, order: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedRecord, match=message):
        decode_command(ordered(command, **order))


@pytest.mark.parametrize("value", [{"command": "cancel", "order": {}}, {"command": "extend"}])
def test_an_order_goes_with_its_commands_alone(value: dict[str, Any]) -> None:
    body = msgspec.json.encode({"workflow_id": "r:k", "by": "op", **value})
    with pytest.raises(MalformedRecord, match="`order` goes with extend, reassign, void alone"):
        decode_command(Record("mesh.commands", 0, 7, 1, None, body, ()))


@pytest.mark.parametrize("decision", ["claim", "release", "extend"])
def test_answers_that_say_who_is_looking_are_of_version_2(decision: str) -> None:
    value = {"approval_id": ID, "decision": decision, "by": "ana"}
    found = decode_response(Record("mesh.approvals.responses", 0, 7, 1, None, msgspec.json.encode(value), ()))
    assert isinstance(found, AnswerGiven2)
    assert found.decision == decision
