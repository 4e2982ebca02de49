"""Keys and signed answers, true and forged, for the tests of signatures."""

import json
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any, Final

from joserfc.jwk import OKPKey
from msgspec.structs import replace

from mesh.codec.approvals import decode_response
from mesh.codec.signed_answers import Judge
from mesh.codec.signing_keys import SigningKey
from mesh.core.approver_keys import ApproverKey, KeyTimeline, KnownKey, Revocation, SpeaksFor
from mesh.core.inputs import AnswerGiven2
from mesh.core.people import Person, people_of
from mesh.ports import Record

MESH: Final = "mesh.@cluster"
AT_MS: Final = 1_764_500_000_000
AT: Final = "2025-11-30T10:53:20Z"
APPROVAL: Final = "pay:7/4f2a9c01/review"
PEOPLE: Final = people_of(
    [
        Person(id="ana", names=("ana@example.org",), roles=frozenset({"manager"})),
        Person(id="ben", roles=frozenset({"clerk"})),
    ],
    digest="sha256:people",
)


def key(name: str = "ana") -> SigningKey:
    """The key of this person, the same each time."""
    return _made(name)


@cache
def _made(name: str) -> SigningKey:
    return SigningKey(OKPKey.generate_key("Ed25519", private=True))


def added(name: str = "ana", *, at_ms: int = 0, speaks_for: SpeaksFor | None = None) -> ApproverKey:
    one = key(name)
    return ApproverKey(kid=one.kid, person=name, x=one.x, by="ops", at_ms=at_ms, speaks_for=speaks_for)


def known(*records: ApproverKey | Revocation) -> dict[str, KnownKey]:
    timeline = KeyTimeline()
    for record in records or (added("ana"), added("ben")):
        timeline.add(record)
    return {one.key.kid: one for one in timeline.all()}


def revoked(name: str = "ana", *, at_ms: int, since_ms: int | None = None) -> Revocation:
    return Revocation(kid=key(name).kid, by="ops", at_ms=at_ms, reason="lost", since_ms=since_ms)


def judge(*records: ApproverKey | Revocation, **more: Any) -> Judge:
    said: dict[str, Any] = {"people": PEOPLE, "roles": PEOPLE.roles, "mesh": MESH, "key": known(*records).get}
    return Judge(**{**said, **more})


def body(**more: Any) -> dict[str, Any]:
    """What is signed. None takes a field away."""
    said = {
        "mesh": MESH,
        "approval_id": APPROVAL,
        "decision": "approve",
        "by": "ana",
        "digest": "sha256:1",
        "answer_id": "0123456789abcdef0123",
        "answered_at": AT,
        **more,
    }
    return {name: value for name, value in said.items() if value is not None}


def b64(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def compact(header: dict[str, Any], said: dict[str, Any], signature: bytes = b"x" * 64) -> str:
    """A JWS with any header, and any signature."""
    return f"{b64(header)}.{b64(said)}.{b64(signature)}"


def with_signature(header: dict[str, Any], said: dict[str, Any], name: str = "ana") -> str:
    """A JWS with any header, and a true signature of Ed25519 over it."""
    text = f"{b64(header)}.{b64(said)}"
    private: Any = key(name)._key.get_op_key("sign")
    return f"{text}.{b64(private.sign(text.encode()))}"


def header(name: str = "ana", **more: Any) -> dict[str, Any]:
    return {"alg": "Ed25519", "kid": key(name).kid, "typ": "mesh-answer+jws", **more}


def record(value: Any, *, at_ms: int = AT_MS) -> Record:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Record(
        topic="mesh.approvals.responses", partition=0, offset=3, timestamp_ms=at_ms, key=None, value=raw, headers=()
    )


def given(jws: str, *, at_ms: int = AT_MS, **outside: Any) -> AnswerGiven2:
    """The answer as ingress reads it."""
    found = decode_response(record({"jws": jws, **outside}, at_ms=at_ms))
    assert isinstance(found, AnswerGiven2)
    return found


def swapped(answer: AnswerGiven2, **fields: Any) -> AnswerGiven2:
    return replace(answer, **fields)
