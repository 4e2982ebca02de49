"""The envelope of a signed answer: `{"jws": ..., "payload": ...}`, and the body that is signed.

Owns what the bytes say, and no more: nothing that is read here is proven. Ingress needs it, to know
where an answer goes. `mesh.codec.signed_answers` checks the signature, on the same bytes.

    header   {"alg": "Ed25519", "kid": <thumbprint, RFC 7638>, "typ": "mesh-answer+jws"}
    body     the fields of an answer, and:
             mesh            <topic prefix>@<cluster id>
             answer_id       fresh for each answer: at least 80 random bits
             answered_at     RFC 3339, by the signer's clock
             payload_digest  of the edit that comes beside it; without it nothing is edited
             via             {"signer": ...}: of a gateway, which names its person in `by`
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from mesh.codec import exact_json
from mesh.codec.event_data import decode_json
from mesh.codec.times import is_rfc3339
from mesh.errors import MalformedRecord

SIGNED_FIELDS: Final = ("jws", "mesh", "payload_digest", "answered_at")
_ALONE: Final = ("mesh", "payload_digest", "via")  # what a bare answer has no use for
_NEEDED: Final = ("mesh", "answer_id", "answered_at")
_SHORTEST_ID: Final = 14  # characters that 80 random bits need, in base64
_PARTS: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


class Parts(NamedTuple):
    """A JWS in compact form, read and not checked."""

    header: dict[str, Any]
    body: dict[str, Any]


def mesh_of(prefix: str, cluster_id: str) -> str:
    """What names a mesh among all: an answer for one must not count in another."""
    return f"{prefix}@{cluster_id}"


def parts_of(jws: str) -> Parts:
    """Header and body of a JWS in compact form. Raises `MalformedRecord`."""
    match = _PARTS.fullmatch(jws)
    if match is None:
        raise MalformedRecord("`jws` is no JWS in compact form (header.body.signature, in base64url)")
    header, body = (_object(match[n], what) for n, what in ((1, "the header of `jws`"), (2, "the body of `jws`")))
    return Parts(header, body)


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        found = decode_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)), what)
    except ValueError as error:
        raise MalformedRecord(f"{what} can't be read: {error}") from error
    if not isinstance(found, dict):
        raise MalformedRecord(f"{what} is not a JSON object")
    return found


def opened(data: dict[str, Any]) -> dict[str, Any]:
    """The fields of an answer, out of its envelope if it has one. Raises `MalformedRecord`."""
    if "jws" not in data:
        alone = [name for name in _ALONE if name in data]
        if alone:
            raise MalformedRecord(f"{', '.join(f'`{name}`' for name in alone)} is of signed answers alone")
        return data
    if not isinstance(data["jws"], str) or data.keys() - {"jws", "payload"}:
        raise MalformedRecord(
            "a signed answer has `jws`, a text, and `payload`, and nothing else outside the signature"
        )
    return fields_of(parts_of(data["jws"]).body, data)


def fields_of(body: Mapping[str, Any], outside: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an answer whose signed body this is. Raises `MalformedRecord`."""
    lacking = [name for name in _NEEDED if not isinstance(body.get(name), str) or not body[name]]
    if lacking:
        raise MalformedRecord(f"the body of `jws` lacks {', '.join(f'`{name}`' for name in lacking)}")
    if body.keys() & {"payload", "edited", "jws"}:
        raise MalformedRecord("an edit comes beside `jws`, as `payload`, and its digest is in the body")
    if len(body["answer_id"]) < _SHORTEST_ID:
        raise MalformedRecord(f"`answer_id` must be fresh: at least 80 random bits, {_SHORTEST_ID} characters")
    if not is_rfc3339(body["answered_at"]):
        raise MalformedRecord("`answered_at` is not an RFC 3339 time, e.g. 2026-11-24T09:00:00Z")
    fields = {**body, "jws": outside["jws"]}
    if body.get("payload_digest"):
        if "payload" not in outside:
            raise MalformedRecord("the body names the digest of an edit, and there is no `payload` beside it")
        fields |= {"payload": outside["payload"], "edited": True}
    elif outside.get("payload") is not None:
        raise MalformedRecord("the `payload` is not signed: the body of `jws` lacks `payload_digest`")
    return fields


def encode_signed(jws: str, payload: Any, *, is_edit: bool) -> bytes:
    """The value of a signed answer's record."""
    return exact_json.encode({"jws": jws, "payload": payload} if is_edit else {"jws": jws})
