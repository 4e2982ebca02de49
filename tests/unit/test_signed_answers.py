"""A signature that does not hold is refused with its code, whatever was forged.

What is true is proven, and so is whose key it is.
"""

import hmac
import subprocess
import sys
from hashlib import sha256
from typing import Any

import pytest
from signing_kit import (
    APPROVAL,
    AT_MS,
    MESH,
    PEOPLE,
    added,
    b64,
    body,
    compact,
    given,
    header,
    judge,
    key,
    record,
    revoked,
    swapped,
    with_signature,
)

from mesh.codec.approvals import Signer, decode_response, encode_response
from mesh.codec.jws_bodies import mesh_of
from mesh.codec.signed_answers import ALGORITHM, MAX_AGE_MS, Judge, checked
from mesh.codec.unreadable import unreadable_answer
from mesh.core.activation import DELAY_MS
from mesh.core.approver_keys import SpeaksFor
from mesh.core.inputs import AnswerGiven2
from mesh.core.json_values import digest
from mesh.core.signing import Proof
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Record

HOUR_MS = 3_600_000
GATE = SpeaksFor(roles=("manager",), routes=("pay",))


def code(answer: AnswerGiven2, against: Judge | None = None) -> str:
    found = checked(answer, against or judge())
    assert (found.proof is None) == bool(found.code) == bool(found.why)
    return found.code


def signed(name: str = "ana", **fields: Any) -> str:
    return with_signature(header(name), body(**fields), name)


# What holds ---------------------------------------------------------------------------------------


def test_a_true_signature_proves_whose_answer_it_is() -> None:
    found = checked(given(signed()), judge())
    assert found.proof == Proof(kid=key().kid, signer="ana", how="own", people="sha256:people")
    assert (found.decision, found.by, found.approval_id) == ("approve", "ana", APPROVAL)


def test_the_signer_may_use_any_name_of_their_own() -> None:
    assert code(given(signed(by="ANA@example.org"))) == ""


def test_people_by_a_file_are_compared_by_name() -> None:
    assert code(given(signed(by="Ana")), judge(people=None)) == ""
    assert checked(given(signed()), judge(people=None)).proof == Proof(kid=key().kid, signer="ana", how="own")


def test_what_our_own_client_signs_holds() -> None:
    edits: dict[str, Any] = {"payload": {"n": 2}}
    for more in ({}, edits, {"payload": None}, {"form": {"a": 1}, "reason": "why", "choice": "yes", "text": "hm"}):
        sent = encode_response(
            topics=Topics(),
            approval_id=APPROVAL,
            decision="approve",
            by="ana",
            answer_id="0123456789abcdef0123",
            at_ms=AT_MS,
            digest="sha256:1",
            signer=Signer(MESH, key().sign),
            **more,
        )
        answer = decode_response(
            Record(sent.topic, 0, 3, AT_MS, sent.key, sent.value, sent.headers)  # as the broker has it
        )
        assert isinstance(answer, AnswerGiven2)
        assert code(answer) == ""
        assert answer.payload == more.get("payload", answer.payload)


def test_a_mesh_is_named_by_its_prefix_and_its_cluster() -> None:
    assert mesh_of("mesh.", "cluster") == MESH


# What is forged -----------------------------------------------------------------------------------


def _hmac(said: dict[str, Any]) -> str:
    """Signed with the public key, as if that were a secret."""
    text = f"{b64({'alg': 'HS256', 'kid': key().kid, 'typ': 'mesh-answer+jws'})}.{b64(said)}"
    return f"{text}.{b64(hmac.new(key().x.encode(), text.encode(), sha256).digest())}"


def _changed(**fields: Any) -> str:
    """The signature of another body."""
    head, _, signature = signed().split(".")
    return f"{head}.{b64(body(**fields))}.{signature}"


@pytest.mark.parametrize(
    ("jws", "wanted"),
    [
        pytest.param(with_signature(header(alg="none"), body()), "signature", id="alg none"),
        pytest.param(with_signature(header(alg="EdDSA"), body()), "signature", id="EdDSA"),
        pytest.param(_hmac(body()), "signature", id="HS256 with the public key"),
        pytest.param(with_signature(header(typ="mesh-link+jws"), body()), "signature", id="another type"),
        pytest.param(with_signature(header(crit=["exp"], exp=1), body()), "signature", id="crit"),
        pytest.param(with_signature(header(jwk={"kty": "OKP"}), body()), "signature", id="a key of its own"),
        pytest.param(with_signature({"alg": ALGORITHM}, body()), "signature", id="no type"),
        pytest.param(with_signature({**header(), "kid": 7}, body()), "key", id="a kid that is no text"),
        pytest.param(compact(header(), body()), "signature", id="any signature"),
        pytest.param(with_signature(header(), body(), "ben"), "signature", id="another key under this kid"),
        pytest.param(_changed(decision="reject"), "signature", id="changed body"),
        pytest.param(signed()[:-8] + "AAAAAAAA", "signature", id="changed signature"),
        pytest.param(signed(mesh="mesh.@other"), "signature", id="other mesh"),
        pytest.param(with_signature(header("eve"), body(), "eve"), "key", id="foreign kid"),
        pytest.param(with_signature(header("ben"), body(), "ben"), "key", id="another person's key"),
        pytest.param(signed(via={"signer": "console"}), "key", id="a person as a gateway"),
    ],
)
def test_a_forged_answer_is_refused(jws: str, wanted: str) -> None:
    assert code(given(jws)) == wanted


def test_the_edit_beside_it_is_bound() -> None:
    edit = {"n": 2}
    jws = signed(payload_digest=digest(edit))
    assert code(given(jws, payload=edit)) == ""
    assert code(given(jws, payload={"n": 3})) == "signature"
    assert code(given(signed(payload_digest=digest(None)), payload=None)) == ""


def test_nothing_that_ingress_has_read_is_taken_on_trust() -> None:
    answer = given(signed())
    for fields in (
        {"decision": "reject"},
        {"by": "ben"},
        {"approval_id": "pay:8/4f2a9c01/review"},
        {"digest": "sha256:2"},
        {"reason": "because"},
        {"answer_id": "another"},
        {"payload": {"n": 1}},
        {"form": 1},
        {"choice": "x"},
    ):
        assert code(swapped(answer, **fields)) == "signature", fields
    assert code(swapped(answer, jws="no.jws")) == "signature"


def test_a_key_counts_from_two_seconds_after_it_until_two_seconds_after_its_end() -> None:
    ends = AT_MS + 60_000
    against = judge(added(at_ms=AT_MS), revoked(at_ms=ends))
    times = (AT_MS + DELAY_MS - 1, AT_MS + DELAY_MS, ends + DELAY_MS - 1, ends + DELAY_MS)
    assert [code(given(signed(), at_ms=at_ms), against) for at_ms in times] == ["key", "", "", "key"]


def test_a_distrust_from_before_the_end_refuses_nothing_of_before() -> None:
    against = judge(added(), revoked(at_ms=AT_MS, since_ms=0))
    assert code(given(signed()), against) == ""


def test_an_answer_that_was_signed_long_before_it_came_or_after_it_is_stale() -> None:
    times = (AT_MS + MAX_AGE_MS, AT_MS + MAX_AGE_MS + 1, AT_MS - MAX_AGE_MS, AT_MS - MAX_AGE_MS - 1)
    assert [code(given(signed(), at_ms=at_ms)) for at_ms in times] == ["", "stale", "", "stale"]
    assert code(given(signed(), at_ms=AT_MS + HOUR_MS), judge(max_age_ms=HOUR_MS - 1)) == "stale"


# Gateways -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "scope", "wanted"),
    [
        ({}, GATE, ""),
        ({}, SpeaksFor(people=("ANA@example.org",)), ""),
        ({}, SpeaksFor(people=("ben",)), "key"),
        ({}, SpeaksFor(roles=("clerk",)), "key"),
        ({}, SpeaksFor(roles=("manager",), routes=("refund",)), "key"),
        ({"by": "ben"}, GATE, "key"),
        ({"via": None}, GATE, "key"),
        ({"via": "console"}, GATE, "key"),
        ({"via": {"signer": "other"}}, GATE, "key"),
    ],
)
def test_a_gateway_names_whom_it_may(fields: dict[str, Any], scope: SpeaksFor, wanted: str) -> None:
    jws = signed("console", **{"via": {"signer": "console", "method": "oidc"}, **fields})
    found = checked(given(jws), judge(added("console", speaks_for=scope)))
    assert found.code == wanted
    if not wanted:
        assert found.proof == Proof(kid=key("console").kid, signer="console", how="gateway", people=PEOPLE.digest)


# What can't be read -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"jws": "x"}, "no JWS in compact form"),
        ({"jws": 7}, "a text"),
        ({"jws": signed(), "by": "ana"}, "nothing else outside"),
        ({"jws": compact(header(), body(), b"x"), "payload": {"n": 1}}, "not signed"),
        ({"jws": signed(payload_digest="sha256:1")}, "no `payload` beside it"),
        ({"jws": signed(mesh=None)}, "lacks `mesh`"),
        ({"jws": signed(answer_id=None, answered_at=None)}, "lacks `answer_id`, `answered_at`"),
        ({"jws": signed(answer_id="short")}, "80 random bits"),
        ({"jws": signed(answered_at="today")}, "RFC 3339"),
        ({"jws": signed(payload=1)}, "comes beside"),
        ({"jws": f"{b64(header())}.{b64([])}.x"}, "not a JSON object"),
        ({"jws": f"{b64(header())}.{b64(b'{')}.x"}, "not JSON"),
        ({"jws": f"{b64(header())}.A.x"}, "can't be read"),
        ({"approval_id": APPROVAL, "decision": "approve", "by": "ana", "mesh": MESH}, "of signed answers alone"),
    ],
)
def test_what_is_no_signed_answer_is_malformed(value: Any, says: str) -> None:
    with pytest.raises(MalformedRecord, match=says):
        decode_response(record(value))


def test_a_refusal_of_what_can_t_be_read_goes_to_the_approval_that_is_signed() -> None:
    refused = unreadable_answer(record({"jws": signed(answer_id="short")}), "malformed", "why")
    assert (refused.approval_id, refused.workflow_id, refused.by) == (APPROVAL, "pay:7", "ana")
    assert unreadable_answer(record({"jws": "a.b"}), "malformed", "why").approval_id == ""


def test_a_router_loads_no_library_of_signatures_before_there_is_one() -> None:
    loads = "import sys, mesh.services.router.router, mesh.wiring; print('joserfc' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
