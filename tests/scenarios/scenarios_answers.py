"""Scenarios of answers to approvals: claims, signatures, what does not fit, what is too late.

Those of the rules of an approval are in `scenarios_approvals.py`.
"""

import json
from typing import Any

import pytest
from joserfc.jwk import OKPKey
from scenario_table import begin, long_scenario, scenario

from mesh.codec.approvals import Personal
from mesh.codec.approver_keys import encode_key, encode_revocation
from mesh.codec.jws_bodies import mesh_of
from mesh.codec.signing_keys import SigningKey
from mesh.ports import OutRecord
from mesh.testing import MeshKit, Refused, Run
from mesh.testing.kit.scripts import Answer

ASK = {"ask": "Pay?", "payload": "${{ event.data }}", "role": "manager"}
CLAIM, RELEASE = Answer(decision="claim"), Answer(decision="release")
OUTPUT = "done"  # the results of steps would say when people voted
LONG = 20_000  # characters, where 16 KiB are taken


# each time the same, since a kid is in the message of its refusal
KEYS = (
    ("A" * 43, "O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik"),
    ("I" * 43, "MdceqifU0JcbyZlzxvrCzgZqVBK3fEvJ9qSs4wTGKb4"),
    ("Q" * 43, "Bx_5Vpl2-1cun1vkVpomxtLXVHkc452eakBSdYORbmA"),
)


def _key(d: str, x: str) -> SigningKey:
    return SigningKey(OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "d": d, "x": x}))


def managers(mesh: MeshKit) -> None:
    for name in ("ana", "ben", "cy"):
        mesh.person(name, roles="manager")


def sent(mesh: MeshKit, value: Any, answer_id: str = "") -> str:
    """Send an answer as any client may. Returns the code of its receipt."""
    headers = (("ce_specversion", b"1.0"), ("ce_source", b"/t"), ("ce_type", b"t"), ("ce_id", answer_id.encode()))
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    record = OutRecord(topic=mesh.stage.topics.responses, key=b"k", value=body, headers=headers if answer_id else ())
    told = len(mesh.stage.receipt_records)
    mesh.act(mesh.stage.send([record]))
    [receipt] = [json.loads(one.value or b"null") for one in mesh.stage.receipt_records[told:]]
    return str(receipt["code"])


def voted(run: Run, kit: MeshKit, step: str, **more: Any) -> dict[str, Any]:
    """A vote of ana in bare JSON."""
    state = next(one for one in kit.stage.workflows() if one.workflow_id == run.id).steps[step]
    return {"approval_id": state.task_id, "decision": "approve", "by": "ana", "digest": state.digest, **more}


@scenario
def claimed_and_given_back(mesh: MeshKit) -> None:
    """Who has claimed it keeps the others out, until they give it back, vote, or their lease ends.

    An operator who hands it to others ends a claim too.
    """
    managers(mesh)
    mesh.person("eve", roles="auditor")
    held = {**ASK, "claim": "exclusive", "lease": "1h"}
    short = {**ASK, "claim": "exclusive", "lease": "200ms"}
    steps: dict[str, Any] = {"review": {"approval": held}}
    steps |= {"leased": {"needs": "review", "approval": short}, "moved": {"needs": "leased", "approval": held}}
    run = begin(mesh, steps, data={"amount": 10}, output=OUTPUT)
    run.answer("review", CLAIM, by="ana")
    for refused in (CLAIM, Answer(decision="approve")):
        with pytest.raises(Refused, match="claimed"):
            run.answer("review", refused, by="ben")
    run.comment("review", "are you at it?", by="ben")
    run.answer("review", RELEASE, by="ana")
    run.answer("review", CLAIM, by="ben")
    with pytest.raises(Refused, match="claimed"):
        run.approve("review", by="ana")
    run.approve("review", by="ben")
    # nobody gives this one back: its time is over
    run.answer("leased", CLAIM, by="ana")
    mesh.advance("400ms")
    run.answer("leased", CLAIM, by="ben")
    mesh.advance("400ms")
    run.approve("leased", by="cy")
    run.answer("moved", CLAIM, by="ana")
    run.reassign("moved", roles=("auditor",), replace=True, by="op", reason="ana is ill")
    run.approve("moved", by="eve")
    assert run.outcome.status == "completed"


@scenario
def signed_by_the_person(mesh: MeshKit) -> None:
    """What Ana has signed herself counts, lately, with a key of hers that was not revoked."""
    managers(mesh)
    own, other, lost = (_key(d, x) for d, x in KEYS)
    topics = mesh.stage.topics
    run = begin(
        mesh, {"review": {"approval": {**ASK, "quorum": 2, "signed": "own"}}}, data={"amount": 10}, output=OUTPUT
    )
    about: dict[str, Any] = {"topics": topics, "by": "op", "at_ms": mesh.now_ms()}
    keys = [encode_key(one.x, person=name, **about) for one, name in ((own, "ana"), (lost, "ana"), (other, "ben"))]
    mesh.act(mesh.stage.send([*keys, encode_revocation(lost.kid, reason="lost", **about)]))
    mesh.advance("2s")

    def signed(key: SigningKey, **more: Any) -> dict[str, str]:
        name = mesh_of(topics.prefix, mesh.act(mesh.stage.broker.cluster_id()))
        at = mesh.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {"mesh": name, "answer_id": "0123456789abcdef0123", "answered_at": at, **more}
        return {"jws": key.sign(voted(run, mesh, "review", **said))}

    with pytest.raises(Refused, match="unsigned"):
        run.approve("review", by="ana")
    genuine = signed(own)["jws"]
    assert sent(mesh, {"jws": f"{genuine[:-8]}AAAAAAAA"}) == "signature"
    assert sent(mesh, signed(other, answer_id="1" * 20)) == "key"
    assert sent(mesh, signed(lost, answer_id="2" * 20)) == "key"
    assert sent(mesh, signed(own, answer_id="3" * 20, answered_at="2020-01-01T00:00:00Z")) == "stale"
    assert sent(mesh, {"jws": genuine}) == "counted"
    assert sent(mesh, {"jws": genuine}) == "repeated"
    assert sent(mesh, signed(other, by="ben")) == "accepted"
    assert run.outcome.status == "completed"


@scenario
def answers_that_do_not_fit(mesh: MeshKit) -> None:
    """Each is refused for its own reason, and none changes the approval."""
    managers(mesh)
    mesh.person("dan", roles="clerk")
    form = {"type": "object", "properties": {"seen": {"const": True}}, "required": ["seen"]}
    schema = {"type": "object", "properties": {"amount": {"type": "integer"}}}
    rule = {**ASK, "quorum": 2, "reason": "required", "form": form, "payload_schema": schema}
    run = begin(
        mesh,
        {
            "review": {"approval": {**rule, "edit": {"role": "manager", "limit": 2}}},
            "fixed": {"needs": "review", "approval": {**ASK, "quorum": 2, "edit": False}},
        },
        data={"amount": 10},
    )
    seen = {"seen": True}
    asking = Answer(decision="ask", text="what for?")
    for code, answer in (
        ("reason", Answer(decision="approve", form=seen)),
        ("form", Answer(decision="approve", reason="fine")),
        ("form", Answer(decision="approve", reason="fine", form={"seen": False})),
        ("too_large", Answer(decision="approve", reason="x" * LONG, form=seen)),
        ("choice", Answer(decision="choose", choice="voucher", reason="fine", form=seen)),
        ("digest", Answer(decision="approve", reason="fine", form=seen, digest="sha256:another")),
        ("schema", Answer(decision="edit", payload={"amount": "ten"})),
        ("edits", Answer(decision="edit", payload={"amount": 10})),
        ("malformed", Answer(decision="comment", text=" ")),
        ("too_large", Answer(decision="comment", text="x" * LONG)),
        ("question", asking),
        ("question", Answer(decision="inform", text="for the flight")),
        ("limit", Answer(decision="extend")),
    ):
        with pytest.raises(Refused) as refused:
            run.answer("review", answer, by="ana")
        assert refused.value.code == code
    with pytest.raises(Refused, match="role"):
        run.withdraw("review", by="dan")
    vote = voted(run, mesh, "review", reason="fine", form=seen)
    assert sent(mesh, vote | {"approval_id": "r:k/0af76519/review"}) == "unknown"
    assert sent(mesh, json.dumps(vote | {"payload": "huge"}).replace('"huge"', "1e999").encode()) == "number"
    assert sent(mesh, vote, "one") == "counted"
    assert sent(mesh, vote, "one") == "repeated"
    run.approve("review", by="ben", reason="fine", form=seen)
    with pytest.raises(Refused, match="edits"):
        run.edit("fixed", {"amount": 9}, by="ana")
    run.reject("fixed", by="ana", reason="no")
    assert run.outcome.status == "rejected"


@scenario
def nobody_answered_in_time(mesh: MeshKit) -> None:
    """A deadline makes one an incident, and closes one. What comes after it is too late."""
    managers(mesh)
    two = {**ASK, "quorum": 2, "deadline": "300ms"}
    steps: dict[str, Any] = {"review": {"approval": {**two, "on_expiry": "incident"}}}
    steps["how"] = {"needs": "review", "approval": {**two, "choices": ["cash", "card"], "on_expiry": "card"}}
    steps["pay"] = {"needs": "how", "approval": {**ASK, "ask": "Pay by ${{ steps.how.choice }}?"}}
    run = begin(mesh, steps, data={"amount": 10})
    run.waits_for("review")
    mesh.advance("400ms")
    assert run.needs_operator("review")
    with pytest.raises(Refused, match="late"):
        run.approve("review", by="ana")
    run.skip("review", by="op", reason="it is urgent")
    run.waits_for("how")
    mesh.advance("400ms")
    with pytest.raises(Refused, match="late"):
        run.choose("how", "cash", by="ana")
    run.cancel(by="op")


@long_scenario
def a_vote_from_before_the_stage(mesh: MeshKit) -> None:
    """Three managers are wanted. A lead votes, and that suffices once the stage has come."""
    managers(mesh)
    mesh.person("eve", roles=["manager", "lead"])
    stage = {"after": "1m", "to": "lead", "quorum": 1}
    run = begin(
        mesh,
        {"review": {"approval": {**ASK, "quorum": 3, "deadline": "1h", "escalate": [stage]}}},
        data={"amount": 10},
        output="${{ steps.review.votes.map(vote, vote.by) }}",
    )
    run.approve("review", by="eve")
    mesh.advance("61s")
    assert run.outcome.data == ["eve"]


@scenario
def people_who_are_named(mesh: MeshKit) -> None:
    """All of three people; then most of those leads who had no part in that; then who comes later.

    A template that names nobody is an incident.
    """
    managers(mesh)
    for name in ("ana", "dan", "eve", "fay"):
        mesh.person(name, roles=["manager", "lead"])
    ask = {"ask": "Pay?", "payload": 1}
    most = {"quorum": "majority", "reject": "majority", "not": {"voters_of": "each"}}
    steps: dict[str, Any] = {
        "each": {"approval": {**ask, "people": "${{ event.data.all }}", "quorum": "all"}},
        "most": {"needs": "each", "approval": {**ask, "role": "lead", **most}},
        "later": {"needs": "most", "approval": {**ask, "role": "auditor", "quorum": 1, "on_nobody": "wait"}},
        "named": {"needs": "later", "approval": {**ask, "people": "${{ event.data.none }}"}},
    }
    run = begin(mesh, steps, data={"all": ["ana", "ben", "cy"], "none": None})
    for name in ("ana", "ben", "cy"):
        run.approve("each", by=name)
    with pytest.raises(Refused, match="excluded"):
        run.approve("most", by="ana")
    run.reject("most", by="dan", reason="too soon")
    run.approve("most", by="eve")
    run.approve("most", by="fay")
    run.waits_for("later")
    mesh.person("gil", roles="auditor")
    run.approve("later", by="gil")
    assert "a name or a list of names" in run.needs_operator("named")
    run.cancel(by="op")


@scenario
def orders_that_can_not_be(mesh: MeshKit) -> None:
    """Some have no deadline that an operator could move, and some are closed."""
    managers(mesh)
    steps: dict[str, Any] = {"simple": {"approval": {**ASK, "deadline": "1h"}}}
    steps["never"] = {"needs": "simple", "approval": {**ASK, "quorum": 2}}
    steps["review"] = {"needs": "never", "approval": {**ASK, "quorum": 2, "deadline": "1h"}}
    run = begin(mesh, steps, data={"amount": 10})

    def refused(step: str, code: str) -> None:
        with pytest.raises(Refused) as why:
            run.extend(step, "1h", by="op")
        assert why.value.code == code

    refused("simple", "version")
    run.approve("simple", by="ana")
    refused("simple", "closed")
    refused("never", "deadline")
    run.approve("never", by="ana")
    run.approve("never", by="ben")
    run.cancel(by="op", reason="paid elsewhere")
    with pytest.raises(Refused, match="closed"):
        run.approve("review", by="ana")


@scenario
def a_delegation_that_ends(mesh: MeshKit) -> None:
    """Ben is away, and lets Eve answer on this route. Then he ends it, and her answer is none."""
    managers(mesh)
    mesh.person("eve")
    run = begin(mesh, {"review": {"approval": {**ASK, "quorum": 2}}}, data={"amount": 10}, output=OUTPUT)
    until_ms = mesh.now_ms() + 86_400_000
    mesh.act(mesh.stage.say("absent", "ben", Personal(until_ms=until_ms)))
    mesh.delegate("ben", "eve", routes=["r"])
    run.approve("review", by="eve", on_behalf="ben")
    [given] = [record for record in mesh.stage.receipts.values() if record.code == "delegated"]
    ended = Personal(delegation=given.message.rsplit(": ", 1)[1])
    mesh.act(mesh.stage.say("end", "ben", ended))
    mesh.act(mesh.stage.say("end", "ben", ended))
    run.withdraw("review", by="ben")
    mesh.advance("2s")
    with pytest.raises(Refused, match="delegation"):
        run.approve("review", by="eve", on_behalf="ben")
    run.approve("review", by="ana")
    run.approve("review", by="ben")
    assert run.outcome.status == "completed"
