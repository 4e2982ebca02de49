"""The bytes of router cards: what each router says of itself on `mesh.routers`.

The topic is compacted: the key is the router's instance, and the last record of a key counts.

Owns the record; `topics/schemas/router-card.json` says the same. Routers write it, `mesh status`
and other tools of operators read it. A router that stops gracefully withdraws its card with a
tombstone. The card of one that dies expires.
"""

from typing import Final

import msgspec

from mesh.codec import exact_json
from mesh.codec.places import place
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Header, OutRecord, Record

CARD_TYPE: Final = "mesh.router-card"


class RouterCard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a router says about itself.

    Times are RFC 3339, UTC, by the router's clock. It counts as gone `expires_after_s` after the
    broker took the card. `roles`: those that somebody has; None: it does not say. `approvers`: the
    file or the topic that says so. `people`: the version of the people's topic that rules; empty:
    the file does. `answers`: `signed` or `unsigned`, as the router takes them; empty: it does not
    say. `software`: the version of agent-mesh that it runs; empty: it does not say.
    """

    instance: str
    started_at: str
    renewed_at: str
    expires_after_s: float
    roles: tuple[str, ...] | None = None
    approvers: str = ""
    people: str = ""
    answers: str = ""
    software: str = ""


_encode: Final = msgspec.json.Encoder().encode


def encode_router_card(card: RouterCard, *, topics: Topics) -> OutRecord:
    """A card to publish or to renew. Key: the instance."""
    headers: tuple[Header, ...] = (
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"),
        ("ce_type", CARD_TYPE.encode()),
        ("ce_source", b"/mesh/router"),
        ("ce_id", f"{card.instance}/{card.renewed_at}".encode()),
    )
    return OutRecord(topics.routers, card.instance.encode(), _encode(card), headers)


def withdraw_router_card(instance: str, *, topics: Topics) -> OutRecord:
    """The tombstone by which a router says that it has stopped."""
    return OutRecord(topics.routers, instance.encode(), None)


def decode_router_card(record: Record) -> RouterCard | None:
    """The card in a record; None for a tombstone. Raises `MalformedRecord`."""
    if record.value is None:
        return None
    try:
        return msgspec.convert(exact_json.decode(record.value), RouterCard)
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(
            f"{place(record)} is not a router's card: {error} (topics/schemas/router-card.json has the form)"
        ) from error
