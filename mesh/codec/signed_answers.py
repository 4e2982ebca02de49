"""Signed answers: a JWS (RFC 7515) with Ed25519 (RFC 9864), made and checked.

Owns what a signature must be, and what is compared with it. The owner of a workflow checks an
answer between reading and `decide`; ingress and replay don't. `mesh audit verify` checks it again.
The library is loaded where it is used: events and results need none of it.

Checks in this order; the first that fails gives the code:

    signature   its form, its algorithm and type; the key has signed these bytes; they are for this
                mesh; the edit beside them is the one that was signed
    key         it is known, valid at the broker's time of the answer, and of the person it names
    stale       the signer's time is too far from the broker's
"""

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from mesh.codec.approvals import answer_of
from mesh.codec.jws_bodies import fields_of, parts_of
from mesh.codec.times import parse_rfc3339
from mesh.core.approver_keys import ApproverKey, KnownKey, SpeaksFor
from mesh.core.ids import route_of
from mesh.core.inputs import AnswerGiven2, CheckedAnswer
from mesh.core.json_values import digest
from mesh.core.people import People, id_of, person_of
from mesh.core.signing import Proof
from mesh.errors import MalformedRecord

ALGORITHM: Final = "Ed25519"  # RFC 9864; `EdDSA` leaves the curve open
TYPE: Final = "mesh-answer+jws"
MAX_AGE_MS: Final = 24 * 3_600_000
_HEADER: Final = frozenset({"alg", "kid", "typ"})
_SOURCE: Final = ("source_topic", "source_partition", "source_offset", "source_index", "source_at_ms")
_HEADER_SHOWN: Final = 60  # characters of a value in a message


class Wrong(Exception):
    """The check has failed. `code` is for the receipt."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class Judge(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer is checked against.

    `mesh`: its name (`mesh_of`). `key`: finds a key by its kid. `people`, `roles`: as of
    the answer.
    """

    mesh: str
    key: Callable[[str], KnownKey | None]
    people: People | None = None
    roles: dict[str, frozenset[str]] = {}
    max_age_ms: int = MAX_AGE_MS


def checked(given: AnswerGiven2, judge: Judge) -> CheckedAnswer:
    """The answer with its proof, or with why there is none."""
    said = {name: getattr(given, name) for name in AnswerGiven2.__struct_fields__}
    try:
        return CheckedAnswer(**said, proof=proof_of(given, judge))
    except Wrong as wrong:
        return CheckedAnswer(**said, code=wrong.code, why=str(wrong))


def proof_of(given: AnswerGiven2, judge: Judge) -> Proof:
    """Whose key has signed the answer. Raises `Wrong`."""
    body, known = signed_body(given.jws, judge.key)
    of_this_mesh(body, judge)
    _check_fields(given, body)
    at_ms = given.source_at_ms
    proof = proof_by(known, body, by=given.by, approval_id=given.approval_id, at_ms=at_ms, judge=judge)
    if abs(parse_rfc3339(body["answered_at"]) - at_ms) > judge.max_age_ms:
        hours = judge.max_age_ms / 3_600_000
        raise Wrong("stale", f"it was signed at {body['answered_at']}, more than {hours:g} h from when it came")
    return proof


def of_this_mesh(body: dict[str, Any], judge: Judge) -> None:
    """Raises `Wrong` if the answer is for another mesh."""
    if body.get("mesh") != judge.mesh:
        raise Wrong("signature", f"it is signed for the mesh {_shown(body.get('mesh'))}, and this is {judge.mesh}")


def proof_by(known: KnownKey, body: dict[str, Any], *, by: str, approval_id: str, at_ms: int, judge: Judge) -> Proof:
    """What this key proves of an answer that the broker took at this time. Raises `Wrong`."""
    key = known.key
    if not known.is_valid(at_ms):
        when = "was revoked before" if known.from_ms <= at_ms else "was not in effect yet when"
        raise Wrong("key", f"the key {key.kid} of {key.person} {when} the broker took the answer")
    if key.speaks_for is None:
        _check_person(key, body, by, judge)
    else:
        _check_gateway(key, key.speaks_for, body, by=by, approval_id=approval_id, judge=judge)
    how: Literal["own", "gateway"] = "own" if key.speaks_for is None else "gateway"
    return Proof(kid=key.kid, signer=key.person, how=how, people=_version(judge))


def signed_body(jws: str, key: Callable[[str], KnownKey | None]) -> tuple[dict[str, Any], KnownKey]:
    """The body that a known key has signed, and the key. Raises `Wrong`."""
    try:
        header, body = parts_of(jws)
    except MalformedRecord as error:
        raise Wrong("signature", str(error)) from error
    if header.get("alg") != ALGORITHM:
        raise Wrong("signature", f"its algorithm is {_shown(header.get('alg'))}: only {ALGORITHM} is taken (RFC 9864)")
    if header.get("typ") != TYPE:
        raise Wrong("signature", f"its type is {_shown(header.get('typ'))}, and not {TYPE}")
    # `crit`, `jku`, `jwk` and the rest would let the sender say how to check it
    more = sorted(header.keys() - _HEADER)
    if more:
        raise Wrong("signature", f"its header has more than alg, kid and typ: {_shown(', '.join(more))}")
    kid = header.get("kid")
    known = key(kid) if isinstance(kid, str) else None
    if known is None:
        raise Wrong("key", f"nobody has the key {_shown(kid)}: `mesh approver list` shows those that count")
    if not is_signed(jws, known.key.x):
        raise Wrong("signature", f"the key {known.key.kid} of {known.key.person} has not signed this")
    return body, known


def is_signed(jws: str, x: str) -> bool:
    """Whether the key with these bytes has signed exactly this."""
    from joserfc import jws as library  # noqa: PLC0415 - only where signatures are: it takes 0.2 s to load
    from joserfc.errors import JoseError  # noqa: PLC0415 - as above
    from joserfc.jwk import OKPKey  # noqa: PLC0415 - as above

    try:
        key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})
        library.deserialize_compact(jws, key, algorithms=[ALGORITHM])
    # the bytes are anybody's, so it may raise anything of a decoder's
    except (JoseError, ValueError):
        return False
    return True


def _check_fields(given: AnswerGiven2, body: dict[str, Any]) -> None:
    """Hold all that ingress read against what is signed. Nothing of it was proven."""
    has_edit = given.payload is not msgspec.UNSET
    if has_edit and digest(given.payload) != body.get("payload_digest"):
        raise Wrong("signature", "the edit beside it is not the one that is signed")
    outside = {"jws": given.jws, "payload": given.payload} if has_edit else {"jws": given.jws}
    source = {name: getattr(given, name) for name in _SOURCE}
    try:
        signed = answer_of(fields_of(body, outside), source, where="it", own_id="", traceparent=given.traceparent)
    except MalformedRecord as error:
        raise Wrong("signature", str(error)) from error
    if signed != given:
        raise Wrong("signature", "what was read of it is not what is signed")


def _check_person(key: ApproverKey, body: dict[str, Any], by: str, judge: Judge) -> None:
    if _id(judge, key.person) != _id(judge, by):
        raise Wrong("key", f"the key {key.kid} is of {key.person}, and not of {by}")
    if "via" in body:
        raise Wrong("key", f"the key {key.kid} of {key.person} speaks for nobody else")


def _check_gateway(
    key: ApproverKey, scope: SpeaksFor, body: dict[str, Any], *, by: str, approval_id: str, judge: Judge
) -> None:
    via = body.get("via")
    signer = via.get("signer") if isinstance(via, dict) else None
    if not isinstance(signer, str) or person_of(signer) != person_of(key.person):
        raise Wrong("key", f"the key {key.kid} is of the gateway {key.person}: its answers say so in `via.signer`")
    if not _speaks_for(scope, by, route_of(approval_id), judge):
        raise Wrong("key", f"the gateway {key.person} may not speak for {by} in {route_of(approval_id)}")


def _speaks_for(scope: SpeaksFor, by: str, route: str, judge: Judge) -> bool:
    """Whether a gateway with this scope may name the person."""
    if scope.routes and route not in scope.routes:
        return False
    person = _id(judge, by)
    roles = frozenset[str]().union(*(held for name, held in judge.roles.items() if person_of(name) == person))
    return not roles.isdisjoint(scope.roles) or person in {_id(judge, name) for name in scope.people}


def _id(judge: Judge, name: str) -> str:
    return person_of(id_of(judge.people, name))


def _version(judge: Judge) -> str:
    return "" if judge.people is None else judge.people.digest


def _shown(value: Any) -> str:
    return repr(value)[:_HEADER_SHOWN]
