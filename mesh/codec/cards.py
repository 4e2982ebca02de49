"""The bytes of agent cards on the registry topic.

The topic is compacted: the key is `<name>/<instance>`, and the last record of a key counts.

Owns the record; `topics/schemas/agent-card.json` says the same in JSON Schema. Agents write cards;
routers and `mesh agents` read them. An agent that stops gracefully withdraws its card with a
tombstone. The card of one that dies expires (`renewed_at + expires_after_s`).

An agent's registration is a card of the agent itself, under the key `<name>`. It says which
capabilities the agent has, and stays when processes stop (`mesh agents forget` withdraws it).
"""

from typing import Final

import msgspec

from mesh.codec import exact_json
from mesh.core.state import AgentCard
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Header, OutRecord, Record

CARD_TYPE: Final = "mesh.agent-card"
REGISTRATION_TYPE: Final = "mesh.agent-registration"

_encoder: Final = msgspec.json.Encoder()


def encode_card(card: AgentCard, *, topics: Topics) -> OutRecord:
    """A card to publish or to renew, or a registration."""
    return OutRecord(topics.agents, _key(card), _encoder.encode(card), _headers(card))


def withdraw_card(card: AgentCard, *, topics: Topics) -> OutRecord:
    """The tombstone that takes a card off the registry."""
    return OutRecord(topics.agents, _key(card), None)


def withdraw_registration(name: str, *, topics: Topics) -> OutRecord:
    """The tombstone after which the agent `name` has no capabilities."""
    return OutRecord(topics.agents, name.encode(), None)


def decode_card(record: Record) -> AgentCard:
    """The card in a record. A tombstone gives a card with `stopped` set and little else.

    Raises `MalformedRecord`.
    """
    place = f"{record.topic}/{record.partition}/{record.offset}"
    if record.value is None:
        name, slash, instance = (record.key or b"").decode("utf-8", "replace").partition("/")
        if not name:
            raise MalformedRecord(
                f"the record {place} has neither key nor value (the key of an agent card is <name>/<instance>)"
            )
        return AgentCard(name=name, instance=instance, version="", topic="", stopped=True, registration=not slash)
    try:
        return msgspec.convert(exact_json.decode(record.value), AgentCard)
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(
            f"the record {place} is not an agent card: {error} (topics/schemas/agent-card.json has the form)"
        ) from error


def is_registration(record: Record) -> bool:
    """Whether a record, or a tombstone, is of a registration, by its key alone."""
    return b"/" not in (record.key or b"/")


def _key(card: AgentCard) -> bytes:
    return card.name.encode() if card.registration else f"{card.name}/{card.instance}".encode()


def _headers(card: AgentCard) -> tuple[Header, ...]:
    return (
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"),
        ("ce_type", (REGISTRATION_TYPE if card.registration else CARD_TYPE).encode()),
        ("ce_source", f"/mesh/agents/{card.name}".encode()),
        ("ce_id", f"{card.name}/{card.instance}/{card.renewed_at}".encode()),
    )
