"""The topic of open approvals: it has exactly what is open, whatever happens to an approval."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import PEOPLE, Partition, as_record, route
from open_topic import show

from mesh.codec.open_approvals import (
    LOG_OFFSET,
    OPEN_PARTITIONS,
    decode_open_note,
    decode_open_payload,
    decode_open_request,
    decode_open_standing,
    encode_shown,
    log_offset,
    open_key,
    open_partition,
    placed,
)
from mesh.core import ids, open_approvals
from mesh.core.approvals import SHOWN_REASON
from mesh.core.decide import draft as core_draft
from mesh.core.decide.open_approvals import TO_COMPLETE, completed
from mesh.core.effects import effects
from mesh.core.events import ApprovalReopened, Cause, Decision, IncidentRaised
from mesh.core.inputs import AnswerGiven2, TimerDue
from mesh.core.json_values import digest
from mesh.core.open_approvals import ShowApproval
from mesh.core.state import Workflow
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.testing.promises.open_topic import OpenTopic, differences

TOPICS = Topics()
ROLES = {"ana": frozenset({"a"}), "ben": frozenset({"a"}), "cy": frozenset({"b"})}
PAYLOADS = ({"amount": 1}, {"amount": 2}, {"amount": 3})
QUORUM = {"quorum": [{"role": "a", "need": 2}, {"role": "b"}]}
KINDS: tuple[dict[str, Any], ...] = (
    QUORUM,
    {**QUORUM, "ask_back": {"to": ["requester", {"agent": "x"}], "extends": "1h"}, "requester": "ana"},
    {**QUORUM, "reject": "majority", "choices": ["pay", "voucher", "reject"]},
    {"role": "a"},
    {"role": "a", "on_expiry": "incident"},
    {**QUORUM, "on_expiry": "incident"},
    {**QUORUM, "escalate": [{"after": "20ms", "to": "b"}, {"after": "30ms", "to": "c", "quorum": 1}]},
    {"role": "a", "quorum": 1, "claim": "exclusive", "extend": {"by": "1h", "times": 2}},
)
ORDERS: tuple[tuple[Any, dict[str, Any]], ...] = (
    ("extend", {"by_ms": 3_600_000}),
    ("extend", {"by_ms": 3_600_000}),
    ("reassign", {"people": ("eve",)}),
    ("reassign", {"roles": ("a",), "replace": True}),
    ("void", {"voter": "ana"}),
    ("void", {"voter": "ben"}),
)


class Reader:
    """A partition, and a reader of the topic that takes each effect as it is decided."""

    def __init__(self, terms: dict[str, Any]) -> None:
        work = {"ask": "Good?", "payload": PAYLOADS[0], "deadline": "1h", **terms}
        steps = {"review": {"approval": work}, "after": {"needs": "review", "approval": {**work, "ask": "Sure?"}}}
        self.p = Partition(route(steps), directory=replace(PEOPLE, roles=ROLES))
        self.held: dict[tuple[str, str], bytes] = {}
        self.seen: set[str] = set()
        self.decided = 0
        self.p.start()

    def read(self) -> list[str]:
        for decision in self.p.decisions[self.decided :]:
            for effect in effects(decision):
                if isinstance(effect, ShowApproval):
                    self.seen.add(effect.part if effect.value is not None else f"no {effect.part}")
                    show(self.held, effect)
        self.decided = len(self.p.decisions)
        return differences(self.held, self.p.state.workflows.values())


def played(seed: int) -> tuple[set[str], list[str]]:
    """A workflow with two approvals, and all that may happen to them. What was found wrong."""
    rng = Random(seed)
    reader = Reader(rng.choice(KINDS))
    found = reader.read()
    for number in range(25):
        _act(rng, reader.p, number)
        found += reader.read()
    return reader.seen, found


def _act(rng: Random, p: Partition, number: int) -> None:
    p.now_ms += 10
    workflow = p.state.workflows.get("r:k")
    open_ones = [step for step in workflow.steps.values() if step.status == "asking"] if workflow else []
    draw = rng.random()
    if draw < 0.04 and open_ones:
        p.wait("review" if open_ones[0].task_id.endswith("/review") else "after")
    elif draw < 0.05:
        p.command("cancel")
    elif draw < 0.12:
        for name in ("review", "after"):
            p.command(rng.choice(["retry", "skip"]), step=name)
    elif draw < 0.22 and open_ones:
        command, about = rng.choice(ORDERS)
        p.order(command, approval_id=open_ones[0].task_id, **about)
    elif draw < 0.3 and workflow is not None and (asked := _out(workflow)):
        (p.succeed if rng.random() < 0.5 else p.fail)(rng.choice(asked))
    elif draw < 0.34 and workflow is not None:
        _escalate(p, workflow)
    elif workflow is not None and workflow.steps:
        step = rng.choice(open_ones or list(workflow.steps.values()))
        # some come after the deadline, and are held
        late_ms = 0 if step.due_at_ms is None or rng.random() < 0.8 else step.due_at_ms + 5 - p.now_ms
        p.give(_answer(rng, number, step.task_id, step.digest, p.now_ms + late_ms))


def _out(workflow: Workflow) -> list[str]:
    """The questions that agents are to answer."""
    return [place for place, step in workflow.steps.items() if ids.is_question(place) and step.status == "running"]


def _escalate(p: Partition, workflow: Workflow) -> None:
    """Let the stages that are due come about by their timers."""
    for name, step in workflow.steps.items():
        stage = step.asking.next_stage if step.asking is not None and step.status == "asking" else None
        if stage is not None and stage.at_ms < p.now_ms:
            about: dict[str, Any] = {"workflow_id": "r:k", "step": name, "run_id": workflow.run_id}
            p.give(TimerDue(due_at_ms=stage.at_ms, kind="approval_stage", **about))


def _answer(rng: Random, number: int, approval_id: str, seen: str, now_ms: int) -> AnswerGiven2:
    kinds = [
        "approve",
        "choose",
        "reject",
        "edit",
        "withdraw",
        "comment",
        "claim",
        "release",
        "extend",
        "ask",
        "inform",
    ]
    decision = rng.choices(kinds, [6, 2, 1, 3, 2, 5, 3, 4, 1, 6, 3])[0]
    payload: dict[str, Any] = {"payload": rng.choice(PAYLOADS)} if decision == "edit" else {}
    return AnswerGiven2(
        workflow_id="r:k",
        approval_id=approval_id,
        answer_id=f"a{number}",
        decision=decision,  # type: ignore[arg-type]
        by=rng.choice([*ROLES, "eve"]),
        digest=rng.choices([seen, digest(PAYLOADS[0])], [9, 1])[0],
        reason="because " * 100,
        choice=rng.choice(["pay", "voucher"]) if decision == "choose" else "",
        text="hm",
        to=rng.choice(["requester", "x"]) if decision == "ask" else "",
        source_topic="mesh.approvals.responses",
        source_partition=0,
        source_offset=number,
        source_at_ms=now_ms,
        **payload,
    )


SEEDS = 60


def test_the_topic_always_has_exactly_what_is_open() -> None:
    seen: set[str] = set()
    for seed in range(SEEDS):
        parts, found = played(seed)
        assert not found, f"seed {seed}"
        seen |= parts
    assert {"request", "payload", "standing", "note/1", "note/2"} <= seen
    assert {"no request", "no payload", "no standing", "no note/1", "no note/2"} <= seen


# Faults, one at a time ----------------------------------------------------------------------------


def _incomplete(patch: pytest.MonkeyPatch) -> None:
    """Events do not say what has come of an approval."""
    patch.setattr(core_draft, "TO_COMPLETE", frozenset())


def _incidents_end_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(core_draft, "TO_COMPLETE", TO_COMPLETE - {IncidentRaised})


def _request_alone(patch: pytest.MonkeyPatch) -> None:
    """The end of an approval takes away the request, and leaves the rest."""
    patch.setattr(open_approvals, "parts_of", lambda *_: ["request"])


def _notes_stay(patch: pytest.MonkeyPatch) -> None:
    honest = open_approvals.parts_of
    patch.setattr(open_approvals, "parts_of", lambda edition, _: honest(edition, 0))


def _edits_unseen(patch: pytest.MonkeyPatch) -> None:
    honest = open_approvals._parts
    patch.setattr(open_approvals, "_parts", lambda event: [one for one in honest(event) if one[1] != "payload"])


FAULTS = (_incomplete, _incidents_end_nothing, _request_alone, _notes_stay, _edits_unseen)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_every_fault_is_noticed(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    assert any(played(seed)[1] for seed in range(SEEDS))


@pytest.mark.deep
@pytest.mark.parametrize("kind", sorted(TO_COMPLETE, key=repr))
def test_an_event_that_does_not_say_what_it_changes_is_noticed(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_draft, "TO_COMPLETE", TO_COMPLETE - {kind})
    assert any(played(seed)[1] for seed in range(SEEDS))


# Records ------------------------------------------------------------------------------------------


def shown_by(reader: Reader) -> list[ShowApproval]:
    return [
        effect for decision in reader.p.decisions for effect in effects(decision) if isinstance(effect, ShowApproval)
    ]


def test_all_keys_of_an_approval_are_in_one_partition_and_say_what_they_should() -> None:
    reader = Reader(QUORUM)
    step = reader.p.step("review")
    for decision, more in (("comment", {"text": "hm"}), ("edit", {"payload": PAYLOADS[1]}), ("approve", {})):
        said = {"decision": decision, "digest": reader.p.step("review").digest, "reason": "r" * 300, **more}
        reader.p.give(
            replace(_answer(Random(0), 1, step.task_id, "", reader.p.now_ms), by="ana", answer_id=decision, **said)
        )
    assert not reader.read()
    records = [placed(encode_shown(effect, topics=TOPICS), 7) for effect in shown_by(reader)]
    assert {record.partition for record in records} == {open_partition(step.task_id)}
    assert all(0 <= open_partition(f"r:{n}/x/review") < OPEN_PARTITIONS for n in range(50))
    held = {open_key(as_record(record, 0)).part: as_record(record, 0) for record in records}
    assert {log_offset(record) for record in held.values()} == {7}
    request = decode_open_request(held["request"].value or b"")
    assert (request.payload, request.version, request.asked_at[:4], request.workflow_id) == (
        PAYLOADS[0],
        2,
        "2025",
        "r:k",
    )
    payload = decode_open_payload(held["payload"].value or b"")
    assert (payload.payload, payload.by, payload.edition) == (PAYLOADS[1], "ana", 2)
    standing = decode_open_standing(held["standing"].value or b"")
    assert (standing.have, standing.need, standing.editors, len(standing.votes[0].reason)) == (
        1,
        3,
        ("ana",),
        SHOWN_REASON,
    )
    assert standing.deadline_at == request.deadline_at
    assert decode_open_note(held["note/1"].value or b"").text == "hm"


def test_of_one_decision_each_key_is_sent_once_and_the_end_last() -> None:
    reader = Reader({"quorum": 1, "role": "a"})
    step = reader.p.step("review")
    given = _answer(Random(0), 1, step.task_id, step.digest, reader.p.now_ms)
    reader.p.give(replace(given, decision="approve", by="ana", payload=PAYLOADS[2]))
    shown = [effect for effect in reader.p.effects() if isinstance(effect, ShowApproval)]
    own = [(one.part, one.value is None) for one in shown if one.approval_id == step.task_id]
    assert own == [("request", True), ("standing", True), ("payload", True)]
    assert [one.part for one in shown if one.approval_id != step.task_id] == ["request"]


def test_an_answer_to_what_is_closed_takes_a_stray_record_away_again() -> None:
    reader = Reader({"role": "a"})
    step = reader.p.step("review")
    reader.p.answer()
    reader.read()
    # of an owner that was cut off, and came late
    reader.held[step.task_id, "request"] = b"{}"
    reader.p.answer(by="ben", approval_id=step.task_id)
    assert not reader.read()
    reader.p.answer(by="ben", approval_id="r:k/none/review")
    assert [one.value for one in reader.p.effects() if isinstance(one, ShowApproval)] == [None]


def test_a_reader_does_not_take_what_was_decided_earlier() -> None:
    reader, topic = Reader({"role": "a"}), OpenTopic()
    step = reader.p.step("review")
    request = encode_shown(shown_by(reader)[0], topics=TOPICS)
    topic.take(as_record(placed(request, 5), 0))
    assert topic.findings(reader.p.state.workflows.values()) == []
    reader.p.answer()
    end = encode_shown(shown_by(reader)[1], topics=TOPICS)
    assert (end.key, end.value) == (request.key, None)
    topic.take(as_record(placed(end, 9), 1))
    topic.take(as_record(placed(request, 5), 2))
    assert (step.task_id, "request") not in topic.held()
    topic.take(as_record(replace(placed(request, 10), partition=(open_partition(step.task_id) + 1) % 4), 3))
    assert "is in partition" in topic.findings([])[0]


@pytest.mark.parametrize("key", [b"", b"request", b"other/r:k/x/s", b"request/r:k", b"note/1", None])
def test_a_key_that_is_none_of_ours_is_refused(key: bytes | None) -> None:
    record = replace(as_record(encode_shown(shown_by(Reader({"role": "a"}))[0], topics=TOPICS), 0), key=key)
    with pytest.raises(MalformedRecord, match="no key of an open approval"):
        open_key(record)


def test_a_value_that_can_not_be_read_is_refused() -> None:
    for decode in (decode_open_request, decode_open_payload, decode_open_standing, decode_open_note):
        with pytest.raises(MalformedRecord, match="not a record of an open approval"):
            decode(b'{"edition": "one"}')
    record = as_record(encode_shown(shown_by(Reader({"role": "a"}))[0], topics=TOPICS), 0)
    assert log_offset(record) == -1
    assert log_offset(replace(record, headers=((LOG_OFFSET, b"x"),))) == -1


def test_older_decisions_without_these_fields_say_nothing_more() -> None:
    """An incident of before names no approval: its request was never on the topic."""
    old = IncidentRaised(step="review", kind="expired", message="m")
    cause = Cause(kind="timer", id="t")
    decision = Decision(
        epoch="e",
        workflow_id="r:k",
        at_ms=1,
        cause=cause,
        positions={},
        mark=0,
        events=(old, ApprovalReopened(step="s", approval_id="r:k/x/s", by="o")),
    )
    assert effects(decision) == []


def test_an_event_that_can_end_nothing_is_left_as_it_is() -> None:
    p = Reader({"role": "a"}).p
    other = ApprovalReopened(step="review", approval_id="r:k/x/s", by="o")
    assert completed(other, p.workflow()) is other
    assert completed(incident := IncidentRaised(step="review", kind="parked", message="m"), None) is incident
