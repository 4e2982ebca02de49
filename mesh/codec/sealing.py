"""The seals of private workflows: keys on `mesh.keys`, sealed decisions and sealed states.

Owns the bytes: AES-256-GCM, with the workflow's id and the key's as associated data. A sealed
decision is a decision whose only event is `PayloadsSealed`, so it decodes and folds without its
key, and shows nothing. Routers make keys and seals. Whoever reads the log opens them with
`mesh.services.vault`.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from mesh.codec import exact_json
from mesh.codec.places import place
from mesh.core.crossings import crossings
from mesh.core.events import Decision, Event, PayloadsSealed
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, UnknownFormat
from mesh.ports import Header, OutRecord, Record

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_SEALED: Final = "mesh_sealed"
_ID: Final = 16  # characters of a key's id
_NONCE: Final = 12
_MARK: Final = b"sealed:"  # no JSON begins so
_encode = msgspec.json.Encoder().encode
_decode_decision = msgspec.json.Decoder(Decision).decode
_decode_events = msgspec.json.Decoder(tuple[Event, ...]).decode


class Key(NamedTuple):
    """The key of a private workflow. `secret`: 256 bits."""

    workflow_id: str
    id: str
    secret: bytes

    @property
    def name(self) -> str:
        """Its name among all keys."""
        return key_name(self.workflow_id, self.id)


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record of `mesh.keys`."""

    workflow_id: str
    key: str
    secret: str  # base64


_decode_key = msgspec.json.Decoder(KeyRecord).decode


def key_name(workflow_id: str, key: str) -> str:
    return f"{workflow_id}/{key}"


def new_key(workflow_id: str, token: str, other: str) -> Key:
    """A key of two fresh tokens, of 128 bits each."""
    secret = bytes.fromhex(token) + bytes.fromhex(other)
    # known to everybody, so it must not say anything about the secret
    return Key(workflow_id, sha256(b"id of " + secret).hexdigest()[:_ID], secret)


def encode_key(key: Key, *, topics: Topics, partition: int) -> OutRecord:
    """A key, in the partition of its workflow."""
    value = KeyRecord(workflow_id=key.workflow_id, key=key.id, secret=b64encode(key.secret).decode())
    return OutRecord(topics.keys, key.name.encode(), _encode(value), partition=partition)


def encode_key_deleted(workflow_id: str, key: str, *, topics: Topics, partition: int) -> OutRecord:
    """The tombstone of a key."""
    return OutRecord(topics.keys, key_name(workflow_id, key).encode(), None, partition=partition)


def decode_key(record: Record) -> Key | str:
    """A key, or the name of one that is deleted. Raises `MalformedRecord`."""
    name = (record.key or b"").decode("utf-8", "replace")
    if record.value is None:
        return name
    try:
        found = _decode_key(record.value)
        return Key(found.workflow_id, found.key, b64decode(found.secret, validate=True))
    except (ValueError, *exact_json.DECODE_ERRORS) as error:
        raise MalformedRecord(
            f"{place(record)}: not a key ({type(error).__name__}); only routers may write here"
        ) from error


# Decisions ----------------------------------------------------------------------------------------


def sealed(decision: Decision, key: Key, nonce: str) -> Decision:
    """The decision with its events sealed. `nonce`: a fresh token."""
    body = _seal(_encode(decision.events), key, nonce)
    event = PayloadsSealed(key=key.id, body=b64encode(body).decode(), sends=crossings(decision.events))
    return replace(decision, events=(event,))


def marked(record: OutRecord) -> OutRecord:
    """The record of a sealed decision, marked so that readers need not look into the others."""
    mark: Header = (_SEALED, b"1")
    return replace(record, headers=(*record.headers, mark))


def is_sealed(record: Record) -> bool:
    return bool(record.headers) and record.headers[-1][0] == _SEALED


def key_of(record: Record) -> str:
    """The name of the key of a sealed decision; empty where it is not one after all."""
    decision = _decision(record)
    event = decision.events[0] if decision.events else None
    return key_name(decision.workflow_id, event.key) if isinstance(event, PayloadsSealed) else ""


def opened(record: Record, keys: Mapping[str, Key]) -> Record:
    """The record as it was before it was sealed; as it is where its key is not there."""
    decision = _decision(record)
    event = decision.events[0] if decision.events else None
    if not isinstance(event, PayloadsSealed):
        return record
    key = keys.get(key_name(decision.workflow_id, event.key))
    if key is None:
        return record
    try:
        events: Any = _decode_events(_open(b64decode(event.body), key))
    except (ValueError, *exact_json.DECODE_ERRORS) as error:
        raise UnknownFormat(
            f"{place(record)}: the sealed events can't be read ({type(error).__name__}: {error}). Run the newest version of "
            "agent-mesh that wrote to this log; if nothing newer did, another program wrote here or to the topic of keys."
        ) from error
    return replace(record, value=_encode(replace(decision, events=events)))


def _decision(record: Record) -> Decision:
    try:
        return _decode_decision(record.value or b"")
    except exact_json.DECODE_ERRORS as error:
        raise UnknownFormat(f"{place(record)}: a sealed log record can't be read ({error})") from error


# States of a checkpoint ---------------------------------------------------------------------------


def sealed_state(state: bytes, key: Key) -> bytes:
    """A state in a checkpoint.

    So what SQLite leaves of it in free pages can't be read without the key.
    """
    # a function of the state: what saves it has no fresh token at hand, and needs none
    nonce = hmac.digest(key.secret, b"state" + state, "sha256").hex()
    return _MARK + key.id.encode() + _seal(state, key, nonce)


def opened_state(state: bytes, workflow_id: str, keys: Mapping[str, Key]) -> bytes | None:
    """The state as it was; None where its key is not there. Raises `ValueError`."""
    if not state.startswith(_MARK):
        return state
    rest = state[len(_MARK) :]
    key = keys.get(key_name(workflow_id, rest[:_ID].decode()))
    return None if key is None else _open(rest[_ID:], key)


def _seal(text: bytes, key: Key, nonce: str) -> bytes:
    # a token has 128 bits, and any 96 of them are as fresh
    first = bytes.fromhex(nonce)[:_NONCE]
    return first + _cipher(key).encrypt(first, text, key.name.encode())


def _open(body: bytes, key: Key) -> bytes:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as below

    try:
        return _cipher(key).decrypt(body[:_NONCE], body[_NONCE:], key.name.encode())
    except InvalidTag as error:
        raise ValueError(f"the seal of {key.workflow_id} is broken") from error


def _cipher(key: Key) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - only private workflows need it

    return AESGCM(key.secret)
