"""The bytes of approvers' keys, and of their ends, on `mesh.approvals.people`.

    key/<kid>           {"person": ..., "jwk": {...}, "by": ..., "reason": ..., "speaks_for": {...}}
    revocation/<kid>    {"by": ..., "reason": ..., "since": RFC 3339}

The kid is the thumbprint of the public key (RFC 7638), so nobody can put another key under it. Both
are written once, and are never overwritten or deleted: an audit needs the keys of its time. A key
that was revoked never comes back. Owns these records; `mesh approver` writes them.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any, Final

import msgspec
import orjson

from mesh.codec import exact_json
from mesh.codec.cloudevents import binary_headers
from mesh.codec.places import place
from mesh.codec.times import parse_rfc3339, rfc3339
from mesh.core.approver_keys import ApproverKey, Revocation, SpeaksFor
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

KEY_TYPE: Final = "mesh.approver-key"
REVOCATION_TYPE: Final = "mesh.approver-key-revocation"
_SOURCE: Final = "/mesh/people"
_KEY: Final = b"key/"
_REVOCATION: Final = b"revocation/"
_KEY_BYTES: Final = 32  # of Ed25519, RFC 8032


class JwkInvalid(ValueError):
    """A text is no public key of Ed25519. The message says why."""


class PublicJwk(msgspec.Struct, frozen=True, kw_only=True):
    """A public key of Ed25519 (RFC 8037). Other members are passed over."""

    kty: str
    crv: str
    x: str


class ApproverKeyBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of a key's record."""

    person: str
    jwk: PublicJwk
    by: str
    reason: str = ""
    speaks_for: SpeaksFor | None = None


class KeyRevocationBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of a revocation's record. `since`: RFC 3339, from when on the key is distrusted."""

    by: str
    reason: str = ""
    since: str = ""


def public_x(text: str | bytes) -> str:
    """The bytes of the key that a JWK holds, as it has them.

    Raises `JwkInvalid`, also for a private key.
    """
    try:
        document = exact_json.decode(text.encode() if isinstance(text, str) else text)
        jwk = msgspec.convert(document, PublicJwk)
    except exact_json.DECODE_ERRORS as error:
        raise JwkInvalid(f"it is no JWK: {error}") from error
    if "d" in document:
        raise JwkInvalid('it is a private key ("d"): keep it to yourself, and give the public one')
    return _checked(jwk)


def _checked(jwk: PublicJwk) -> str:
    if (jwk.kty, jwk.crv) != ("OKP", "Ed25519"):
        raise JwkInvalid(f'it is a key of {jwk.kty} {jwk.crv}; give one with "kty": "OKP" and "crv": "Ed25519"')
    try:
        raw = urlsafe_b64decode(jwk.x + "=" * (-len(jwk.x) % 4))
    except ValueError as error:
        raise JwkInvalid(f"its `x` is not base64url: {error}") from error
    # one key must not have two texts, and so two thumbprints
    if len(raw) != _KEY_BYTES or urlsafe_b64encode(raw).rstrip(b"=").decode() != jwk.x:
        raise JwkInvalid(f"its `x` is not {_KEY_BYTES} bytes in base64url without padding")
    return jwk.x


def thumbprint(x: str) -> str:
    """The kid of the key with these bytes, by RFC 7638."""
    # the members that the RFC names, in its order, without spaces
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'
    return urlsafe_b64encode(sha256(canonical.encode()).digest()).rstrip(b"=").decode()


def encode_key(
    x: str, *, topics: Topics, person: str, by: str, at_ms: int, reason: str = "", speaks_for: SpeaksFor | None = None
) -> OutRecord:
    """The record that lets a person sign with this key."""
    jwk = PublicJwk(kty="OKP", crv="Ed25519", x=x)
    body = ApproverKeyBody(person=person, jwk=jwk, by=by, reason=reason, speaks_for=speaks_for)
    return _record(_KEY + thumbprint(x).encode(), KEY_TYPE, msgspec.to_builtins(body), topics=topics, at_ms=at_ms)


def encode_revocation(
    kid: str, *, topics: Topics, by: str, at_ms: int, reason: str = "", since_ms: int | None = None
) -> OutRecord:
    """The record that ends a key."""
    body = KeyRevocationBody(by=by, reason=reason, since="" if since_ms is None else rfc3339(since_ms))
    return _record(_REVOCATION + kid.encode(), REVOCATION_TYPE, msgspec.to_builtins(body), topics=topics, at_ms=at_ms)


def _record(key: bytes, kind: str, body: Any, *, topics: Topics, at_ms: int) -> OutRecord:
    headers = binary_headers(id=key.decode(), source=_SOURCE, type=kind, time=rfc3339(at_ms))
    return OutRecord(topic=topics.people, key=key, value=orjson.dumps(body), headers=headers, partition=0)


def decode_key_record(record: Record) -> ApproverKey | Revocation | None:
    """The key, or the end of one, in a record; None for any other record.

    Raises `MalformedRecord`, also for a key that is not the one that its kid says.
    """
    if record.value is None or record.key is None or not record.key.startswith((_KEY, _REVOCATION)):
        return None
    prefix, _, kid = record.key.decode("utf-8", "replace").partition("/")
    try:
        document = exact_json.decode(record.value)
        if prefix == "revocation":
            return _revocation(kid, msgspec.convert(document, KeyRevocationBody), record.timestamp_ms)
        return _key(kid, msgspec.convert(document, ApproverKeyBody), record.timestamp_ms)
    except (*exact_json.DECODE_ERRORS, JwkInvalid) as error:
        raise MalformedRecord(
            f"the key record {place(record)} does not hold: {error} (topics/schemas/approver-key.json has the form)"
        ) from error


def _key(kid: str, body: ApproverKeyBody, at_ms: int) -> ApproverKey:
    x = _checked(body.jwk)
    if thumbprint(x) != kid:
        raise JwkInvalid(f"its key has the thumbprint {thumbprint(x)}")
    return ApproverKey(
        kid=kid, person=body.person, x=x, by=body.by, at_ms=at_ms, reason=body.reason, speaks_for=body.speaks_for
    )


def _revocation(kid: str, body: KeyRevocationBody, at_ms: int) -> Revocation:
    since_ms = parse_rfc3339(body.since) if body.since else None
    return Revocation(kid=kid, by=body.by, at_ms=at_ms, reason=body.reason, since_ms=since_ms)
