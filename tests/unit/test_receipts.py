"""Receipts: each answer and each command gets exactly one, also one that can't be read."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from one_partition import Partition, agent, approval, only, route

from mesh.codec.approvals import decode_receipt, decode_response, encode_response
from mesh.codec.commands import decode_command, decode_command_receipt
from mesh.codec.effects import EffectEncoder, effect_id
from mesh.codec.inbox import decode_inbox, encode_inbox, is_refusal, sent_by_person
from mesh.codec.unreadable import event_id, refusal_code, unreadable_answer, unreadable_command
from mesh.core.decide import park
from mesh.core.effects import effects
from mesh.core.events import AnswerRefused, ApprovalClosed, Cause, CommandRefused, Decision, InputParked
from mesh.core.inputs import AnswerGiven, AnswerUnreadable, CommandGiven, CommandUnreadable
from mesh.core.receipts import Place, SendCommandReceipt, SendReceipt
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, SenderError
from mesh.ports import Header, OutRecord, Record
from mesh.services.router.input_records import cause_of_parked, inbox_input, refused_with

TOPICS = Topics()
APPROVAL = "r:k/4f2a9c01/review"
ANSWER = {"approval_id": APPROVAL, "decision": "approve", "by": "ana"}
COMMAND = {"command": "cancel", "workflow_id": "r:k", "by": "op"}
CE: tuple[Header, ...] = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"mine"),
    ("ce_source", b"/me"),
    ("ce_type", b"t"),
)


def came(topic: str, value: bytes | None, *headers: Header, offset: int = 7) -> Record:
    return Record(topic, 2, offset, 1_000, None, value, headers)


def answered(value: Any, *headers: Header) -> Record:
    return came(TOPICS.responses, value if isinstance(value, bytes) else orjson.dumps(value), *headers)


def landed(out: OutRecord) -> Record:
    return Record(out.topic, 0, 5, 2_000, out.key, out.value, out.headers)


def copied(given: Any) -> Record:
    return landed(encode_inbox(given, topic="mesh.inbox", partition=0))


# What can be told of an answer that can't be read -------------------------------------------------


NESTED = b'{"payload": {"approval_id": "other:k/4f2a9c01/review"}, "approval_id": "r:k/4f2a9c01/review", "by": "an'


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (orjson.dumps({**ANSWER, "decision": "aprove"}), ()),
        (orjson.dumps({**ANSWER, "pay": 1}), ()),
        (orjson.dumps(ANSWER)[:-5], ()),  # cut off
        (orjson.dumps({**ANSWER, "reason": "ü"}).decode().encode("latin-1"), ()),
        (NESTED, ()),  # another's id is in the payload
        (orjson.dumps({**ANSWER, "payload": 1}).replace(b":1}", b":1e999}"), ()),
        (orjson.dumps(ANSWER), CE[:1] + CE[2:]),  # a CloudEvent without an id
        (orjson.dumps({"specversion": "1.0", "id": "mine", "data": ANSWER}), ()),  # and one without a type
        (
            b'{"specversion": "1.0", "data_base64": "eyJhcHByb3ZhbF9pZCI6ICJyOmsvNGYyYTljMDEvcmV2aWV3IiwgImRlY2lzaW9uIjogMX0="}',
            (),
        ),
        (b'{"by": "ana", "by": "ben", "approval_id": "r:k/4f2a9c01/review"}', ()),
    ],
)
def test_an_answer_that_cant_be_read_still_names_its_approval(value: bytes, headers: tuple[Header, ...]) -> None:
    record = answered(value, *headers)
    with pytest.raises(SenderError):
        decode_response(record)
    refused = unreadable_answer(record, "malformed", "why")
    assert (refused.approval_id, refused.workflow_id) == (APPROVAL, "r:k")
    assert (refused.source_topic, refused.source_partition, refused.source_offset) == (TOPICS.responses, 2, 7)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"yes!",
        b"\xff\xfe",
        b'{"approval_id": 7}',
        b'{"approval_id": "nonsense"}',
        b'[{"approval_id": "r:k/4f2a9c01/review"}]',
        b'{"payload": {"approval_id": "r:k/4f2a9c01/review"}}',
        b'{"approval_id": "r:k/4f2a9c01/review", "approval_id": "r:k/4f2a9c01/other"}',
        b'{"approval_id": "r:k/4f2a9c01/rev',
        b'{"specversion": "1.0", "data_base64": "!"}',
        orjson.dumps({"approval_id": f"r:{'k' * 2_000}/4f2a9c01/review"}),
    ],
)
def test_what_names_no_approval_goes_to_the_workflow_of_its_partition(value: bytes | None) -> None:
    record = came(TOPICS.responses, value)
    with pytest.raises(MalformedRecord):
        decode_response(record)
    refused = unreadable_answer(record, "malformed", "why")
    assert (refused.approval_id, refused.workflow_id) == ("", "mesh.answers:2")
    assert refused.answer_id == "mesh.approvals.responses/2/7"


def test_a_refusal_goes_where_what_it_refuses_went() -> None:
    """A router may have copied it before it died, and then the refusal is a second copy."""
    answer = answered(ANSWER, *CE)
    command = came(TOPICS.commands, orjson.dumps(COMMAND))
    for read, refused in (
        (decode_response(answer), unreadable_answer(answer, "poison", "why")),
        (decode_command(command), unreadable_command(command, "poison", "why")),
    ):
        assert (refused.workflow_id, refused.source_offset) == (read.workflow_id, read.source_offset)


def test_a_command_that_cant_be_read_still_names_its_workflow() -> None:
    record = came(TOPICS.commands, orjson.dumps({**COMMAND, "command": "explode"}), *CE)
    with pytest.raises(MalformedRecord):
        decode_command(record)
    refused = unreadable_command(record, "malformed", "why")
    assert (refused.workflow_id, refused.command, refused.by, refused.command_id) == ("r:k", "explode", "op", "mine")


@drawn(st.binary(max_size=60) | st.text('{}[]:,"\\ab', max_size=40).map(str.encode))
def test_any_bytes_can_be_looked_at(value: bytes) -> None:
    for record in (came(TOPICS.responses, value), came(TOPICS.responses, value, CE[0])):
        assert encode_inbox(unreadable_answer(record, "malformed", ""), topic="i", partition=0).value
        assert encode_inbox(unreadable_command(record, "malformed", ""), topic="i", partition=0).value
        event_id(record)


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (answered(b"x", *CE), "mine"),
        (answered(b'{"id": "of the data"}', *CE[:1]), ""),
        (answered(b'{"id": "bare"}'), "bare"),
        (answered(b'{"id": "whole", ', ("Content-Type", b"application/cloudevents+json")), "whole"),
        (answered(b"x", ("CE_ID", b"1"), ("ce_id", b"2")), ""),
        (answered(b"x", ("ce_id", b"\xff")), ""),
    ],
)
def test_the_id_of_an_event_is_read_where_it_is_one(record: Record, found: str) -> None:
    assert event_id(record) == found


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"decision": "aprove"}, "malformed"),
        ({"payload": None}, "payload"),
        ({"payload": 2**64}, "number"),
    ],
)
def test_a_refusal_says_why_in_one_word(fields: dict[str, Any], code: str) -> None:
    value = orjson.dumps({**ANSWER, **fields}) if code != "number" else b'{"payload": 18446744073709551616}'
    with pytest.raises(MalformedRecord) as caught:
        decode_response(answered(value))
    assert refusal_code(caught.value) == code


# Null ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "payload"),
    [
        ({}, msgspec.UNSET),
        ({"payload": None, "edited": True}, None),
        ({"payload": None, "edited": False}, msgspec.UNSET),
        ({"edited": False}, msgspec.UNSET),
        ({"edited": None}, msgspec.UNSET),
        ({"payload": 0}, 0),
        ({"payload": 0, "edited": True}, 0),
    ],
)
def test_null_is_an_edit_only_where_the_answer_says_so(fields: dict[str, Any], payload: Any) -> None:
    assert decode_response(answered({**ANSWER, **fields})).payload == payload


@pytest.mark.parametrize(
    "fields", [{"payload": None}, {"edited": True}, {"payload": 1, "edited": False}, {"edited": "yes"}]
)
def test_an_answer_that_leaves_open_whether_it_edits_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(MalformedRecord):
        decode_response(answered({**ANSWER, **fields}))


def test_the_meshs_own_clients_can_edit_to_null() -> None:
    out = encode_response(
        topics=TOPICS, approval_id=APPROVAL, decision="approve", by="ana", answer_id="a", at_ms=0, payload=None
    )
    assert decode_response(landed(out)).payload is None


@pytest.mark.parametrize("decode", [decode_response, decode_command])
def test_a_key_that_is_there_twice_is_refused(decode: Any) -> None:
    for value in (b'{"by": "ana", "by": "ben"}', b'{"specversion": "1.0", "data": {"by": "ana", "by": "ben"}}'):
        with pytest.raises(MalformedRecord, match="twice"):
            decode(came("t", value))


def test_ids_that_no_owner_takes_are_refused_where_they_come_in() -> None:
    long = "x" * 2_001
    for fields in ({"by": long}, {"approval_id": f"r:{long}/4f2a9c01/review"}):
        with pytest.raises(MalformedRecord, match="at most 2000"):
            decode_response(answered({**ANSWER, **fields}))
    with pytest.raises(MalformedRecord, match="at most 2000"):
        decode_response(answered(ANSWER, *CE[:1], ("ce_id", long.encode()), *CE[2:]))


# What is decided, and what leaves -----------------------------------------------------------------


def asking() -> Partition:
    p = Partition(route({"review": approval(), "post": agent(needs="review")}))
    p.start()
    return p


def unreadable(p: Partition, approval_id: str, workflow_id: str = "r:k") -> AnswerUnreadable:
    source = p._inbox("mesh.approvals.responses", None)
    return AnswerUnreadable(
        workflow_id=workflow_id, approval_id=approval_id, answer_id="a", code="malformed", message="why", **source
    )


def test_an_unreadable_answer_is_refused_and_the_approval_stays_open() -> None:
    p = asking()
    before = p.workflow()
    refused = only(p.give(unreadable(p, p.task_id("review"))), AnswerRefused)
    assert (refused.code, refused.closed, p.workflow()) == ("malformed", False, before)
    receipt = only(p.effects(), SendReceipt)
    assert receipt.source is not None
    assert effect_id(receipt) == f"mesh.approvals.responses/0/{receipt.source.offset}/receipt"
    p.answer()
    closed = only(p.give(unreadable(p, p.task_id("review"))), AnswerRefused)
    assert (closed.code, closed.closed, closed.verdict) == ("malformed", True, "approved")


@pytest.mark.parametrize(
    "workflow_id",
    ["mesh.answers:0", "mesh.clock:0", "mesh.alias:r.a/1", "mesh.schedule:r", "mesh.limit:x", "mesh.new:1"],
)
def test_each_built_in_workflow_refuses_what_a_person_sends_it(workflow_id: str) -> None:
    p = asking()
    where = p._inbox("mesh.approvals.responses", None)
    answer = AnswerGiven(
        workflow_id=workflow_id, approval_id=f"{workflow_id}/1/a", answer_id="a", decision="approve", by="x", **where
    )
    for given, kind in (
        (answer, AnswerRefused),
        (unreadable(p, "", workflow_id), AnswerRefused),
        (
            CommandGiven(
                workflow_id=workflow_id,
                command_id="c",
                command="retry",
                by="x",
                **p._inbox("mesh.commands", None),
            ),
            CommandRefused,
        ),
        (
            CommandUnreadable(
                workflow_id=workflow_id,
                command_id="c",
                command="",
                code="malformed",
                message="",
                **p._inbox("mesh.commands", None),
            ),
            CommandRefused,
        ),
    ):
        only(p.give(given), kind)
        assert len([one for one in p.effects() if isinstance(one, SendReceipt | SendCommandReceipt)]) == 1


def test_a_command_has_a_receipt_accepted_or_not() -> None:
    p = asking()
    p.command("retry")
    refused = only(p.effects(), SendCommandReceipt)
    p.command("cancel", reason="enough")
    accepted = only(p.effects(), SendCommandReceipt)
    assert (refused.status, refused.code, accepted.status, accepted.message) == (
        "refused",
        "no_incident",
        "accepted",
        "enough",
    )
    out = EffectEncoder(TOPICS, 0, 1).encode(accepted)
    receipt = decode_command_receipt(landed(out))
    assert (receipt.command, receipt.workflow_id, receipt.source) == ("cancel", "r:k", accepted.source)
    assert dict(out.headers)["ce_id"].decode() == effect_id(accepted)
    with pytest.raises(MalformedRecord, match="only routers"):
        decode_command_receipt(answered(b"x"))


def test_decisions_of_old_have_the_receipts_that_they_had() -> None:
    """Sent again after an upgrade, a receipt has the id under which it was sent before."""
    p = asking()
    p.answer(by="nobody")
    p.command("retry")
    answer, command = (
        msgspec.structs.replace(one, cause=msgspec.structs.replace(one.cause, receipt_by_place=False))
        for one in p.decisions[-2:]
    )
    [receipt] = effects(answer)
    assert effect_id(receipt) == f"{p.task_id('review')}/{answer.cause.id}/receipt"
    assert effects(command) == []


def test_two_answers_with_one_id_have_two_receipts() -> None:
    p = asking()
    names = []
    for offset in (1, 2):
        given = AnswerGiven(
            workflow_id="r:k",
            source_topic=TOPICS.responses,
            source_partition=0,
            source_offset=offset,
            source_at_ms=p.now_ms,
            approval_id=p.task_id("review"),
            answer_id="the same",
            decision="approve",
            by="nobody",
        )
        p.give(given)
        names.append(effect_id(only(p.effects(), SendReceipt)))
    assert len(set(names)) == 2


def test_a_receipt_is_small_however_much_the_answer_says() -> None:
    closed = ApprovalClosed(
        step="review",
        approval_id=APPROVAL,
        verdict="approved",
        payload=1,
        by="ana",
        answer_id="a",
        reason="x" * 1_000_000,
    )
    cause = Cause(kind="answer", id="a", source_topic="t", source_partition=1, source_offset=2, receipt_by_place=True)
    decision = Decision(epoch="", workflow_id="r:k", at_ms=1, cause=cause, positions={}, mark=0, events=(closed,))
    [effect] = [one for one in effects(decision) if isinstance(one, SendReceipt)]
    receipt = decode_receipt(landed(EffectEncoder(TOPICS, 0, 1).encode(effect)))
    assert (len(receipt.message), receipt.source) == (2_000, Place(topic="t", partition=1, offset=2))


# What an owner sets aside -------------------------------------------------------------------------


INPUTS = (
    decode_response(answered(ANSWER, *CE)),
    unreadable_answer(answered(b"yes"), "malformed", "why"),
    decode_command(came(TOPICS.commands, orjson.dumps(COMMAND))),
    unreadable_command(came(TOPICS.commands, b"x"), "malformed", "why"),
)


@pytest.mark.parametrize("given", INPUTS)
def test_what_an_owner_sets_aside_unread_has_its_receipt_too(given: Any) -> None:
    record = copied(given)
    assert decode_inbox(record) == given
    refused = refused_with(record, "poison", "why")
    assert refused is not None
    parked = InputParked(
        code="poison", message="why", topic="i", partition=0, offset=5, timestamp_ms=1, key=None, value=None, headers=[]
    )
    decided = park(None, parked, None, workflow_id=given.workflow_id, now_ms=1, refused=refused)
    cause = cause_of_parked(record)
    decision = Decision(
        epoch="", workflow_id=given.workflow_id, at_ms=1, cause=cause, positions={}, mark=0, events=decided.events
    )
    [receipt] = [one for one in effects(decision) if isinstance(one, SendReceipt | SendCommandReceipt)]
    assert receipt.code == "poison"
    assert effect_id(receipt) == f"{given.source_topic}/2/7/receipt"
    # as if it had been decided
    assert inbox_input(record)[1].receipt_by_place


def test_only_refusals_are_refusals_and_only_people_are_people() -> None:
    flags = [is_refusal(encode_inbox(one, topic="i", partition=0)) for one in INPUTS]
    assert flags == [False, True, False, True]
    assert sent_by_person(answered(ANSWER)) is None
    assert refused_with(answered(ANSWER), "failed", "why") is None
