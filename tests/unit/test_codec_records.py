"""The mesh's own records come back as they were written.

A record that can't be read is refused, and the message says how to correct it.
"""

import re
from base64 import b64encode
from typing import Any, get_args

import msgspec
import orjson
import pytest
from draws import draws
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.codec.approvals import (
    Receipt,
    decode_receipt,
    decode_request,
    decode_response,
    encode_receipt,
    encode_request,
    encode_response,
)
from mesh.codec.cloudevents import from_record, to_record
from mesh.codec.commands import decode_command, encode_command
from mesh.codec.dead_letters import dead_letter, dead_letter_of_parked, decode_dead_letter
from mesh.codec.effects import EffectEncoder, effect_id
from mesh.codec.inbox import decode_inbox, encode_inbox
from mesh.codec.log import decode_log_record, encode_decision, encode_owner_changed
from mesh.codec.outcomes import Outcome, decode_outcome, encode_outcome
from mesh.codec.state import (
    canonical_workflow,
    decode_meta,
    decode_workflow,
    encode_meta,
    encode_workflow,
)
from mesh.core.calls import Caller, called_event
from mesh.core.effects import AskApproval, Effect, PublishOutcome, SendDeadLetter, SendInput, SendTask
from mesh.core.events import Cause, Decision, Event, InputParked, OwnerChanged, TaskSucceeded
from mesh.core.forks import Fork, KeptResult
from mesh.core.ids import partition_of_key
from mesh.core.inputs import AnswerGiven, Command, CommandGiven, EventMatched, InboxInput, WorkflowCalled
from mesh.core.receipts import SendReceipt
from mesh.core.state import PartitionState, StepState, Workflow
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, UnknownFormat
from mesh.ports import Header, OutRecord, Record
from mesh.services.router.input_records import name_of_crossing, source_of

busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be
TOPICS = Topics()
WORKFLOW = "issue-triage:octo/repo#12"
APPROVAL = f"{WORKFLOW}/4f2a9c01/review"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
AT_MS = 1_795_510_800_000  # 2026-11-24T09:00:00Z
DEEP: Any = None
for _ in range(5000):
    DEEP = [DEEP]


def landed(out: OutRecord, offset: int = 17, partition: int = 3) -> Record:
    return Record(out.topic, partition, offset, AT_MS, out.key, out.value, out.headers)


def came(topic: str, value: bytes | None, *headers: Header) -> Record:
    return Record(topic, 3, 17, AT_MS, None, value, headers)


def header(out: OutRecord, name: str) -> str:
    return dict(out.headers)[name].decode()


text = st.text(st.characters(codec="utf-8"), max_size=12)
number = st.integers(0, 2**50)
json_value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a msgspec type as a decoder would make them.

    So a round trip must give the same back.
    """
    info = kind if isinstance(kind, msgspec.inspect.Type) else msgspec.inspect.type_info(kind)
    match info:
        case msgspec.inspect.StructType():
            fields = {
                field.name: any_of(field.type)
                for field in info.fields
                if not (isinstance(field.type, msgspec.inspect.AnyType) and field.default is msgspec.UNSET)
            }
            return st.builds(info.cls, **fields)
        case msgspec.inspect.UnionType():
            return st.one_of([any_of(each) for each in info.types])
        case msgspec.inspect.LiteralType():
            return st.sampled_from(info.values)
        case msgspec.inspect.DictType():
            return st.dictionaries(any_of(info.key_type), any_of(info.value_type), max_size=3)
        case msgspec.inspect.VarTupleType():
            return st.lists(any_of(info.item_type), max_size=3).map(tuple)
        case msgspec.inspect.TupleType():
            return st.tuples(*[any_of(each) for each in info.item_types])
        case msgspec.inspect.ListType():
            return st.lists(any_of(info.item_type), max_size=3)
        case _:
            return _plain(info)


def _plain(info: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case msgspec.inspect.StrType():
            return text
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.IntType():
            return number
        case msgspec.inspect.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)
        case msgspec.inspect.NoneType():
            return st.none()
        case msgspec.inspect.AnyType():
            return json_value
        case _:
            raise TypeError(f"no strategy for {info}")


# --- the log --------------------------------------------------------------------------------------

DECISION = Decision(
    epoch="e" * 32,
    workflow_id=WORKFLOW,
    at_ms=AT_MS,
    cause=Cause(kind="result", id=f"{WORKFLOW}/4f2a9c01/classify/1", topic="mesh.results", partition=3, offset=7),
    positions={"mesh.results": 8},
    mark=5,
    events=(TaskSucceeded(step="classify", task_id=f"{WORKFLOW}/4f2a9c01/classify", attempt=1, output={"ok": True}),),
)
OWNER = OwnerChanged(token="t" * 32, owner="host-1", partitions=16, format_level=1, at_ms=AT_MS)


@busy
@given(any_of(Decision))
def test_a_decision_comes_back(decision: Decision) -> None:
    out = encode_decision(decision, topic="mesh.log", partition=3)
    assert decode_log_record(landed(out)) == decision
    assert (out.key, out.partition) == (decision.workflow_id.encode(), 3)


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: str(kind.__name__))
def test_every_event_comes_back_in_a_decision(kind: type[Event]) -> None:
    @settings(busy, max_examples=draws(15))
    @given(any_of(kind))
    def comes_back(event: Event) -> None:
        decision = msgspec.structs.replace(DECISION, events=(event,))
        assert decode_log_record(landed(encode_decision(decision, topic="mesh.log", partition=3))) == decision

    comes_back()


@busy
@given(any_of(OwnerChanged))
def test_a_change_of_owner_comes_back(change: OwnerChanged) -> None:
    out = encode_owner_changed(change, topic="mesh.log", partition=3)
    assert decode_log_record(landed(out)) == change
    assert (out.key, out.partition) == (None, 3)


def test_log_records_are_cloud_events() -> None:
    decided = from_record(landed(encode_decision(DECISION, topic="mesh.log", partition=3, traceparent=TRACEPARENT)))
    assert {name: decided[name] for name in decided if name != "data"} == {
        "specversion": "1.0",
        "id": "mesh.results/7",
        "source": f"/mesh/log/3/{'e' * 32}",
        "type": "mesh.log.decision",
        "datacontenttype": "application/json",
        "correlationid": WORKFLOW,
        "causationid": f"{WORKFLOW}/4f2a9c01/classify/1",
        "traceparent": TRACEPARENT,
    }
    assert (
        from_record(landed(encode_owner_changed(OWNER, topic="mesh.log", partition=3)))["type"]
        == "mesh.log.owner_changed"
    )


def test_a_timers_decision_is_named_by_the_timer() -> None:
    decision = msgspec.structs.replace(DECISION, cause=Cause(kind="timer", id="timer/x/1"))
    assert header(encode_decision(decision, topic="mesh.log", partition=3), "ce_id") == "timer/x/1"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "it has no value"),
        (b"", "Input data was truncated"),
        (b"{}", "Object missing required field `record`"),
        (b'{"record":"Decision.2"}', "Invalid value 'Decision.2' - at `$.record`"),
        (
            msgspec.json.encode(DECISION).replace(b"TaskSucceeded.1", b"TaskSucceeded.9"),
            "Invalid value 'TaskSucceeded.9' - at `$.events[0].event`",
        ),
        (b'{"record":"OwnerChanged.1"}', "Object missing required field `token`"),
        (
            b'{"record":"Decision.1","more":' + b"[" * 5000,
            "maximum recursion depth exceeded while deserializing an object",
        ),
    ],
)
def test_a_log_record_that_cant_be_read_stops_the_reader_and_says_where(value: bytes | None, problem: str) -> None:
    with pytest.raises(UnknownFormat) as caught:
        decode_log_record(came("mesh.log", value))
    assert str(caught.value) == (
        f"mesh.log, partition 3, offset 17: this version can't read the log record ({problem}). Run the newest version of agent-mesh that wrote to "
        "this log; if nothing newer did, another program wrote here: allow only routers to write to the log."
    )


# --- the inbox ------------------------------------------------------------------------------------

MATCHED = EventMatched(
    workflow_id=WORKFLOW,
    source_topic="mesh.events",
    source_partition=1,
    source_offset=2,
    source_at_ms=AT_MS,
    route="issue-triage",
    digest="sha256:" + "0" * 64,
    key="octo/repo#12",
    cloud_event={"specversion": "1.0", "id": "a1", "source": "/s", "type": "t", "traceparent": TRACEPARENT, "data": {}},
)


@pytest.mark.parametrize("kind", get_args(InboxInput), ids=lambda kind: str(kind.__name__))
def test_every_inbox_input_comes_back(kind: type[InboxInput]) -> None:
    @busy
    @given(any_of(kind))
    def comes_back(given_input: InboxInput) -> None:
        out = encode_inbox(given_input, topic="mesh.inbox", partition=3)
        assert decode_inbox(landed(out)) == given_input
        assert (out.key, out.partition) == (given_input.workflow_id.encode(), 3)

    comes_back()


def test_an_edit_comes_back_and_no_edit_stays_none() -> None:
    answer = AnswerGiven(
        workflow_id=WORKFLOW,
        source_topic="mesh.approvals.responses",
        source_partition=0,
        source_offset=1,
        source_at_ms=AT_MS,
        approval_id=APPROVAL,
        answer_id="n1",
        decision="approve",
        by="ana",
    )
    for payload in (msgspec.UNSET, None, {"text": "x"}):
        given_input = msgspec.structs.replace(answer, payload=payload)
        back = decode_inbox(landed(encode_inbox(given_input, topic="mesh.inbox", partition=3)))
        assert isinstance(back, AnswerGiven)
        assert back.payload == payload
        assert (back.payload is msgspec.UNSET) == (payload is msgspec.UNSET)


def test_inbox_records_are_cloud_events_named_by_their_source() -> None:
    event = from_record(landed(encode_inbox(MATCHED, topic="mesh.inbox", partition=3)))
    assert (event["source"], event["id"]) == ("/mesh/ingress/mesh.events/1", "2/0")
    assert (event["correlationid"], event["causationid"], event["traceparent"]) == (WORKFLOW, "a1", TRACEPARENT)


def test_what_another_owner_sends_is_named_by_its_log_and_its_place_in_the_sequence() -> None:
    caller = Caller(workflow_id=WORKFLOW, task_id=f"{WORKFLOW}/4f2a9c01/classify")
    called = WorkflowCalled(
        workflow_id=f"sub:{caller.task_id}",
        source_topic="",
        source_partition=-1,
        source_offset=7,
        source_at_ms=AT_MS,
        route="sub",
        digest="sha256:" + "0" * 64,
        key=caller.task_id,
        cloud_event=called_event(caller, {"n": 1}, TRACEPARENT, ""),
        caller=caller,
    )
    out = EffectEncoder(TOPICS, 3, 16).encode(SendInput(workflow_id=WORKFLOW, input=called))
    assert (out.topic, out.partition) == ("mesh.inbox", partition_of_key(called.workflow_id.encode(), 16))
    assert decode_inbox(landed(out)) == msgspec.structs.replace(called, source_topic="mesh.log", source_partition=3)
    event = from_record(landed(out))
    assert (event["source"], event["id"]) == ("/mesh/owner/mesh.log/3", "7/0")
    assert (event["causationid"], event["traceparent"]) == (f"{caller.task_id}/1/call", TRACEPARENT)
    assert effect_id(SendInput(workflow_id=WORKFLOW, input=called)) == event["causationid"]
    assert source_of(landed(out)) == {
        "source_topic": "mesh.log",
        "source_partition": 3,
        "source_offset": 7,
        "source_index": 0,
    }
    assert name_of_crossing(landed(out)) == (caller, "call")
    assert name_of_crossing(landed(encode_inbox(MATCHED, topic="mesh.inbox", partition=3))) is None


def test_an_input_that_nests_too_deep_is_malformed() -> None:
    deep = msgspec.structs.replace(MATCHED, cloud_event={"data": DEEP})
    with pytest.raises(MalformedRecord, match=r"nests too deep to be written; flatten its data$"):
        encode_inbox(deep, topic="mesh.inbox", partition=3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "an inbox record without a value; only routers may write to this topic"),
        (
            b'{"input":"EventMatched.2"}',
            "not an inbox record of this version (Invalid value 'EventMatched.2' - at `$.input`); only routers may write to this topic",
        ),
    ],
)
def test_what_is_no_inbox_record_is_malformed(value: bytes | None, message: str) -> None:
    with pytest.raises(MalformedRecord, match="^" + re.escape(f"mesh.inbox, partition 3, offset 17: {message}") + "$"):
        decode_inbox(came("mesh.inbox", value))


# --- approvals ------------------------------------------------------------------------------------

ASK = AskApproval(
    workflow_id=WORKFLOW,
    route="issue-triage",
    step="review",
    approval_id=APPROVAL,
    question="Post this reply?",
    payload={"text": "hello"},
    payload_schema={"type": "object"},
    digest="sha256:9c1e",
    role="maintainer",
    on_expiry="reject",
    deadline_at_ms=AT_MS,
    at_ms=AT_MS - 86_400_000,
    traceparent=TRACEPARENT,
)
RECEIPT = SendReceipt(
    workflow_id=WORKFLOW,
    approval_id=APPROVAL,
    answer_id="n1",
    status="refused",
    code="late",
    message="the deadline was at 09:00",
    verdict="rejected",
    closed=True,
    by="ana@example.org",
    at_ms=AT_MS,
)


def test_a_request_has_the_documented_shape() -> None:
    out = encode_request(ASK, topics=TOPICS)
    assert orjson.loads(out.value or b"") == {
        "approval_id": APPROVAL,
        "question": "Post this reply?",
        "payload": {"text": "hello"},
        "payload_schema": {"type": "object"},
        "digest": "sha256:9c1e",
        "role": "maintainer",
        "deadline_at": "2026-11-24T09:00:00.000Z",
        "on_expiry": "reject",
    }
    assert (out.topic, out.key, out.partition) == ("mesh.approvals.requests", WORKFLOW.encode(), None)
    event = from_record(landed(out))
    assert (event["id"], event["type"], event["time"]) == (
        APPROVAL,
        "mesh.approval.requested",
        "2026-11-23T09:00:00.000Z",
    )


def test_a_request_comes_back() -> None:
    request = decode_request(landed(encode_request(ASK, topics=TOPICS)))
    assert (request.workflow_id, request.deadline_at_ms, request.payload) == (WORKFLOW, AT_MS, {"text": "hello"})
    open_ended = msgspec.structs.replace(ASK, deadline_at_ms=None, payload_schema=None)
    request = decode_request(landed(encode_request(open_ended, topics=TOPICS)))
    assert (request.deadline_at_ms, request.payload_schema) == (None, None)
    assert msgspec.structs.replace(request, approval_id="x").workflow_id == ""


def test_a_receipt_has_the_documented_shape_and_comes_back() -> None:
    out = encode_receipt(RECEIPT, topics=TOPICS)
    assert orjson.loads(out.value or b"") == {
        "approval_id": APPROVAL,
        "answer_id": "n1",
        "status": "refused",
        "code": "late",
        "verdict": "rejected",
        "closed": True,
        "message": "the deadline was at 09:00",
        "by": "ana@example.org",
        "at": "2026-11-24T09:00:00.000Z",
        "source": None,
    }
    assert (out.topic, out.key) == ("mesh.approvals.receipts", WORKFLOW.encode())
    assert header(out, "ce_causationid") == "n1"
    assert isinstance(decode_receipt(landed(out)), Receipt)


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[" * 5000])
def test_what_is_no_request_or_receipt_is_malformed(value: bytes | None) -> None:
    with pytest.raises(
        MalformedRecord, match=r"^mesh.approvals.requests, partition 3, offset 17: not an approval request \("
    ):
        decode_request(came("mesh.approvals.requests", value))
    with pytest.raises(MalformedRecord, match=r"^mesh.approvals.receipts, partition 3, offset 17: not a receipt \("):
        decode_receipt(came("mesh.approvals.receipts", value))


def test_a_request_whose_deadline_is_no_time_is_malformed() -> None:
    value = orjson.dumps({**orjson.loads(encode_request(ASK, topics=TOPICS).value or b""), "deadline_at": "soon"})
    with pytest.raises(MalformedRecord, match="'soon' is not an RFC 3339 time"):
        decode_request(came("mesh.approvals.requests", value))


ANSWER = {"approval_id": APPROVAL, "decision": "approve", "by": "ana@example.org"}
SOURCE: dict[str, Any] = {
    "workflow_id": WORKFLOW,
    "source_topic": "mesh.approvals.responses",
    "source_partition": 3,
    "source_offset": 17,
    "source_at_ms": AT_MS,
}


def answered(value: Any, *headers: Header) -> Record:
    return came("mesh.approvals.responses", value if isinstance(value, bytes) else orjson.dumps(value), *headers)


def test_a_bare_answer_takes_its_id_from_its_place() -> None:
    full = {**ANSWER, "digest": "sha256:9c1e", "reason": "fine", "payload": {"text": "better"}}
    assert decode_response(answered(full)) == AnswerGiven(
        **SOURCE,
        approval_id=APPROVAL,
        answer_id="mesh.approvals.responses/3/17",
        decision="approve",
        by="ana@example.org",
        digest="sha256:9c1e",
        reason="fine",
        payload={"text": "better"},
    )


def test_an_answer_as_a_cloud_event_has_the_events_id() -> None:
    event = {
        "specversion": "1.0",
        "id": "n1",
        "source": "/desk",
        "type": "answer",
        "traceparent": TRACEPARENT,
        "data": ANSWER,
    }
    binary = landed(to_record(event, topic="mesh.approvals.responses"))
    structured = answered(event, ("content-type", b"application/cloudevents+json"))
    for record in (binary, structured):
        answer = decode_response(record)
        assert (answer.answer_id, answer.traceparent) == ("n1", TRACEPARENT)
        assert answer.payload is msgspec.UNSET


def test_the_meshs_own_answer_comes_back() -> None:
    out = encode_response(
        topics=TOPICS,
        approval_id=APPROVAL,
        decision="reject",
        by="ana",
        answer_id="n1",
        at_ms=AT_MS,
        digest="sha256:9c1e",
        reason="no",
        payload={"text": "x"},
        traceparent=TRACEPARENT,
    )
    assert decode_response(landed(out)) == AnswerGiven(
        **SOURCE,
        approval_id=APPROVAL,
        answer_id="n1",
        decision="reject",
        by="ana",
        digest="sha256:9c1e",
        reason="no",
        payload={"text": "x"},
        traceparent=TRACEPARENT,
    )
    plain = encode_response(
        topics=TOPICS, approval_id="part", decision="approve", by="ana", answer_id="n2", at_ms=AT_MS
    )
    assert orjson.loads(plain.value or b"") == {"approval_id": "part", "decision": "approve", "by": "ana"}


@pytest.mark.parametrize(
    ("said", "decision"),
    [("approved", "approve"), ("Rejected", "reject"), (" APPROVE ", "approve"), ("reject", "reject")],
)
def test_a_decisions_synonyms_are_understood(said: str, decision: str) -> None:
    assert decode_response(answered({**ANSWER, "decision": said})).decision == decision


def test_a_null_is_as_good_as_nothing_said() -> None:
    answer = decode_response(answered({**ANSWER, "digest": None, "reason": None}))
    assert (answer.digest, answer.reason, answer.payload) == (None, "", msgspec.UNSET)


def test_a_traceparent_that_does_not_hold_is_passed_over() -> None:
    assert decode_response(answered(ANSWER, ("traceparent", b"x"))).traceparent is None
    assert decode_response(answered(ANSWER, ("traceparent", TRACEPARENT.encode()))).traceparent == TRACEPARENT


SEND = (
    'Send {"approval_id": "<as asked>", "decision": "approve" or "reject", "by": "<who you are>"}, '
    'and if you like "digest", "reason", "payload"; "edited": true with a payload of null'
)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            answered({}),
            f"the answer does not hold: `approval_id` is missing; `decision` is missing; `by` is missing. {SEND}",
        ),
        (
            answered({**ANSWER, "by": 7, "digest": 1, "paylod": {}}),
            (
                "the answer does not hold: `by` is not a string that says something; `digest` is not a string; "
                f"`paylod` is not a field of it. {SEND}"
            ),
        ),
        (
            answered({**ANSWER, "by": "  "}),
            f"the answer does not hold: `by` is not a string that says something. {SEND}",
        ),
        (
            answered({**ANSWER, "decision": "maybe"}),
            'the answer\'s `decision` is \'maybe\'; send "approve" or "reject", or of a question that takes more, choose, edit, withdraw, comment, ask, inform, claim, release, extend',
        ),
        (
            answered({**ANSWER, "approval_id": "review"}),
            (
                "the answer's `approval_id` 'review' is not an approval's id (<workflow id>/<run id>/<step>); "
                "copy it from the request, or from `mesh approvals`"
            ),
        ),
        (answered([]), f"the answer is not a JSON object; {SEND.replace('Send', 'send')}"),
        (
            answered(b"yes"),
            "the answer is not JSON (unexpected character, expected a JSON value: line 1 column 1 (char 0)); send valid JSON, or name its real content-type",
        ),
        (
            answered(ANSWER, ("ce_id", b"n1")),
            "attribute `specversion` is missing; send it as header ce_specversion (binary mode) or as member 'specversion' (structured mode)",
        ),
    ],
)
def test_an_answer_that_does_not_hold_says_what_is_missing(record: Record, message: str) -> None:
    with pytest.raises(MalformedRecord) as caught:
        decode_response(record)
    assert str(caught.value) == f"mesh.approvals.responses, partition 3, offset 17: {message}"


# --- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["cancel", "retry", "skip", "fail", "pause", "resume"])
def test_a_command_comes_back(command: Command) -> None:
    out = encode_command(
        topics=TOPICS,
        command=command,
        workflow_id=WORKFLOW,
        by="op",
        command_id="c1",
        at_ms=AT_MS,
        reason="fixed",
        step="draft",
        traceparent=TRACEPARENT,
    )
    assert (out.topic, out.key) == ("mesh.commands", WORKFLOW.encode())
    assert decode_command(landed(out)) == CommandGiven(
        **{**SOURCE, "source_topic": "mesh.commands"},
        command_id="c1",
        command=command,
        by="op",
        reason="fixed",
        step="draft",
    )


def test_a_command_to_migrate_comes_back() -> None:
    digest = "sha256:" + "0a" * 32
    out = encode_command(
        topics=TOPICS, command="migrate", workflow_id=WORKFLOW, by="op", command_id="c1", at_ms=AT_MS, to=digest
    )
    assert (decode_command(landed(out)).command, decode_command(landed(out)).to) == ("migrate", digest)


@pytest.mark.parametrize("given", [{"n": 1}, None])
def test_a_retry_may_carry_an_input_and_no_other_command_may(given: Any) -> None:
    out = encode_command(
        topics=TOPICS, command="retry", workflow_id=WORKFLOW, by="op", command_id="c1", at_ms=AT_MS, input=given
    )
    assert decode_command(landed(out)).task_input == given
    wrong = {"command": "skip", "workflow_id": WORKFLOW, "by": "op", "input": given}
    with pytest.raises(MalformedRecord, match="`input` goes with retry alone, and fork"):
        decode_command(came("mesh.commands", orjson.dumps(wrong)))


@pytest.mark.parametrize("given", [{"n": 1}, None])
def test_an_output_by_hand_comes_back_and_names_its_step(given: Any) -> None:
    out = encode_command(
        topics=TOPICS,
        command="complete",
        workflow_id=WORKFLOW,
        by="op",
        command_id="c1",
        at_ms=AT_MS,
        step="draft",
        output=given,
    )
    assert (decode_command(landed(out)).step, decode_command(landed(out)).output) == ("draft", given)


@pytest.mark.parametrize(
    "wrong",
    [
        {"command": "skip", "step": "draft", "output": 1},
        {"command": "complete", "step": "draft"},
        {"command": "complete", "output": 1},
    ],
)
def test_an_output_goes_with_complete_alone_which_needs_a_step(wrong: dict[str, Any]) -> None:
    with pytest.raises(MalformedRecord, match="`output` goes with complete alone, which names a `step`"):
        decode_command(came("mesh.commands", orjson.dumps({**wrong, "workflow_id": WORKFLOW, "by": "op"})))


@pytest.mark.parametrize(
    "about",
    [
        Fork(into="r:new"),
        Fork(of="r:k", run_id="aa", event={"id": "e"}, steps={"a": KeptResult(status="succeeded", output=[1])}),
    ],
)
def test_a_command_to_fork_comes_back(about: Fork) -> None:
    to = "" if about.into else "sha256:" + "0a" * 32
    out = encode_command(
        topics=TOPICS,
        command="fork",
        workflow_id=WORKFLOW,
        by="op",
        command_id="c1",
        at_ms=AT_MS,
        step="draft",
        to=to,
        fork=about,
    )
    assert (decode_command(landed(out)).fork, decode_command(landed(out)).to) == (about, to)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"command": "skip", "step": "a", "fork": {"into": "r:n"}}, "`fork` goes with fork alone"),
        ({"command": "fork", "step": "a"}, "`fork` goes with fork alone"),
        ({"command": "fork", "fork": {"into": "r:n"}}, "which names a `step`"),
        ({"command": "fork", "step": "a", "fork": {"steps": 1}}, "the `fork` does not hold"),
        ({"command": "fork", "step": "a", "fork": {}}, "says neither or both"),
    ],
)
def test_a_command_to_fork_that_does_not_hold_says_why(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(MalformedRecord, match=said):
        decode_command(came("mesh.commands", orjson.dumps({**wrong, "workflow_id": WORKFLOW, "by": "op"})))


def test_a_bare_command_takes_its_id_from_its_place() -> None:
    command = decode_command(
        came("mesh.commands", orjson.dumps({"command": "cancel", "workflow_id": WORKFLOW, "by": "op"}))
    )
    assert (command.command_id, command.step, command.reason) == ("mesh.commands/3/17", None, "")
    out = encode_command(topics=TOPICS, command="cancel", workflow_id=WORKFLOW, by="op", command_id="c", at_ms=0)
    assert orjson.loads(out.value or b"") == {"command": "cancel", "workflow_id": WORKFLOW, "by": "op"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"command": "explode", "workflow_id": WORKFLOW, "by": "op"},
            'the command \'explode\' is not known; send one of "cancel", "retry", "skip", "fail", "migrate", "extend", "reassign", "void", "complete", "pause", "resume", "fork", "erase"',
        ),
        (
            {"command": "cancel", "workflow_id": "octo", "by": "op"},
            (
                "the command's `workflow_id` 'octo' is not a workflow's id (<route>:<key>); copy it from `mesh workflows`"
            ),
        ),
        (
            {"command": "cancel", "force": True},
            (
                "the command does not hold: `workflow_id` is missing; `by` is missing; `force` is not a field of it. "
                'Send {"command": "cancel", "retry", "skip", "fail", "pause", "resume", "complete" or "migrate", "workflow_id": "<route>:<key>", "by": "<who you are>"}, and if you like "reason", "step" (of retry, skip and fail); '
                '"to": "sha256:..." with migrate, "input" with retry, "step" and "output" with complete'
            ),
        ),
        *(
            (
                {"command": command, "workflow_id": WORKFLOW, "by": "op", "to": to},
                (
                    "`to` must be a version's whole digest with migrate, and has no place elsewhere; "
                    'send {"command": "cancel", "retry", "skip", "fail", "pause", "resume", "complete" or "migrate", "workflow_id": "<route>:<key>", "by": "<who you are>"}, and if you like "reason", "step" (of retry, skip and fail); '
                    '"to": "sha256:..." with migrate, "input" with retry, "step" and "output" with complete'
                ),
            )
            for command, to in (("migrate", None), ("migrate", "sha256:12"), ("cancel", "sha256:" + "0" * 64))
        ),
    ],
)
def test_a_command_that_does_not_hold_says_why(value: Any, message: str) -> None:
    with pytest.raises(MalformedRecord) as caught:
        decode_command(came("mesh.commands", orjson.dumps(value)))
    assert str(caught.value) == f"mesh.commands, partition 3, offset 17: {message}"


# --- outcomes -------------------------------------------------------------------------------------

OUTCOME = PublishOutcome(
    workflow_id=WORKFLOW,
    run_id="4f2a9c01",
    route="issue-triage",
    status="completed",
    reason="all steps are done",
    output={"url": "x"},
    at_ms=AT_MS,
    traceparent=TRACEPARENT,
)


def test_an_outcome_is_a_cloud_event_for_upstream() -> None:
    out = encode_outcome(OUTCOME, topics=TOPICS)
    event = from_record(landed(out))
    assert event.pop("data") == {
        "workflow_id": WORKFLOW,
        "run_id": "4f2a9c01",
        "route": "issue-triage",
        "status": "completed",
        "reason": "all steps are done",
        "output": {"url": "x"},
        "event_id": "",
        "event_source": "",
    }
    assert event == {
        "specversion": "1.0",
        "id": f"{WORKFLOW}/4f2a9c01/outcome",
        "source": "/mesh/issue-triage",
        "type": "mesh.workflow.completed",
        "subject": WORKFLOW,
        "time": "2026-11-24T09:00:00.000Z",
        "datacontenttype": "application/json",
        "correlationid": WORKFLOW,
        "traceparent": TRACEPARENT,
    }
    assert (out.topic, out.key) == ("mesh.outcomes", WORKFLOW.encode())


@busy
@given(any_of(PublishOutcome))
def test_an_outcome_comes_back(effect: PublishOutcome) -> None:
    outcome = decode_outcome(landed(encode_outcome(effect, topics=TOPICS)))
    names = Outcome.__struct_fields__
    assert [getattr(outcome, name) for name in names] == [getattr(effect, name) for name in names]


def test_what_is_no_outcome_is_malformed() -> None:
    with pytest.raises(MalformedRecord, match=r"^mesh.outcomes, partition 3, offset 17: not an outcome \("):
        decode_outcome(came("mesh.outcomes", b"{}"))


# --- dead letters ---------------------------------------------------------------------------------

records = st.builds(
    Record,
    topic=text,
    partition=number,
    offset=number,
    timestamp_ms=number,
    key=st.none() | st.binary(max_size=9),
    value=st.none() | st.binary(max_size=9),
    headers=st.lists(st.tuples(text, st.binary(max_size=9)), max_size=3).map(tuple),
)


@busy
@given(records)
def test_a_dead_letter_keeps_its_original_to_the_byte(original: Record) -> None:
    out = dead_letter(
        original,
        code="malformed",
        message="why",
        component="ingress",
        group="g",
        topics=TOPICS,
        at_ms=5,
        first_failed_at_ms=4,
        attempt=2,
    )
    assert (out.topic, out.key, out.value) == ("mesh.dlq", original.key, original.value)
    assert out.headers[: len(original.headers)] == original.headers
    letter = decode_dead_letter(landed(out))
    assert letter.original == original
    assert (letter.code, letter.message, letter.component, letter.group) == ("malformed", "why", "ingress", "g")
    assert (letter.failed_at_ms, letter.first_failed_at_ms, letter.attempt) == (5, 4, 2)
    assert letter.id == f"{original.topic}/{original.partition}/{original.offset}"


def test_of_a_dead_letter_of_a_dead_letter_the_last_reason_counts() -> None:
    first = landed(
        dead_letter(
            came("mesh.events", b"x"), code="a", message="a", component="ingress", group="", topics=TOPICS, at_ms=1
        )
    )
    second = dead_letter(first, code="b", message="b", component="router", group="", topics=TOPICS, at_ms=2)
    letter = decode_dead_letter(landed(second))
    assert (letter.code, letter.original, letter.first_failed_at_ms) == ("b", first, 2)


def test_a_long_reason_is_cut_off() -> None:
    out = dead_letter(came("t", b"x"), code="c", message="m" * 9999, component="", group="", topics=TOPICS, at_ms=1)
    assert len(decode_dead_letter(landed(out)).message) == 2000


@busy
@given(records)
def test_a_parked_input_becomes_a_dead_letter_with_its_own_bytes(original: Record) -> None:
    def coded(value: bytes) -> str:
        return b64encode(value).decode()

    parked = InputParked(
        code="poison",
        message="it stopped three owners",
        topic=original.topic,
        partition=original.partition,
        offset=original.offset,
        timestamp_ms=original.timestamp_ms,
        key=None if original.key is None else coded(original.key),
        value=None if original.value is None else coded(original.value),
        headers=[(name, coded(value)) for name, value in original.headers],
    )
    effect = SendDeadLetter(workflow_id=WORKFLOW, parked=parked, at_ms=5)
    letter = decode_dead_letter(landed(dead_letter_of_parked(effect, topics=TOPICS)))
    assert letter.original == original
    assert (letter.component, letter.group, letter.failed_at_ms) == ("router", "mesh.router", 5)
    assert effect_id(effect) == f"{letter.id}/dead-letter"


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ((), "not a dead letter of the mesh (it has no header __mesh.errors.topic)"),
        ((("__mesh.errors.topic", b"t"),), "a dead letter whose headers __mesh.errors.* don't hold ('partition')"),
    ],
)
def test_what_is_no_dead_letter_is_malformed(headers: tuple[Header, ...], message: str) -> None:
    with pytest.raises(MalformedRecord, match="^" + re.escape(f"mesh.dlq, partition 3, offset 17: {message}") + "$"):
        decode_dead_letter(came("mesh.dlq", b"x", *headers))


# --- effects --------------------------------------------------------------------------------------

TASK = SendTask(
    workflow_id=WORKFLOW,
    run_id="4f2a9c01",
    route="issue-triage",
    step="classify",
    task_id=f"{WORKFLOW}/4f2a9c01/classify",
    attempt=2,
    agent="classifier",
    input={},
    at_ms=AT_MS,
    due_at_ms=AT_MS + 30_000,
    traceparent=TRACEPARENT,
)
PARKED = InputParked(
    code="poison",
    message="m",
    topic="mesh.inbox",
    partition=3,
    offset=9,
    timestamp_ms=1,
    key=None,
    value=None,
    headers=[],
)


@pytest.mark.parametrize(
    ("effect", "topic", "name"),
    [
        (TASK, "mesh.tasks.classifier", f"{WORKFLOW}/4f2a9c01/classify/2"),
        (ASK, "mesh.approvals.requests", APPROVAL),
        (RECEIPT, "mesh.approvals.receipts", f"{APPROVAL}/n1/receipt"),
        (msgspec.structs.replace(RECEIPT, answer_id=""), "mesh.approvals.receipts", f"{APPROVAL}/closed/receipt"),
        (OUTCOME, "mesh.outcomes", f"{WORKFLOW}/4f2a9c01/outcome"),
        (SendDeadLetter(workflow_id=WORKFLOW, parked=PARKED, at_ms=1), "mesh.dlq", "mesh.inbox/3/9/dead-letter"),
    ],
)
def test_every_effect_has_its_topic_and_its_id(effect: Effect, topic: str, name: str) -> None:
    out = EffectEncoder(TOPICS, 3, 16).encode(effect)
    assert out.topic == topic
    assert effect_id(effect) == name
    if not isinstance(effect, SendDeadLetter):
        assert header(out, "ce_id") == name


def test_a_task_says_which_partition_its_result_goes_to() -> None:
    task = orjson.loads(EffectEncoder(TOPICS, 3, 16).encode(TASK).value or b"")
    assert task["reply_to"] == {"topic": "mesh.results", "partition": 3}


# --- states ---------------------------------------------------------------------------------------


@busy
@given(any_of(Workflow))
def test_a_workflow_comes_back(workflow: Workflow) -> None:
    assert decode_workflow(encode_workflow(workflow)) == workflow


@busy
@given(any_of(Workflow))
def test_a_checkpoint_changes_nothing_of_the_canonical_form(workflow: Workflow) -> None:
    assert canonical_workflow(decode_workflow(encode_workflow(workflow))) == canonical_workflow(workflow)


def test_the_canonical_form_knows_values_and_not_how_they_were_made() -> None:
    workflow = Workflow(
        workflow_id=WORKFLOW,
        run_id="4f2a9c01",
        route="issue-triage",
        digest="d",
        key="k",
        status="running",
        started_at_ms=1,
        updated_at_ms=2,
        cloud_event={"b": 1, "a": (1, 2)},
        trace_id="t",
        steps={"z": StepState(status="running"), "a": StepState(status="succeeded", output=[1])},
        closed_retention_s=3600,
    )
    other = msgspec.structs.replace(
        workflow,
        cloud_event={"a": [1, 2], "b": 1},
        steps=dict(reversed([*workflow.steps.items()])),
        closed_retention_s=3600.0,
    )
    assert canonical_workflow(workflow) == canonical_workflow(other)
    assert canonical_workflow(msgspec.structs.replace(workflow, updated_at_ms=3)) != canonical_workflow(other)


def test_positions_watermarks_and_mark_come_back() -> None:
    state = PartitionState(positions={"mesh.inbox": 7}, watermarks={"mesh.events/3": (17, 1)}, mark=5, sequence=9)
    meta = decode_meta(encode_meta(state))
    assert (meta.positions, meta.watermarks) == (state.positions, state.watermarks)
    assert (meta.mark, meta.sequence) == (state.mark, state.sequence)


@pytest.mark.parametrize("decode", [decode_workflow, decode_meta])
def test_a_checkpoint_that_cant_be_read_says_so(decode: Any) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(b"{}")
