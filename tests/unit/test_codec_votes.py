"""The bytes of answers where several people vote, and of those that say no more than before."""

from typing import Any

import msgspec
import pytest
from one_partition import as_record

from mesh.codec.approvals import decode_request, decode_response, encode_receipt, encode_request, encode_response
from mesh.core.approvals import Group, Terms
from mesh.core.effects import AskApproval
from mesh.core.inputs import AnswerGiven, AnswerGiven2
from mesh.core.receipts import SendReceipt
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Record

TOPICS = Topics()
ANSWER = {"approval_id": "r:k/12345678/review", "decision": "approve", "by": "ana"}
ASKED: dict[str, Any] = {
    "workflow_id": "r:k", "route": "r", "step": "review", "approval_id": "r:k/12345678/review", "question": "Good?",
    "payload": 1, "payload_schema": None, "digest": "sha256:1", "role": "boss", "on_expiry": "reject",
    "deadline_at_ms": None, "at_ms": 1, "traceparent": "",
}  # fmt: skip


def answered(value: Any) -> Record:
    return Record("mesh.approvals.responses", 0, 7, 1, None, msgspec.json.encode(value), ())


def test_an_answer_of_version_2_goes_there_and_back() -> None:
    out = encode_response(
        topics=TOPICS,
        approval_id="r:k/12345678/review",
        decision="choose",
        by="ana",
        answer_id="a1",
        at_ms=1,
        digest="sha256:1",
        choice="voucher",
        form={"n": 1},
    )
    given = decode_response(as_record(out, 7))
    assert isinstance(given, AnswerGiven2)
    assert (given.decision, given.choice, given.form, given.digest, given.answer_id) == (
        "choose", "voucher", {"n": 1}, "sha256:1", "a1",
    )  # fmt: skip


@pytest.mark.parametrize("more", [{}, {"digest": "sha256:1"}, {"reason": "so"}, {"payload": 1}, {"answer_id": "own"}])
def test_an_answer_that_says_no_more_stays_one_of_version_1(more: dict[str, Any]) -> None:
    given = decode_response(answered({**ANSWER, **more}))
    assert isinstance(given, AnswerGiven)
    assert ("answer_id" not in more) or given.answer_id == "own"


@pytest.mark.parametrize(
    "more", [{"choice": "a"}, {"form": 1}, {"text": "a"}, {"decision": "withdraw"}, {"to": "a"}, {"question": 1}]
)
def test_an_answer_that_says_more_is_one_of_version_2(more: dict[str, Any]) -> None:
    assert isinstance(decode_response(answered({**ANSWER, **more})), AnswerGiven2)


def test_a_question_and_its_answer_go_there_and_back() -> None:
    about: dict[str, Any] = {"approval_id": "r:k/12345678/review", "by": "ana", "answer_id": "a1", "at_ms": 1}
    asked = encode_response(topics=TOPICS, decision="ask", text="why?", to="clerk", **about)
    given = decode_response(as_record(asked, 7))
    assert isinstance(given, AnswerGiven2)
    assert (given.decision, given.text, given.to, given.question) == ("ask", "why?", "clerk", 0)
    informed = decode_response(
        as_record(encode_response(topics=TOPICS, decision="inform", text="so", question=2, **about), 8)
    )
    assert isinstance(informed, AnswerGiven2)
    assert (informed.decision, informed.text, informed.to, informed.question) == ("inform", "so", "", 2)


@pytest.mark.parametrize("number", [0, 21, -1, True, "1", 1.5, [1]])
def test_a_question_is_named_by_its_number(number: Any) -> None:
    with pytest.raises(MalformedRecord, match="send the number of an open question, from 1 to 20"):
        decode_response(answered({**ANSWER, "decision": "inform", "text": "so", "question": number}))


def test_a_request_of_version_1_says_what_it_said() -> None:
    out = encode_request(AskApproval(**ASKED), topics=TOPICS)
    assert out.value == (
        b'{"approval_id":"r:k/12345678/review","question":"Good?","payload":1,"payload_schema":null,'
        b'"digest":"sha256:1","role":"boss","deadline_at":null,"on_expiry":"reject"}'
    )


def test_a_request_of_version_2_has_its_terms() -> None:
    terms = Terms(groups=(Group(need=2, role="boss"),))
    found = decode_request(as_record(encode_request(AskApproval(**ASKED, terms=terms), topics=TOPICS), 1))
    assert (found.version, found.terms) == (2, terms)


def test_a_receipt_says_how_the_votes_are_where_there_are_votes() -> None:
    about: dict[str, Any] = {
        "workflow_id": "r:k", "approval_id": "r:k/12345678/review", "answer_id": "a", "status": "accepted",
        "code": "accepted", "message": "", "verdict": "approved", "closed": True, "by": "ana", "at_ms": 1,
    }  # fmt: skip
    plain = msgspec.json.decode(encode_receipt(SendReceipt(**about), topics=TOPICS).value or b"")
    assert not {"choice", "have", "need", "edition"} & plain.keys()
    voted = SendReceipt(**about, choice="pay", have=0, need=2, edition=1)
    found = msgspec.json.decode(encode_receipt(voted, topics=TOPICS).value or b"")
    assert (found["choice"], found["have"], found["need"], found["edition"]) == ("pay", 0, 2, 1)
